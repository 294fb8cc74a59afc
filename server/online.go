package server

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/wire"
)

// GetOnlineFeatures implements twofold.v1.FeatureService.
func (s *Server) GetOnlineFeatures(ctx context.Context, req *twofoldv1.GetOnlineFeaturesRequest) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	if err := s.checkOnlineRequest(req); err != nil {
		return nil, err
	}
	maxStaleness, err := staleness(req.GetMaxStaleness())
	if err != nil {
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
	keys, rows, err := keyColumns(selection.Selection, req.GetEntities())
	if err != nil {
		return nil, err
	}
	if err := c.unsynced.check(ctx, selection); err != nil {
		return nil, err
	}
	asOf := feature.AsOf(s.o.Now().UnixMicro())
	result, err := s.o.Online.Read(ctx, selection.plan, keys, online.ReadOptions{AsOf: asOf, MaxStaleness: maxStaleness})
	if err != nil {
		return nil, err
	}
	for v, counters := range selection.counters {
		counters.countRows(result.Columns[selection.firstColumn[v]].Status)
	}
	return onlineResponse(req, selection, result, rows, asOf)
}

func onlineResponse(req *twofoldv1.GetOnlineFeaturesRequest, selection *onlineSelection, result *online.Result, rows int, asOf feature.AsOf) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	resp := &twofoldv1.GetOnlineFeaturesResponse{
		Columns:    make([]*twofoldv1.Column, 0, len(req.GetEntities())+len(selection.Columns)),
		Views:      make([]*twofoldv1.ViewMetadata, len(selection.Views)),
		AsOfMicros: int64(asOf),
	}
	if !req.GetOmitEntities() {
		resp.Columns = append(resp.Columns, req.GetEntities()...)
	}
	for i, column := range selection.Columns {
		c, err := wire.ColumnToProto(column.Name, result.Columns[i], 0, rows)
		if err != nil {
			return nil, err
		}
		resp.Columns = append(resp.Columns, c)
	}
	for v, view := range selection.Views {
		meta := &twofoldv1.ViewMetadata{Name: view.View.Name}
		if req.GetIncludeEventTimes() {
			meta.EventTimesMicros = result.EventTimes[v]
		}
		if ttl := result.TTLs[v]; ttl != 0 {
			meta.Ttl = durationpb.New(ttl.Duration())
		}
		resp.Views[v] = meta
	}
	return resp, nil
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

// keyColumns returns a request's entity keys in the order of the selection's KeyNames, and the number of rows.
func keyColumns(selection *feature.Selection, entities []*twofoldv1.Column) ([]*feature.Column, int, error) {
	columns, err := wire.ColumnsFromProto("entities", entities)
	if err != nil {
		return nil, 0, err
	}
	keys := make([]*feature.Column, len(selection.KeyNames))
	for k, key := range selection.KeyNames {
		if keys[k], err = entityKey(selection, key, columns, "entities"); err != nil {
			return nil, 0, err
		}
	}
	return keys, columns.Rows, nil
}

// entityKey returns the column of one entity key.
func entityKey(selection *feature.Selection, key feature.Key, columns wire.Columns, field string) (*feature.Column, error) {
	column, at := findColumn(columns, key.Name)
	if column == nil {
		return nil, fault.InvalidField(field, "no column %q (%v), a key of entity %q, which the features need%s",
			key.Name, key.Type, keyOwner(selection, key.Name), feature.DidYouMean(key.Name, columns.Names))
	}
	return typed(column, key.Type, fmt.Sprintf("%s[%d]", field, at), fmt.Sprintf("key %q", key.Name))
}

// keyOwner is the name of the first entity with a key of that name.
func keyOwner(selection *feature.Selection, key string) string {
	for _, entity := range selection.Entities {
		for _, k := range entity.Keys {
			if k.Name == key {
				return entity.Name
			}
		}
	}
	return ""
}

func findColumn(columns wire.Columns, name string) (column *feature.Column, at int) {
	at = slices.Index(columns.Names, name)
	if at < 0 {
		return nil, -1
	}
	return columns.Columns[at], at
}

// typed returns the column as the wanted type: as it is, or INT32 widened to INT64; every other difference is an error.
func typed(c *feature.Column, want feature.Type, field, what string) (*feature.Column, error) {
	switch {
	case c.Type == want:
		return c, nil
	case c.Type == feature.Int32 && want == feature.Int64:
		wide := &feature.Column{Type: feature.Int64, Status: c.Status, Int64s: make([]int64, len(c.Int32s))}
		for i, v := range c.Int32s {
			wide.Int64s[i] = int64(v)
		}
		return wide, nil
	default:
		return nil, fault.InvalidField(field, "%s must be %v, not %v", what, want, c.Type)
	}
}
