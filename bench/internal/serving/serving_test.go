package serving

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWithoutSettings(t *testing.T) {
	got := withoutSettings([]string{"PATH=/bin", "TWOFOLD_REDIS=x", "ONLINE_STORE_REDIS=x", "OFFLINE_STORE_PATH=x", "FEATURE_SYNC_INTERVAL=1", "GOGC=50"})
	if want := []string{"PATH=/bin", "GOGC=50"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestTwofold starts a script that tells how it was started, in the place of twofold.
func TestTwofold(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "script")
	script := "#!/bin/sh\necho \"$@\" MORE=$MORE > told\necho starting\n" + `echo '{"msg":"serving","grpc":"127.0.0.1:5","http":"127.0.0.1:6"}'` + "\nexec sleep 100\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Twofold(Options{
		Name: "twofold", Program: program, Folder: folder, Definitions: []byte("entities: []\n"), OfflineStore: "/data", Environment: []string{"MORE=1"}, Args: []string{"--last"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if s.GRPC != "127.0.0.1:5" || s.HTTP != "127.0.0.1:6" || s.Name != "twofold" {
		t.Errorf("got %+v", s)
	}
	told, err := os.ReadFile(filepath.Join(folder, "told"))
	if err != nil {
		t.Fatal(err)
	}
	definitions := filepath.Join(folder, "definitions.yaml")
	for _, want := range []string{"serve --definitions " + definitions, "--offline-store-path /data", "--last MORE=1"} {
		if !strings.Contains(string(told), want) {
			t.Errorf("it was told %q, which lacks %q", told, want)
		}
	}
	if written, err := os.ReadFile(definitions); err != nil || string(written) != "entities: []\n" {
		t.Errorf("definitions %q, %v", written, err)
	}
}

func TestStartOfWhatDoesNotServe(t *testing.T) {
	_, err := Start("script", exec.Command("sh", "-c", "echo port is taken; exit 3"))
	if err == nil || !strings.Contains(err.Error(), "port is taken") {
		t.Errorf("got %v", err)
	}
}
