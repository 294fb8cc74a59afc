package flightstest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// OnlineExample is one request to the online store at ClockStart and what it must answer.
type OnlineExample struct {
	// Title says what the example shows.
	Title string
	// Keys of the entities: origin, tail_number and carrier.
	Keys map[string]string
	// UnchangedUntil is when, at the earliest, a newer row comes in or a row expires: before it, the answers are those of ClockStart.
	UnchangedUntil time.Time
	// EventTimes of the newest row, by view; zero where there is none. An expired row has its event time.
	EventTimes map[string]time.Time
	// Answers by "view:feature".
	Answers map[string]Answer
}

// Answer is one feature of an OnlineExample.
type Answer struct {
	// Status is PRESENT, NULL, NOT_FOUND or EXPIRED.
	Status string
	// Value in the types of Row.Values; nil unless PRESENT.
	Value any
}

// expectedFile is expected.json, which make_expected.py writes.
type expectedFile struct {
	ClockStart time.Time `json:"clock_start"`
	Online     []struct {
		Title          string                `json:"title"`
		Keys           map[string]string     `json:"keys"`
		UnchangedUntil time.Time             `json:"unchanged_until"`
		EventTimes     map[string]*time.Time `json:"event_times"`
		Features       map[string]struct {
			Status string          `json:"status"`
			Value  json.RawMessage `json:"value"`
		} `json:"features"`
	} `json:"online"`
	Training struct {
		Rows    int `json:"rows"`
		Columns map[string]struct {
			Present int    `json:"present"`
			SHA256  string `json:"sha256"`
		} `json:"columns"`
		// Sample has the row's number, then for each view its features and its event time.
		Sample [][]json.RawMessage `json:"sample"`
	} `json:"training"`
}

func readExpected(t testing.TB, dir string) expectedFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatalf("flightstest: %v", err)
	}
	var file expectedFile
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatalf("flightstest: expected.json: %v", err)
	}
	return file
}

// ClockStart is the instant at which the demo's clock starts.
func ClockStart(t testing.TB, dir string) time.Time {
	t.Helper()
	return readExpected(t, dir).ClockStart
}

// OnlineExamples returns the demo's requests with their answers as pandas found them: all fresh; an aircraft that is in no
// registry; a null and an expired view.
func OnlineExamples(t testing.TB, dir string) []OnlineExample {
	t.Helper()
	types := featureTypes()
	var examples []OnlineExample
	for _, e := range readExpected(t, dir).Online {
		example := OnlineExample{
			Title: e.Title, Keys: e.Keys, UnchangedUntil: e.UnchangedUntil,
			EventTimes: map[string]time.Time{}, Answers: map[string]Answer{},
		}
		for view, at := range e.EventTimes {
			if at != nil {
				example.EventTimes[view] = *at
			}
		}
		for name, f := range e.Features {
			example.Answers[name] = Answer{f.Status, decode(t, types[name], f.Value)}
		}
		examples = append(examples, example)
	}
	return examples
}

// featureTypes returns the type of each "view:feature".
func featureTypes() map[string]string {
	types := map[string]string{}
	for _, view := range Views() {
		for _, f := range view.Features {
			types[view.Name+":"+f.Name] = f.Type
		}
	}
	return types
}

// decode reads a JSON value as the Go type of a feature's type; null is nil.
func decode(t testing.TB, kind string, text json.RawMessage) any {
	t.Helper()
	if string(text) == "null" {
		return nil
	}
	switch kind {
	case "DOUBLE":
		return decodeAs[float64](t, text)
	case "FLOAT":
		return decodeAs[float32](t, text)
	case "INT64", "TIMESTAMP":
		return decodeAs[int64](t, text)
	case "INT32":
		return decodeAs[int32](t, text)
	case "BOOL":
		return decodeAs[bool](t, text)
	case "STRING":
		return decodeAs[string](t, text)
	}
	t.Fatalf("flightstest: no type %q", kind)
	return nil
}

func decodeAs[T any](t testing.TB, text json.RawMessage) T {
	t.Helper()
	var value T
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("flightstest: expected.json: %s: %v", text, err)
	}
	return value
}
