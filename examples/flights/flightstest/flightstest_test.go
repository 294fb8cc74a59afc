package flightstest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// shared holds what all tests of this package read, read once.
var shared struct {
	sync.Once
	flights   []Flight
	histories [][]record
	rows      []Row
}

// load fills shared.
func load(t *testing.T) {
	t.Helper()
	shared.Do(func() {
		dir := Dir(t)
		for _, view := range Views() {
			shared.histories = append(shared.histories, readView(t, dir, view))
		}
		shared.flights = readFlights(t, dir)
		shared.rows = join(shared.flights, shared.histories)
	})
	if shared.rows == nil {
		t.Fatal("the example's data could not be read; see the first failure")
	}
}

// TestEqualsPandas compares every value of every flight with pandas' own point-in-time join: by a hash of each column,
// and some flights value by value, so that a difference can be seen.
func TestEqualsPandas(t *testing.T) {
	load(t)
	rows, want := shared.rows, readExpected(t, Dir(t)).Training
	if len(rows) != want.Rows {
		t.Fatalf("%d flights, want %d", len(rows), want.Rows)
	}
	compareSample(t, rows, want.Sample)
	got := summarize(rows)
	for name, column := range want.Columns {
		summary, ok := got[name]
		if !ok {
			t.Errorf("%s: the oracle has no such column", name)
			continue
		}
		if summary.present != column.Present || hex.EncodeToString(summary.hash.Sum(nil)) != column.SHA256 {
			t.Errorf("%s: %d values are present, want %d; or values differ", name, summary.present, column.Present)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s: pandas has no such column", name)
	}
}

func compareSample(t *testing.T, rows []Row, sample [][]json.RawMessage) {
	t.Helper()
	if len(sample) < 100 {
		t.Fatalf("expected.json has %d sampled flights only", len(sample))
	}
	for _, item := range sample {
		number := decodeAs[int](t, item[0])
		item = item[1:]
		want, got := map[string]any{}, map[string]any{}
		for v, view := range Views() {
			for _, f := range view.Features {
				want[view.Name+":"+f.Name] = decode(t, f.Type, item[0])
				item = item[1:]
			}
			want[view.Name] = decode(t, "TIMESTAMP", item[0])
			item = item[1:]
			got[view.Name] = nil
			if micros, ok := rows[number].EventMicros(v); ok {
				got[view.Name] = micros
			}
		}
		values := rows[number].Values()
		for i, name := range Features() {
			got[name] = values[i]
		}
		if diff := cmp.Diff(want, got); diff != "" || len(item) > 0 || len(values) != len(Features()) {
			t.Errorf("flight %d (-pandas +oracle), %d values left over:\n%s", number, len(item), diff)
		}
	}
}

// summary is what is compared of a whole column.
type summary struct {
	present int
	hash    hash.Hash
}

func summarize(rows []Row) map[string]*summary {
	summaries := map[string]*summary{}
	for v, view := range Views() {
		times := &summary{hash: sha256.New()}
		summaries[view.Name+":event_timestamp"] = times
		columns := make([]*summary, len(view.Features))
		for i, f := range view.Features {
			columns[i] = &summary{hash: sha256.New()}
			summaries[view.Name+":"+f.Name] = columns[i]
		}
		for _, row := range rows {
			for i, value := range row.matches[v].valuesOr(len(columns)) {
				columns[i].add(value)
			}
			if micros, ok := row.EventMicros(v); ok {
				times.add(micros)
			} else {
				times.add(nil)
			}
		}
	}
	return summaries
}

// add hashes one value as make_expected.py's encoded does.
func (s *summary) add(value any) {
	if value == nil {
		s.hash.Write([]byte{0})
		return
	}
	s.present++
	b := []byte{1}
	switch v := value.(type) {
	case int32:
		b = binary.LittleEndian.AppendUint64(b, uint64(int64(v)))
	case int64:
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	case float32:
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	case float64:
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	case bool:
		if v {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	case string:
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(v))), v...)
	default:
		panic("flightstest: a value of another type")
	}
	s.hash.Write(b)
}

// TestEqualsFullScan holds the oracle against something plainer still: for some flights, every row of every view is looked at.
func TestEqualsFullScan(t *testing.T) {
	load(t)
	rows, random := shared.rows, newRandom(t)
	sample := make([]int, 200)
	for i := range sample {
		sample[i] = random.IntN(len(rows))
	}
	for v, view := range Views() {
		history, matched := shared.histories[v], 0
		for _, number := range sample {
			flight := rows[number].Flight
			want := scan(history, flight.key(view.Key), flight.EventMicros)
			if want != nil && view.TTL > 0 && flight.EventMicros-want.micros > view.TTL.Microseconds() {
				want = nil
			}
			if want != nil {
				matched++
			}
			if diff := cmp.Diff(asMap(want), asMap(rows[number].matches[v])); diff != "" {
				t.Errorf("flight %d, view %s (-scan +oracle):\n%s", number, view.Name, diff)
			}
		}
		if matched == 0 {
			t.Errorf("view %s: no sampled flight had a match, so nothing was compared", view.Name)
		}
	}
}

// scan looks at every row and returns the newest of that key that is not after the moment, whatever its age.
func scan(history []record, key string, atMicros int64) *record {
	var best *record
	for i := range history {
		row := &history[i]
		if row.micros <= atMicros && row.key == key && (best == nil || row.micros > best.micros) {
			best = row
		}
	}
	return best
}

func asMap(row *record) map[string]any {
	if row == nil {
		return nil
	}
	return map[string]any{"key": row.key, "micros": row.micros, "values": row.values}
}

// TestOnlineExamples finds what the online store must answer at the demo's start, and compares it with pandas' answers.
func TestOnlineExamples(t *testing.T) {
	load(t)
	dir := Dir(t)
	now := ClockStart(t, dir)
	seen := map[string]bool{}
	for _, example := range OnlineExamples(t, dir) {
		got := OnlineExample{Title: example.Title, Keys: example.Keys, EventTimes: map[string]time.Time{}, Answers: map[string]Answer{}}
		for v, view := range Views() {
			answerView(&got, view, shared.histories[v], now)
		}
		if diff := cmp.Diff(example, got); diff != "" {
			t.Errorf("%s (-pandas +oracle):\n%s", example.Title, diff)
		}
		if example.UnchangedUntil.Sub(now) < 15*time.Minute {
			t.Errorf("%s: answers change %v after the start, too soon for a demo", example.Title, example.UnchangedUntil.Sub(now))
		}
		for _, answer := range example.Answers {
			seen[answer.Status] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"PRESENT": true, "NULL": true, "NOT_FOUND": true, "EXPIRED": true}, seen); diff != "" {
		t.Errorf("the examples do not show every status (-want +got):\n%s", diff)
	}
}

// answerView adds one view's answers at that moment to an example, and moves its UnchangedUntil.
func answerView(example *OnlineExample, view View, history []record, now time.Time) {
	key := example.Keys[view.Key]
	changes := func(at time.Time) {
		if example.UnchangedUntil.IsZero() || at.Before(example.UnchangedUntil) {
			example.UnchangedUntil = at
		}
	}
	for _, row := range history {
		if row.micros > now.UnixMicro() && row.key == key {
			changes(time.UnixMicro(row.micros).UTC())
		}
	}
	status, row := "NOT_FOUND", scan(history, key, now.UnixMicro())
	if row != nil {
		at := time.UnixMicro(row.micros).UTC()
		example.EventTimes[view.Name] = at
		status = "PRESENT"
		if view.TTL > 0 {
			if now.Sub(at) > view.TTL {
				status = "EXPIRED"
			} else {
				changes(at.Add(view.TTL))
			}
		}
	}
	for i, f := range view.Features {
		answer := Answer{Status: status}
		if status == "PRESENT" {
			answer.Value = row.values[i]
			if answer.Value == nil {
				answer.Status = "NULL"
			}
		}
		example.Answers[view.Name+":"+f.Name] = answer
	}
}

// newRandom returns numbers from the seed in FLIGHTSTEST_SEED, or from a new one, and prints the seed.
func newRandom(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if text := os.Getenv("FLIGHTSTEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("FLIGHTSTEST_SEED: %v", err)
		}
	}
	t.Logf("FLIGHTSTEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
