// Package serving starts servers that say where they serve, above all twofold serve as users run it.
package serving

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/bench/internal/process"
)

// startTimeout is how long a server may take to be ready on a busy machine.
const startTimeout = 20 * time.Second

// Line is the line of JSON by which a server says where it serves; its message is Serving.
type Line struct {
	Message string `json:"msg"`
	GRPC    string `json:"grpc"`
	HTTP    string `json:"http"`
}

// Serving is the message of a Line.
const Serving = "serving"

// Server is a running server.
type Server struct {
	*process.Process

	// Name is what errors call it.
	Name string
	// GRPC and HTTP are where it serves: host:port.
	GRPC, HTTP string
}

// Start starts a server and waits until it prints its Line.
func Start(name string, command *exec.Cmd) (*Server, error) {
	p, err := process.Start(name, command)
	if err != nil {
		return nil, err
	}
	var at Line
	_, err = p.Await(startTimeout, func(text string) bool {
		return json.Unmarshal([]byte(text), &at) == nil && at.Message == Serving && at.GRPC != ""
	})
	if err != nil {
		p.Stop()
		return nil, err
	}
	return &Server{Process: p, Name: name, GRPC: at.GRPC, HTTP: at.HTTP}, nil
}

// Options say how twofold is to serve.
type Options struct {
	// Name is what errors call it.
	Name string
	// Program is the path of twofold.
	Program string
	// Folder is its working directory, where no configuration file is and the definitions are written.
	Folder string
	// Definitions in YAML.
	Definitions []byte
	// OfflineStore is the folder or URL of the feature history.
	OfflineStore string
	// Environment has further variables: "NAME=value". Those of this process that configure Twofold are left out, so that a benchmark
	// measures the same everywhere.
	Environment []string
	// Args are further arguments.
	Args []string
}

// Twofold starts twofold serve on free ports, and waits until it serves.
func Twofold(o Options) (*Server, error) {
	definitions := filepath.Join(o.Folder, "definitions.yaml")
	if err := os.WriteFile(definitions, o.Definitions, 0o600); err != nil {
		return nil, fmt.Errorf("write the definitions: %w", err)
	}
	program, err := filepath.Abs(o.Program)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", o.Program, err)
	}
	args := []string{"serve", "--definitions", definitions, "--offline-store-path", o.OfflineStore, "--grpc-address", "127.0.0.1:0",
		"--http-address", "127.0.0.1:0", "--log-format", "json"}
	command := exec.Command(program, append(args, o.Args...)...)
	command.Dir = o.Folder
	command.Env = append(Environment(), o.Environment...)
	return Start(o.Name, command)
}

// Environment is that of this process without what would configure Twofold.
func Environment() []string { return withoutSettings(os.Environ()) }

// withoutSettings leaves out of an environment what would configure Twofold.
func withoutSettings(environment []string) []string {
	var kept []string
	for _, variable := range environment {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "TWOFOLD_") || strings.HasPrefix(name, "ONLINE_STORE_") || strings.HasPrefix(name, "OFFLINE_STORE_") ||
			name == "FEATURE_SYNC_INTERVAL" {
			continue
		}
		kept = append(kept, variable)
	}
	return kept
}

// AwaitReady asks /readyz until it says yes, which a server does when its online store has been filled.
func (s *Server) AwaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := s.Get(ctx, "/readyz")
		if err == nil {
			return nil
		}
		if failed := s.Failed(); failed != nil {
			return failed
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready within %v: %w; it printed:\n%s", s.Name, startTimeout, err, s.Output())
		}
	}
}

// Get returns the body of a successful HTTP answer.
func (s *Server) Get(ctx context.Context, path string) (string, error) {
	url := "http://" + s.HTTP + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
	return string(body), err
}
