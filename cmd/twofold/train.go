package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
)

// trainOptions are the flags of train.
type trainOptions struct {
	timeout       time.Duration
	features      []string
	entities      string
	entityFormat  string
	types         []string
	timeColumn    string
	out           string
	outFormat     string
	manifest      string
	maxStaleness  time.Duration
	createdCutoff bool
	eventTimes    bool
	shortNames    bool
}

func (a *app) trainCommand() *cobra.Command {
	var o trainOptions
	cmd := &cobra.Command{
		Use:   "train [SERVICE] --entities FILE --out FILE",
		Short: "Make a training set: entity rows with the features as they stood at each row's time",
		Long: `Joins features to entity rows, each as it stood at the row's own time, and writes the result, rows and further
columns in their order. The join never sees a value from after the row's time.

Entity rows hold every entity key, a time column (event_timestamp unless --time-column says otherwise) and
whatever else is to be kept, such as labels. They come from CSV, Parquet or Arrow; "-" is standard input. In CSV an
empty cell is null, in quotes ("") too, times are RFC 3339 or "2013-01-31 15:04:05" (UTC), all of a column with a zone or all
without, and a column is INT64, DOUBLE or BOOL if that keeps every digit of all its cells, else STRING; --type says otherwise.

The output file appears only once it is complete.`,
		Example: `  twofold train departure_delay_v1 --entities flights.csv --out training.parquet
  twofold train --features weather:temp,carrier_delays:'*' --entities rows.parquet --time-column sched_dep --out training.arrow
  cat rows.csv | twofold train departure_delay_v1 --entities - --out - --format csv | head`,
		GroupID: groupUse,
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.train(cmd, args, o) },
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeGet(cmd, args, getOptions{features: o.features})
		},
	}
	clientFlags(cmd, &o.timeout, 0)
	f := cmd.Flags()
	f.StringSliceVarP(&o.features, "features", "f", nil, "features to join instead of a service: `view:feature`,… or view:*")
	f.StringVarP(&o.entities, "entities", "e", "", "`file` or s3:// URL of entity rows, or - for standard input (required)")
	f.StringVar(&o.entityFormat, "entities-format", "", "csv, parquet or arrow (default by the file's name; for standard input by its first bytes)")
	f.StringSliceVar(&o.types, "type", nil, "type of a CSV column, as `column=TYPE`, for example zip=STRING")
	f.StringVar(&o.timeColumn, "time-column", "event_timestamp", "column that holds each entity row's time")
	f.StringVarP(&o.out, "out", "o", "", "`file` or s3:// URL to write, or - for standard output (required)")
	f.StringVar(&o.outFormat, "format", "", "parquet, csv or arrow (default by the file's name; csv for standard output)")
	f.StringVar(&o.manifest, "manifest", "", "`file` for the manifest: what was read, as JSON (default none)")
	f.DurationVar(&o.maxStaleness, "max-staleness", 0, "leave out values older than this at the row's time; can only tighten a view's ttl (default the ttl)")
	f.BoolVar(&o.createdCutoff, "created-time-cutoff", false, "use only rows that had been written by the row's time")
	f.BoolVar(&o.eventTimes, "event-times", false, "add a column view:event_timestamp a view")
	f.BoolVar(&o.shortNames, "short-names", false, "name feature columns without their view")
	return cmd
}

// check completes the formats and refuses options that cannot be.
func (o *trainOptions) check(cmd *cobra.Command) error {
	switch {
	case o.entities == "":
		return usagef(cmd, "--entities is missing: the file of entity rows, or - for standard input")
	case o.out == "":
		return usagef(cmd, "--out is missing: the file to write, or - for standard output")
	case o.maxStaleness < 0:
		return usagef(cmd, "--max-staleness: %v is less than 0", o.maxStaleness)
	}
	var err error
	if o.entities != "-" || o.entityFormat != "" {
		if o.entityFormat, err = formatOf("--entities-format", o.entityFormat, o.entities); err != nil {
			return usageError{cmd, err}
		}
	}
	if o.outFormat, err = formatOf("--format", o.outFormat, o.out); err != nil {
		return usageError{cmd, err}
	}
	return nil
}

// The file formats of train.
const (
	formatCSV     = "csv"
	formatParquet = "parquet"
	formatArrow   = "arrow"
)

// formatOf returns the format of a file: what the flag says, else by its name; CSV for "-".
func formatOf(flag, said, file string) (string, error) {
	name := said
	if name == "" {
		name = formatCSV
		if file != "-" {
			name = file[strings.LastIndexByte(file, '.')+1:]
		}
	}
	switch name = strings.ToLower(name); name {
	case formatCSV, formatParquet, formatArrow:
		return name, nil
	case "pq":
		return formatParquet, nil
	case "arrows", "ipc", "feather":
		return formatArrow, nil
	}
	if said != "" {
		return "", fmt.Errorf("%s: %q is not known; write csv, parquet or arrow", flag, said)
	}
	return "", fmt.Errorf("the format of %s cannot be told from its name; say it with %s: csv, parquet or arrow", file, flag)
}

func (a *app) train(cmd *cobra.Command, args []string, o trainOptions) error {
	service, rest, err := whatToRead(cmd, args, o.features)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef(cmd, "%q is not the name of a feature service; entity rows come from --entities", rest[0])
	}
	if err := o.check(cmd); err != nil {
		return err
	}
	types, err := parseTypes(o.types)
	if err != nil {
		return usageError{cmd, err}
	}
	c, done, err := a.connect(cmd, o.timeout)
	if err != nil {
		return err
	}
	defer done()
	keys, err := neededKeys(c, service, o.features)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, ok := types[key.Name]; !ok {
			types[key.Name] = key.Type
		}
	}
	types[o.timeColumn] = feature.Timestamp
	rows, err := a.openEntities(c.ctx, entityFile{o.entities, o.entityFormat, types, o.timeColumn, s3Config(c.config)})
	if err != nil {
		return err
	}
	defer rows.close()
	if err := rows.require(keys, o.timeColumn); err != nil {
		return err
	}
	manifest, err := a.writeTraining(c, o.header(service), rows, o)
	if err != nil {
		return err
	}
	return a.tellManifest(c, manifest, o)
}

func (o *trainOptions) header(service string) *twofoldv1.HistoricalHeader {
	header := &twofoldv1.HistoricalHeader{
		FeatureService: service, Features: o.features, TimeColumn: o.timeColumn, CreatedTimeCutoff: o.createdCutoff,
		ShortNames: o.shortNames, IncludeEventTimes: o.eventTimes,
	}
	if o.maxStaleness > 0 {
		header.MaxStaleness = durationpb.New(o.maxStaleness)
	}
	return header
}

// writeTraining makes the call and writes its result; the output appears only if all of it is there.
func (a *app) writeTraining(c *connection, header *twofoldv1.HistoricalHeader, rows *entityRows, o trainOptions) (*twofoldv1.HistoricalManifest, error) {
	out, err := a.createOutput(c.ctx, o.out, s3Config(c.config), offline.CreateOptions{Overwrite: true})
	if err != nil {
		return nil, err
	}
	defer out.abandon()
	manifest, err := a.join(c, header, rows, func(r *ipc.Reader) error { return writeTable(out, o.outFormat, o.out == "-", r) })
	if err != nil {
		return nil, err
	}
	return manifest, out.commit(c.ctx)
}

// join pipes the entity rows to the server and its answer to write.
func (a *app) join(c *connection, header *twofoldv1.HistoricalHeader, rows *entityRows, write func(*ipc.Reader) error) (*twofoldv1.HistoricalManifest, error) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	in, inWriter := io.Pipe()
	outReader, out := io.Pipe()
	var pipes sync.WaitGroup
	pipes.Go(func() {
		err := rows.stream(ctx, inWriter)
		if err != nil {
			cancel(err)
		}
		_ = inWriter.CloseWithError(err) // never fails
	})
	var written error
	pipes.Go(func() {
		if written = readStream(outReader, write); written != nil {
			cancel(written)
		}
		_ = outReader.CloseWithError(written) // never fails
	})
	bar := a.progress(rows.NumRows())
	manifest, err := c.HistoricalArrow(ctx, header, in, out, bar.update)
	bar.finish()
	// Where reading or writing failed first, the call's error only repeats it.
	if cause := context.Cause(ctx); cause != nil && c.ctx.Err() == nil {
		err = cause
	} else {
		err = c.wrap(err)
	}
	_ = in.CloseWithError(context.Canceled) // lets stream go where the call ended early
	_ = out.CloseWithError(err)             // nil is the end of the file
	pipes.Wait()
	if err == nil {
		err = written
	}
	return manifest, err
}

// readStream hands the Arrow stream to write and reads it to its end.
func readStream(in io.Reader, write func(*ipc.Reader) error) error {
	r, err := ipc.NewReader(in)
	if err != nil {
		return fault.New(fault.Internal, "the server's answer cannot be read: %w", err)
	}
	defer r.Release()
	if err := write(r); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// tellManifest prints what the training set was made of.
func (a *app) tellManifest(c *connection, m *twofoldv1.HistoricalManifest, o trainOptions) error {
	where := o.out
	if where == "-" {
		where = "standard output"
	}
	fmt.Fprintf(a.err, "wrote %s to %s\n", count(m.GetRowCount(), "row", "rows"), where)
	t := newTable("feature view", "matched", "unmatched", "rows read", "rows pruned", "files")
	for _, v := range m.GetViews() {
		unmatched := v.GetUnmatchedRows()
		t.add(v.GetName(), fmt.Sprint(m.GetRowCount()-unmatched), fmt.Sprint(unmatched), fmt.Sprint(v.GetRowsRead()), fmt.Sprint(v.GetRowsPruned()), fmt.Sprint(len(v.GetFiles())))
	}
	if err := t.write(a.err); err != nil {
		return err
	}
	if o.manifest == "" {
		return nil
	}
	out, err := a.createOutput(c.ctx, o.manifest, s3Config(c.config), offline.CreateOptions{Overwrite: true})
	if err != nil {
		return err
	}
	defer out.abandon()
	m.ArrowIpc = nil // it went into the file
	text, err := formatJSON(m)
	if err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	return out.commit(c.ctx)
}

// parseTypes reads "column=TYPE" flags.
func parseTypes(flags []string) (map[string]feature.Type, error) {
	types := map[string]feature.Type{}
	for _, flag := range flags {
		name, text, ok := strings.Cut(flag, "=")
		t, known := feature.ParseType(strings.ToUpper(text))
		if !ok || !known || t.IsList() {
			return nil, fmt.Errorf("--type: %q is not column=TYPE; write for example zip=STRING (BOOL, INT32, INT64, FLOAT, DOUBLE, STRING, BYTES, TIMESTAMP)", flag)
		}
		types[name] = t
	}
	return types, nil
}

// asFile returns the file behind a writer, if there is one.
func asFile(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok
}
