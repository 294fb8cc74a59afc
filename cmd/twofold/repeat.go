package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/wire"
)

const (
	// manifestSuffix follows the name of a training set in that of its manifest.
	manifestSuffix = ".manifest.json"
	// maxManifestBytes bounds a manifest that is read: one of a million source files has some 200 MB.
	maxManifestBytes = 512 << 20
)

// repetition is the training set of a manifest again: its options and entity rows, unless flags say where the same rows are now.
func (a *app) repetition(cmd *cobra.Command, c *connection, o trainOptions) (*trainJob, error) {
	earlier, err := readManifest(c.ctx, o.manifest, s3Config(c.config))
	if err != nil {
		return nil, err
	}
	job := &trainJob{header: proto.CloneOf(earlier.GetHeader())}
	if job.header.GetTimeColumn() == "" {
		job.header.TimeColumn = "event_timestamp"
	}
	job.header.RepeatOf = earlier
	if o.out == "" && o.serverOut == "" && job.header.GetOutput() == nil {
		out, ok := strings.CutSuffix(o.manifest, manifestSuffix)
		if !ok {
			return nil, usagef(cmd, "--out is missing: the file to write, or - for standard output; "+
				"it can be left out only where the manifest is named like the file that it stands beside, with %s after it", manifestSuffix)
		}
		o.out = out
		if o.outFormat, err = formatOf("--format", o.outFormat, out); err != nil {
			return nil, usageError{cmd, err}
		}
	}
	if err := o.place(job); err != nil {
		return nil, err
	}
	if job.header.GetOutput() != nil && o.overwrite {
		job.header.Output.Overwrite = true
	}
	if err := recordedTypes(job, earlier.GetEntityRows().GetColumns()); err != nil {
		return nil, err
	}
	if job.entities != "" || job.header.GetEntities() != nil {
		return job, nil
	}
	job.recorded = earlier.GetEntityRows().GetFiles()
	if job.entities = commonPath(job.recorded); job.entities == "" {
		return nil, usagef(cmd, "--entities is missing: the manifest does not say what file its entity rows came from (standard input, or a client of another kind); give the same rows again")
	}
	return job, nil
}

// recordedTypes has the entity rows read as the types that they had, where no flag says otherwise: in CSV the file does not say.
func recordedTypes(job *trainJob, columns []*twofoldv1.ColumnSchema) error {
	for _, column := range columns {
		if _, said := job.types[column.GetName()]; said || column.GetType() == twofoldv1.ValueType_VALUE_TYPE_UNSPECIFIED {
			continue
		}
		t, err := wire.TypeFromProto(column.GetType())
		if err != nil {
			return fmt.Errorf("manifest: column %q of the entity rows: %w", column.GetName(), err)
		}
		job.types[column.GetName()] = t
	}
	return nil
}

// readManifest reads a manifest that can be repeated.
func readManifest(ctx context.Context, path string, s3 offline.S3Config) (*twofoldv1.HistoricalManifest, error) {
	store, err := offline.Open(ctx, offline.Config{Path: ".", S3: s3})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	info, err := store.StatFile(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	text, err := store.ReadFile(ctx, info, maxManifestBytes)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	m := &twofoldv1.HistoricalManifest{}
	if err := protojson.Unmarshal(text, m); err != nil {
		return nil, fault.New(fault.Invalid, "%s is not the manifest of a training set, or one of a newer version: %w", path, err)
	}
	if m.GetHeader() == nil || m.GetContentHash() == "" || m.GetEntityRows().GetContentHash() == "" {
		return nil, fault.New(fault.Invalid, "%s cannot be repeated: it lacks the options or the hashes of a training set; is it whole?", path)
	}
	return m, nil
}

// commonPath is the file that entity rows came from, or the folder where they are several; empty where there is none.
func commonPath(files []*twofoldv1.SourceFile) string {
	if len(files) == 0 {
		return ""
	}
	path := files[0].GetUrl()
	for _, f := range files[1:] {
		for !strings.HasPrefix(f.GetUrl(), path) || !strings.HasSuffix(path, "/") {
			i := strings.LastIndexByte(strings.TrimSuffix(path, "/"), '/')
			if i < 0 {
				return ""
			}
			path = path[:i+1]
		}
	}
	return path
}

// checkRecorded refuses entity rows of other files than those of the manifest that is repeated.
func checkRecorded(job *trainJob, rows *entityRows) error {
	if len(job.recorded) == 0 {
		return nil
	}
	const mend = "put the earlier one back, or give the same rows with --entities, which are then compared by their content"
	now := rows.Files()
	for _, f := range job.recorded {
		i := slices.IndexFunc(now, func(n offline.File) bool { return n.URL == f.GetUrl() })
		if i < 0 {
			return fault.New(fault.Precondition, "the file of entity rows %s is no longer there; %s", f.GetUrl(), mend)
		}
		if n := now[i]; n.ETag != f.GetEtag() || uint64(n.SizeBytes) != f.GetSizeBytes() { //nolint:gosec // a size
			return fault.New(fault.Precondition, "the file of entity rows %s was replaced: it has %d bytes and version %s, and had %d bytes and version %s; %s",
				n.URL, n.SizeBytes, n.ETag, f.GetSizeBytes(), f.GetEtag(), mend)
		}
	}
	for _, n := range now {
		if !slices.ContainsFunc(job.recorded, func(f *twofoldv1.SourceFile) bool { return f.GetUrl() == n.URL }) {
			return fault.New(fault.Precondition, "the file of entity rows %s is new; name those of the manifest with --entities", n.URL)
		}
	}
	return nil
}

// checkRepeated refuses a result that a server made without looking at the manifest to repeat.
func checkRepeated(earlier, now *twofoldv1.HistoricalManifest) error {
	if earlier == nil || earlier.GetContentHash() == now.GetContentHash() {
		return nil
	}
	return fault.New(fault.Precondition, "the result is not that of the manifest (content hash %s, in the manifest %s), and the server did not say so; is it older than this program?",
		now.GetContentHash(), earlier.GetContentHash())
}

// recordFiles says in the manifest which files the entity rows were read from here.
func recordFiles(m *twofoldv1.HistoricalManifest, rows *entityRows) {
	if rows == nil || m.GetEntityRows() == nil {
		return
	}
	m.EntityRows.Files = nil
	for _, f := range rows.Files() {
		m.EntityRows.Files = append(m.EntityRows.Files, &twofoldv1.SourceFile{Url: f.URL, SizeBytes: uint64(f.SizeBytes), Etag: f.ETag}) //nolint:gosec // a size
	}
}

// saveManifest writes the manifest where the job wants it, and returns where that is; empty for nowhere.
func (a *app) saveManifest(c *connection, job *trainJob, m *twofoldv1.HistoricalManifest) (string, error) {
	if job.manifest == "" {
		if m.GetOutput() != nil {
			return m.GetOutput().GetUrl() + manifestSuffix, nil // the server's
		}
		return "", nil
	}
	m.ArrowIpc = nil // it went into the file
	text, err := formatJSON(m)
	if err != nil {
		return "", err
	}
	return job.manifest, a.writeOutput(c.ctx, job.manifest, s3Config(c.config), offline.CreateOptions{Overwrite: true}, text)
}
