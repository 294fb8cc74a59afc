package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/twofold-ml/twofold/internal/config"
)

// composeService is what these tests know of a service in docker-compose.yml.
type composeService struct {
	Image       string
	Command     []string
	Environment map[string]string
	Healthcheck *struct {
		Test    []string
		Disable bool
	}
	DependsOn map[string]struct{ Condition string } `yaml:"depends_on"`
	Ports     []string
	Restart   string
}

func readCompose(t *testing.T) map[string]composeService {
	t.Helper()
	text, err := os.ReadFile("../../docker-compose.yml")
	require.NoError(t, err)
	var file struct{ Services map[string]composeService }
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.Len(t, file.Services, 5)
	return file.Services
}

// composeDefault is ${NAME:-default} and ${NAME-default}.
var composeDefault = regexp.MustCompile(`\$\{([A-Z0-9_]+):?-([^}]*)\}`)

func withDefaults(text string) string { return composeDefault.ReplaceAllString(text, "$2") }

// Every service says when it is healthy, and whoever needs it waits for that.
func TestComposeServicesWaitForEachOther(t *testing.T) {
	services := readCompose(t)
	for name, s := range services {
		oneShot := s.Restart == "no"
		require.NotNil(t, s.Healthcheck, name)
		require.Equal(t, oneShot, s.Healthcheck.Disable, name)
		require.Equal(t, oneShot, len(s.Healthcheck.Test) == 0, name)
		for needed, how := range s.DependsOn {
			other, ok := services[needed]
			require.True(t, ok, "%s depends on %s, which is not there", name, needed)
			want := "service_healthy"
			if other.Restart == "no" {
				want = "service_completed_successfully"
			}
			require.Equal(t, want, how.Condition, "%s depends on %s", name, needed)
		}
		if strings.HasPrefix(s.Image, "twofold:") {
			require.Contains(t, s.DependsOn, "redis", name)
			require.Contains(t, s.DependsOn, "s3", name)
		} else {
			require.Regexp(t, `:v?\d+\.\d+`, s.Image, "%s: an image is pinned", name)
		}
		for _, port := range s.Ports {
			require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s: port %s is open to the network", name, port)
		}
	}
}

// The environment and the commands in the compose file are ones that the program takes.
func TestComposeConfigurationIsValid(t *testing.T) {
	for name, s := range readCompose(t) {
		if !strings.HasPrefix(s.Image, "twofold:") {
			continue
		}
		var env []string
		for variable, text := range s.Environment {
			env = append(env, variable+"="+withDefaults(text))
		}
		loaded, err := config.Load(config.Input{Environ: env})
		require.NoError(t, err, name)
		require.Empty(t, loaded.Warnings, name)
		require.Equal(t, "s3://features", loaded.OfflineStorePath)
		require.Equal(t, "redis://redis:6379", loaded.OnlineStore.Redis.Reveal())
		require.False(t, loaded.ClockStart.IsZero())

		root := (&app{}).root()
		command, rest, err := root.Find(s.Command)
		require.NoError(t, err, name)
		require.NotSame(t, root, command, name)
		require.NoError(t, command.ParseFlags(rest), name)
		require.NoError(t, command.ValidateArgs(command.Flags().Args()), name)
		if test := s.Healthcheck.Test; len(test) > 0 {
			require.Equal(t, []string{"CMD", "/usr/local/bin/twofold", "health"}, test[:3], name)
			probe, rest, err := root.Find(test[2:])
			require.NoError(t, err)
			require.NoError(t, probe.ParseFlags(rest))
			if command.Name() == "sync" {
				require.Equal(t, "http://localhost"+config.SyncHTTPAddress+"/readyz", probe.Flag("url").Value.String())
			}
		}
	}
}

// The clock of the compose file is the one at which the example's answers are known.
func TestComposeClockIsTheExamples(t *testing.T) {
	e, err := readExpectations(flights + "/expected.json")
	require.NoError(t, err)
	for name, s := range readCompose(t) {
		if text, ok := s.Environment["TWOFOLD_CLOCK_START"]; ok {
			require.Equal(t, e.ClockStart, parseTestTime(t, withDefaults(text)), name)
		}
	}
}
