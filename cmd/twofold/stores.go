package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/online"
	"github.com/twofold-ml/twofold/internal/online/breaker"
	"github.com/twofold-ml/twofold/internal/online/driver"
	"github.com/twofold-ml/twofold/internal/online/hotcache"
	"github.com/twofold-ml/twofold/internal/online/pebblestore"
	"github.com/twofold-ml/twofold/internal/online/redisstore"
)

// startTimeout is how long a process waits for a store when it starts.
const startTimeout = 10 * time.Second

// process is what every command that runs on the stores has: a configuration, a clock, a logger and the stores.
type process struct {
	config  config.Config
	now     func() time.Time
	log     *slog.Logger
	online  *online.Store
	offline *offline.Store
	// hotCache is what keeps rows in memory in front of the online store; nil where nothing does.
	hotCache *hotcache.Cache
	// breaker makes calls of the online store fail at once while it does not answer; nil where nothing does.
	breaker *breaker.Breaker
	// onlineName says where the online store is, without password.
	onlineName string
	// source is where the definitions come from, and sum that of the content that was read first.
	source *definitionSource
	sum    [sha256.Size]byte
}

// open opens the stores that the configuration names. The caller closes the process.
func (a *app) open(ctx context.Context, c config.Config) (*process, error) {
	p := &process{config: c, now: clock(c.ClockStart), log: a.logger(c.Log)}
	redis.SetLogger(redisLog{p.log})
	d, err := p.openDriver()
	if err != nil {
		return nil, err
	}
	options := online.Options{BulkRowsPerSecond: c.Sync.MaxRowsPerSecond}
	if !c.ClockStart.IsZero() {
		options.Now = p.now
	}
	p.online = online.NewStore(p.cached(d), options)
	if p.offline, err = offline.Open(ctx, offline.Config{Path: c.OfflineStorePath, S3: s3Config(c)}); err != nil {
		return nil, errors.Join(err, p.online.Close())
	}
	p.source = &definitionSource{path: c.Definitions, offline: p.offline, online: p.online, onlineName: p.onlineName}
	return p, nil
}

// openDefined opens the stores and reads the definitions. close must follow, unless there is an error.
func (a *app) openDefined(ctx context.Context, c config.Config) (*process, *definition.Set, error) {
	go definition.CompileRules() // while the stores are opened
	p, err := a.open(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	set, err := p.definitions(ctx)
	if err != nil {
		p.close()
		return nil, nil, err
	}
	return p, set, nil
}

func s3Config(c config.Config) offline.S3Config {
	return offline.S3Config{
		Endpoint: c.S3.Endpoint, Region: c.S3.Region, PathStyle: c.UsesPathStyle(), AccessKeyID: c.S3.AccessKeyID,
		SecretAccessKey: c.S3.SecretAccessKey.Reveal(), SessionToken: c.S3.SessionToken.Reveal(),
	}
}

// openDriver opens the online store, behind a circuit breaker where one is configured.
func (p *process) openDriver() (driver.Driver, error) {
	if !p.config.UsesBreaker() {
		return p.openStore(nil)
	}
	c := p.config.OnlineStore.Breaker
	p.breaker = breaker.New(breaker.Options{
		Failures: c.Failures, FailurePercent: c.FailurePercent, ProbeInterval: c.ProbeInterval, Patience: c.Patience, Logger: p.log,
	})
	return p.openStore(p.breaker)
}

// openStore opens the online store: a new backend has its case here. b is nil where calls are made whatever became of earlier ones.
func (p *process) openStore(b *breaker.Breaker) (driver.Driver, error) {
	c := p.config.OnlineStore
	if p.config.Embedded() {
		p.onlineName = "embedded store " + c.Path
		d, err := pebblestore.Open(pebblestore.Options{Path: c.Path})
		if err != nil || b == nil {
			return d, err
		}
		return b.Driver(d, p.onlineName), nil
	}
	p.onlineName = c.Redis.String()
	o := redisstore.Options{URL: c.Redis.Reveal(), Prefix: c.RedisKeyPrefix}
	if b != nil {
		o.GuardNode = func(node string) redisstore.Guard { return b.Gate(node).Do }
	}
	d, err := redisstore.Open(o)
	if fault.KindOf(err) == fault.Invalid {
		return nil, configError{fmt.Errorf("online_store.redis: %w", err)} // a parameter that only the client knows
	}
	if err != nil || b == nil || d.IsCluster() {
		return d, err
	}
	return b.Driver(d, d.String()), nil
}

// cached puts the hot-entity cache in front of a driver, where one is configured.
func (p *process) cached(d driver.Driver) driver.Driver {
	c := p.config.HotCache
	if c.MaxBytes == 0 {
		return d
	}
	p.hotCache = hotcache.New(d, hotcache.Options{MaxBytes: int64(c.MaxBytes), MaxStaleness: c.MaxStaleness})
	return p.hotCache
}

// close closes the stores. It tells what went wrong, because nobody else can do anything about it.
func (p *process) close() {
	if err := errors.Join(p.online.Close(), p.offline.Close()); err != nil {
		p.log.Error("closing the stores failed", "error", err)
	}
}

// defaults are what definitions leave to the process.
func (p *process) defaults() definition.Defaults {
	return definition.Defaults{SyncInterval: p.config.FeatureSyncInterval}
}

// definitions returns the definitions that the configuration names: files, else those that were published.
func (p *process) definitions(ctx context.Context) (*definition.Set, error) {
	found, err := p.source.content(ctx)
	if err != nil {
		return nil, err
	}
	p.sum = found.sum()
	return found.parse(p.defaults())
}

// published returns the definitions in the online store, nil where there are none.
func (p *process) published(ctx context.Context) (*definition.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	values, err := p.online.GetMeta(ctx, []string{publishedDefinitions})
	if err != nil || values[0] == nil {
		return nil, err
	}
	return definition.Unmarshal(values[0], p.defaults())
}

// greet logs what the process runs on, and what an operator should know about it.
func (p *process) greet(ctx context.Context, set *definition.Set) {
	if p.config.Embedded() {
		p.log.Info("using the embedded online store, because no Redis is configured (ONLINE_STORE_REDIS)", "path", p.config.OnlineStore.Path)
	} else {
		p.log.Info("using Redis", "url", p.onlineName, "key_prefix", p.config.OnlineStore.RedisKeyPrefix)
	}
	if p.hotCache != nil {
		p.log.Info("keeping rows in memory", "max_bytes", p.config.HotCache.MaxBytes, "max_staleness", p.config.HotCache.MaxStaleness)
	}
	if !p.config.ClockStart.IsZero() {
		p.log.Warn("replay: the clock of this process does not tell the real time", "clock_start", p.config.ClockStart)
	}
	p.log.Info("definitions read", "from", p.source.String(), "entities", len(set.Registry.Entities()), "feature_views", len(set.Registry.Views()),
		"feature_services", len(set.Registry.Services()), "hash", set.Hash())
	for _, problem := range set.Warnings {
		logProblem(p.log, slog.LevelWarn, problem)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	warnings, err := p.online.Warnings(ctx)
	if err != nil {
		p.log.Warn("the online store's settings could not be checked", "error", err)
	}
	for _, warning := range warnings {
		p.log.Warn("online store: " + warning)
	}
}

// clock returns the real clock, or one that started at an instant and runs on.
func clock(start time.Time) func() time.Time {
	if start.IsZero() {
		return time.Now
	}
	begun := time.Now()
	return func() time.Time { return start.Add(time.Since(begun)) }
}
