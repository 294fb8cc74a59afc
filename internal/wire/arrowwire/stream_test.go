package arrowwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// streamSchema has a column of every type, a dictionary, a union and metadata.
var streamSchema = func() *arrow.Schema {
	var fields []arrow.Field
	for _, typ := range allTypes() {
		fields = append(fields, Field(typ.String(), typ))
	}
	metadata := arrow.NewMetadata([]string{"k"}, []string{"v"})
	fields = append(fields,
		arrow.Field{Name: "dictionary", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Metadata: metadata},
		arrow.Field{Name: "view", Type: arrow.BinaryTypes.StringView},
		arrow.Field{Name: "union", Type: arrow.SparseUnionOf([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int8}}, []arrow.UnionTypeCode{0})},
	)
	return arrow.NewSchema(fields, &metadata)
}()

// stream writes two batches of that schema.
func stream(t testing.TB, options ...ipc.Option) []byte {
	t.Helper()
	var out bytes.Buffer
	w := ipc.NewWriter(&out, append(options, ipc.WithSchema(streamSchema))...)
	for range 2 {
		b := array.NewRecordBuilder(memory.DefaultAllocator, streamSchema)
		for _, field := range b.Fields() {
			if u, ok := field.(*array.SparseUnionBuilder); ok {
				u.AppendEmptyValues(3)
				continue
			}
			field.AppendEmptyValue()
			field.AppendNull()
			field.AppendEmptyValue()
		}
		if err := w.Write(b.NewRecordBatch()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readStream reads a stream to its end, as a server does, and returns the rows and the error.
func readStream(in io.Reader) (rows int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Invalid, "%v", p)
		}
	}()
	r, err := NewReader(in, Limits{MetadataBytes: 1 << 20, BodyBytes: 1 << 20})
	if err != nil {
		return 0, err
	}
	for r.Next() {
		rows += r.RecordBatch().NumRows()
		for _, column := range r.RecordBatch().Columns() {
			_, _ = FromArray(column)
		}
	}
	return rows, r.Err()
}

func TestNewReaderReadsWhatArrowWrites(t *testing.T) {
	for name, options := range map[string][]ipc.Option{
		"plain": nil, "LZ4": {ipc.WithLZ4()}, "Zstandard": {ipc.WithZstd()}, "deltas": {ipc.WithDictionaryDeltas(true)},
	} {
		data := stream(t, options...)
		for _, in := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data))} {
			if rows, err := readStream(in); err != nil || rows != 6 {
				t.Errorf("%s: %d rows, %v", name, rows, err)
			}
		}
	}
}

func TestNewReaderRefusesCutStreams(t *testing.T) {
	data := stream(t)
	whole := 0
	for n := 0; n < len(data); n += 5 {
		// Cut between messages, a stream ends well; anywhere else it must not be taken for a whole one.
		rows, err := readStream(bytes.NewReader(data[:n]))
		if err == nil {
			whole++
			if rows != 0 && rows != 3 && rows != 6 {
				t.Errorf("the first %d bytes have %d rows", n, rows)
			}
		}
	}
	if whole > 8 {
		t.Errorf("%d of %d beginnings are taken for whole streams", whole, len(data))
	}
}

// TestNewReaderRefusesCutPrefixes: a stream that ends after the length of a message, or half of that, was cut off.
func TestNewReaderRefusesCutPrefixes(t *testing.T) {
	data := stream(t)
	marker := []byte{0xff, 0xff, 0xff, 0xff}
	for at := 0; ; {
		next := bytes.Index(data[at:], marker)
		if next < 0 {
			break
		}
		at += next
		for _, n := range []int{1, 4, 6, 8} {
			if at+n >= len(data) {
				continue
			}
			if rows, err := readStream(bytes.NewReader(data[:at+n])); err == nil {
				t.Errorf("cut %d bytes after the start of the message at %d, the stream is taken for whole, with %d rows", n, at, rows)
			}
		}
		at += len(marker)
	}
}

func TestNewReaderLimits(t *testing.T) {
	size := func(n uint32) []byte {
		return binary.LittleEndian.AppendUint32([]byte{0xff, 0xff, 0xff, 0xff}, n)
	}
	if _, err := readStream(bytes.NewReader(size(1 << 30))); err == nil || !strings.Contains(err.Error(), "1073741824 bytes of metadata, and the limit is 1048576") {
		t.Errorf("metadata: %v", err)
	}
	c := feature.NewColumn(feature.Bytes, 1)
	c.AppendBytes(make([]byte, 2<<20))
	arr, err := ToArray(c, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	schema := arrow.NewSchema([]arrow.Field{Field("c", feature.Bytes)}, nil)
	for name, options := range map[string][]ipc.Option{"body": {ipc.WithSchema(schema)}, "expanded": {ipc.WithSchema(schema), ipc.WithZstd()}} {
		var out bytes.Buffer
		w := ipc.NewWriter(&out, options...)
		if err := w.Write(array.NewRecordBatch(schema, []arrow.Array{arr}, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := readStream(&out); err == nil || !strings.Contains(err.Error(), "limit") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewReaderPassesErrorsOn(t *testing.T) {
	broken := errors.New("the network is gone")
	data := stream(t)
	for _, n := range []int{0, 2, 20, len(data) - 30} {
		_, err := readStream(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken)))
		if err == nil || !strings.Contains(err.Error(), broken.Error()) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// Streams with a few bytes changed must not take the process down: out of memory cannot be recovered from.
func TestNewReaderSurvivesDamage(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	refused := 0
	for _, data := range [][]byte{stream(t), stream(t, ipc.WithZstd())} {
		for range 1000 {
			damaged := bytes.Clone(data)
			for range 1 + random.IntN(3) {
				damaged[random.IntN(len(damaged))] = byte(random.IntN(256))
			}
			if _, err := readStream(bytes.NewReader(damaged)); err != nil {
				refused++
			}
		}
	}
	if refused < 150 {
		t.Errorf("only %d of 2000 damaged streams were refused (seed %d)", refused, seed)
	}
}

// A schema of a few bytes whose fields all share their children stands for very many fields.
func TestCheckMessageBoundsSharedTables(t *testing.T) {
	if _, err := (&messageChecker{}).check(nil); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no bytes: %v", err)
	}
	// One table that is its own child twice over: [root offset][vtable][table → vector of two offsets back to the table].
	buf := make([]byte, 64)
	le := binary.LittleEndian
	le.PutUint16(buf[4:], 16) // vtable at 4: its size, the table's size, then six slots
	le.PutUint16(buf[6:], 8)
	le.PutUint16(buf[4+4+2*fieldChildren:], 4) // children at table+4
	le.PutUint32(buf[24:], 20)                 // table at 24, its vtable 20 before
	le.PutUint32(buf[28:], 4)                  // vector at 32
	le.PutUint32(buf[32:], 2)
	le.PutUint32(buf[36:], ^uint32(11)) // −12, which flatbuffers do not allow: offsets only go forward
	le.PutUint32(buf[40:], ^uint32(15))
	c := &flatbufferChecker{buf: buf}
	if c.table(24, fieldTable, 0) {
		t.Error("a table that holds itself is taken for a field")
	}
}

// FuzzNewReader: a stream from outside never takes the process down.
func FuzzNewReader(f *testing.F) {
	f.Add(stream(f))
	f.Add(stream(f, ipc.WithLZ4()))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = readStream(bytes.NewReader(data))
	})
}

func TestNewReaderRefusesDictionariesOfViews(t *testing.T) {
	dictionary := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.StringView}
	for _, typ := range []arrow.DataType{dictionary, arrow.ListOf(dictionary)} {
		var out bytes.Buffer
		if err := ipc.NewWriter(&out, ipc.WithSchema(arrow.NewSchema([]arrow.Field{{Name: "c", Type: typ}}, nil))).Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := readStream(&out); err == nil || !strings.Contains(err.Error(), "a dictionary of string views or binary views cannot be read") {
			t.Errorf("%v: %v", typ, err)
		}
	}
}
