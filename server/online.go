package server

import (
	"context"
	"fmt"
	"slices"
	"sync"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/wire"
)

// GetOnlineFeatures implements twofold.v1.FeatureService for callers in this process. A call over gRPC goes by way of onlineMethod, which
// sends the same answer without making a message of it.
func (s *Server) GetOnlineFeatures(ctx context.Context, req *twofoldv1.GetOnlineFeaturesRequest) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	answer, err := s.answerOnline(ctx, req)
	if err != nil {
		return nil, err
	}
	defer answer.Free()
	resp := &twofoldv1.GetOnlineFeaturesResponse{}
	if err := proto.Unmarshal(answer.ReadOnlyData(), resp); err != nil {
		return nil, fault.New(fault.Internal, "an answer that cannot be read: %w", err)
	}
	return resp, nil
}

// answerOnline returns the bytes of the answer, a GetOnlineFeaturesResponse. Whoever sends them frees them.
func (s *Server) answerOnline(ctx context.Context, req *twofoldv1.GetOnlineFeaturesRequest) (mem.Buffer, error) {
	if err := s.checkOnlineRequest(req); err != nil {
		return nil, err
	}
	c := s.catalog.Load()
	selection, err := c.online(feature.SelectionQuery{
		Service: req.GetFeatureService(), Features: req.GetFeatures(), OnlineOnly: true, ShortNames: req.GetShortNames(),
	})
	if err != nil {
		return nil, err
	}
	if err := s.checkOnlineSelection(req, selection.Selection); err != nil {
		return nil, err
	}
	options, err := s.readOptions(req)
	if err != nil {
		return nil, err
	}
	keys, err := keyColumns(selection.Selection, req)
	if err != nil {
		return nil, err
	}
	if options.Unknown, err = c.unsynced.faults(ctx, selection, options); err != nil {
		return nil, err
	}
	result, err := s.readOnline(ctx, c, selection, keys, options)
	if err != nil {
		return nil, err
	}
	for v, counters := range selection.counters {
		counters.countRows(result.Columns[selection.firstColumn[v]].Status)
	}
	answer, err := s.encodeOnline(ctx, req, selection, result, options.AsOf)
	result.Release()
	return answer, err
}

// readOptions reads the clock, once a request, and what the request says of time and of partial answers.
func (s *Server) readOptions(req *twofoldv1.GetOnlineFeaturesRequest) (online.ReadOptions, error) {
	maxStaleness, err := staleness(req.GetMaxStaleness())
	if err != nil {
		return online.ReadOptions{}, err
	}
	now := s.o.Now().UnixMicro()
	o := online.ReadOptions{
		AsOf: feature.AsOf(now), MaxStaleness: maxStaleness, IncludeExpired: req.GetIncludeExpired(), AllowPartial: req.GetAllowPartial(),
	}
	if req.AsOfMicros != nil {
		o.AsOf, o.Past = feature.AsOf(req.GetAsOfMicros()), true
		if req.GetAsOfMicros() > now {
			return o, fault.InvalidField("as_of_micros", "%d is later than this server's clock (%d): what will be is not known; leave it out to ask for now", req.GetAsOfMicros(), now)
		}
	}
	return o, nil
}

// answers lends the memory in which answers are put together.
var answers = sync.Pool{New: func() any { return &wire.OnlineAnswer{} }}

// encodeOnline writes the answer. It needs neither the result nor the request any more when it has returned.
func (s *Server) encodeOnline(ctx context.Context, req *twofoldv1.GetOnlineFeaturesRequest, selection *onlineSelection, result *online.Result, asOf feature.AsOf) (mem.Buffer, error) {
	answer := answers.Get().(*wire.OnlineAnswer)
	defer func() {
		answer.Reset()
		answers.Put(answer)
	}()
	answer.AsOf = asOf
	if !req.GetOmitEntities() {
		answer.Entities = req.GetEntities()
	}
	for i, column := range selection.Columns {
		answer.AddColumn(column.Name, result.Columns[i])
	}
	for v, view := range selection.Views {
		var events []int64
		if req.GetIncludeEventTimes() {
			events = result.EventTimes[v]
		}
		generation := uint64(0)
		if result.Generations != nil {
			generation = result.Generations[v]
		}
		answer.AddView(view.View.Name, events, result.TTLs[v], s.faultProto(ctx, result.Faults[v]), generation)
	}
	size, err := answer.Size()
	if err != nil {
		return nil, err
	}
	if err := s.checkAnswerSize(size); err != nil {
		return nil, err
	}
	buffer := answerBuffers.Get(size)
	bytes, err := answer.Append((*buffer)[:0])
	if err != nil || len(bytes) != size {
		return nil, fault.New(fault.Internal, "an answer of %d bytes was written as %d: %w", size, len(bytes), err)
	}
	return mem.NewBuffer(buffer, answerBuffers), nil
}

// faultProto is what a call would have failed with, nil for nil.
func (s *Server) faultProto(ctx context.Context, err error) *statuspb.Status {
	if err == nil {
		return nil
	}
	return status.Convert(s.statusError(ctx, twofoldv1.FeatureService_GetOnlineFeatures_FullMethodName, err)).Proto()
}

// staleness reads a max_staleness field: 0 where it is not set. A set 0 is refused, because it would expire everything.
func staleness(d *durationpb.Duration) (feature.TTL, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, fault.InvalidField("max_staleness", "%v", err)
	}
	ttl := feature.TTLOf(d.AsDuration())
	if ttl <= 0 {
		return 0, fault.InvalidField("max_staleness", "must be positive; leave it out to use the feature view's ttl")
	}
	return ttl, nil
}

// keyColumns returns a request's entity keys in the order of the selection's KeyNames.
func keyColumns(selection *feature.Selection, req *twofoldv1.GetOnlineFeaturesRequest) ([]*feature.Column, error) {
	columns, err := wire.ColumnsFromProto("entities", req.GetEntities())
	if err != nil {
		return nil, err
	}
	keys := make([]*feature.Column, len(selection.KeyNames))
	for k, key := range selection.KeyNames {
		if keys[k], err = entityKey(selection, key, columns, "entities"); err != nil {
			return nil, err
		}
	}
	if len(columns.Names) > len(keys) && !req.GetOmitEntities() {
		return keys, checkPassedThrough(selection, columns.Names)
	}
	return keys, nil
}

// checkPassedThrough refuses columns that would come back beside a feature column of the same name. No key is named like one.
func checkPassedThrough(selection *feature.Selection, names []string) error {
	places := make(map[string]int, len(names))
	for i, name := range names {
		places[name] = i
	}
	for _, column := range selection.Columns {
		if i, ok := places[column.Name]; ok {
			return fault.InvalidField(fmt.Sprintf("entities[%d].name", i), "%q is the name of a feature column of the answer; rename it, or set omit_entities, or leave short_names out", column.Name)
		}
	}
	return nil
}

// entityKey returns the column of one entity key.
func entityKey(selection *feature.Selection, key feature.Key, columns wire.Columns, field string) (*feature.Column, error) {
	column, at := findColumn(columns, key.Name)
	if column == nil {
		return nil, fault.InvalidField(field, "no column %q (%v), a key of entity %q, which the features need%s",
			key.Name, key.Type, selection.KeyOwner(key.Name), feature.DidYouMean(key.Name, columns.Names))
	}
	if column.Type == key.Type {
		return column, nil
	}
	return typed(column, key.Type, fmt.Sprintf("%s[%d]", field, at), fmt.Sprintf("key %q", key.Name))
}

func findColumn(columns wire.Columns, name string) (column *feature.Column, at int) {
	at = slices.Index(columns.Names, name)
	if at < 0 {
		return nil, -1
	}
	return columns.Columns[at], at
}

// typed returns the column as the wanted type, where that holds all its values; every other difference is an error.
func typed(c *feature.Column, want feature.Type, field, what string) (*feature.Column, error) {
	if as := c.As(want); as != nil {
		return as, nil
	}
	return nil, fault.InvalidField(field, "%s must be %v, not %v", what, want, c.Type)
}
