package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestPlacesArePermuted(t *testing.T) {
	for _, rows := range []int64{1, 2, 3, 7, 64, 1000, 4097} {
		seen := make([]bool, rows)
		moved := 0
		for i := range rows {
			at := table{seed: 5, rows: rows, shuffled: true}.place(i)
			if at < 0 || at >= rows || seen[at] {
				t.Fatalf("%d rows: place %d has row %d, which is none or was before", rows, i, at)
			}
			seen[at] = true
			if at != i {
				moved++
			}
		}
		if rows >= 64 && moved < int(rows)*9/10 {
			t.Errorf("%d rows: only %d are elsewhere", rows, moved)
		}
	}
}

func TestRows(t *testing.T) {
	data := table{seed: 9, rows: 20_000}
	var last event
	corrections, sameCreated, nulls := 0, 0, 0
	for i := range data.rows {
		e := data.event(i)
		if e.key < 0 || e.key >= data.keys() || e.eventMicros < startMicros || e.eventMicros >= startMicros+spanMicros {
			t.Fatalf("row %d: %+v", i, e)
		}
		if e.eventMicros < last.eventMicros {
			t.Fatalf("row %d is of before the row before it", i)
		}
		if e.eventMicros == last.eventMicros && e.key == last.key {
			corrections++
			if e.createdMicros == last.createdMicros {
				sameCreated++
			}
		}
		if _, ok := data.double(i, 3); !ok {
			nulls++
		}
		last = e
	}
	if corrections != 200 || sameCreated < 5 || sameCreated > 50 || nulls < 120 || nulls > 280 {
		t.Errorf("%d corrections, %d with the same created time, %d nulls", corrections, sameCreated, nulls)
	}
}

func TestEntityRows(t *testing.T) {
	of := table{seed: 9, rows: 20_000}
	unknown := 0
	for _, e := range []entityTable{{rows: 5000, of: of}, {rows: 5000, of: of, recent: true}} {
		from, to := e.bounds()
		for i := range e.rows {
			key, at := e.row(i)
			if at < from || at >= to {
				t.Fatalf("row %d of %s is of %d", i, e.name(), at)
			}
			if key >= of.keys() {
				unknown++
			}
		}
	}
	if unknown < 200 || unknown > 800 {
		t.Errorf("%d of 10,000 keys have no features", unknown)
	}
}

// TestFilesFollowFromTheSeed makes the same files twice.
func TestFilesFollowFromTheSeed(t *testing.T) {
	data := table{seed: 3, rows: 3000, shuffled: true}
	folders := []string{t.TempDir(), t.TempDir()}
	for _, folder := range folders {
		if err := data.generate(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
	}
	paths, err := filepath.Glob(filepath.Join(folders[0], data.name(), "*.parquet"))
	if err != nil || len(paths) != leastFiles {
		t.Fatalf("%v, %v", paths, err)
	}
	for _, path := range paths {
		one, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(filepath.Join(folders[1], data.name(), filepath.Base(path)))
		if err != nil || !bytes.Equal(one, other) {
			t.Errorf("%s differs: %v", filepath.Base(path), err)
		}
	}
}

func TestGenerateOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	calls := 0
	fill := func(string) error { calls++; return nil }
	fails := func(string) error { return os.ErrInvalid }
	if err := once(folder, fails); err == nil {
		t.Error("a failure was not told")
	}
	for range 2 {
		if err := once(folder, fill); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 1 {
		t.Errorf("it was made %d times", calls)
	}
}
