// Package audit compares what the online store holds of a feature view with what the offline files say that it should hold. It works the expected rows out
// of the files anew, by the rule that syncs go by (pit.OnlineRows), and takes nothing from what syncs remember.
package audit

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/syncstate"
)

// Options says what is compared, and how much of it.
type Options struct {
	// View is the feature view. Required.
	View *feature.View
	// Online is the store that is audited. Required.
	Online *online.Store
	// Offline is the store with the files. Required.
	Offline *offline.Store
	// Generation is the generation of the view's rows that is audited. Defaults to 0, that of views which have none.
	Generation uint64
	// Files are the files that say what is right, as offline.Table.Files lists them. Defaults to nil: all that are in the source; where they change
	// meanwhile, what then differs is looked at again by the new ones.
	Files []offline.File
	// AsOf is the moment as of which the files are asked. Defaults to 0: now, and where rows come to their time meanwhile, what then differs is looked at
	// again as of a later moment.
	AsOf feature.AsOf
	// Now is the clock, which decides what has expired. Defaults to time.Now.
	Now func() time.Time
	// Sample is the share of the entities that is compared, 0 to 1, chosen by a hash of their keys. Defaults to 0, which is all, as 1 is.
	Sample float64
	// SampleFrom is where in the range of the hashes the sample begins, 0 to 1 − Sample: with one seed, two samples that do not overlap share no entity,
	// and those that cover 0 to 1 are all. Defaults to 0.
	SampleFrom float64
	// Seed chooses other entities for a sample. Defaults to 0.
	Seed uint64
	// Examples is the most findings of each class that are told one by one; less than 0 is none. Defaults to 10.
	Examples int
	// Progress is told now and then how far the audit is, by one goroutine. Defaults to none.
	Progress func(Progress)
}

// Progress is how far an audit is.
type Progress struct {
	// Step says what is being done, for people.
	Step string
	// Done is how many rows that step has gone through, of Total; 0 where that is not known.
	Done, Total int64
}

// withDefaults returns the options with every default filled in, or what is wrong with them.
func (o Options) withDefaults() (Options, error) {
	if o.View == nil || o.Online == nil || o.Offline == nil {
		return o, errors.New("audit: View, Online and Offline are required")
	}
	if o.Sample == 0 {
		o.Sample = 1
	}
	const rounding = 1e-9 // 0.7 + 0.3 is 1
	if !(o.Sample > 0 && o.SampleFrom >= 0 && o.SampleFrom+o.Sample <= 1+rounding) {
		return o, fault.New(fault.Invalid, "a sample of %v from %v on is not within 0 to 1; write a share of the entities, 0.1 for a tenth, and where it begins", o.Sample, o.SampleFrom)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Examples == 0 {
		o.Examples = 10
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return o, nil
}

// Run audits a view. That rows differ is no error: the report says so (see Report.Err). An error says that the comparison could not be made; it names the view.
//
// It reads the keys and times of all rows of the files, the values of the newest rows of the entities in the sample, and everything that is stored of the view, and takes
// about 400 bytes of memory an entity. Whatever differs is read once more at the end, and is counted only where it still does.
func Run(ctx context.Context, o Options) (*Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	report, err := run(ctx, o, false)
	if errors.Is(err, errMoved) {
		report, err = run(ctx, o, true)
	}
	if err != nil {
		return nil, err
	}
	report.ElapsedSeconds = time.Since(begun).Seconds()
	return report, nil
}

// errMoved says that what is expected has changed while it was compared.
var errMoved = errors.New("what is expected has changed meanwhile")

// auditor makes one comparison.
type auditor struct {
	Options
	sample sample
	// asOfNow says that the files are asked as of now, and not as of a moment that was given.
	asOfNow bool
	// last says that it is not made again, however much has changed meanwhile.
	last    bool
	files   []offline.File
	keepFor feature.TTL
	winners *pit.Winners
	index   *index
	// suspects are the expected rows that differ at first sight, by their numbers in index.
	suspects map[uint64]bool
	// unreadable are the entities of which a stored row cannot be read.
	unreadable map[uint64]bool
	// compared counts the expected rows whose values could be read.
	compared int64
	report   *Report
}

// run makes a comparison; errMoved says that it is to be made again.
func run(ctx context.Context, o Options, last bool) (*Report, error) {
	a := &auditor{
		Options: o, last: last, sample: newSample(o), keepFor: o.View.KeepFor(), index: newIndex(o.View), suspects: map[uint64]bool{}, unreadable: map[uint64]bool{},
	}
	if a.asOfNow = a.AsOf == 0; a.asOfNow {
		a.AsOf = feature.AsOf(o.Now().UnixMicro())
	}
	a.report = newReport(a)
	if err := a.expect(ctx); err != nil {
		return nil, a.again(ctx, err)
	}
	if err := a.compare(ctx, a.firstSight); err != nil {
		return nil, a.again(ctx, err)
	}
	a.report.Undecided = a.index.len() - a.compared
	strangers, err := a.scan(ctx)
	if err != nil {
		return nil, err
	}
	if len(a.suspects)+len(strangers) > 0 {
		if err := a.judge(ctx, strangers); err != nil {
			return nil, a.again(ctx, err)
		}
	}
	a.report.finish(a.index.len())
	return a.report, nil
}

// again is errMoved in place of an error that comes of files that have changed meanwhile.
func (a *auditor) again(ctx context.Context, err error) error {
	if fault.KindOf(err) != fault.Unavailable || a.last || ctx.Err() != nil {
		return err
	}
	if moved, listing := a.moved(ctx); listing == nil && moved {
		return errMoved
	}
	return err
}

// expect finds the expected rows.
func (a *auditor) expect(ctx context.Context) error {
	a.Progress(Progress{Step: "reading keys"})
	a.files = a.Files
	if a.Files == nil {
		var err error
		if a.files, err = a.Offline.Table(a.View).Files(ctx); err != nil {
			return err
		}
	}
	scan := a.Offline.Table(a.View).Scan()
	scan.KeepBadRows()
	if err := scan.Only(a.files); err != nil {
		return err
	}
	winners, err := pit.Latest(ctx, a.View, scan, pit.OnlineRows(a.View, a.AsOf))
	if err != nil {
		return err
	}
	if err := syncstate.New(a.Online).LeaveOutForgotten(ctx, a.View.Entity, winners.Forget); err != nil {
		return err
	}
	a.report.addRead(len(a.files), winners.Stats())
	if !a.sample.isAll() {
		winners.Keep(func(key []byte, _ feature.EventTime) bool { return a.sample.has(key) })
	}
	a.winners = winners
	return winners.Batches(ctx, 0, nil, func(batch pit.WinnerBatch) error {
		for row := range batch.Len() {
			a.index.add(batch.Keys, row, feature.EventTime(batch.EventTimes.Int64s[row]))
		}
		return nil
	})
}

// moved reports whether the files, or what they say, are other ones by now.
func (a *auditor) moved(ctx context.Context) (bool, error) {
	if a.Files == nil {
		files, err := a.Offline.Table(a.View).Files(ctx)
		if err != nil {
			return false, err
		}
		if !slices.Equal(files, a.files) {
			return true, nil
		}
	}
	if a.asOfNow && a.winners != nil {
		now := a.Now().UnixMicro()
		for _, due := range a.winners.Due() {
			if int64(due) <= now {
				return true, nil
			}
		}
	}
	return false, nil
}

// mostGrace bounds how far the clocks of this process and of the store may be apart without a row that is about to expire being missed.
const mostGrace = time.Minute

// isLapsed reports whether the store may have dropped a row of that event time, or not have taken it, by now or very soon.
func (a *auditor) isLapsed(event feature.EventTime) bool {
	if a.keepFor == 0 {
		return false
	}
	grace := min(mostGrace, a.keepFor.Duration()/10)
	return a.keepFor.Expired(event, feature.AsOf(a.Now().Add(grace).UnixMicro()))
}
