package server

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire"
)

// Limits protect a server from requests that ask for too much, and from too many at once. What is past one is refused with
// RESOURCE_EXHAUSTED before the store is asked; the details say which field, which limit, and where it helps, when to try again.
type Limits struct {
	// MaxRows is the most rows in one online or push request. Defaults to 10,000.
	MaxRows int
	// MaxFeatures is the most features that one online or historical request may name, and the most columns that it may
	// send. Defaults to 5,000.
	MaxFeatures int
	// MaxValues is the most values, rows × features, in one online or push request. Defaults to 10,000,000.
	MaxValues int
	// MaxKeyBytes is the length of the longest key in an online or push request, in bytes. Defaults to 8 KiB.
	MaxKeyBytes int
	// MaxListElements is the most elements of one list in an online or push request. Defaults to 65,536.
	MaxListElements int
	// MaxMessageBytes is the largest message that is received or sent, in bytes. Defaults to 64 MiB.
	MaxMessageBytes int
	// MaxEntityRows is the most entity rows in one historical stream. Defaults to 50,000,000.
	MaxEntityRows int
	// MaxConcurrentOnline is the most online requests that are answered at once, those of streams included. Defaults to 1,024.
	MaxConcurrentOnline int
	// MaxOnlineStreams is the most streams of online requests that are open at once. Defaults to 1,024.
	MaxOnlineStreams int
	// MaxInFlightPerStream is the most requests of one stream that are answered at once; while there are so many, the server does
	// not read the stream, so that the client has to wait. Defaults to 32.
	MaxInFlightPerStream int
	// MaxConcurrentPushes is the most push requests that are answered at once. Defaults to 256.
	MaxConcurrentPushes int
	// MaxConcurrentHistorical is the most historical streams at once. Defaults to 8.
	MaxConcurrentHistorical int
}

// withDefaults returns l with every limit that is not set filled in.
func (l Limits) withDefaults() Limits {
	setDefault(&l.MaxRows, 10_000)
	setDefault(&l.MaxFeatures, 5_000)
	setDefault(&l.MaxValues, 10_000_000)
	setDefault(&l.MaxKeyBytes, 8<<10)
	setDefault(&l.MaxListElements, 1<<16)
	setDefault(&l.MaxMessageBytes, 64<<20)
	setDefault(&l.MaxEntityRows, 50_000_000)
	setDefault(&l.MaxConcurrentOnline, 1024)
	setDefault(&l.MaxOnlineStreams, 1024)
	setDefault(&l.MaxInFlightPerStream, 32)
	setDefault(&l.MaxConcurrentPushes, 256)
	setDefault(&l.MaxConcurrentHistorical, 8)
	return l
}

// limitError is what went past a limit.
type limitError struct {
	// setting is the limit's name below "limits." in the configuration.
	setting string
	limit   int
	// retryAfter is when another try may be let in; 0 where the same request is always refused.
	retryAfter time.Duration
	text       string
}

func (e *limitError) Error() string { return e.text }

// pastLimit is the error of a field past a limit.
func pastLimit(field, setting string, limit int, format string, args ...any) error {
	return &fault.Error{Kind: fault.Exhausted, Field: field, Err: &limitError{setting: setting, limit: limit, text: fmt.Sprintf(format, args...)}}
}

func tooManyRows(field string, rows, limit int) error {
	return pastLimit(field, "max_rows_per_request", limit, "%d rows are more than this server's limit of %d a request; send several requests", rows, limit)
}

// checkOnlineRequest refuses an online request that is past a limit whatever it asks for. It comes before the features are looked up.
func (s *Server) checkOnlineRequest(req *twofoldv1.GetOnlineFeaturesRequest) error {
	if err := s.checkFeatureCount("features", len(req.GetFeatures())); err != nil {
		return err
	}
	return s.checkColumns("entities", req.GetEntities())
}

// checkOnlineSelection refuses an online request for which these features are too much. It comes before the request's columns are converted
// and before the store is asked.
func (s *Server) checkOnlineSelection(req *twofoldv1.GetOnlineFeaturesRequest, selection *feature.Selection) error {
	field := "features"
	if req.GetFeatureService() != "" {
		field = "feature_service"
	}
	if err := s.checkFeatureCount(field, len(selection.Columns)); err != nil {
		return err
	}
	for _, key := range selection.KeyNames {
		if err := s.checkKey("entities", req.GetEntities(), key.Name); err != nil {
			return err
		}
	}
	rows := rowCount(req.GetEntities())
	if err := s.checkValues("entities", rows, len(selection.Columns)); err != nil {
		return err
	}
	if least, limit := leastAnswerBytes(req, selection, rows), s.o.MaxMessageBytes; least > limit {
		return pastLimit("entities", "max_message_bytes", limit, "the answer, %d rows of %d features, would have at least %d bytes, more than this server's limit of %d a message; "+
			"ask for fewer rows or features a request", rows, len(selection.Columns), least, limit)
	}
	return nil
}

// leastAnswerBytes is the least size of the answer to an online request: what is known of it before the store is asked.
func leastAnswerBytes(req *twofoldv1.GetOnlineFeaturesRequest, selection *feature.Selection, rows int) int {
	row := len(selection.Columns) // a status a value
	for _, column := range selection.Columns {
		view := selection.Views[column.View]
		switch t := view.View.Features[view.Features[column.Position]].Type; {
		case t == feature.String || t == feature.Bytes:
			row += 2 // tag and length
		case t.IsList():
			row++ // length
		default:
			row += t.Width()
		}
	}
	if req.GetIncludeEventTimes() {
		row += 8 * len(selection.Views)
	}
	return rows * row
}

// checkAnswerSize refuses an answer that is too large to be sent: what its strings and lists come to is known only now.
func (s *Server) checkAnswerSize(size int) error {
	if limit := s.o.MaxMessageBytes; size > limit {
		return pastLimit("", "max_message_bytes", limit, "the answer has %d bytes, more than this server's limit of %d a message; ask for fewer rows or features a request", size, limit)
	}
	return nil
}

// checkPush refuses a push request that is past a limit, before its columns are converted.
func (s *Server) checkPush(view *feature.View, req *twofoldv1.PushFeaturesRequest) error {
	columns := req.GetColumns()
	if err := s.checkColumns("columns", columns); err != nil {
		return err
	}
	if n := len(req.GetTombstones()); n > s.o.MaxRows {
		return tooManyRows("tombstones", n, s.o.MaxRows)
	}
	for _, key := range view.Entity.Keys {
		if err := s.checkKey("columns", columns, key.Name); err != nil {
			return err
		}
	}
	return s.checkValues("columns", rowCount(columns), len(columns))
}

func (s *Server) checkFeatureCount(field string, n int) error {
	if limit := s.o.MaxFeatures; n > limit {
		return pastLimit(field, "max_features_per_request", limit, "%d features are more than this server's limit of %d a request; send several requests", n, limit)
	}
	return nil
}

func (s *Server) checkValues(field string, rows, columns int) error {
	if limit := s.o.MaxValues; rows*columns > limit {
		return pastLimit(field, "max_values_per_request", limit, "%d rows of %d features are %d values, more than this server's limit of %d a request; send fewer rows a request",
			rows, columns, rows*columns, limit)
	}
	return nil
}

// checkColumns checks what can be known of columns by their lengths alone.
func (s *Server) checkColumns(field string, columns []*twofoldv1.Column) error {
	if n, limit := len(columns), s.o.MaxFeatures; n > limit {
		return pastLimit(field, "max_features_per_request", limit, "%d columns are more than this server's limit of %d a request", n, limit)
	}
	for i, column := range columns {
		if rows, err := wire.RowCount(column); err == nil && rows > s.o.MaxRows { // columns without values are refused later
			return tooManyRows(fmt.Sprintf("%s[%d]", field, i), rows, s.o.MaxRows)
		}
		for row, n := range column.GetLists().GetLengths() {
			if limit := s.o.MaxListElements; int64(n) > int64(limit) {
				return pastLimit(fmt.Sprintf("%s[%d].lists.lengths[%d]", field, i, row), "max_list_elements", limit,
					"a list of %d elements is longer than this server's limit of %d", n, limit)
			}
		}
	}
	return nil
}

// checkKey checks the lengths of one entity key's values.
func (s *Server) checkKey(field string, columns []*twofoldv1.Column, name string) error {
	limit := s.o.MaxKeyBytes
	for i, column := range columns {
		if column.GetName() != name {
			continue
		}
		kind := "strings"
		row, size := tooLong(column.GetStrings().GetValues(), limit)
		if row < 0 {
			kind = "binaries"
			row, size = tooLong(column.GetBinaries().GetValues(), limit)
		}
		if row >= 0 {
			return pastLimit(fmt.Sprintf("%s[%d].%s.values[%d]", field, i, kind, row), "max_key_bytes", limit,
				"key %q has %d bytes, more than this server's limit of %d", name, size, limit)
		}
	}
	return nil
}

// tooLong returns the first value longer than the limit and its length, −1 where there is none.
func tooLong[T string | []byte](values []T, limit int) (at, size int) {
	for i, v := range values {
		if len(v) > limit {
			return i, len(v)
		}
	}
	return -1, 0
}

// rowCount is the number of rows of the first column, 0 where that cannot be told; uneven columns are refused later.
func rowCount(columns []*twofoldv1.Column) int {
	if len(columns) == 0 {
		return 0
	}
	rows, err := wire.RowCount(columns[0])
	if err != nil {
		return 0
	}
	return rows
}

// gate lets a bounded number of calls in at once. It has no queue: whoever comes when it is full is refused at once, because a
// caller with a deadline is served better by another replica than by waiting.
type gate struct {
	setting    string
	what       string
	limit      int
	retryAfter time.Duration
	inside     atomic.Int64
}

// enter lets one call in, which must leave; or says why not.
func (g *gate) enter() error {
	if g.inside.Add(1) <= int64(g.limit) {
		return nil
	}
	g.inside.Add(-1)
	return &fault.Error{Kind: fault.Exhausted, Err: &limitError{setting: g.setting, limit: g.limit, retryAfter: g.retryAfter,
		text: fmt.Sprintf("this server answers %d %s at once, its limit; try again in %v, or another replica", g.limit, g.what, g.retryAfter)}}
}

func (g *gate) leave() { g.inside.Add(-1) }

// gates are the server's bounds on calls at once.
type gates struct {
	online, streams, pushes, historical gate
	// byMethod has the gate of each method that has one; requests inside a stream pass online, too.
	byMethod map[string]*gate
}

func newGates(l Limits, registry *prometheus.Registry) *gates {
	g := &gates{
		online:     gate{setting: "max_concurrent_online", what: "online requests", limit: l.MaxConcurrentOnline, retryAfter: 100 * time.Millisecond},
		streams:    gate{setting: "max_online_streams", what: "streams of online requests", limit: l.MaxOnlineStreams, retryAfter: time.Second},
		pushes:     gate{setting: "max_concurrent_pushes", what: "pushes", limit: l.MaxConcurrentPushes, retryAfter: 100 * time.Millisecond},
		historical: gate{setting: "max_concurrent_historical", what: "historical streams", limit: l.MaxConcurrentHistorical, retryAfter: 5 * time.Second},
	}
	g.byMethod = map[string]*gate{
		twofoldv1.FeatureService_GetOnlineFeatures_FullMethodName:     &g.online,
		twofoldv1.FeatureService_StreamOnlineFeatures_FullMethodName:  &g.streams,
		twofoldv1.FeatureService_PushFeatures_FullMethodName:          &g.pushes,
		twofoldv1.FeatureService_GetHistoricalFeatures_FullMethodName: &g.historical,
	}
	for kind, one := range map[string]*gate{"online": &g.online, "online_stream": &g.streams, "push": &g.pushes, "historical": &g.historical} {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "twofold_calls_in_flight",
			Help:        "Calls that are being answered now, by kind: online (requests inside streams included), online_stream, push, historical.",
			ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(one.inside.Load()) }))
	}
	return g
}

// passing calls next inside the method's gate, where it has one.
func (g *gates) passing(method string, next func() error) error {
	gate := g.byMethod[method]
	if gate == nil {
		return next()
	}
	if err := gate.enter(); err != nil {
		return err
	}
	defer gate.leave()
	return next()
}
