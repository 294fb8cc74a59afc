package online

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/storedrow"
)

const (
	// schemaLoadTimeout bounds the load of one schema, which all requests that need it wait for.
	schemaLoadTimeout = 10 * time.Second
	// registerAgainAfter is how long a registered schema is taken to be still there: a store that was emptied meanwhile has it back soon.
	registerAgainAfter = time.Minute
)

// schemas keeps the definitions under which rows were written, in the store beside the rows: StoredSchema messages under
// "schema/<view>/<fingerprint, 16 hexadecimal digits>".
type schemas struct {
	driver     driver.Driver
	known      sync.Map // name → *storedrow.Schema
	registered sync.Map // name → time.Time of the last registration by this process
	loads      singleflight.Group
}

func schemaName(view string, fingerprint uint64) string {
	return fmt.Sprintf("schema/%s/%016x", view, fingerprint)
}

// register stores the schema unless this process has just done so.
func (s *schemas) register(ctx context.Context, view string, schema *storedrow.Schema) error {
	name := schemaName(view, schema.Fingerprint())
	if at, ok := s.registered.Load(name); ok && time.Since(at.(time.Time)) < registerAgainAfter {
		return nil
	}
	if err := s.driver.PutMeta(ctx, name, schema.AppendProto(nil)); err != nil {
		return fmt.Errorf("register the schema of view %q: %w", view, err)
	}
	s.registered.Store(name, time.Now())
	return nil
}

// load returns the schema of a fingerprint, nil where the store does not have it. The store is asked once at a time for each, and no
// more once it had it; a caller whose ctx is done does not wait, and does not end the load for the others.
func (s *schemas) load(ctx context.Context, view string, fingerprint uint64) (*storedrow.Schema, error) {
	name := schemaName(view, fingerprint)
	if schema, ok := s.known.Load(name); ok {
		return schema.(*storedrow.Schema), nil
	}
	detached := context.WithoutCancel(ctx)
	loaded := s.loads.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(detached, schemaLoadTimeout)
		defer cancel()
		return s.fetch(ctx, name, fingerprint)
	})
	select {
	case r := <-loaded:
		if r.Err != nil {
			return nil, fmt.Errorf("load the schema %016x of view %q: %w", fingerprint, view, r.Err)
		}
		return r.Val.(*storedrow.Schema), nil
	case <-ctx.Done():
		return nil, live(ctx, "load a schema")
	}
}

func (s *schemas) fetch(ctx context.Context, name string, fingerprint uint64) (*storedrow.Schema, error) {
	values, err := s.driver.GetMeta(ctx, []string{name})
	if err != nil || values[0] == nil {
		return nil, err
	}
	schema, err := storedrow.DecodeSchema(values[0])
	if err != nil {
		return nil, err
	}
	if schema.Fingerprint() != fingerprint {
		return nil, fault.New(fault.Corrupt, "what is stored as %q is the schema %016x", name, schema.Fingerprint())
	}
	s.known.Store(name, schema)
	return schema, nil
}
