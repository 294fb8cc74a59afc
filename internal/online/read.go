package online

import (
	"context"
	"errors"
	"fmt"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

// ReadOptions are what a read asks for beside features and entities.
type ReadOptions struct {
	// AsOf is the moment that decides freshness.
	AsOf feature.AsOf
	// Past asks for the newest rows as of AsOf and not for the newest of all, which only views with versions can answer.
	Past bool
	// Generations says, for each of Selection.Views, which generation of its rows is asked for; nil is 0 for all.
	Generations []uint64
	// MaxStaleness tightens the ttl of every view; 0 does not.
	MaxStaleness feature.TTL
	// IncludeExpired returns the values of expired rows, with the status Expired. A null of such a row stays Null.
	IncludeExpired bool
	// AllowPartial answers what can be read where some rows cannot be: their values are Unavailable.
	AllowPartial bool
	// Unknown says, for each of Selection.Views, why its rows cannot be told from missing ones, nil where they can: they are Unavailable
	// for that reason. nil is none. It goes with AllowPartial.
	Unknown []error
}

// Result is the answer to a Read. Row i belongs to row i of the keys.
type Result struct {
	// Columns has one column for each of Selection.Columns.
	Columns []*feature.Column
	// EventTimes has, for each of Selection.Views, the event time of each row in microseconds since the Unix epoch, UTC; 0 where
	// there is no row. That of an expired row is there.
	EventTimes [][]int64
	// Generations has the generation that the rows of each of Selection.Views are from; nil where all is 0.
	Generations []uint64
	// TTLs has the ttl that was applied for each of Selection.Views: its own, tightened by the request's.
	TTLs []feature.TTL
	// Faults has, for each of Selection.Views, why the first of its Unavailable rows could not be read; nil where all could.
	Faults []error

	plan *Plan
	room int
	dst  []*feature.Column // of one view
}

// Read returns the selected features of the entities that keys name: one column for each of Selection.KeyNames, one row an
// entity, any number of times. It is one call of the driver, whatever the number of views and entities.
//
// A value is Expired where its row's event time is further before o.AsOf than the view's ttl and o.MaxStaleness allow.
// It is NotFound where there is no row, the entity was deleted, or a key is null. Everything else that keeps a value from being
// read is an error, never a status; with o.AllowPartial it is Unavailable, unless nothing at all could be read.
//
// A caller that is done with the result may give its memory back with Release.
func (s *Store) Read(ctx context.Context, p *Plan, keys []*feature.Column, o ReadOptions) (*Result, error) {
	if err := live(ctx, "read features"); err != nil {
		return nil, err
	}
	rows, err := p.check(keys)
	if err != nil {
		return nil, err
	}
	history := int64(newest)
	if o.Past {
		if err := p.checkPast(); err != nil {
			return nil, err
		}
		history = int64(o.AsOf)
	}
	names, err := p.storedNames(o.Generations)
	if err != nil {
		return nil, err
	}
	result := p.newResult(rows, o.MaxStaleness)
	result.Generations = o.Generations
	if rows == 0 {
		return result, nil
	}
	request := p.takeScratch()
	request.fill(p, names, keys, rows, history)
	answer, err := s.ask(ctx, request, o.AllowPartial)
	if err != nil {
		return nil, err // the driver may still look at the request, here and after a partial answer
	}
	if err := s.decode(ctx, p, keys, o, request, answer, result); err != nil {
		return nil, err
	}
	if answer.errs == nil {
		p.giveBack(request)
	}
	return result, nil
}

// answer is what the driver answered: the rows, and why some reads failed, nil where none did.
type answer struct {
	rows [][]byte
	errs []error
}

// ask calls the driver.
func (s *Store) ask(ctx context.Context, r *scratch, allowPartial bool) (answer, error) {
	if len(r.reads) == 0 {
		return answer{}, nil
	}
	rows, err := s.driver.Read(ctx, r.reads)
	var a answer
	if err != nil {
		partial, ok := errors.AsType[*driver.PartialError](err)
		if !ok || !allowPartial || len(partial.Errs) != len(r.reads) {
			return answer{}, err
		}
		a.errs = partial.Errs
	}
	if len(rows) != r.values {
		return answer{}, fault.New(fault.Internal, "the online store answered %d rows where %d were asked for", len(rows), r.values)
	}
	a.rows = rows
	return a, nil
}

// decode appends every row to the columns of the result.
func (s *Store) decode(ctx context.Context, p *Plan, keys []*feature.Column, o ReadOptions, request *scratch, a answer, result *Result) error {
	rows := len(result.EventTimes[0])
	unread, first := 0, error(nil)
	for i := range p.views {
		if err := live(ctx, "read features"); err != nil {
			return err
		}
		v := &p.views[i]
		r := viewReader{
			store: s, view: v, ttl: result.TTLs[i], asOf: o.AsOf, includeExpired: o.IncludeExpired, events: result.EventTimes[i], dst: result.dst[:0],
			readOf: request.readOf[v.group*rows : (v.group+1)*rows], first: request.first, stored: a.rows, errs: a.errs,
		}
		r.checkText = o.AllowPartial && v.hasText()
		if o.Unknown != nil {
			r.unknown = o.Unknown[i]
		}
		if o.Past {
			r.missingInPast = s.missingInPast(v.view, o.AsOf)
		}
		for _, c := range v.columns {
			r.dst = append(r.dst, result.Columns[c])
		}
		result.dst = r.dst
		if r.appendAll(ctx, &request.batch) {
			continue
		}
		// Something is out of the ordinary: row by row it will show what.
		for _, c := range r.dst {
			c.Truncate(0)
		}
		for row := range rows {
			err := r.append(ctx, row)
			if err == nil {
				continue
			}
			if err = p.atEntity(err, v, keys, row); !o.AllowPartial || ctx.Err() != nil {
				return err
			}
			r.unavailable(row)
			if unread++; first == nil {
				first = err
			}
			if result.Faults[i] == nil {
				result.Faults[i] = err
			}
		}
	}
	if unread == rows*len(p.views) {
		return first
	}
	return nil
}

// newResult returns an empty result, in the memory of an earlier one where there is one that is large enough.
func (p *Plan) newResult(rows int, maxStaleness feature.TTL) *Result {
	r, ok := p.results.Get().(*Result)
	if !ok || r.room < rows {
		r = &Result{
			Columns: feature.NewColumns(p.types, rows), EventTimes: make([][]int64, len(p.views)), TTLs: make([]feature.TTL, len(p.views)),
			Faults: make([]error, len(p.views)), plan: p, room: rows,
		}
		events := make([]int64, rows*len(p.views))
		for i := range r.EventTimes {
			r.EventTimes[i] = events[i*rows : (i+1)*rows : (i+1)*rows]
		}
	} else {
		r.reset(rows)
	}
	for i := range p.views {
		r.TTLs[i] = p.views[i].view.TTL.Tighten(maxStaleness)
	}
	return r
}

func (r *Result) reset(rows int) {
	for _, c := range r.Columns {
		c.Reset()
	}
	for i := range r.EventTimes {
		r.EventTimes[i] = r.EventTimes[i][:rows]
		clear(r.EventTimes[i])
	}
	clear(r.Faults)
}

// maxKeptValues is the largest result whose memory is kept for the next request, in values; one with long strings or lists may be larger.
const maxKeptValues = 1 << 18

// Release gives the result's memory back: neither it nor its columns may be used any more.
func (r *Result) Release() {
	if r.room*(len(r.Columns)+1) <= maxKeptValues {
		r.plan.results.Put(r)
	}
}

// missingInPast says why an entity without a row cannot be said to have had none as of a moment: nil where it can. A store drops rows once they
// have been expired for the retention; those that it may have dropped by now would have been expired at the moment already, unless
// that is longer ago than the retention.
func (s *Store) missingInPast(view *feature.View, asOf feature.AsOf) error {
	now, _ := s.clocks()
	if view.TTL == 0 || int64(asOf) >= now.Add(-view.ExpiredRetention).UnixMicro() {
		return nil
	}
	return fault.New(fault.Precondition, "it has no row, and rows of that moment may have been dropped since: view %q keeps expired rows for %v only; "+
		"ask for a later moment (as_of_micros), define a longer expired_retention, or use GetHistoricalFeatures", view.Name, view.ExpiredRetention)
}

// checkPast refuses views that cannot tell how their rows were at an earlier moment.
func (p *Plan) checkPast() error {
	for i := range p.views {
		if v := p.views[i].view; v.HistoryVersions == 0 {
			return fault.New(fault.Precondition, "view %q keeps the newest row of an entity only, so it cannot be asked for an earlier moment (as_of_micros); "+
				"define it with layout: HISTORY and sync it, or use GetHistoricalFeatures", v.Name)
		}
	}
	return nil
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
	store          *Store
	view           *planView
	ttl            feature.TTL
	asOf           feature.AsOf
	includeExpired bool
	dst            []*feature.Column
	events         []int64

	readOf, first []int32 // as in scratch
	stored        [][]byte
	errs          []error
	unknown       error
	checkText     bool
	missingInPast error // what a row that is not there means: nil, or that it may have been there

	fingerprint uint64 // of projection
	projection  *storedrow.Projection
}

// appendAll appends all rows where they are as nearly all are: readable, of one schema. It reports false where they are not; then dst may have
// any part of them.
func (r *viewReader) appendAll(ctx context.Context, batch *storedrow.Batch) bool {
	if r.unknown != nil || r.errs != nil {
		return false
	}
	batch.Reset()
	for row, at := range r.readOf {
		if at < 0 {
			batch.AddMissing(feature.NotFound)
			continue
		}
		stored := r.stored[int(r.first[at])+r.view.position]
		status, err := r.look(ctx, row, stored)
		if err != nil {
			return false
		}
		if status == feature.Present || (status == feature.Expired && r.includeExpired) {
			if !batch.Add(r.projection, stored, status) {
				return false
			}
		} else {
			batch.AddMissing(status)
		}
	}
	if batch.AppendTo(r.dst) != nil {
		return false
	}
	for row := range r.readOf {
		if r.checkText && r.textErr(row) != nil {
			return false
		}
	}
	return true
}

// append appends one row.
func (r *viewReader) append(ctx context.Context, row int) error {
	at := r.readOf[row]
	switch {
	case at < 0:
		r.missing(feature.NotFound)
		return nil
	case r.unknown != nil:
		return r.unknown
	case r.errs != nil && r.errs[at] != nil:
		return r.errs[at]
	}
	stored := r.stored[int(r.first[at])+r.view.position]
	status, err := r.look(ctx, row, stored)
	if err != nil {
		return err
	}
	if status != feature.Present && (status != feature.Expired || !r.includeExpired) {
		r.missing(status)
		return nil
	}
	if err := r.projection.Append(stored, r.dst); err != nil {
		return err
	}
	if status == feature.Expired {
		r.markExpired(row)
	}
	if r.checkText {
		return r.textErr(row)
	}
	return nil
}

func (r *viewReader) missing(status feature.Status) {
	for _, c := range r.dst {
		c.AppendMissing(status)
	}
}

// look reads the header of a row, takes down its event time, and says what the row is: Present, NotFound or Expired. It provides the
// projection of a row whose values are wanted.
func (r *viewReader) look(ctx context.Context, row int, stored []byte) (feature.Status, error) {
	if stored == nil {
		return feature.NotFound, r.missingInPast
	}
	h, err := storedrow.ParseHeader(stored)
	if err != nil {
		return 0, damaged(err)
	}
	if h.Tombstone {
		return feature.NotFound, nil
	}
	r.events[row] = int64(h.EventTime)
	status := feature.Present
	if r.ttl.Expired(h.EventTime, r.asOf) {
		if status = feature.Expired; !r.includeExpired {
			return status, nil
		}
	}
	if r.projection == nil || h.Fingerprint != r.fingerprint {
		if r.projection, err = r.store.projection(ctx, r.view, h.Fingerprint); err != nil {
			return 0, err
		}
		r.fingerprint = h.Fingerprint
	}
	return status, nil
}

// damaged is the error of a stored row that is none.
func damaged(err error) error {
	return fault.New(fault.Corrupt, "its stored row is damaged: %w; write it again: twofold sync --once", err)
}

// markExpired gives the values of a row that is there the status Expired.
func (r *viewReader) markExpired(row int) {
	for _, c := range r.dst {
		if c.Status[row] == feature.Present {
			c.Status[row] = feature.Expired
		}
	}
}

// unavailable makes the row, which may have been appended in part, one that could not be read.
func (r *viewReader) unavailable(row int) {
	r.events[row] = 0
	for _, c := range r.dst {
		c.Truncate(row)
		c.AppendMissing(feature.Unavailable)
	}
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
