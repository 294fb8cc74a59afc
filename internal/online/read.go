package online

import (
	"context"
	"errors"
	"fmt"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// Result is the answer to a Read. Row i belongs to row i of the keys.
type Result struct {
	// Columns has one column for each of Selection.Columns.
	Columns []*feature.Column
	// EventTimes has, for each of Selection.Views, the event time of each row in microseconds since the Unix epoch, UTC; 0 where
	// there is no row. That of an expired row is there.
	EventTimes [][]int64
	// TTLs has the ttl that was applied for each of Selection.Views: its own, tightened by the request's.
	TTLs []feature.TTL
}

// Read returns the selected features of the entities that keys name: one column for each of Selection.KeyNames, one row an
// entity, any number of times. It is one call of the driver, whatever the number of views and entities.
//
// A value is Expired where its row's event time is further before asOf than the view's ttl and maxStaleness (0: no further
// limit) allow. It is NotFound where there is no row, the entity was deleted, or a key is null. Everything else that keeps a value from being
// read is an error, never a status.
func (s *Store) Read(ctx context.Context, p *Plan, keys []*feature.Column, asOf feature.AsOf, maxStaleness feature.TTL) (*Result, error) {
	if err := live(ctx, "read features"); err != nil {
		return nil, err
	}
	rows, err := p.check(keys)
	if err != nil {
		return nil, err
	}
	result := p.newResult(rows, maxStaleness)
	if rows == 0 {
		return result, nil
	}
	request := p.request(keys, rows)
	var stored [][]byte
	if len(request.reads) > 0 {
		if stored, err = s.driver.Read(ctx, request.reads); err != nil {
			return nil, err
		}
	}
	if len(stored) != request.rows {
		return nil, fault.New(fault.Internal, "the online store answered %d rows where %d were asked for", len(stored), request.rows)
	}
	for i := range p.views {
		if err := live(ctx, "read features"); err != nil {
			return nil, err
		}
		r := viewReader{store: s, view: &p.views[i], ttl: result.TTLs[i], asOf: asOf, events: result.EventTimes[i]}
		for _, c := range r.view.columns {
			r.dst = append(r.dst, result.Columns[c])
		}
		for row, first := range request.first[r.view.group] {
			if first < 0 {
				r.missing(feature.NotFound)
			} else if err := r.append(ctx, row, stored[first+r.view.position]); err != nil {
				return nil, p.atEntity(err, r.view, keys, row)
			}
		}
	}
	return result, nil
}

func (p *Plan) newResult(rows int, maxStaleness feature.TTL) *Result {
	r := &Result{
		Columns:    make([]*feature.Column, len(p.selection.Columns)),
		EventTimes: make([][]int64, len(p.views)),
		TTLs:       make([]feature.TTL, len(p.views)),
	}
	for i := range p.views {
		v := &p.views[i]
		for f, c := range v.columns {
			r.Columns[c] = feature.NewColumn(v.wanted[f].Type, rows)
		}
		r.EventTimes[i] = make([]int64, rows)
		r.TTLs[i] = v.view.TTL.Tighten(maxStaleness)
	}
	return r
}

// atEntity says which view and entity an error is about.
func (p *Plan) atEntity(err error, v *planView, keys []*feature.Column, row int) error {
	g := p.groups[v.group]
	own := make([]*feature.Column, len(g.keys))
	for i, k := range g.keys {
		own[i] = keys[k]
	}
	key, _ := feature.AppendKey(nil, own, row)
	return fmt.Errorf("view %q, entity %s %q: %w", v.view.Name, g.entity.Name, key, err)
}

// viewReader appends the rows of one view to its columns.
type viewReader struct {
	store  *Store
	view   *planView
	ttl    feature.TTL
	asOf   feature.AsOf
	dst    []*feature.Column
	events []int64

	fingerprint uint64 // of projection
	projection  *storedrow.Projection
}

func (r *viewReader) missing(status feature.Status) {
	for _, c := range r.dst {
		c.AppendMissing(status)
	}
}

func (r *viewReader) append(ctx context.Context, row int, stored []byte) error {
	if stored == nil {
		r.missing(feature.NotFound)
		return nil
	}
	h, err := storedrow.ParseHeader(stored)
	if err != nil {
		return fault.New(fault.Corrupt, "its stored row is damaged: %w; write it again: twofold sync --once", err)
	}
	if h.Tombstone {
		r.missing(feature.NotFound)
		return nil
	}
	r.events[row] = int64(h.EventTime)
	if r.ttl.Expired(h.EventTime, r.asOf) {
		r.missing(feature.Expired)
		return nil
	}
	if r.projection == nil || h.Fingerprint != r.fingerprint {
		if r.projection, err = r.store.projection(ctx, r.view, h.Fingerprint); err != nil {
			return err
		}
		r.fingerprint = h.Fingerprint
	}
	return r.projection.Append(stored, r.dst)
}

// errNoSchema is the cause of an error about a row whose schema is not stored.
var errNoSchema = errors.New("the store does not have the schema")

// projection returns how to read rows of a view that were written under a schema. Only a schema other than the present one is asked of
// the store, once.
func (s *Store) projection(ctx context.Context, v *planView, fingerprint uint64) (*storedrow.Projection, error) {
	if p, ok := v.projections.Load(fingerprint); ok {
		return p.(*storedrow.Projection), nil
	}
	schema, err := s.schemas.load(ctx, v.view.Name, fingerprint)
	if err != nil {
		return nil, err
	}
	if schema == nil {
		return nil, fault.New(fault.Corrupt, "its row was written under schema %016x, and %w, so its values cannot be told apart; write the row again: twofold sync --once",
			fingerprint, errNoSchema)
	}
	p, err := storedrow.NewProjection(v.view.Name, schema, v.wanted)
	if err != nil {
		return nil, err
	}
	v.projections.Store(fingerprint, p)
	return p, nil
}
