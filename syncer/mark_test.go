package syncer_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

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
			c.lease = 10 * time.Second // nobody dies
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

// TestRollbackAfterAServerLostItsData: generations of which a server has lost rows cannot be returned to, because whoever is not in them would pass for unknown. A run that fails
// its checks is no loss.
func TestRollbackAfterAServerLostItsData(t *testing.T) {
	many := &servers{Driver: inMemory(t)}
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), many, snapshotDefinitions("max_entity_drop: 0.5, keep_generations: 3"))
	defer c.close()
	c.lease = 10 * time.Second // nobody dies
	c.put("a.parquet", 1, 0, 1, 2, 3)
	require.NoError(t, c.sync().Err)
	c.put("a.parquet", 2, 0)
	require.ErrorContains(t, c.sync().Err, "max_entity_drop")
	c.put("a.parquet", 3, 0, 1, 2)
	second := c.sync()
	require.NoError(t, second.Err)
	_, err := c.syncer().Rollback(t.Context(), "v", 0)
	require.NoError(t, err)
	_, err = c.syncer().Rollback(t.Context(), "v", second.Generation)
	require.NoError(t, err)

	many.lost = true
	_, err = c.syncer().Rollback(t.Context(), "v", 0)
	require.ErrorContains(t, err, "has lost its data")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	third := c.sync()
	require.NoError(t, third.Err)
	require.NotZero(t, third.Generation, "made again")
	_, err = c.syncer().Rollback(t.Context(), "v", 0)
	require.ErrorContains(t, err, "no generation before")
	require.Equal(t, fault.Precondition, fault.KindOf(err))
	generation, values := c.served()
	require.Equal(t, third.Generation, generation)
	require.Equal(t, map[int64]int64{0: 3, 1: 3, 2: 3}, values)
	require.Zero(t, c.stored(second.Generation), "what is left of it is removed")

	c.put("a.parquet", 4, 0, 1, 2)
	require.NoError(t, c.sync().Err)
	returned, err := c.syncer().Rollback(t.Context(), "v", 0)
	require.NoError(t, err)
	require.Equal(t, third.Generation, returned.To.GetNumber(), "it was made after the loss")
}

// TestServerComesBackWithAnOlderState: one server of many comes back from a snapshot of its disk, or its replica that was behind takes over, while what is remembered of the syncs is on another
// server and is well. The rows that it had since are carried again.
func TestServerComesBackWithAnOlderState(t *testing.T) {
	d := inMemory(t)
	c := newConvergence(t, rand.New(rand.NewPCG(1, 1)), d, convergentDefinitions)
	defer c.close()
	c.lease = 10 * time.Second // nobody dies
	c.put("a.parquet", 1, 0, 1)
	require.NoError(t, c.sync().Err)
	names := []string{"carried/v", "written/v"}
	var marks [][]byte
	for _, name := range names {
		mark, err := d.Marks(t.Context(), name)
		require.NoError(t, err)
		marks = append(marks, mark[0])
	}
	rows := map[string]bool{}
	stored := func() (removals []driver.Removal) {
		require.NoError(t, d.Scan(t.Context(), driver.Scan{Entity: c.view.Entity.Name, View: "v"}, func(some []driver.ScannedRow) error {
			for _, r := range some {
				if !rows[string(r.Key)] {
					rows[string(r.Key)] = true
					removals = append(removals, driver.Removal{Entity: driver.Entity{Name: c.view.Entity.Name, Key: r.Key}, View: "v"})
				}
			}
			return nil
		}))
		return removals
	}
	stored()
	c.put("b.parquet", 2, 4, 5)
	require.NoError(t, c.sync().Err)
	since := stored()
	require.Len(t, since, 2)

	// The server is as it was after the first run.
	_, err := d.Remove(t.Context(), since)
	require.NoError(t, err)
	for i, name := range names {
		require.NoError(t, d.PutMark(t.Context(), name, marks[i]))
	}
	require.NoError(t, c.sync().Err)
	_, values := c.served()
	require.Equal(t, map[int64]int64{0: 1, 1: 1, 4: 2, 5: 2}, values)
	require.Zero(t, c.sync().FilesRead, "all is well again")
}
