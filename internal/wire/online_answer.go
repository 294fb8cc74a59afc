package wire

import (
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
)

// Field numbers of GetOnlineFeaturesResponse, ViewMetadata (proto/twofold/v1/feature_service.proto) and Duration.
const (
	answerColumns protowire.Number = 1
	answerViews   protowire.Number = 2
	answerAsOf    protowire.Number = 3

	viewName       protowire.Number = 1
	viewEventTimes protowire.Number = 2
	viewTTL        protowire.Number = 3
	viewFault      protowire.Number = 4
	viewGeneration protowire.Number = 5

	durationSeconds protowire.Number = 1
	durationNanos   protowire.Number = 2
)

// OnlineAnswer is the content of a GetOnlineFeaturesResponse. Its memory may be used again for another answer: Reset.
type OnlineAnswer struct {
	// Entities come first, as the request gave them.
	Entities []*twofoldv1.Column
	// AsOf is the moment that decided freshness.
	AsOf feature.AsOf

	columns []encodedColumn
	views   []encodedView
	size    int
	err     error
}

// encodedView is a ViewMetadata and its sizes.
type encodedView struct {
	name   string
	events []int64
	ttl    feature.TTL
	fault  *status.Status
	// generation is 0 where there is none.
	generation uint64

	ttlSize, faultSize, size int
}

// Reset empties the answer and keeps its memory.
func (a *OnlineAnswer) Reset() {
	clear(a.columns)
	clear(a.views)
	*a = OnlineAnswer{columns: a.columns[:0], views: a.views[:0]}
}

// AddColumn adds a column; it must not be changed before Append.
func (a *OnlineAnswer) AddColumn(name string, c *feature.Column) {
	a.columns = append(a.columns, encodedColumn{})
	e := &a.columns[len(a.columns)-1]
	if err := e.measure(name, c); err != nil && a.err == nil {
		a.err = err
	}
	a.size += fieldSize(e.size)
}

// AddView adds what is known of a view: the event times where they are asked for, the ttl that was applied (0: none), why some
// rows could not be read (nil: all could) and the generation that they are from (0: none).
func (a *OnlineAnswer) AddView(name string, events []int64, ttl feature.TTL, fault *status.Status, generation uint64) {
	v := encodedView{name: name, events: events, ttl: ttl, fault: fault, generation: generation}
	v.size = fieldSize(len(name)) + packedSize(8*len(events))
	if ttl != 0 {
		v.ttlSize = sizeTTL(ttl)
		v.size += fieldSize(v.ttlSize)
	}
	if fault != nil {
		v.faultSize = proto.Size(fault)
		v.size += fieldSize(v.faultSize)
	}
	if generation != 0 {
		v.size += protowire.SizeTag(viewGeneration) + protowire.SizeVarint(generation)
	}
	a.views = append(a.views, v)
	a.size += fieldSize(v.size)
}

// Size returns the bytes of the message, or the first error of a column.
func (a *OnlineAnswer) Size() (int, error) {
	size := a.size
	for _, c := range a.Entities {
		size += fieldSize(proto.Size(c))
	}
	if a.AsOf != 0 {
		size += protowire.SizeTag(answerAsOf) + 8
	}
	return size, a.err
}

// Append appends the message. Size must have returned without an error.
func (a *OnlineAnswer) Append(dst []byte) ([]byte, error) {
	var err error
	for _, c := range a.Entities {
		dst = appendHead(dst, answerColumns, proto.Size(c))
		if dst, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(dst, c); err != nil {
			return dst, err
		}
	}
	for i := range a.columns {
		dst = appendHead(dst, answerColumns, a.columns[i].size)
		dst = a.columns[i].append(dst)
	}
	for i := range a.views {
		if dst, err = a.views[i].append(dst); err != nil {
			return dst, err
		}
	}
	if a.AsOf != 0 {
		dst = protowire.AppendTag(dst, answerAsOf, protowire.Fixed64Type)
		dst = protowire.AppendFixed64(dst, uint64(a.AsOf))
	}
	return dst, nil
}

func (v *encodedView) append(dst []byte) ([]byte, error) {
	dst = appendHead(dst, answerViews, v.size)
	dst = appendHead(dst, viewName, len(v.name))
	dst = append(dst, v.name...)
	if len(v.events) > 0 {
		dst = appendHead(dst, viewEventTimes, 8*len(v.events))
		dst = appendLittle(dst, v.events, 8)
	}
	if v.ttl != 0 {
		dst = appendHead(dst, viewTTL, v.ttlSize)
		dst = appendTTL(dst, v.ttl)
	}
	if v.fault != nil {
		var err error
		dst = appendHead(dst, viewFault, v.faultSize)
		if dst, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(dst, v.fault); err != nil {
			return dst, err
		}
	}
	if v.generation != 0 {
		dst = protowire.AppendTag(dst, viewGeneration, protowire.VarintType)
		dst = protowire.AppendVarint(dst, v.generation)
	}
	return dst, nil
}

// sizeTTL is the size of a ttl as a google.protobuf.Duration.
func sizeTTL(ttl feature.TTL) int {
	seconds, nanos := int64(ttl)/1e6, int64(ttl)%1e6*1e3
	size := 0
	if seconds != 0 {
		size += protowire.SizeTag(durationSeconds) + protowire.SizeVarint(uint64(seconds))
	}
	if nanos != 0 {
		size += protowire.SizeTag(durationNanos) + protowire.SizeVarint(uint64(nanos))
	}
	return size
}

func appendTTL(dst []byte, ttl feature.TTL) []byte {
	seconds, nanos := int64(ttl)/1e6, int64(ttl)%1e6*1e3
	if seconds != 0 {
		dst = protowire.AppendTag(dst, durationSeconds, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(seconds))
	}
	if nanos != 0 {
		dst = protowire.AppendTag(dst, durationNanos, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(nanos))
	}
	return dst
}
