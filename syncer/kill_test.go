package syncer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
	"github.com/twofold-ml/twofold/internal/syncstate"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
	"github.com/twofold-ml/twofold/syncer"
)

// killedDefinitions are of three views of the same files, one of each way to be kept.
const killedDefinitions = `
entities:
  - {name: user, keys: [{name: user_id, type: INT64}]}
feature_views:
  - name: newest
    entity: user
    source: {path: rows, event_time_column: at}
    sync: {interval: 1h, batch_size: 20}
    features: [{name: x, type: INT64}, {name: y, type: STRING}]
  - name: versions
    entity: user
    source: {path: rows, event_time_column: at}
    layout: HISTORY
    history_versions: 3
    sync: {interval: 1h, batch_size: 20}
    features: [{name: x, type: INT64}, {name: y, type: STRING}]
  - name: whole
    entity: user
    source: {path: rows, event_time_column: at}
    sync: {interval: 1h, batch_size: 20, mode: SNAPSHOT, snapshot: {min_entities: 0, max_entity_drop: 1, keep_generations: 0}}
    features: [{name: x, type: INT64}, {name: y, type: STRING}]
`

// killedUsers is how many users there are: enough for dozens of writes a run.
const killedUsers = 400

// killed is what a process that is to be killed is told, as JSON.
type killed struct {
	Redis, Path string
	S3          map[string]string
}

// killedVariable has it. A test binary that is started with it is a syncer and no test.
const killedVariable = "TWOFOLD_TEST_KILLED_SYNCER"

func TestMain(m *testing.M) {
	text := os.Getenv(killedVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := syncUntilKilled(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// open opens the stores of a process.
func (k killed) open(ctx context.Context) (*online.Store, *offline.Store, error) {
	d, err := redisstore.Open(redisstore.Options{URL: k.Redis})
	if err != nil {
		return nil, nil, err
	}
	off, err := offline.Open(ctx, offline.Config{Path: k.Path, S3: offline.S3Config{
		Endpoint: k.S3["endpoint"], PathStyle: true, AccessKeyID: k.S3["key"], SecretAccessKey: k.S3["secret"],
	}})
	return online.NewStore(d, online.Options{}), off, err
}

// syncUntilKilled syncs every view once.
func syncUntilKilled(text string) error {
	var k killed
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		return err
	}
	ctx := context.Background()
	on, off, err := k.open(ctx)
	if err != nil {
		return err
	}
	set, err := parseDefinitions(killedDefinitions)
	if err != nil {
		return err
	}
	s, err := syncer.New(syncer.Options{
		Registry: set.Registry, Online: on, Offline: off, LeaseDuration: 400 * time.Millisecond, GenerationGrace: time.Nanosecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}
	_, err = s.RunOnce(ctx, syncer.Request{Wait: true})
	return err
}

// killing is a source in S3, a Redis, and processes that sync the one to the other.
type killing struct {
	*testing.T
	r       *rand.Rand
	s3      *testenv.S3Server
	bucket  string
	told    []byte
	store   *online.Store
	offline *offline.Store
	views   []*feature.View
	plan    *online.Plan
	keys    *feature.Column
	// files are the rows of each file: user, event time, x.
	files map[string][][3]int64
	// whole is how long a run took that was let end.
	whole time.Duration
	kills int
}

func newKilling(t *testing.T, r *rand.Rand) *killing {
	k := &killing{T: t, r: r, s3: testenv.S3(t), files: map[string][][3]int64{}, keys: feature.NewColumn(feature.Int64, killedUsers), whole: time.Second}
	k.bucket = k.s3.Bucket(t)
	told := killed{
		Redis: testenv.Redis(t).URL, Path: "s3://" + k.bucket,
		S3: map[string]string{"endpoint": k.s3.Endpoint, "key": k.s3.AccessKey, "secret": k.s3.SecretKey},
	}
	var err error
	k.told, err = json.Marshal(told)
	require.NoError(t, err)
	k.store, k.offline, err = told.open(t.Context())
	require.NoError(t, err)
	registry := registry(t, killedDefinitions)
	k.views = registry.Views()
	selection, err := registry.Select(feature.SelectionQuery{Features: []string{"newest:x", "newest:y", "versions:x", "versions:y", "whole:x", "whole:y"}})
	require.NoError(t, err)
	k.plan, err = online.NewPlan(selection)
	require.NoError(t, err)
	for user := range int64(killedUsers) {
		k.keys.AppendInt64(user)
	}
	return k
}

func (k *killing) close() {
	require.NoError(k, k.store.Close())
	require.NoError(k, k.offline.Close())
}

// write puts a file into S3, a new one or one with more rows than it had, anywhere in the order of names and of times.
func (k *killing) write() {
	name := fmt.Sprintf("%02d.parquet", k.r.IntN(8))
	for range 100 + k.r.IntN(300) {
		k.files[name] = append(k.files[name], [3]int64{k.r.Int64N(killedUsers), start.Add(time.Duration(k.r.IntN(10)) * time.Hour).UnixMicro(), k.r.Int64()})
	}
	columns := [4][]any{}
	for _, row := range k.files[name] {
		columns[0], columns[1] = append(columns[0], row[0]), append(columns[1], row[1])
		columns[2], columns[3] = append(columns[2], row[2]), append(columns[3], strconv.FormatInt(row[2], 36))
	}
	path := filepath.Join(k.TempDir(), name)
	new(servertest.Table).Add("user_id", feature.Int64, columns[0]...).Add("at", feature.Timestamp, columns[1]...).Add("x", feature.Int64, columns[2]...).
		Add("y", feature.String, columns[3]...).WriteParquet(k.T, path)
	data, err := os.ReadFile(path)
	require.NoError(k, err)
	k.s3.Put(k.T, k.bucket, "rows/"+name, data)
}

// process starts a syncer. It ends before the test does.
func (k *killing) process() (cmd *exec.Cmd, stderr *bytes.Buffer) {
	cmd, stderr = exec.CommandContext(k.Context(), os.Args[0]), &bytes.Buffer{}
	cmd.Env = append(os.Environ(), killedVariable+"="+string(k.told))
	cmd.Stderr = stderr
	require.NoError(k, cmd.Start())
	return cmd, stderr
}

// kill starts one or two syncers and kills them, each at a moment of its own.
func (k *killing) kill() {
	var processes sync.WaitGroup
	for range 1 + k.r.IntN(2) {
		cmd, _ := k.process()
		after := time.Duration(k.r.Int64N(int64(k.whole)))
		k.kills++
		processes.Go(func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = cmd.Wait() // it was killed, or had ended
			}()
			select {
			case <-time.After(after):
				_ = cmd.Process.Kill()
				<-done
			case <-done:
			}
		})
	}
	processes.Wait()
}

// finish lets a syncer, or two at once, run to the end.
func (k *killing) finish() {
	for {
		began := time.Now()
		ends := []func() bool{k.ending()}
		if k.r.IntN(3) == 0 {
			ends = append(ends, k.ending())
		}
		well := true
		for _, ended := range ends {
			well = ended() && well
		}
		if well {
			k.whole = min(max(time.Since(began), 100*time.Millisecond), 2*time.Second)
			return
		}
	}
}

// ending starts a syncer; what it returns waits for its end and reports whether that was well. On a slow machine so short a lease may be lost.
func (k *killing) ending() func() bool {
	cmd, stderr := k.process()
	return func() bool {
		err := cmd.Wait()
		if err != nil && strings.Contains(stderr.String(), syncstate.ErrFenced.Error()) {
			return false
		}
		require.NoError(k, err, "%s", stderr)
		return true
	}
}

// newest is the row that is to be served of each user: the latest, of equal ones the last in the order of files.
func (k *killing) newest() map[int64][3]int64 {
	newest := map[int64][3]int64{}
	for _, name := range slices.Sorted(maps.Keys(k.files)) {
		for _, row := range k.files[name] {
			if best, ok := newest[row[0]]; !ok || row[1] >= best[1] {
				newest[row[0]] = row
			}
		}
	}
	return newest
}

// isWhole reports whether view whole is served as these rows say, all of them.
func (k *killing) isWhole(want map[int64][3]int64) bool {
	_, generations, _, err := k.store.LiveStates(k.Context(), k.views)
	require.NoError(k, err)
	result := k.read(generations)
	for user := range killedUsers {
		if row, ok := want[int64(user)]; result.Columns[4].IsPresent(user) != ok || (ok && result.Columns[4].Int64s[user] != row[2]) {
			return false
		}
	}
	return true
}

func (k *killing) read(generations []uint64) *online.Result {
	result, err := k.store.Read(k.Context(), k.plan, []*feature.Column{k.keys}, online.ReadOptions{AsOf: feature.AsOf(time.Now().UnixMicro()), Generations: generations})
	require.NoError(k, err)
	return result
}

// check compares every value of every user in every view.
func (k *killing) check() {
	states, generations, _, err := k.store.LiveStates(k.Context(), k.views)
	require.NoError(k, err)
	require.Equal(k, []online.SyncState{online.Synced, online.Synced, online.Synced}, states)
	result, newest := k.read(generations), k.newest()
	for user := range killedUsers {
		want, ok := newest[int64(user)]
		for v := range k.views {
			x, y := result.Columns[2*v], result.Columns[2*v+1]
			switch {
			case x.IsPresent(user) != ok:
				k.Errorf("view %s, user %d: %v, want %v", k.views[v].Name, user, x.Status[user], want)
			case ok && (x.Int64s[user] != want[2] || y.StringAt(user) != strconv.FormatInt(want[2], 36) || result.EventTimes[v][user] != want[1]):
				k.Errorf("view %s, user %d: got %d of %d, want %v", k.views[v].Name, user, x.Int64s[user], result.EventTimes[v][user], want)
			}
		}
	}
}

// TestKilledProcesses kills real syncer processes at random moments, one or two at a time, while they carry files from a real S3 server to a real Redis, then lets one end and compares every
// value. Between kills the view that is made of snapshots is as it was before or as it is to be, nothing else. TWOFOLD_TEST_KILLS says how many kills (default 25).
func TestKilledProcesses(t *testing.T) {
	kills := 25
	if text := os.Getenv("TWOFOLD_TEST_KILLS"); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	seed := rand.Uint64N(1 << 48)
	if text := os.Getenv("TWOFOLD_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("TWOFOLD_SEED=%d", seed) // the moments of kills are the machine's
	k := newKilling(t, rand.New(rand.NewPCG(seed, 0)))
	defer k.close()
	rounds, before := 0, map[int64][3]int64{}
	for ; k.kills < kills && !t.Failed(); rounds++ {
		for range 1 + k.r.IntN(3) {
			k.write()
		}
		want := k.newest()
		for range 1 + k.r.IntN(4) {
			k.kill()
			if !k.isWhole(want) {
				require.True(t, k.isWhole(before), "view whole is neither as it was nor as it is to be")
			}
		}
		k.finish()
		k.check()
		before = want
	}
	t.Logf("%d kills in %d rounds: %d values compared", k.kills, rounds, rounds*killedUsers*2*len(k.views))
}
