package syncer_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

// servers is a driver of many servers, one of which may have lost its data: its mark, and so its rows.
type servers struct {
	driver.Driver
	// writes counts down to the write in which one server loses its data; 0 is never.
	writes int
	lost   bool
}

func (s *servers) Write(ctx context.Context, rows []driver.Row) ([]driver.Outcome, error) {
	if s.writes > 0 {
		s.writes--
		s.lost = s.lost || s.writes == 0
	}
	return s.Driver.Write(ctx, rows)
}

func (s *servers) PutMark(ctx context.Context, name string, value []byte) error {
	s.lost = false
	return s.Driver.PutMark(ctx, name, value)
}

func (s *servers) Marks(ctx context.Context, name string) ([][]byte, error) {
	marks, err := s.Driver.Marks(ctx, name)
	if s.lost {
		marks = append(marks, nil)
	}
	return marks, err
}

// TestServerLosesItsData: where one of the store's servers has lost its rows while the markers of the sync, on another one, are well, a run that carried some of them before fails, and
// the next one carries all.
func TestServerLosesItsData(t *testing.T) {
	for name, definitions := range map[string]string{"incremental": convergentDefinitions, "snapshot": snapshotDefinitions("")} {
		t.Run(name, func(t *testing.T) {
			d := inMemory(t)
			many := &servers{Driver: d}
			c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), many, definitions)
			defer c.close()
			c.put("a.parquet", 1, 0, 1, 2, 3, 4, 5)
			many.writes = 2
			report := c.sync()
			require.ErrorContains(t, report.Err, "has lost its data while rows were carried")
			require.Equal(t, fault.Unavailable, fault.KindOf(report.Err))
			_, values := c.served()
			require.Nil(t, values, "not synced")
			require.NoError(t, c.sync().Err)
			_, values = c.served()
			require.Len(t, values, 6)

			many.lost = true
			report = c.sync()
			require.NoError(t, report.Err)
			require.EqualValues(t, 1, report.FilesRead, "carried again, though no file has changed: %v", report)
			require.Zero(t, c.sync().FilesRead)
		})
	}
}
