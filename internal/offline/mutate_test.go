package offline

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// What damages Parquet files for TestMutants: bytes at random places, and the numbers of their metadata, which are found by walking it.

// specimen is a sound file, with where its parts are.
type specimen struct {
	name string
	data []byte
	// footer are the bytes of the metadata.
	footer byteRange
	pages  []pagePart
	// numbers that the footer, the page headers and the page index state.
	inFooter, inIndex []number
}

// pagePart is one page.
type pagePart struct {
	header, body byteRange
	numbers      []number
}

// number is a varint in the metadata.
type number struct {
	byteRange
	value  int64
	signed bool // it is zigzag; else it is the size of a text or of a list
}

// dissect finds the parts of a sound file.
func dissect(t testing.TB, name string, data []byte) *specimen {
	t.Helper()
	s := &specimen{name: name, data: data}
	end := int64(len(data) - 8)
	s.footer = byteRange{end - int64(binary.LittleEndian.Uint32(data[end:])), end}
	s.inFooter = numbersOf(t, data, s.footer)
	f, err := readFooter(t.Context(), memoryDriver{data}, object{at: location{name: name}, size: int64(len(data))}, new(schemaCache))
	require.NoError(t, err, name)
	for _, group := range f.groups {
		for _, c := range group.chunks {
			left := c.values // a column may be followed by padding
			for at := c.offset; left > 0 && group.rows > 0; {
				h, n, err := parsePageHeader(data[at:])
				require.NoError(t, err, name)
				header := byteRange{at, at + int64(n)}
				at = header.to + int64(h.compressed)
				if h.kind != pageDictionary {
					left -= int64(h.values)
				}
				s.pages = append(s.pages, pagePart{header, byteRange{header.to, at}, numbersOf(t, data, header)})
			}
			for _, index := range []byteRange{c.offsetIndex, c.columnIndex} {
				if index.to > index.from {
					s.inIndex = append(s.inIndex, numbersOf(t, data, index)...)
				}
			}
		}
	}
	return s
}

// numbersOf finds the numbers of one Thrift message.
func numbersOf(t testing.TB, data []byte, at byteRange) []number {
	w := numberWalker{r: compactReader{b: data[at.from:at.to]}, start: at.from}
	w.message(0)
	require.NoError(t, w.r.err)
	return w.found
}

type numberWalker struct {
	r     compactReader
	start int64
	found []number
}

func (w *numberWalker) message(depth int) {
	w.r.fields(depth, func(_ int16, kind byte) { w.value(kind, depth) })
}

func (w *numberWalker) value(kind byte, depth int) {
	from := w.r.pos
	note := func(value int64, signed bool) {
		w.found = append(w.found, number{byteRange{w.start + int64(from), w.start + int64(w.r.pos)}, value, signed})
	}
	switch kind {
	case compactI16, compactI32, compactI64:
		note(w.r.int64(), true)
	case compactBinary:
		n := w.r.uvarint()
		note(int64(n), false)
		w.r.bytes(n)
	case compactList, compactSet:
		size, elem := w.r.list()
		note(int64(size), false)
		for range size {
			if elem == compactTrue || elem == compactFalse {
				w.r.bytes(1)
			} else {
				w.value(elem, depth+1)
			}
		}
	case compactStruct:
		w.message(depth + 1)
	default:
		w.r.skip(kind, depth)
	}
}

// encode writes a value as the number is written.
func (n number) encode(value int64) []byte {
	if n.signed {
		return binary.AppendVarint(nil, value)
	}
	return binary.AppendUvarint(nil, uint64(value))
}

// mutation damages a file that has been copied for it.
type mutation struct {
	name string
	// apply gives the damaged file. It may change data in place. others are files to take pieces from.
	apply func(r *rand.Rand, s *specimen, data []byte, others []*specimen) []byte
}

// mutations that are drawn alike often. Those that follow the structure come first: they find it where it was in the sound file.
var mutations = []mutation{
	{"footer number", mutateFooter},
	{"page header number", mutatePageHeader},
	{"page index number", mutateIndex},
	{"start of a page", mutatePageStart},
	{"pages swapped", swapPages},
	{"footer length", mutateFooterLength},
	{"piece of another file", splice},
	{"cut", cut},
	{"range zeroed", blank},
	{"bits flipped", flipBits},
	{"large varint", largeVarint},
}

// mutate damages a file in one way or, less often, in several. It gives the name of the first.
func mutate(r *rand.Rand, s *specimen, others []*specimen) (what string, data []byte) {
	first := mutations[r.IntN(len(mutations))]
	data = first.apply(r, s, slices.Clone(s.data), others)
	for r.IntN(4) == 0 && len(data) > 0 {
		data = oneOf(r, blank, flipBits, flipBits, largeVarint)(r, s, data, others)
	}
	return first.name, data
}

// oddValue draws what a number could wrongly be.
func oddValue(r *rand.Rand, now int64, among []number, fileSize int) int64 {
	switch r.IntN(6) {
	case 0:
		return now + oneOf[int64](r, -1, 1, -8, 8, 100, -100)
	case 1:
		return oneOf(r, 2*now, now/2, -now, now<<8, now<<20, now<<32)
	case 2:
		return oneOf[int64](r, 0, 1, -1, 2, 127, math.MaxInt16, math.MaxInt32, math.MinInt32, math.MaxUint32, 1<<32, 1<<40, math.MaxInt64, math.MinInt64)
	case 3:
		return int64(fileSize) + oneOf[int64](r, 0, -1, 1, -8, -12)
	case 4:
		return among[r.IntN(len(among))].value
	default:
		return r.Int64() >> r.IntN(64)
	}
}

// replace puts b in the place of some bytes.
func replace(data []byte, at byteRange, b []byte) []byte {
	return slices.Concat(data[:at.from], b, data[at.to:])
}

// mutateFooter changes a number of the footer, and keeps the footer's length right.
func mutateFooter(r *rand.Rand, s *specimen, data []byte, _ []*specimen) []byte {
	n := s.inFooter[r.IntN(len(s.inFooter))]
	b := n.encode(oddValue(r, n.value, s.inFooter, len(data)))
	if !n.signed && n.to-n.from == 1 && n.value < 15 && r.IntN(2) == 0 { // the size of a short list is in its head, with the type
		b = []byte{byte(r.IntN(16))<<4 | data[n.from]&0x0f}
	}
	data = replace(data, n.byteRange, b)
	binary.LittleEndian.PutUint32(data[len(data)-8:], uint32(s.footer.to-s.footer.from+int64(len(b))-(n.to-n.from)))
	return data
}

// mutatePageHeader changes a number of a page header. Most often the rest of the file stays where it is: at the cost of the page's last bytes, or
// by writing the number longer than it needs to be.
func mutatePageHeader(r *rand.Rand, s *specimen, data []byte, _ []*specimen) []byte {
	page := s.pages[r.IntN(len(s.pages))]
	n := page.numbers[r.IntN(len(page.numbers))]
	b := n.encode(oddValue(r, n.value, page.numbers, len(data)))
	if room := int(n.to - n.from); len(b) < room {
		b[len(b)-1] |= 0x80
		for len(b) < room-1 {
			b = append(b, 0x80)
		}
		b = append(b, 0)
	}
	grown := int64(len(b)) - (n.to - n.from)
	data = replace(data, n.byteRange, b)
	if size := page.body.to - page.body.from; grown > 0 && grown <= size && r.IntN(8) > 0 {
		data = replace(data, byteRange{page.body.to, page.body.to + grown}, nil)
	}
	return data
}

// mutateIndex changes a number of the page index, in its place if it fits; else all that comes after moves.
func mutateIndex(r *rand.Rand, s *specimen, data []byte, others []*specimen) []byte {
	if len(s.inIndex) == 0 {
		return mutatePageHeader(r, s, data, others)
	}
	n := s.inIndex[r.IntN(len(s.inIndex))]
	return replace(data, n.byteRange, n.encode(oddValue(r, n.value, s.inIndex, len(data))))
}

// mutatePageStart changes the first bytes of a page, where levels, run-lengths, delta headers and lengths are.
func mutatePageStart(r *rand.Rand, s *specimen, data []byte, _ []*specimen) []byte {
	page := s.pages[r.IntN(len(s.pages))]
	size := int(min(32, page.body.to-page.body.from))
	for range 1 + r.IntN(3) {
		if size == 0 {
			return data[:len(data)-1]
		}
		at := page.body.from + int64(r.IntN(size))
		data[at] = oneOf(r, byte(r.Uint32()), 0, 0xff, 0x7f, 0x80, data[at]+1, data[at]-1, data[at]^1<<r.IntN(8))
	}
	return data
}

// swapPages exchanges two pages, of one column or of two: of the same size where there are such, else what comes between them moves too.
func swapPages(r *rand.Rand, s *specimen, data []byte, _ []*specimen) []byte {
	a, b := s.pages[r.IntN(len(s.pages))], s.pages[r.IntN(len(s.pages))]
	size := func(p pagePart) int64 { return p.body.to - p.header.from }
	for range 20 {
		if a.header.from != b.header.from && size(a) == size(b) {
			break
		}
		b = s.pages[r.IntN(len(s.pages))]
	}
	if a.header.from > b.header.from {
		a, b = b, a
	}
	if a.header.from == b.header.from {
		return data[:len(data)-1]
	}
	return slices.Concat(data[:a.header.from], data[b.header.from:b.body.to], data[a.body.to:b.header.from], data[a.header.from:a.body.to], data[b.body.to:])
}

func mutateFooterLength(r *rand.Rand, s *specimen, data []byte, _ []*specimen) []byte {
	length := s.footer.to - s.footer.from
	binary.LittleEndian.PutUint32(data[len(data)-8:], uint32(oddValue(r, length, s.inFooter, len(data))))
	return data
}

// splice puts pieces of two files together.
func splice(r *rand.Rand, s *specimen, data []byte, others []*specimen) []byte {
	other := others[r.IntN(len(others))]
	switch r.IntN(3) {
	case 0: // the end of another file
		return slices.Concat(data[:r.IntN(len(data))], other.data[r.IntN(len(other.data)):])
	case 1: // the footer of another file
		return slices.Concat(data[:s.footer.from], other.data[other.footer.from:])
	default: // a piece within
		piece := other.data[r.IntN(len(other.data)):]
		copy(data[r.IntN(len(data)):], piece[:min(len(piece), 1+r.IntN(300))])
		return data
	}
}

// cut leaves out the end or a part of the file, or repeats one.
func cut(r *rand.Rand, s *specimen, data []byte, _ []*specimen) []byte {
	from := r.IntN(len(data))
	to := min(len(data), from+1+r.IntN(500))
	switch r.IntN(4) {
	case 0:
		return data[:from]
	case 1:
		return slices.Concat(data[:from], data[to:])
	case 2: // before the footer, which says more than is there
		from = r.IntN(int(s.footer.from))
		return slices.Concat(data[:from], data[min(int(s.footer.from), from+1+r.IntN(500)):])
	default:
		return slices.Concat(data[:to], data[from:])
	}
}

// blank fills a range with zeroes or ones.
func blank(r *rand.Rand, _ *specimen, data []byte, _ []*specimen) []byte {
	from := r.IntN(len(data))
	fill := oneOf[byte](r, 0, 0, 0xff)
	for i := from; i < min(len(data), from+1+r.IntN(oneOf(r, 4, 40, 400))); i++ {
		data[i] = fill
	}
	return data
}

func flipBits(r *rand.Rand, _ *specimen, data []byte, _ []*specimen) []byte {
	for range 1 + r.IntN(4) {
		data[r.IntN(len(data))] ^= 1 << r.IntN(8)
	}
	return data
}

func largeVarint(r *rand.Rand, _ *specimen, data []byte, _ []*specimen) []byte {
	at := r.IntN(len(data))
	for i := at; i < min(len(data), at+4+r.IntN(6)); i++ {
		data[i] = 0xff
	}
	return data
}

// TestDissect: the parts that are found are all of a file but its magic, its page index and what no reader needs.
func TestDissect(t *testing.T) {
	for _, s := range specimens(t) {
		require.NotEmpty(t, s.pages, s.name)
		require.Greater(t, len(s.inFooter), 50, s.name)
		slices.SortFunc(s.pages, func(a, b pagePart) int { return cmp.Compare(a.header.from, b.header.from) })
		end := int64(len(magic))
		for i, p := range s.pages {
			require.GreaterOrEqual(t, p.header.from, end, s.name+", page "+strconv.Itoa(i))
			require.GreaterOrEqual(t, len(p.numbers), 3)
			end = p.body.to
		}
		require.LessOrEqual(t, end, s.footer.from)
	}
}
