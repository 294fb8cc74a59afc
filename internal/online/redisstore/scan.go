package redisstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

const (
	// scanCount is about how many keys Redis looks at for one SCAN; it serves nobody else meanwhile.
	scanCount = 1000
	// scanRows and scanHistories are the most keys whose rows or histories are asked for at a time.
	scanRows, scanHistories = 1000, 50
	// scanPasses is how often a scan begins anew where something came in between, before it is given up.
	scanPasses = 5
)

// Scan implements driver.Driver with SCAN, and then a pipeline for the rows of the keys that it finds, on each master one after the other.
//
// A cursor of SCAN means something only to the process that gave it, so each server is scanned over one connection. Where that breaks, where
// the server is found to be none that takes writes any more, or where slots of a Cluster have moved meanwhile, all is scanned again.
func (s *Store) Scan(ctx context.Context, scan driver.Scan, yield func([]driver.ScannedRow) error) error {
	if ctx.Err() != nil {
		return s.fail(ctx, "read from", ctx.Err())
	}
	inner, leave := context.WithCancel(ctx)
	defer leave()
	sc := &scanning{store: s, scan: scan, batches: make(chan []driver.ScannedRow), expiry: "pexpiretime"}
	if sc.prefix = s.entityKey(driver.Entity{Name: scan.Entity}); scan.History {
		sc.prefix = s.historyKey(driver.Entity{Name: scan.Entity}, scan.View)
	}
	ended := make(chan error, 1)
	// As in do: go-redis watches deadlines, not cancellation, so what is under way is left to end on its own.
	go func() { ended <- sc.run(inner) }()
	for {
		select {
		case rows := <-sc.batches:
			if err := yield(rows); err != nil {
				return err
			}
		case err := <-ended:
			if err != nil {
				return s.fail(ctx, "read from", err)
			}
			return nil
		case <-ctx.Done():
			return s.fail(ctx, "read from", ctx.Err())
		}
	}
}

// scanning is one Scan.
type scanning struct {
	store   *Store
	scan    driver.Scan
	prefix  string // of the keys
	batches chan []driver.ScannedRow
	expiry  string // the command that tells when a key expires: PEXPIRETIME, or PTTL before Redis 7
	begun   bool   // the store has answered in this pass
}

// run makes passes until nothing came in between.
func (sc *scanning) run(ctx context.Context) error {
	var err error
	for range scanPasses {
		sc.begun = false
		if err = sc.pass(ctx); err == nil || ctx.Err() != nil || !sc.begun {
			return err
		}
		if kind, _ := classify(err); kind != fault.Unavailable {
			return err
		}
	}
	return err
}

// errSlotsMoved says that keys may have gone from one server to another behind the back of a pass.
var errSlotsMoved = fault.New(fault.Unavailable, "slots of the Cluster were moved to other servers while it was scanned; try again once that is over")

// pass scans every server that takes writes.
func (sc *scanning) pass(ctx context.Context) error {
	cluster, ok := sc.store.client.(*redis.ClusterClient)
	if !ok {
		return sc.server(ctx, sc.store.client.(*redis.Client))
	}
	before, err := sc.masters(ctx, cluster)
	if err != nil {
		return err
	}
	if before.moving {
		return errSlotsMoved
	}
	for _, node := range before.nodes {
		if err := sc.server(ctx, node); err != nil {
			return err
		}
	}
	after, err := sc.masters(ctx, cluster)
	if err == nil && (after.moving || !slices.Equal(before.told, after.told)) {
		err = errSlotsMoved
	}
	return err
}

// masters is a Cluster as its masters see it.
type masters struct {
	nodes  []*redis.Client
	told   []string // what each says of itself: its role, epoch and slots; sorted
	moving bool     // some slot is on its way from one to another
}

// masters asks each master of the Cluster what it is.
func (sc *scanning) masters(ctx context.Context, cluster *redis.ClusterClient) (masters, error) {
	return within(ctx, sc.store, func(ctx context.Context) (m masters, err error) {
		var mu sync.Mutex
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			text, err := node.ClusterNodes(ctx).Result()
			if err != nil {
				return err
			}
			self, err := aboutItself(text)
			mu.Lock()
			defer mu.Unlock()
			m.nodes, m.told = append(m.nodes, node), append(m.told, self)
			m.moving = m.moving || strings.Contains(self, "[")
			return err
		})
		slices.Sort(m.told)
		return m, err
	})
}

// aboutItself returns what a node says of itself in the answer to CLUSTER NODES: its name, flags, epoch and slots, those in brackets that are on
// their way.
func aboutItself(nodes string) (string, error) {
	for line := range strings.Lines(nodes) {
		// name address flags master ping-sent pong-received epoch link-state slots...
		fields := strings.Fields(line)
		if len(fields) >= 8 && strings.Contains(fields[2], "myself") {
			return strings.Join(append([]string{fields[0], fields[2], fields[6]}, fields[8:]...), " "), nil
		}
	}
	return "", fault.New(fault.Internal, "a node of the Cluster does not know itself: CLUSTER NODES answered %q", nodes)
}

// within calls f with a context that ends when the store has had its time to answer.
func within[T any](ctx context.Context, s *Store, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience(ctx))
	defer cancel()
	return f(ctx)
}

// server scans one server.
func (sc *scanning) server(ctx context.Context, client *redis.Client) error {
	conn := client.Conn()
	defer conn.Close()
	most := scanRows
	if sc.scan.History {
		most = scanHistories
	}
	for cursor := uint64(0); ; {
		var keys []string
		var err error
		keys, cursor, err = sc.keys(ctx, conn, cursor)
		if err != nil {
			return err
		}
		for some := range slices.Chunk(keys, most) {
			rows, err := within(ctx, sc.store, func(ctx context.Context) ([]driver.ScannedRow, error) { return sc.rows(ctx, conn, some) })
			if err != nil {
				return err
			}
			if err := sc.hand(ctx, rows); err != nil {
				return err
			}
		}
		if cursor == 0 {
			return sc.stillMaster(ctx, conn)
		}
	}
}

// hand gives rows to the caller.
func (sc *scanning) hand(ctx context.Context, rows []driver.ScannedRow) error {
	if len(rows) == 0 {
		return ctx.Err()
	}
	select {
	case sc.batches <- rows:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keys returns some keys that begin with the prefix, and the cursor to go on from, 0 at the end.
func (sc *scanning) keys(ctx context.Context, conn *redis.Conn, cursor uint64) (keys []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, sc.store.patience(ctx))
	defer cancel()
	keys, next, err = conn.Scan(ctx, cursor, globEscaper.Replace(sc.prefix)+"*", scanCount).Result()
	sc.begun = sc.begun || err == nil
	return slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, sc.prefix) }), next, err
}

// globEscaper makes a pattern of a text that matches only this.
var globEscaper = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`)

// stillMaster is an error where the server has become the replica of another one since the scan began, so that it may not have what was written. In a Cluster
// it is asked for its role anyway.
func (sc *scanning) stillMaster(ctx context.Context, conn *redis.Conn) error {
	if sc.store.cluster {
		return nil
	}
	_, err := within(ctx, sc.store, func(ctx context.Context) (int64, error) {
		return conn.Del(ctx, sc.store.o.Prefix+"::scan").Result() // a key that is never there
	})
	if answer, ok := errors.AsType[redis.Error](err); ok && answerCode(answer.Error()) != "READONLY" {
		return nil // it refuses to write for another reason
	}
	return err
}

// stored are the answers about one key.
type stored struct {
	values  redis.Cmder
	expires *redis.IntCmd
}

// rows returns the rows under some keys. Those that are not there any more, or of another type, are left out.
func (sc *scanning) rows(ctx context.Context, conn *redis.Conn, keys []string) ([]driver.ScannedRow, error) {
	answers, now, err := sc.ask(ctx, conn, keys)
	if redis.HasErrorPrefix(err, "unknown command") && sc.expiry == "pexpiretime" {
		sc.expiry = "pttl"
		answers, now, err = sc.ask(ctx, conn, keys)
	}
	if err != nil {
		return nil, err
	}
	rows := make([]driver.ScannedRow, 0, len(keys))
	for i, answer := range answers {
		expire := max(0, answer.expires.Val()) // −1: never
		if expire > 0 && sc.expiry == "pttl" {
			expire += now.UnixMilli()
		}
		if answer.expires.Val() == -2 { // it is gone since
			continue
		}
		rows = sc.appendRows(rows, keys[i], answer.values, expire)
	}
	return rows, nil
}

// ask asks for what is stored under each key, and when it expires.
func (sc *scanning) ask(ctx context.Context, conn *redis.Conn, keys []string) (answers []stored, now time.Time, err error) {
	pipe := conn.Pipeline()
	clock := pipe.Time(ctx)
	answers = make([]stored, len(keys))
	for i, key := range keys {
		if sc.scan.History {
			answers[i].values = pipe.ZRange(ctx, key, 0, -1)
		} else {
			answers[i].values = pipe.HGet(ctx, key, sc.scan.View)
		}
		answers[i].expires = redis.NewIntCmd(ctx, sc.expiry, key)
		_ = pipe.Process(ctx, answers[i].expires) // a pipeline's Process cannot fail: it puts the command in line
	}
	commands, err := pipe.Exec(ctx)
	if _, answered := errors.AsType[redis.Error](err); err != nil && !answered {
		return nil, now, err
	}
	for _, command := range commands {
		if err := command.Err(); err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return nil, now, err
		}
	}
	return answers, clock.Val(), nil
}

// appendRows appends what is stored under a key.
func (sc *scanning) appendRows(rows []driver.ScannedRow, key string, values redis.Cmder, expire int64) []driver.ScannedRow {
	if values.Err() != nil {
		return rows // none of the view, or of another type
	}
	row := driver.ScannedRow{Key: []byte(key[len(sc.prefix):]), ExpireAtMillis: expire}
	switch values := values.(type) {
	case *redis.StringCmd:
		row.Value = bytesOf(values.Val())
		return append(rows, row)
	case *redis.StringSliceCmd:
		for _, member := range values.Val() {
			if member == droppedMember {
				continue
			}
			if _, _, row.Value, _ = splitMember(bytesOf(member)); row.Value == nil {
				row.Value = []byte{} // damaged
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// bytesOf returns the bytes of a string that go-redis made for us alone.
func bytesOf(text string) []byte { return unsafe.Slice(unsafe.StringData(text), len(text)) }
