package breaker

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/twofold-ml/twofold/internal/online/driver"
)

// guarded is a driver behind a circuit. While the circuit is closed it changes nothing.
type guarded struct {
	driver driver.Driver
	gate   *Gate
	// pinged is the error of the last Ping that was made; nil where it went well.
	pinged atomic.Pointer[error]
}

var _ driver.Driver = (*guarded)(nil)

// Driver puts a circuit in front of a whole store, which the result owns from now on; name says in errors and in the log where it is.
func (b *Breaker) Driver(d driver.Driver, name string) driver.Driver {
	return &guarded{driver: d, gate: b.Gate(name)}
}

// Read implements driver.Driver.
func (g *guarded) Read(ctx context.Context, reads []driver.Read) (rows [][]byte, err error) {
	if len(reads) == 0 { // asks nobody
		return g.driver.Read(ctx, reads)
	}
	p, err := g.gate.enter()
	if err != nil {
		return nil, err
	}
	defer func() { p.leave(ctx, err) }()
	return g.driver.Read(ctx, reads)
}

// Write implements driver.Driver.
func (g *guarded) Write(ctx context.Context, rows []driver.Row) (outcomes []driver.Outcome, err error) {
	if len(rows) == 0 {
		return g.driver.Write(ctx, rows)
	}
	p, err := g.gate.enter()
	if err != nil {
		return nil, err
	}
	defer func() { p.leave(ctx, err) }()
	return g.driver.Write(ctx, rows)
}

// Remove implements driver.Driver.
func (g *guarded) Remove(ctx context.Context, rows []driver.Removal) (removed int, err error) {
	if len(rows) == 0 {
		return g.driver.Remove(ctx, rows)
	}
	p, err := g.gate.enter()
	if err != nil {
		return 0, err
	}
	defer func() { p.leave(ctx, err) }()
	return g.driver.Remove(ctx, rows)
}

// Scan implements driver.Driver. What happens up to the first rows is a call, and what happens between two of yield's is one: a scan takes too long
// for the circuit to wait for its end. Where the circuit has opened meanwhile the scan ends with its error.
func (g *guarded) Scan(ctx context.Context, scan driver.Scan, yield func([]driver.ScannedRow) error) (err error) {
	p, err := g.gate.enter()
	if err != nil {
		return err
	}
	inside := true
	defer func() {
		if inside {
			p.leave(ctx, err)
		}
	}()
	return g.driver.Scan(ctx, scan, func(rows []driver.ScannedRow) (err error) {
		p.leave(ctx, nil)
		inside = false
		if err = yield(rows); err != nil {
			return err
		}
		if p, err = g.gate.enter(); err != nil {
			return err
		}
		inside = true
		return nil
	})
}

// GetMeta implements driver.Driver.
func (g *guarded) GetMeta(ctx context.Context, names []string) (values [][]byte, err error) {
	if len(names) == 0 {
		return g.driver.GetMeta(ctx, names)
	}
	p, err := g.gate.enter()
	if err != nil {
		return nil, err
	}
	defer func() { p.leave(ctx, err) }()
	return g.driver.GetMeta(ctx, names)
}

// PutMeta implements driver.Driver.
func (g *guarded) PutMeta(ctx context.Context, name string, value []byte) error {
	return g.gate.Do(ctx, func(ctx context.Context) error { return g.driver.PutMeta(ctx, name, value) })
}

// SwapMeta implements driver.Driver.
func (g *guarded) SwapMeta(ctx context.Context, name string, old, value []byte) (swapped bool, err error) {
	p, err := g.gate.enter()
	if err != nil {
		return false, err
	}
	defer func() { p.leave(ctx, err) }()
	return g.driver.SwapMeta(ctx, name, old, value)
}

// PutMark implements driver.Driver.
func (g *guarded) PutMark(ctx context.Context, name string, value []byte) error {
	return g.gate.Do(ctx, func(ctx context.Context) error { return g.driver.PutMark(ctx, name, value) })
}

// Marks implements driver.Driver.
func (g *guarded) Marks(ctx context.Context, name string) (values [][]byte, err error) {
	p, err := g.gate.enter()
	if err != nil {
		return nil, err
	}
	defer func() { p.leave(ctx, err) }()
	return g.driver.Marks(ctx, name)
}

// Ping implements driver.Driver. While the circuit is open it fails with the error of the last Ping that was made, so that whoever pings often hears
// the same of the same fault; where that went well, with why the store is not asked.
func (g *guarded) Ping(ctx context.Context) error {
	err := g.gate.Do(ctx, g.driver.Ping)
	if _, open := errors.AsType[*OpenError](err); open {
		if last := g.pinged.Load(); last != nil {
			return *last
		}
		return err
	}
	if err != nil {
		g.pinged.Store(&err)
	} else {
		g.pinged.Store(nil)
	}
	return err
}

// Warnings implements driver.Driver.
func (g *guarded) Warnings(ctx context.Context) (warnings []string, err error) {
	p, err := g.gate.enter()
	if err != nil {
		return nil, err
	}
	defer func() { p.leave(ctx, err) }()
	return g.driver.Warnings(ctx)
}

// Close implements driver.Driver.
func (g *guarded) Close() error { return g.driver.Close() }
