package server

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/offline"
)

// manifest says what the result, which is complete, was made of. Where the call repeats another whose result was a different one, that is the error.
func (c *historicalCall) manifest() (*twofoldv1.HistoricalManifest, error) {
	m := &twofoldv1.HistoricalManifest{
		RowCount: uint64(c.rows.Len()), DefinitionsHash: c.catalog.registry.Hash(), SelectionHash: c.selection.Hash(), Header: c.optionsOnly(), ContentHash: c.set.Hash(),
		EntityRows: &twofoldv1.EntityRowsManifest{
			RowCount: uint64(c.rows.Len()), FilteredRows: uint64(c.rows.Filtered()), ContentHash: c.rows.Hash(), Files: sourceFiles(c.entityFiles),
			Columns: columnSchemas(c.rows.Schema()),
		},
	}
	for v, view := range c.selection.Views {
		stats := c.set.Stats(v)
		vm := &twofoldv1.HistoricalViewManifest{
			Name: view.View.Name, Files: sourceFiles(c.scans[v].Files()), RowsRead: uint64(stats.RowsRead), RowsPruned: uint64(stats.RowsPruned),
			RowsNull: uint64(stats.RowsNull), UnmatchedRows: uint64(stats.Unmatched),
		}
		if ttl := c.spec.TTL(v); ttl > 0 {
			vm.Ttl = durationpb.New(ttl.Duration())
		}
		m.Views = append(m.Views, vm)
	}
	if earlier := c.header.GetRepeatOf(); earlier.GetContentHash() != "" && earlier.GetContentHash() != m.GetContentHash() {
		return nil, fault.New(fault.Precondition, "repeat_of: the result has the content hash %s, that of the manifest %s; the sources and entity rows are the same, so was another "+
			"version of Twofold used, or another option?", m.GetContentHash(), earlier.GetContentHash())
	}
	return m, nil
}

// optionsOnly is the header without what does not decide the result.
func (c *historicalCall) optionsOnly() *twofoldv1.HistoricalHeader {
	header := proto.CloneOf(c.header)
	header.RepeatOf, header.ProgressInterval = nil, nil
	return header
}

func sourceFiles(files []offline.File) []*twofoldv1.SourceFile {
	out := make([]*twofoldv1.SourceFile, len(files))
	for i, f := range files {
		out[i] = &twofoldv1.SourceFile{Url: f.URL, SizeBytes: uint64(f.SizeBytes), Etag: f.ETag}
	}
	return out
}

// pin makes a call that repeats another read exactly the files of that one.
func (c *historicalCall) pin() error {
	earlier := c.header.GetRepeatOf()
	if earlier == nil {
		return nil
	}
	if hash := c.selection.Hash(); earlier.GetSelectionHash() != hash {
		return fault.New(fault.Precondition, "repeat_of: the definitions of the selected features have changed since (selection_hash %s, in the manifest %s); "+
			"start a server with the definitions of then (definitions_hash %s), or make a new training set", hash, earlier.GetSelectionHash(), earlier.GetDefinitionsHash())
	}
	if len(earlier.GetViews()) != len(c.scans) {
		return fault.InvalidField("header.repeat_of.views", "the manifest has %d views, the selection %d; is it the manifest of this request?", len(earlier.GetViews()), len(c.scans))
	}
	for v, view := range earlier.GetViews() {
		if name := c.selection.Views[v].View.Name; view.GetName() != name {
			return fault.InvalidField("header.repeat_of.views", "view %d is %q in the manifest and %q in the selection; is it the manifest of this request?", v, view.GetName(), name)
		}
		var files []offline.File
		for _, f := range view.GetFiles() {
			files = append(files, offline.File{URL: f.GetUrl(), SizeBytes: int64(f.GetSizeBytes()), ETag: f.GetEtag()})
		}
		if err := c.scans[v].Pin(files); err != nil {
			return inField(fmt.Sprintf("header.repeat_of.views[%d].files", v), err)
		}
	}
	return nil
}

// checkEntityHash refuses a repetition with other entity rows, before anything is joined.
func (c *historicalCall) checkEntityHash() error {
	earlier := c.header.GetRepeatOf().GetEntityRows()
	want := earlier.GetContentHash()
	if got := c.rows.Hash(); want != "" && got != want {
		return fault.New(fault.Precondition, "repeat_of: the entity rows are not those of the manifest (content hash %s, in the manifest %s; %d rows, in the manifest %d)%s; "+
			"give the same rows, with the same column types", got, want, c.rows.Len(), earlier.GetRowCount(), changedFiles(earlier.GetFiles(), sourceFiles(c.entityFiles)))
	}
	return nil
}
