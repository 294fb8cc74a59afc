package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
)

func (a *app) trainCommand() *cobra.Command {
	var o trainOptions
	cmd := &cobra.Command{
		Use:   "train [SERVICE] --entities FILE --out FILE",
		Short: "Make a training set: entity rows with the features as they stood at each row's time",
		Long: `Joins features to entity rows, each as it stood at the row's own time, and writes the result, rows and further
columns in their order. The join never sees a value from after the row's time.

Entity rows hold every entity key, a time column (event_timestamp unless --time-column says otherwise) and
whatever else is to be kept, such as labels. They are in CSV, Parquet or Arrow:
  --entities FILE           this program reads the file and sends it; "-" is standard input
  --server-entities FILE    the server reads it, where its setting historical.entity_paths allows that
  --entityless              they are made: a row for each entity and time at which a feature has a row, --start ≤ time < --end
In CSV an empty cell is null, in quotes ("") too, times are RFC 3339 or "2013-01-31 15:04:05" (UTC), all of a column with a zone or all
without, and a column is INT64, DOUBLE or BOOL if that keeps every digit of all its cells, else STRING; --type says otherwise.

The result goes to --out, a file that appears only once it is complete, or with --server-out to a Parquet file that the server writes.
Beside it appears its manifest, FILE.manifest.json: the options, the definitions and every file that was read. With --manifest it is repeated:
the same bytes come out, or an error that names the file, or else, that has changed. Files that have come since do not matter.`,
		Example: `  twofold train departure_delay_v1 --entities flights.csv --out training.parquet
  twofold train --manifest training.parquet.manifest.json --out again.parquet
  twofold train --features weather:temp,carrier_delays:'*' --entities rows.parquet --time-column sched_dep --out training.arrow
  twofold train --features weather:'*' --entityless --start 2013-07-01 --end 2013-08-01 --out july.parquet
  twofold train departure_delay_v1 --server-entities s3://rows/flights.parquet --server-out s3://sets/training.parquet
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
	o.addFlags(cmd.Flags())
	return cmd
}

// trainJob is one training set to be made: what the server is asked, where the entity rows come from and where the result goes.
type trainJob struct {
	header *twofoldv1.HistoricalHeader
	// entities is the file of entity rows that is read here and sent, or -; empty where the header says where they are. Its format is empty where the file
	// tells it, and types are those that the caller says.
	entities, entitiesFormat string
	types                    map[string]feature.Type
	// recorded are the files that the entity rows must be read from, in a repetition; empty for any.
	recorded []*twofoldv1.SourceFile
	// out is the file that is written here, or -; empty where the server writes.
	out, outFormat string
	// manifest is the file for the manifest; empty for none.
	manifest string
}

func (a *app) train(cmd *cobra.Command, args []string, o trainOptions) error {
	service, err := o.check(cmd, args)
	if err != nil {
		return err
	}
	c, done, err := a.connect(cmd, o.timeout)
	if err != nil {
		return err
	}
	defer done()
	var job *trainJob
	if o.manifest != "" {
		job, err = a.repetition(cmd, c, o)
	} else {
		job, err = o.job(service)
	}
	if err != nil {
		return err
	}
	rows, err := a.openJobRows(c, job)
	if err != nil {
		return err
	}
	defer rows.close()
	manifest, err := a.writeTraining(c, job, rows)
	if err != nil {
		return err
	}
	return a.tellManifest(c, job, rows, manifest)
}

// openJobRows opens the file of entity rows and checks what can be checked before anything is sent; nil where none is read here.
func (a *app) openJobRows(c *connection, job *trainJob) (*entityRows, error) {
	if job.entities == "" {
		return nil, nil
	}
	keys, err := neededKeys(c, job.header.GetFeatureService(), job.header.GetFeatures())
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if _, ok := job.types[key.Name]; !ok {
			job.types[key.Name] = key.Type
		}
	}
	timeColumn := job.header.GetTimeColumn()
	job.types[timeColumn] = feature.Timestamp
	rows, err := a.openEntities(c.ctx, entityFile{job.entities, job.entitiesFormat, job.types, timeColumn, s3Config(c.config)})
	if err == nil {
		err = checkRecorded(job, rows)
	}
	if err == nil {
		err = rows.require(keys, timeColumn)
	}
	if err != nil {
		rows.close()
		return nil, err
	}
	return rows, nil
}

// writeTraining makes the call and writes its result; the output appears only if all of it is there.
func (a *app) writeTraining(c *connection, job *trainJob, rows *entityRows) (*twofoldv1.HistoricalManifest, error) {
	if job.out == "" {
		return a.join(c, job.header, rows, nil)
	}
	out, err := a.createOutput(c.ctx, job.out, s3Config(c.config), offline.CreateOptions{Overwrite: true})
	if err != nil {
		return nil, err
	}
	defer out.abandon()
	manifest, err := a.join(c, job.header, rows, func(r *ipc.Reader) error { return writeTable(out, job.outFormat, job.out == "-", r) })
	if err == nil {
		err = checkRepeated(job.header.GetRepeatOf(), manifest)
	}
	if err != nil {
		return nil, err
	}
	return manifest, out.commit(c.ctx)
}

// join pipes the entity rows, where there are any, to the server and its answer to write, which is nil where the server writes.
func (a *app) join(c *connection, header *twofoldv1.HistoricalHeader, rows *entityRows, write func(*ipc.Reader) error) (*twofoldv1.HistoricalManifest, error) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	var pipes sync.WaitGroup
	var written error
	var in io.Reader
	var out io.Writer
	stopIn, stopOut := func() {}, func(error) {}
	if rows != nil {
		reader, writer := io.Pipe()
		in, stopIn = reader, func() { _ = reader.CloseWithError(context.Canceled) } // never fails
		pipes.Go(func() {
			err := rows.stream(ctx, writer)
			if err != nil {
				cancel(err)
			}
			_ = writer.CloseWithError(err) // never fails
		})
	}
	if write != nil {
		reader, writer := io.Pipe()
		out, stopOut = writer, func(err error) { _ = writer.CloseWithError(err) } // never fails; nil is the end of the file
		pipes.Go(func() {
			if written = readStream(reader, write); written != nil {
				cancel(written)
			}
			_ = reader.CloseWithError(written) // never fails
		})
	}
	bar := a.trainingProgress(rows)
	manifest, err := c.HistoricalArrow(ctx, header, in, out, bar.update)
	bar.finish()
	switch {
	case c.ctx.Err() != nil && err != nil:
		err = c.wrap(status.FromContextError(c.ctx.Err()).Err())
	case context.Cause(ctx) != nil:
		err = context.Cause(ctx) // reading or writing failed first; the call's error only repeats it
	default:
		err = c.wrap(err)
	}
	stopIn() // lets stream go where the call ended early
	stopOut(err)
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

// tellManifest prints what the training set was made of, and saves its manifest.
func (a *app) tellManifest(c *connection, job *trainJob, rows *entityRows, m *twofoldv1.HistoricalManifest) error {
	where, verb := job.out, "wrote"
	switch where {
	case "-":
		where = "standard output"
	case "":
		where, verb = m.GetOutput().GetUrl(), "the server wrote"
	}
	recordFiles(m, rows)
	saved, err := a.saveManifest(c, job, m)
	if err != nil {
		return fmt.Errorf("%s is written, but its manifest is not: %w", where, err)
	}
	fmt.Fprintf(a.err, "%s %s to %s\n", verb, count(m.GetRowCount(), "row", "rows"), where)
	if n := m.GetEntityRows().GetFilteredRows(); n > 0 {
		fmt.Fprintf(a.err, "%s left out, not in the range of time\n", count(n, "entity row was", "entity rows were"))
	}
	if job.header.GetRepeatOf() != nil {
		fmt.Fprintln(a.err, "the result is that of the manifest which was repeated")
	}
	if saved != "" {
		fmt.Fprintf(a.err, "its manifest is %s\n", saved)
	}
	t := newTable("feature view", "matched", "unmatched", "rows read", "rows pruned", "files")
	for _, v := range m.GetViews() {
		unmatched := v.GetUnmatchedRows()
		t.add(v.GetName(), fmt.Sprint(m.GetRowCount()-unmatched), fmt.Sprint(unmatched), fmt.Sprint(v.GetRowsRead()), fmt.Sprint(v.GetRowsPruned()), fmt.Sprint(len(v.GetFiles())))
	}
	return t.write(a.err)
}

// asFile returns the file behind a writer, if there is one.
func asFile(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok
}
