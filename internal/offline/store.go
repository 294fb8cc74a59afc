package offline

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/twofold-ml/twofold/internal/fault"
)

// How many footers are read at once: of local files, which takes the processor's time, and of remote ones, which takes the time of the way there.
const (
	localFooterReaders  = 8
	remoteFooterReaders = 64
)

// Store is where offline data is kept. It may be used by several goroutines at once.
type Store struct {
	config  Config
	base    location
	footers *footerCache
	schemas schemaCache

	mu sync.Mutex
	s3 driver // made when it is first needed
}

// Open makes a store. It reads nothing, so a folder or bucket that is not there shows only when a table is read; errors are of kind
// Invalid or, where the S3 settings are incomplete, Precondition.
func Open(ctx context.Context, config Config) (*Store, error) {
	if config.Path == "" {
		config.Path = "."
	}
	base, err := parseLocation(config.Path)
	if err != nil {
		return nil, fault.New(fault.Invalid, "offline store path: %w", err)
	}
	if _, glob := fixedPrefix(config.Path); glob {
		return nil, fault.New(fault.Invalid, "offline store path %q: it is a folder or bucket, without *, ?, [ or {", config.Path)
	}
	if err := config.S3.Validate(); err != nil {
		return nil, err
	}
	s := &Store{config: config, base: base, footers: newFooterCache(footerCacheBytes)}
	if base.isS3() {
		if _, err := s.driver(ctx, base); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close lets go of what the store holds. Reads that are under way go on.
func (s *Store) Close() error {
	s.footers.clear()
	return nil
}

// Resolve gives the URL of a source path: file:///… or s3://…. Globs stay globs; nothing is read.
func (s *Store) Resolve(path string) (string, error) {
	at, err := s.base.resolve(path)
	if err != nil {
		return "", err
	}
	return at.String(), nil
}

// driver gives the driver for a location.
func (s *Store) driver(ctx context.Context, at location) (driver, error) {
	if !at.isS3() {
		return fileDriver{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s3 == nil {
		d, err := newS3Driver(ctx, s.config.S3)
		if err != nil {
			return nil, err
		}
		s.s3 = d
	}
	return s.s3, nil
}

// source is one Parquet file with its metadata.
type source struct {
	driver     driver
	object     object
	footer     *footer
	partitions []partition
}

// sources lists the files of a path, in the canonical order, and reads the footers of those that choose returns; nil chooses all.
func (s *Store) sources(ctx context.Context, path string, choose func([]object) ([]object, error)) ([]*source, error) {
	at, err := s.base.resolve(path)
	if err != nil {
		return nil, err
	}
	d, err := s.driver(ctx, at)
	if err != nil {
		return nil, err
	}
	objects, err := find(ctx, d, at)
	if err == nil && choose != nil {
		objects, err = choose(objects)
	}
	if err != nil {
		return nil, err
	}
	return s.openSources(ctx, d, at, objects)
}

// openSources reads the footers of objects, which are at the same place as at.
func (s *Store) openSources(ctx context.Context, d driver, at location, objects []object) ([]*source, error) {
	sources := make([]*source, len(objects))
	group, groupCtx := errgroup.WithContext(ctx)
	if at.isS3() {
		group.SetLimit(remoteFooterReaders)
	} else {
		group.SetLimit(localFooterReaders)
	}
	for i, o := range objects {
		group.Go(func() error {
			f, err := s.footer(groupCtx, d, o)
			sources[i] = &source{driver: d, object: o, footer: f, partitions: partitionsOf(o.at.path)}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return sources, nil
}

// footer gives the metadata of a file, from the cache where it has that version.
func (s *Store) footer(ctx context.Context, d driver, o object) (*footer, error) {
	if f, ok := s.footers.get(o); ok {
		return f, nil
	}
	r, err := d.open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.close()
	f, err := readFooter(ctx, r, o, &s.schemas)
	if err != nil {
		return nil, err
	}
	s.footers.put(o, f)
	return f, nil
}
