package syncer

import (
	"context"
	"fmt"
	"sync"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/pit"
)

// badRows does with the bad rows of one run what the view's policy says.
type badRows struct {
	view *feature.View

	mu sync.Mutex // guards what follows
	// firstFile and firstRow are where one of them stands, for messages; firstFile is empty where there is none.
	firstFile string
	firstRow  int64
	reason    pit.BadReason
	// byFile are the rows to put aside, with their reasons, by the URL of their file.
	byFile map[string]map[int64]pit.BadReason
	count  int
}

// maxPutAside is how many bad rows one run puts aside; a source that has more is not what its definition says.
const maxPutAside = 1 << 20

// take is told of bad rows; see pit.LatestOptions.Bad.
func (b *badRows) take(rows pit.BadRows) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	file, row := origin(rows.Fragment, rows.Rows[0])
	if b.firstFile == "" || file < b.firstFile || (file == b.firstFile && row < b.firstRow) {
		b.firstFile, b.firstRow, b.reason = file, row, rows.Reason
	}
	switch b.view.Sync.BadRows.Policy {
	case feature.QuarantineBadRows:
		return b.keep(rows)
	case feature.FailOnBadRows:
		return fault.New(fault.Precondition, "a row cannot be carried: %s; mend the file, or leave such rows out with sync.bad_rows.policy: SKIP", b.example())
	default:
		return nil
	}
}

// keep takes note of rows to put aside.
func (b *badRows) keep(rows pit.BadRows) error {
	if b.count += len(rows.Rows); b.count > maxPutAside {
		return fault.New(fault.Precondition, "more than %d rows cannot be carried, too many to put aside; for example %s", maxPutAside, b.example())
	}
	if b.byFile == nil {
		b.byFile = map[string]map[int64]pit.BadReason{}
	}
	for _, i := range rows.Rows {
		file, row := origin(rows.Fragment, i)
		if b.byFile[file] == nil {
			b.byFile[file] = map[int64]pit.BadReason{}
		}
		b.byFile[file][row] = rows.Reason // a file that is read twice tells of its rows twice
	}
	return nil
}

// putAside writes the rows that were kept of some files to files of their own, one for each that they come from, and returns these files' URLs.
func (b *badRows) putAside(ctx context.Context, store *offline.Store, files []offline.File, run string) (urls []string, err error) {
	options := offline.QuarantineOptions{Folder: b.view.Sync.BadRows.QuarantinePath, Run: run}
	if options.Folder == "" {
		if options.Folder, err = store.Table(b.view).QuarantineFolder(ctx); err != nil {
			return nil, err
		}
	}
	for _, file := range files {
		rows := make([]offline.BadRow, 0, len(b.byFile[file.URL]))
		for row, reason := range b.byFile[file.URL] {
			rows = append(rows, offline.BadRow{Row: row, Reason: reason.String()})
		}
		written, err := store.Quarantine(ctx, file, rows, options)
		if err != nil {
			return urls, fmt.Errorf("put bad rows of %s aside: %w", file.URL, err)
		}
		if written.URL != "" {
			urls = append(urls, written.URL)
		}
	}
	return urls, nil
}

// example says where a bad row stands and why it is bad.
func (b *badRows) example() string {
	return fmt.Sprintf("row %d (counted from 0) of %s: %s", b.firstRow, b.firstFile, b.reason)
}

// check fails where the share of bad rows is larger than the view allows.
func (b *badRows) check(bad pit.BadCounts, read int64) error {
	most := b.view.Sync.BadRows.MaxShare
	if read == 0 || float64(bad.Total()) <= most*float64(read) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return fault.New(fault.Precondition, "feature view %q: %d of %d rows cannot be carried, and sync.bad_rows.max_share allows %v of them; for example %s", b.view.Name, bad.Total(), read, most, b.example())
}

// origin is the file of a row, and its number there.
func origin(f pit.Fragment, row int64) (string, int64) {
	file, ok := f.(feature.FileFragment)
	if !ok {
		return "the source", row
	}
	name, first := file.Origin()
	return name, first + row
}
