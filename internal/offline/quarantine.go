package offline

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire/arrowwire"
)

// Columns of a quarantine file that say where a row comes from, beside those of its source file.
const (
	// QuarantineFileColumn is the URL of the source file.
	QuarantineFileColumn = "_source_file"
	// QuarantineRowColumn is the number of the row in it, from 0.
	QuarantineRowColumn = "_source_row"
	// QuarantineReasonColumn says why the row was put there.
	QuarantineReasonColumn = "_reason"
)

// Metadata of a quarantine file.
const (
	// QuarantineETagKey has the version of the source file.
	QuarantineETagKey = "twofold.source_etag"
	// QuarantineLeftOutKey has the columns of the source file that are not copied: a JSON object of names and reasons. It is left out where there are none.
	QuarantineLeftOutKey = "twofold.left_out"
	// QuarantineNotTextKey has the columns of text that are copied as bytes, because not all of it is UTF-8: a JSON array of names. It is left out where there are none.
	QuarantineNotTextKey = "twofold.not_utf8"
)

// quarantineFolder is the folder beside a source's files. No source reads it, as no name that begins with _ (see hidden).
const quarantineFolder = "_quarantine"

// quarantineRows is how many rows are copied at once.
const quarantineRows = 512

// BadRow is a row of a file that is put aside.
type BadRow struct {
	// Row is its number in the file, from 0.
	Row int64
	// Reason says why, in a word.
	Reason string
}

// QuarantineOptions say where rows are put.
type QuarantineOptions struct {
	// Folder is a path like a source's, but a folder's, and taken literally. Where its last name does not begin with _ or ., the files come into a folder "_quarantine" in it,
	// so that no source above it reads them. Required.
	Folder string
	// Run is what the names of the files begin with: another one for each run. It is made of letters, digits, ".", "_" and "-", the first of them a letter or digit. Required.
	Run string
}

var (
	quarantineRun = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	// notInName is what is not carried over from the name of a source file.
	notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// QuarantineFolder gives the folder of bad rows of the table where none is configured: "_quarantine" beside its files, as a URL.
func (t *Table) QuarantineFolder(ctx context.Context) (string, error) {
	at, err := t.store.base.resolve(t.view.Source.Path)
	if err != nil {
		return "", err
	}
	folder := at.path
	if prefix, glob := fixedPrefix(at.path); glob {
		folder = prefix[:strings.LastIndexByte(prefix, '/')+1]
	} else {
		d, err := t.store.driver(ctx, at)
		if err != nil {
			return "", err
		}
		switch _, err := d.stat(ctx, at); {
		case err == nil:
			folder = at.path[:strings.LastIndexByte(at.path, '/')+1]
		case !errors.Is(err, errNoObject):
			return "", err
		}
	}
	return at.with(inFolder(folder, quarantineFolder)).String(), nil
}

func inFolder(folder, name string) string {
	if folder == "" || strings.HasSuffix(folder, "/") {
		return folder + name
	}
	return folder + "/" + name
}

// Quarantine copies rows of a source file, in the version that was listed, into a new Parquet file, in the order of the source: all columns that can be read without being
// declared, as they are, and where each row comes from (QuarantineFileColumn and the others). Times become microseconds in UTC. What cannot be read is left out, and named in the
// file's metadata; the values of Hive partitions stand in the source's URL. The new file appears whole or not at all. Without rows there is none, and the
// File is empty.
//
// A file of the same run and source that is there already is an error of kind fault.Precondition; one that was replaced, of kind Unavailable; a row that it does
// not have, of kind Invalid.
func (s *Store) Quarantine(ctx context.Context, from File, rows []BadRow, options QuarantineOptions) (File, error) {
	target, err := s.quarantineFile(from, options)
	if err != nil || len(rows) == 0 {
		return File{}, err
	}
	o, err := from.object()
	if err != nil {
		return File{}, err
	}
	d, err := s.driver(ctx, o.at)
	if err != nil {
		return File{}, err
	}
	footer, err := s.footer(ctx, d, o)
	if err != nil {
		return File{}, err
	}
	rows = slices.SortedFunc(slices.Values(rows), func(a, b BadRow) int { return cmp.Compare(a.Row, b.Row) })
	for i, r := range rows {
		if r.Row < 0 || r.Row >= footer.rows || (i > 0 && r.Row == rows[i-1].Row) {
			return File{}, fault.New(fault.Invalid, "%s has %d rows; row %d cannot be put aside, or is so twice", o.at, footer.rows, r.Row)
		}
	}
	q := &quarantine{source: &source{driver: d, object: o, footer: footer}, rows: rows, leftOut: map[string]string{}}
	q.choose()
	for {
		file, err := q.write(ctx, s, target)
		if !errors.Is(err, errOtherColumns) {
			return file, err
		}
	}
}

// quarantineFile gives the URL of the file to write.
func (s *Store) quarantineFile(from File, options QuarantineOptions) (string, error) {
	if !quarantineRun.MatchString(options.Run) {
		return "", fault.New(fault.Invalid, "the run %q cannot be part of a file's name", options.Run)
	}
	folder, err := s.base.resolve(options.Folder)
	if err != nil {
		return "", fault.New(fault.Invalid, "the folder of bad rows: %w", err)
	}
	folder.path = strings.TrimRight(folder.path, "/")
	if !hidden(path.Base(folder.path)) || path.Base(folder.path) == "." {
		folder.path = inFolder(folder.path, quarantineFolder)
	}
	name := notInName.ReplaceAllString(strings.TrimSuffix(path.Base(from.URL), parquetSuffix), "_")
	hash := sha256.Sum256([]byte(from.URL)) // files of one name lie in several folders
	name = options.Run + "-" + name[:min(len(name), 80)] + "-" + hex.EncodeToString(hash[:6]) + parquetSuffix
	return folder.with(folder.path + "/" + name).String(), nil
}

// quarantine copies rows of one file.
type quarantine struct {
	source *source
	rows   []BadRow
	// bindings are the columns that are copied.
	bindings []binding
	// leftOut has the other columns, and why; notText the names of those that are text but for some rows.
	leftOut map[string]string
	notText []string
}

// errOtherColumns says that the columns to copy have been chosen anew because of what was read.
var errOtherColumns = errors.New("other columns are to be copied")

// choose chooses the columns that can be read, as far as the schema tells.
func (q *quarantine) choose() {
	taken := map[string]bool{QuarantineFileColumn: true, QuarantineRowColumn: true, QuarantineReasonColumn: true}
	for _, c := range q.source.footer.columns {
		switch {
		case taken[c.name]:
			q.leftOut[c.name] = "another column has that name"
		case c.natural == 0:
			q.leftOut[c.name] = c.reason
		default:
			taken[c.name] = true
			c.anyText = true
			q.bindings = append(q.bindings, binding{wanted: wanted{name: c.name, t: c.natural, role: "bad"}, stored: c})
		}
	}
}

// write writes the file; errOtherColumns says that it has to be begun again.
func (q *quarantine) write(ctx context.Context, s *Store, target string) (File, error) {
	schema, err := q.schema()
	if err != nil {
		return File{}, err
	}
	out, err := s.Create(ctx, target, CreateOptions{})
	if err != nil {
		return File{}, err
	}
	defer out.Abort()
	w, err := NewParquetWriter(out, schema)
	if err != nil {
		return File{}, err
	}
	if err := q.copyGroups(ctx, w, schema); err != nil {
		return File{}, err
	}
	if err := w.Close(); err != nil {
		return File{}, err
	}
	return out.Commit(ctx)
}

func (q *quarantine) schema() (*arrow.Schema, error) {
	fields := []arrow.Field{
		arrowwire.Field(QuarantineFileColumn, feature.String), arrowwire.Field(QuarantineRowColumn, feature.Int64), arrowwire.Field(QuarantineReasonColumn, feature.String),
	}
	for _, b := range q.bindings {
		fields = append(fields, arrowwire.Field(b.name, b.t))
	}
	keys, values := []string{QuarantineETagKey}, []string{q.source.object.etag}
	for _, m := range []struct {
		key   string
		value any
		n     int
	}{{QuarantineLeftOutKey, q.leftOut, len(q.leftOut)}, {QuarantineNotTextKey, q.notText, len(q.notText)}} {
		if m.n == 0 {
			continue
		}
		text, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		keys, values = append(keys, m.key), append(values, string(text))
	}
	metadata := arrow.NewMetadata(keys, values)
	return arrow.NewSchema(fields, &metadata), nil
}

// copyGroups copies the rows, row group by row group.
func (q *quarantine) copyGroups(ctx context.Context, w *ParquetWriter, schema *arrow.Schema) error {
	left, first := q.rows, int64(0)
	for index, group := range q.source.footer.groups {
		end := first + group.rows
		n, _ := slices.BinarySearchFunc(left, end, func(r BadRow, row int64) int { return cmp.Compare(r.Row, row) })
		if n > 0 {
			if err := q.copyGroup(ctx, w, schema, index, first, left[:n]); err != nil {
				return err
			}
		}
		left, first = left[n:], end
	}
	return nil
}

// copyGroup copies rows of one row group, whose first row has the number first.
func (q *quarantine) copyGroup(ctx context.Context, w *ParquetWriter, schema *arrow.Schema, index int, first int64, rows []BadRow) error {
	places := make([]int64, len(rows))
	for i, r := range rows {
		places[i] = r.Row - first
	}
	g, err := q.source.newGroupReader(ctx, index, q.bindings)
	if err != nil {
		return err
	}
	defer g.close()
	if err := g.locate(ctx); err != nil {
		return err
	}
	g.prepare(ctx, rowList(places), true)
	for i := range q.bindings {
		if err := g.open(ctx, i); err != nil {
			return q.leaveOut(i, err)
		}
	}
	for from := 0; from < len(rows); from += quarantineRows {
		to := min(from+quarantineRows, len(rows))
		columns := q.origin(rows[from:to])
		for i, b := range q.bindings {
			c := feature.NewColumn(b.t, to-from)
			if err := g.gather(i, places[from:to], c); err != nil {
				return q.leaveOut(i, err)
			}
			columns = append(columns, c)
		}
		if q.findNotText(columns[len(columns)-len(q.bindings):]) {
			return errOtherColumns
		}
		if err := writeColumns(w, schema, columns); err != nil {
			return err
		}
	}
	return nil
}

// leaveOut leaves out a column that cannot be read for what it holds, and returns what to do then.
func (q *quarantine) leaveOut(column int, err error) error {
	if kind := fault.KindOf(err); kind != fault.Corrupt && kind != fault.Precondition {
		return err
	}
	q.leftOut[q.bindings[column].name] = err.Error()
	q.bindings = slices.Delete(q.bindings, column, column+1)
	return errOtherColumns
}

// findNotText reports whether a column of text has some that is not UTF-8; it will be copied as bytes.
func (q *quarantine) findNotText(columns []*feature.Column) (found bool) {
	for i, c := range columns {
		if len(slices.Collect(c.InvalidText())) == 0 {
			continue
		}
		b := &q.bindings[i]
		if b.t = feature.Bytes; c.Type.IsList() {
			b.t = feature.Bytes.List()
		}
		q.notText = append(q.notText, b.name)
		found = true
	}
	return found
}

// origin gives the columns that say where rows come from.
func (q *quarantine) origin(rows []BadRow) []*feature.Column {
	files, numbers, reasons := feature.NewColumn(feature.String, len(rows)), feature.NewColumn(feature.Int64, len(rows)), feature.NewColumn(feature.String, len(rows))
	url := q.source.object.at.String()
	for _, r := range rows {
		files.AppendString(url)
		numbers.AppendInt64(r.Row)
		reasons.AppendString(r.Reason)
	}
	return []*feature.Column{files, numbers, reasons}
}

func writeColumns(w *ParquetWriter, schema *arrow.Schema, columns []*feature.Column) error {
	rows := columns[0].Len()
	arrays := make([]arrow.Array, len(columns))
	for i, c := range columns {
		var err error
		if arrays[i], err = arrowwire.ToArray(c, 0, rows); err != nil {
			return err
		}
	}
	record := array.NewRecordBatch(schema, arrays, int64(rows))
	defer record.Release()
	return w.Write(record)
}
