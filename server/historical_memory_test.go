package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/server"
	"github.com/twofold-ml/twofold/server/servertest"
)

// printed collects what a process prints.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// String is what was printed until now.
func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// serveProcess builds twofold and runs "twofold serve" on a folder of definitions and files. It returns the process and where it listens.
func serveProcess(t *testing.T, folder string, flags ...string) (process *exec.Cmd, address string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "twofold")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/twofold").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	process = exec.Command(program, append([]string{"serve"}, flags...)...)
	process.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "TWOFOLD_DEFINITIONS=" + filepath.Join(folder, "definitions.yaml"), "OFFLINE_STORE_PATH=" + folder,
		"TWOFOLD_ONLINE_STORE_PATH=" + t.TempDir(), "TWOFOLD_GRPC_ADDRESS=127.0.0.1:0", "TWOFOLD_HTTP_ADDRESS=127.0.0.1:0", "TWOFOLD_LOG_FORMAT=json",
	}
	var log printed
	process.Stdout, process.Stderr = &log, &log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := process.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, log.String())
		}
	})
	await(t, "the server to serve", func() bool {
		for line := range strings.Lines(log.String()) {
			var entry struct{ Msg, GRPC string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
				address = entry.GRPC
			}
		}
		return address != ""
	})
	return process, address
}

// memoryOf gives a line of the kernel's account of a process's memory, in bytes.
func memoryOf(t *testing.T, process *exec.Cmd, line string) (bytes int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.Process.Pid))
	if err != nil {
		t.Skip("this system does not tell the memory of a process")
	}
	for l := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			if _, err := fmt.Sscanf(value, "%d kB", &bytes); err != nil {
				t.Fatal(err)
			}
		}
	}
	return bytes << 10
}

// TestHistoricalBoundedMemory: a server that may take 64 MiB for training sets joins entity rows several times that size, right and in memory that does not grow with them.
func TestHistoricalBoundedMemory(t *testing.T) {
	t.Parallel()
	chunks := 400
	if testing.Short() || raceEnabled {
		chunks = 60
	}
	folder := t.TempDir()
	text := edit(t, "sync: {interval: 1h}", "", "sync: {interval: 10m}", "")
	writeBytes(t, filepath.Join(folder, "definitions.yaml"), []byte(text))
	manyPrices(0, 40_000).WriteParquet(t, filepath.Join(folder, "price.parquet"))
	process, address := serveProcess(t, folder, "--memory", "64MiB")
	before := memoryOf(t, process, "VmHWM")

	h := &header{Features: []string{"price:name", "price:amount"}, Format: twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC}
	some, size := manyEntities(30, 5000), 0
	ask := func(address string) *twofoldv1.HistoricalManifest {
		stream, done, err := openHistorical(t.Context(), address, h)
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		size = 0
		for i := range chunks {
			send(t, stream, some[i%len(some)])
			for _, c := range some[i%len(some)].GetEntityRows().GetColumns().GetColumns() {
				size += 4 + 4*len(c.GetStrings().GetValues())
				for _, v := range c.GetStrings().GetValues() {
					size += len(v)
				}
				size += 8 * len(c.GetTimestamps().GetValues())
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		return drain(t, stream)
	}
	got := ask(address)
	after := memoryOf(t, process, "VmHWM")

	large := servertest.Start(t, servertest.Config{Definitions: text, Offline: offline.Config{Path: folder}, Change: func(o *server.Options) { o.TrainingMemory = 4 << 30 }})
	want := ask(large.GRPCAddress)
	if got.GetContentHash() != want.GetContentHash() || got.GetRowCount() != uint64(chunks)*5000 {
		t.Errorf("got %v\nwith much memory %v", got, want)
	}
	if got.GetViews()[0].GetRowsRead() <= want.GetViews()[0].GetRowsRead() {
		t.Error("the rows were joined at once")
	}
	const mib = 1 << 20
	t.Logf("%d MiB of entity rows: the process grew from %d to %d MiB", size/mib, before/mib, after/mib)
	// The setting is what joins hold. Beside it are messages under way, rows that are decoded just now, and most of all what the garbage collector has not
	// collected yet, which is more where the machine is busy. Held at once, the rows, their matches and the result would take 800 MiB.
	if bound := int64(8 * littleMemory); after-before > bound {
		t.Errorf("the process grew by %d MiB, more than %d", (after-before)/mib, bound/mib)
	}
	// It lives on.
	_, err := train(t.Context(), t, address, &header{Features: []string{"price:nothing"}})
	wantError(t, err, codes.NotFound, "", "nothing")
}
