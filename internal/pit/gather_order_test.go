package pit_test

import (
	"context"
	"testing"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/pit"
)

// backwardSource gathers its fragments in the opposite order: each waits until the next one has been gathered.
type backwardSource struct{ *memorySource }

func (s backwardSource) Fragments(ctx context.Context, within feature.TimeRange) ([]pit.Fragment, int64, error) {
	fragments, pruned, err := s.memorySource.Fragments(ctx, within)
	gathered := make(chan struct{})
	close(gathered)
	for i := len(fragments) - 1; i >= 0; i-- {
		f := backwardFragment{fragments[i], gathered, make(chan struct{})}
		fragments[i], gathered = f, f.done
	}
	return fragments, pruned, err
}

type backwardFragment struct {
	pit.Fragment
	next, done chan struct{}
}

func (f backwardFragment) Gather(ctx context.Context, rows []int64, columns []int, dst []*feature.Column) error {
	<-f.next
	defer close(f.done)
	return f.Fragment.Gather(ctx, rows, columns, dst)
}

// TestFragmentsGatheredOutOfOrder has the last fragment deliver its values first: they must wait for those before them.
func TestFragmentsGatheredOutOfOrder(t *testing.T) {
	view, source := smallSource()
	views := []pit.ViewJoin{{View: view, Features: []int{0}, Keys: []int{0}, Source: backwardSource{source}}}
	j, err := pit.Join(t.Context(), smallRows(t), views, pit.Options{Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	got := feature.NewColumn(feature.Int64, 0)
	j.Batch(0, 0, j.Rows(), []*feature.Column{got})
	// The row of event time 2 is in fragment 2 for entity 0, in 1 for 1, in 0 for 2, and in 2 again for 3.
	want := column(feature.Int64, 20, 11, 2, 23)
	want.AppendMissing(feature.NotFound)
	if !got.Equal(want) {
		t.Errorf("got %v, want %v", values(got), values(want))
	}
}
