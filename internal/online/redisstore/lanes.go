package redisstore

import (
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
)

const (
	// smallCommands is the most commands of a call that shares its round trips with its like only, so that it need not wait for the answers
	// of a large one.
	smallCommands = 16
	// callReads is the most reads of one call; more are divided into several.
	callReads = 1024
	// smallLanes and largeLanes are how many round trips may be under way at once. Fewer carry more calls each, which takes less work of both
	// sides and matters most for small ones; more keep Redis busy while answers are read. Together they are the client's connections for pipelines.
	smallLanes, largeLanes = 2, 8
	// laneCommands is the most commands that calls put together into one round trip; one call may bring more.
	laneCommands = 128
	// laneQueue is the most calls of a size that wait for a round trip.
	laneQueue = 8192
	// leastExchange is how long a round trip may take at least, whoever waits for it: a connection is given up after it, and a caller in
	// a hurry should not cost others theirs.
	leastExchange = 500 * time.Millisecond
)

// errAskAgain says that the answer was out of the ordinary, and that nothing is known of it.
var errAskAgain = errors.New("ask again in a pipeline of its own")

// lanes carry the reads of many callers to one server. Each lane makes one round trip at a time, with all reads that have come up by
// then: so a caller who is alone waits for nobody, and under load a round trip is shared by many, which saves both sides most of their
// system calls.
type lanes struct {
	store   *Store
	small   chan *readCall
	large   chan *readCall
	stopped chan struct{}
	running sync.WaitGroup
	calls   sync.Pool    // *readCall
	perRow  atomic.Int64 // bytes of an answer's value, as a guess for the next
}

func newLanes(s *Store) *lanes {
	l := &lanes{store: s, small: make(chan *readCall, laneQueue), large: make(chan *readCall, laneQueue), stopped: make(chan struct{})}
	l.perRow.Store(128)
	for range smallLanes {
		l.running.Go(func() { l.run(l.small) })
	}
	for range largeLanes {
		l.running.Go(func() { l.run(l.large) })
	}
	return l
}

// close ends the lanes after the round trips that are under way.
func (l *lanes) close() {
	close(l.stopped)
	l.running.Wait()
}

// readCall is the reads of one caller as commands.
type readCall struct {
	commands []redis.Cmder
	arity    int // arguments of each of commands
	keys     []string
	arena    []byte // of keys
	answers  replies
	values   int       // of the answer
	until    time.Time // the caller's deadline; zero for none
	err      error
	done     chan struct{}
	left     atomic.Bool // nobody waits for it any more
}

// read returns the rows of the reads, or errAskAgain. Many reads are several calls, so that the lanes share them and smaller calls come in between.
func (l *lanes) read(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	if err := l.store.doneErr(ctx); err != nil {
		return nil, err
	}
	if len(reads) <= callReads {
		return l.readOne(ctx, reads)
	}
	calls, total := make([]*readCall, 0, len(reads)/callReads+1), 0
	defer func() {
		for _, c := range calls { // those that were not waited for, after an error
			c.left.Store(true)
		}
	}()
	for some := range slices.Chunk(reads, callReads) {
		c, err := l.send(ctx, some)
		if err != nil {
			return nil, err
		}
		calls = append(calls, c)
		total += c.values
	}
	rows := make([][]byte, 0, total)
	for some := range slices.Chunk(reads, callReads) {
		var err error
		if rows, err = l.receive(ctx, rows, calls[0], some); err != nil {
			return nil, err
		}
		calls = calls[1:]
	}
	return rows, nil
}

// readOne reads in one call.
func (l *lanes) readOne(ctx context.Context, reads []driver.Read) ([][]byte, error) {
	c, err := l.send(ctx, reads)
	if err != nil {
		return nil, err
	}
	return l.receive(ctx, make([][]byte, 0, c.values), c, reads)
}

// send gives the reads to the next free lane.
func (l *lanes) send(ctx context.Context, reads []driver.Read) (*readCall, error) {
	c := l.newCall(reads)
	c.until, _ = ctx.Deadline()
	queue := l.small
	if len(reads) > smallCommands {
		queue = l.large
	}
	select {
	case queue <- c:
		return c, nil
	default:
		return nil, fault.New(fault.Unavailable, "read from %s: %d reads are waiting for it already", l.store.target, laneQueue)
	}
}

// receive waits for the call's answer and appends its rows.
func (l *lanes) receive(ctx context.Context, rows [][]byte, c *readCall, reads []driver.Read) ([][]byte, error) {
	if err := l.wait(ctx, c); err != nil {
		return nil, err
	}
	answer := c.answers.bytes
	for i := range reads {
		var ok bool
		if rows, answer, ok = takeArray(rows, answer, len(reads[i].Views)); !ok {
			return nil, errAskAgain
		}
	}
	l.perRow.Store(int64(len(c.answers.bytes)/max(1, c.values)) + 1)
	c.answers.bytes = nil // the rows are the caller's
	l.calls.Put(c)
	return rows, nil
}

// wait returns when the call was answered, ctx is done, or the store's timeout is over. After an error the call is not used again.
func (l *lanes) wait(ctx context.Context, c *readCall) error {
	timeout := timers.Get().(*time.Timer)
	timeout.Reset(l.store.patience(ctx))
	defer func() {
		timeout.Stop()
		timers.Put(timeout)
	}()
	select {
	case <-c.done:
	case <-ctx.Done():
		c.left.Store(true)
		return l.store.fail(ctx, "read from", ctx.Err())
	case <-timeout.C:
		c.left.Store(true)
		return l.store.fail(ctx, "read from", context.DeadlineExceeded)
	}
	switch {
	case c.err == nil:
		return nil
	case isTimeout(c.err):
		return l.store.fail(ctx, "read from", context.DeadlineExceeded)
	default:
		return errAskAgain
	}
}

// timers are lent to waiting calls. A stopped timer never fires late.
var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || (ok && timeout.Timeout())
}

// newCall writes the reads as commands, in the memory of an earlier call where it can.
func (l *lanes) newCall(reads []driver.Read) *readCall {
	c, ok := l.calls.Get().(*readCall)
	if !ok {
		c = &readCall{done: make(chan struct{}, 1)}
	}
	prefix := l.store.o.Prefix
	size, values := 0, 0
	arity := 2 + len(reads[0].Views)
	for i := range reads {
		size += len(prefix) + len(reads[i].Entity.Name) + len(reads[i].Entity.Key) + 2
		values += len(reads[i].Views)
		if 2+len(reads[i].Views) != arity {
			arity = 0 // they differ
		}
	}
	if cap(c.arena) < size {
		c.arena = make([]byte, 0, size)
	}
	if cap(c.keys) < len(reads) {
		c.keys, c.commands = make([]string, len(reads)), nil // the commands refer to keys
	}
	if arity == 0 || arity != c.arity {
		c.commands = nil
	}
	c.arena, c.keys, c.arity, c.values, c.err = c.arena[:0], c.keys[:len(reads)], arity, values, nil
	c.answers.bytes = make([]byte, 0, values*int(l.perRow.Load())+8*len(reads))
	for i := range reads {
		start := len(c.arena)
		c.arena = append(append(append(append(append(c.arena, prefix...), ':'), reads[i].Entity.Name...), ':'), reads[i].Entity.Key...)
		c.keys[i] = unsafe.String(unsafe.SliceData(c.arena[start:]), len(c.arena)-start)
		c.setCommand(i, reads[i].Views)
	}
	c.commands = c.commands[:len(reads)]
	return c
}

// setCommand makes command i ask for the views at key i. Arguments are pointers to strings, which cost no allocation.
func (c *readCall) setCommand(i int, views []string) {
	if i < cap(c.commands) && c.commands[:i+1][i] != nil {
		c.commands = c.commands[:i+1]
		args := c.commands[i].Args()
		for v := range views {
			args[2+v] = &views[v]
		}
		c.commands[i].SetErr(nil)
		return
	}
	args := make([]any, 2+len(views))
	args[0], args[1] = "hmget", &c.keys[i]
	for v := range views {
		args[2+v] = &views[v]
	}
	c.commands = append(c.commands[:i], redis.NewRawWriteToCmd(context.Background(), &c.answers, args...))
}

// run is one lane.
func (l *lanes) run(queue <-chan *readCall) {
	var batch []*readCall
	for {
		var first *readCall
		select {
		case first = <-queue:
		case <-l.stopped:
			return
		}
		// Others that came at the same moment get their turn to join: where there are none this costs nothing.
		runtime.Gosched()
		batch = gather(batch[:0], first, queue)
		if len(batch) > 0 {
			l.exchange(batch)
		}
		clear(batch)
	}
}

// gather adds what else has come up, without waiting for more.
func gather(batch []*readCall, next *readCall, queue <-chan *readCall) []*readCall {
	commands := 0
	for {
		if !next.left.Load() {
			batch = append(batch, next)
			commands += len(next.commands)
		}
		if commands >= laneCommands {
			return batch
		}
		select {
		case next = <-queue:
		default:
			return batch
		}
	}
}

// patience is how long a round trip for the batch may take: no longer than somebody waits for it, so that a connection to a host that
// is gone does not keep the lane from others.
func (l *lanes) patience(batch []*readCall) time.Duration {
	var latest time.Time
	for _, c := range batch {
		if c.until.IsZero() {
			return l.store.o.Timeout
		}
		if c.until.After(latest) {
			latest = c.until
		}
	}
	// A little more, so that callers end by their own deadlines.
	return min(l.store.o.Timeout, max(leastExchange, time.Until(latest)+leastExchange/10))
}

// exchange makes one round trip for all calls of the batch.
func (l *lanes) exchange(batch []*readCall) {
	ctx, cancel := context.WithTimeout(context.Background(), l.patience(batch))
	defer cancel()
	pipe := l.store.client.Pipeline()
	for _, c := range batch {
		if err := pipe.BatchProcess(ctx, c.commands...); err != nil {
			c.err = err
		}
	}
	_, err := pipe.Exec(ctx)
	for _, c := range batch {
		if err != nil && c.err == nil {
			c.err = c.commandErr()
		}
		c.done <- struct{}{}
	}
}

// commandErr returns the first error of the call's commands.
func (c *readCall) commandErr() error {
	for _, command := range c.commands {
		if err := command.Err(); err != nil {
			return err
		}
	}
	return nil
}
