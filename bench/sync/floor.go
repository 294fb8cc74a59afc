package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// storedRow is one row as it is in Redis: a field of a hash that expires.
type storedRow struct {
	key, field, value string
	expireAt          int64 // milliseconds since the Unix epoch
}

// scanCount is how many keys are read at a time.
const scanCount = 5000

// stored reads every row of the synced view from Redis.
func (b *bench) stored(ctx context.Context) ([]storedRow, error) {
	rows := make([]storedRow, 0, b.history.entities)
	cursor := uint64(0)
	for {
		keys, next, err := b.client.Scan(ctx, cursor, loadedKeyPrefix+"*", scanCount).Result()
		if err != nil {
			return nil, fmt.Errorf("read what is stored: %w", err)
		}
		if rows, err = b.addStored(ctx, rows, keys); err != nil {
			return nil, fmt.Errorf("read what is stored: %w", err)
		}
		if cursor = next; cursor == 0 {
			return rows, nil
		}
	}
}

func (b *bench) addStored(ctx context.Context, rows []storedRow, keys []string) ([]storedRow, error) {
	pipe := b.client.Pipeline()
	values, expiries := make([]*redis.MapStringStringCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	for i, key := range keys {
		values[i], expiries[i] = pipe.HGetAll(ctx, key), pipe.PExpireTime(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	for i, key := range keys {
		for field, value := range values[i].Val() {
			rows = append(rows, storedRow{key, field, value, expiries[i].Val().Milliseconds()})
		}
	}
	return rows, nil
}

// floor writes rows as fast as one client does that has them in memory: HSET and PEXPIREAT, so many rows a pipeline.
func (b *bench) floor(ctx context.Context, rows []storedRow) (time.Duration, error) {
	begun := time.Now()
	for from := 0; from < len(rows); from += b.o.depth {
		pipe := b.client.Pipeline()
		for i := from; i < min(from+b.o.depth, len(rows)); i++ {
			r := &rows[i]
			pipe.Do(ctx, "hset", r.key, r.field, r.value)
			pipe.Do(ctx, "pexpireat", r.key, r.expireAt)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, fmt.Errorf("write the floor's rows: %w", err)
		}
	}
	return time.Since(begun), nil
}

// check compares stored rows with what the first rowCount rows of the history must have left, each entity once. It reads them with the generated message, not with
// the product's own codec.
func (h history) check(rows []storedRow, newest []int64) error {
	want, seen := 0, make([]bool, len(newest))
	for _, row := range newest {
		if row >= 0 {
			want++
		}
	}
	if len(rows) != want {
		return fmt.Errorf("WRONG RESULT: %d rows are stored where %d entities have one", len(rows), want)
	}
	for i := range rows {
		var entity int64
		if _, err := fmt.Sscanf(rows[i].key, loadedKeyPrefix+"%d", &entity); err != nil || entity < 0 || entity >= h.entities {
			return fmt.Errorf("WRONG RESULT: key %q is that of no entity", rows[i].key)
		}
		if seen[entity] {
			return fmt.Errorf("WRONG RESULT: entity %d has two rows", entity)
		}
		seen[entity] = true
		if err := h.checkRow(rows[i], newest[entity]); err != nil {
			return fmt.Errorf("WRONG RESULT: entity %d: %w", entity, err)
		}
	}
	return nil
}

// checkRow compares a stored row with the row of the history that it should be.
func (h history) checkRow(r storedRow, row int64) error {
	if row < 0 {
		return errors.New("a row is stored, and it has none")
	}
	stored := &twofoldv1.StoredRow{}
	if err := proto.Unmarshal([]byte(r.value), stored); err != nil {
		return fmt.Errorf("decode the stored row: %w", err)
	}
	if r.field != loadedView || stored.EventTimeMicros != h.eventMicros(row) || stored.CreatedTimeMicros != h.createdMicros(row) || len(stored.Slots) != loaded.Features {
		return fmt.Errorf("%s has event time %d, created time %d and %d slots; row %d has %d and %d, and there should be %d", r.field, stored.EventTimeMicros,
			stored.CreatedTimeMicros, len(stored.Slots), row, h.eventMicros(row), h.createdMicros(row), loaded.Features)
	}
	if r.expireAt <= h.eventMicros(row)/1000 {
		return fmt.Errorf("it expires at %d ms", r.expireAt)
	}
	for f, slot := range stored.Slots {
		value, null := h.value(row, f)
		if isNull := f/8 < len(stored.Nulls) && stored.Nulls[f/8]>>(f%8)&1 == 1; isNull != null || slot != math.Float64bits(value) {
			return fmt.Errorf("%s is %v (null: %v), and row %d has %v (null: %v)", loaded.Feature(f), math.Float64frombits(slot), isNull, row, value, null)
		}
	}
	return nil
}

// check has what a sync left compared with the history.
func (b *bench) check(ctx context.Context, newest []int64) ([]storedRow, error) {
	rows, err := b.stored(ctx)
	if err != nil {
		return nil, err
	}
	return rows, b.history.check(rows, newest)
}
