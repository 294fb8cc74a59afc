package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/wire"
)

// defaultTimeColumn is the name of the time column where a request names none.
const defaultTimeColumn = "event_timestamp"

// PushFeatures implements twofold.v1.FeatureService.
func (s *Server) PushFeatures(ctx context.Context, req *twofoldv1.PushFeaturesRequest) (*twofoldv1.PushFeaturesResponse, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	view, err := s.catalog.Load().registry.View(req.GetFeatureView())
	if err != nil {
		return nil, err
	}
	if view.IsSynced() && view.Sync.Mode == feature.Snapshot {
		return nil, fault.New(fault.Precondition, "feature view %q has mode SNAPSHOT: the next generation would be without what is pushed now; "+
			"write the row into its source, or define the view with sync.mode: INCREMENTAL", view.Name)
	}
	if err := s.checkPush(view, req); err != nil {
		return nil, err
	}
	rows, err := s.pushedRows(view, req)
	if err != nil {
		return nil, err
	}
	stats, forgotten, err := s.writePushed(ctx, rows)
	if err != nil {
		return nil, err
	}
	for outcome, n := range map[string]int{"written": stats.Written, "older": stats.Older, "unchanged": stats.Unchanged, "expired": stats.Expired, "forgotten": forgotten} {
		s.metrics.pushedRows.WithLabelValues(view.Name, outcome).Add(float64(n))
	}
	return &twofoldv1.PushFeaturesResponse{
		RowsWritten: uint64(stats.Written), RowsOlder: uint64(stats.Older), RowsUnchanged: uint64(stats.Unchanged), RowsExpired: uint64(stats.Expired),
		RowsForgotten: uint64(forgotten),
	}, nil
}

// pushedRows finds each column that the view needs among those of the request, and refuses every other: a misspelt
// feature must not be lost in silence.
func (s *Server) pushedRows(view *feature.View, req *twofoldv1.PushFeaturesRequest) (online.Rows, error) {
	columns, err := wire.ColumnsFromProto("columns", req.GetColumns())
	if err != nil {
		return online.Rows{}, err
	}
	if n := len(req.GetTombstones()); n != 0 && n != columns.Rows {
		return online.Rows{}, fault.InvalidField("tombstones", "has %d elements for %d rows; give one a row, or none", n, columns.Rows)
	}
	p := &pushed{Columns: columns, view: view, used: make([]bool, len(columns.Names))}
	out := online.Rows{View: view, Tombstones: req.GetTombstones()}
	for _, key := range view.Entity.Keys {
		out.Keys = append(out.Keys, p.take(key.Name, key.Type, "entity key"))
	}
	out.EventTimes = p.take(orDefault(req.GetEventTimeColumn(), defaultTimeColumn), feature.Timestamp, "event time")
	if name := req.GetCreatedTimeColumn(); name != "" {
		out.CreatedTimes = p.take(name, feature.Timestamp, "created time")
	}
	for _, i := range view.OnlineFeatures() {
		f := view.Features[i]
		out.Features = append(out.Features, p.take(f.Name, f.Type, "online feature"))
	}
	p.refuseRest()
	if p.err != nil {
		return out, p.err
	}
	return out, s.checkEventTimes(out.EventTimes)
}

// checkEventTimes refuses rows from the future: newest wins, so one with a wrong clock or unit would keep every true row out.
func (s *Server) checkEventTimes(times *feature.Column) error {
	latest := s.o.Now().Add(s.o.MaxEventTimeAhead).UnixMicro()
	for row, micros := range times.Int64s {
		if times.IsPresent(row) && micros > latest {
			return fault.InvalidField("columns", "row %d: its event time %s is more than %v after the server's clock; event times are microseconds since 1970, UTC",
				row, time.UnixMicro(micros).UTC().Format(time.RFC3339), s.o.MaxEventTimeAhead)
		}
	}
	return nil
}

// pushed are the columns of a push request, and which of them have been used. It keeps the first error.
type pushed struct {
	wire.Columns
	view *feature.View
	used []bool
	err  error
}

// take returns a column as the wanted type and marks it used.
func (p *pushed) take(name string, want feature.Type, what string) *feature.Column {
	if p.err != nil {
		return nil
	}
	column, at := findColumn(p.Columns, name)
	if column == nil {
		p.err = fault.InvalidField("columns", "no column %q (%v), %s of feature view %q; a row is pushed whole%s",
			name, want, what, p.view.Name, feature.DidYouMean(name, p.Names))
		return nil
	}
	p.used[at] = true
	column, p.err = typed(column, want, fmt.Sprintf("columns[%d]", at), fmt.Sprintf("%s %q", what, name))
	return column
}

// refuseRest refuses the columns that were not used.
func (p *pushed) refuseRest() {
	at := slices.Index(p.used, false)
	if p.err != nil || at < 0 {
		return
	}
	name, field := p.Names[at], fmt.Sprintf("columns[%d].name", at)
	if i, ok := p.view.FeatureIndex(name); ok && !p.view.Features[i].Online {
		p.err = fault.InvalidField(field, "feature %q of view %q is not online (online: false in its definition); leave it out", name, p.view.Name)
		return
	}
	var online []string
	for _, i := range p.view.OnlineFeatures() {
		online = append(online, p.view.Features[i].Name)
	}
	p.err = fault.InvalidField(field, "feature view %q has no online feature, key or time column %q%s", p.view.Name, name, feature.DidYouMean(name, online))
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
