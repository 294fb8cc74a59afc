package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"math"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/twofold-ml/twofold/internal/feature"
)

// expectations is examples/flights/expected.json: what pandas found on the example's files.
type expectations struct {
	ClockStart time.Time           `json:"clock_start"`
	Online     []onlineExpectation `json:"online"`
	Training   trainingExpectation `json:"training"`
}

// onlineExpectation is one entity and what its features are at ClockStart.
type onlineExpectation struct {
	Title      string                        `json:"title"`
	Keys       map[string]string             `json:"keys"`
	EventTimes map[string]*time.Time         `json:"event_times"`
	Features   map[string]featureExpectation `json:"features"`
}

type featureExpectation struct {
	Status string `json:"status"`
	// Value is a JSON value; times are microseconds since the epoch.
	Value json.RawMessage `json:"value"`
}

// trainingExpectation is a digest of each feature column over every flight.
type trainingExpectation struct {
	Rows    int64                        `json:"rows"`
	Columns map[string]columnExpectation `json:"columns"`
}

type columnExpectation struct {
	Present int    `json:"present"`
	SHA256  string `json:"sha256"`
}

func readExpectations(path string) (*expectations, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, missingExample(path, err)
	}
	e := &expectations{}
	if err := json.Unmarshal(text, e); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(e.Online) == 0 || len(e.Training.Columns) == 0 {
		return nil, fmt.Errorf("%s holds no expectations", path)
	}
	return e, nil
}

// check compares one row of an answer.
func (e onlineExpectation) check(a *answer, row int) error {
	if got := len(a.columns) - a.keys; got != len(e.Features) {
		return fmt.Errorf("%d features came back, %d are expected", got, len(e.Features))
	}
	for i := a.keys; i < len(a.columns); i++ {
		want, ok := e.Features[a.names[i]]
		if !ok {
			return fmt.Errorf("feature %s is not expected", a.names[i])
		}
		status, value := a.columns[i].Status[row].String(), a.columns[i].ValueAt(row)
		if err := want.compare(status, value); err != nil {
			return fmt.Errorf("%s: %w", a.names[i], err)
		}
	}
	return nil
}

func (f featureExpectation) compare(status string, value any) error {
	if status != f.Status {
		return fmt.Errorf("its status is %s, expected %s", status, f.Status)
	}
	got, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if !sameJSON(got, f.Value) {
		return fmt.Errorf("its value is %s, expected %s", got, f.Value)
	}
	return nil
}

// sameJSON compares two JSON scalars; 340 and 340.0 are the same.
func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return x == y
}

// checkJSON compares a row as `twofold get -o json` prints it, event times included.
func (e onlineExpectation) checkJSON(row answerRowJSON) error {
	if len(row.Features) != len(e.Features) {
		return fmt.Errorf("%d features came back, %d are expected", len(row.Features), len(e.Features))
	}
	for name, want := range e.Features {
		status, ok := row.Status[name]
		if !ok {
			status = feature.Present.String()
		}
		value := row.Features[name]
		if text, ok := value.(string); ok {
			if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
				value = t.UnixMicro()
			}
		}
		if err := want.compare(status, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for view, want := range e.EventTimes {
		text := ""
		if want != nil {
			text = formatTime(want.UnixMicro())
		}
		if got := row.EventTimes[view]; got != text {
			return fmt.Errorf("%s: its event time is %q, expected %q", view, got, text)
		}
	}
	for name, want := range e.Keys {
		if row.Entity[name] != want {
			return fmt.Errorf("the entity key %s is %v, expected %q", name, row.Entity[name], want)
		}
	}
	return nil
}

// check compares the training set in a Parquet file: the number of rows, and each feature column's values by their digest.
func (t trainingExpectation) check(ctx context.Context, a *app, path string) (int64, error) {
	rows, err := a.openEntities(ctx, entityFile{path: path, format: formatParquet})
	if err != nil {
		return 0, err
	}
	defer rows.close()
	digests := map[string]*columnDigest{}
	for name := range t.Columns {
		if !rows.Schema().HasField(name) {
			return 0, fmt.Errorf("the training set has no column %s", name)
		}
		digests[name] = &columnDigest{hash: sha256.New()}
	}
	var count int64
	err = rows.Each(ctx, func(record arrow.RecordBatch) error {
		count += record.NumRows()
		columns, err := columnsOf(record)
		if err != nil {
			return err
		}
		for i, c := range columns {
			if d, ok := digests[record.ColumnName(i)]; ok {
				d.add(c)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if count != t.Rows {
		return 0, fmt.Errorf("the training set has %d rows, expected %d", count, t.Rows)
	}
	for name, want := range t.Columns {
		got := columnExpectation{digests[name].present, hex.EncodeToString(digests[name].hash.Sum(nil))}
		if got != want {
			return 0, fmt.Errorf("column %s of the training set is not as expected: %d values with digest %s, expected %d with %s",
				name, got.Present, got.SHA256, want.Present, want.SHA256)
		}
	}
	return count, nil
}

// columnDigest hashes the values of a column as examples/flights/make_expected.py does: 0 for null; else 1, then the value: integers and times
// in 8 bytes, FLOAT in 4, DOUBLE in 8, BOOL in 1, all little-endian; STRING as its length in 4 bytes and UTF-8.
type columnDigest struct {
	hash    hash.Hash
	present int
	buffer  bytes.Buffer
}

func (d *columnDigest) add(c *feature.Column) {
	d.buffer.Reset()
	for row := range c.Len() {
		if !c.IsPresent(row) {
			d.buffer.WriteByte(0)
			continue
		}
		d.present++
		d.buffer.WriteByte(1)
		d.buffer.Write(appendDigestValue(nil, c.ValueAt(row)))
	}
	d.hash.Write(d.buffer.Bytes())
}

func appendDigestValue(b []byte, value any) []byte {
	switch v := value.(type) {
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case int32:
		return binary.LittleEndian.AppendUint64(b, uint64(int64(v))) //nolint:gosec // the same bits
	case int64:
		return binary.LittleEndian.AppendUint64(b, uint64(v)) //nolint:gosec // the same bits
	case float32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	case float64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	case string:
		b = binary.LittleEndian.AppendUint32(b, uint32(len(v))) //nolint:gosec // the example's texts are short
		return append(b, v...)
	default:
		return append(b, fmt.Sprint(v)...)
	}
}
