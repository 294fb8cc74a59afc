package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Validate reports every value of c that no process could run with.
func (c Config) Validate() error {
	l := &Loaded{Config: c}
	if errs := l.check(); len(errs) > 0 {
		return &fault.Error{Kind: fault.Invalid, Err: errors.Join(errs...)}
	}
	return nil
}

// check returns one FieldError a violation.
func (l *Loaded) check() []error {
	c := l.Config
	var errs []error
	violation := func(key string, err error) {
		if err != nil {
			errs = append(errs, l.invalid(key, err))
		}
	}
	violation("definitions", checkDefinitions(c.Definitions))
	violation("definitions_reload_interval", checkReload(c.DefinitionsReloadInterval))
	violation("offline_store_path", checkOffline(c.OfflineStorePath))
	violation("s3.endpoint", checkEndpoint(c.S3.Endpoint))
	violation("s3.access_key_id", checkPair(c.S3.AccessKeyID == "", c.S3.SecretAccessKey.IsZero(), "s3.secret_access_key"))
	if c.S3.AccessKeyID == "" && !c.S3.SessionToken.IsZero() {
		violation("s3.session_token", errors.New("it goes with s3.access_key_id, which is not set; set both or none"))
	}
	violation("online_store.redis", checkRedis(c.OnlineStore.Redis))
	violation("online_store.redis_key_prefix", checkPrefix(c.OnlineStore.RedisKeyPrefix))
	c.OnlineStore.Breaker.check(violation)
	if c.Embedded() && c.OnlineStore.Path == "" {
		violation("online_store.path", errors.New("it is empty and online_store.redis too; set one of them"))
	}
	violation("feature_sync_interval", checkPositive(c.FeatureSyncInterval))
	violation("removed_views_grace", checkNotNegative(c.RemovedViewsGrace))
	violation("drain_timeout", checkNotNegative(c.DrainTimeout))
	violation("grpc_address", checkListen(c.GRPCAddress))
	violation("http_address", checkListen(c.HTTPAddress))
	if c.GRPCAddress == c.HTTPAddress && !strings.HasSuffix(c.GRPCAddress, ":0") {
		violation("http_address", fmt.Errorf("%q is grpc_address too; choose another port", c.HTTPAddress))
	}
	violation("sync_grpc_address", checkSyncGRPC(c.SyncGRPCAddress, c.HTTPAddress))
	c.Events.check(violation)
	violation("server", checkDial(c.Server))
	c.Limits.check(violation)
	violation("hot_cache.max_bytes", checkHotCacheSize(c.HotCache.MaxBytes))
	violation("hot_cache.max_staleness", checkPositive(c.HotCache.MaxStaleness))
	violation("sync_in_process", checkToggle(c.SyncInProcess))
	violation("sync.max_rows_per_second", checkRate(c.Sync.MaxRowsPerSecond))
	violation("s3.path_style", checkToggle(c.S3.PathStyle))
	return errs
}

// mostRows a second are more than any store takes.
const mostRows = 1_000_000_000

func checkRate(rows int) error {
	if rows < 0 || rows > mostRows {
		return fmt.Errorf("%d is not between 0, which is no limit, and %d rows a second", rows, mostRows)
	}
	return nil
}

// check reports the limits that no server could run with.
func (l Limits) check(violation func(key string, err error)) {
	for _, limit := range []struct {
		key  string
		n    int
		most int64
	}{
		{"max_rows_per_request", l.MaxRowsPerRequest, 10_000_000},
		{"max_features_per_request", l.MaxFeaturesPerRequest, 1_000_000},
		{"max_values_per_request", l.MaxValuesPerRequest, 1_000_000_000},
		{"max_list_elements", l.MaxListElements, 100_000_000},
		{"max_entity_rows_per_stream", l.MaxEntityRowsPerStream, 2_000_000_000},
		{"max_concurrent_online", l.MaxConcurrentOnline, 1_000_000},
		{"max_online_streams", l.MaxOnlineStreams, 1_000_000},
		{"max_in_flight_per_stream", l.MaxInFlightPerStream, 10_000},
		{"max_concurrent_pushes", l.MaxConcurrentPushes, 1_000_000},
		{"max_concurrent_historical", l.MaxConcurrentHistorical, 10_000},
	} {
		violation("limits."+limit.key, checkRange(int64(limit.n), 1, limit.most))
	}
	violation("limits.max_key_bytes", checkSize(l.MaxKeyBytes, 1, 16<<20))
	violation("limits.max_message_bytes", checkSize(l.MaxMessageBytes, 64<<10, 2<<30-1))
}

// check reports the settings that no breaker could run with.
func (b Breaker) check(violation func(key string, err error)) {
	violation("online_store.breaker.enabled", checkToggle(b.Enabled))
	violation("online_store.breaker.failures", checkRange(int64(b.Failures), 1, 1_000_000))
	violation("online_store.breaker.failure_percent", checkRange(int64(b.FailurePercent), 1, 100))
	violation("online_store.breaker.probe_interval", checkPositive(b.ProbeInterval))
	violation("online_store.breaker.patience", checkPositive(b.Patience))
}

func checkToggle(t Toggle) error {
	if t == "" {
		return nil
	}
	return oneOf(string(t), string(Auto), string(On), string(Off))
}

func checkOffline(path string) error {
	scheme, rest, ok := strings.Cut(path, "://")
	switch {
	case path == "":
		return errors.New("it is empty; write a folder, or a file:// or s3:// URL")
	case ok && !slices.Contains([]string{"file", "s3"}, scheme):
		return fmt.Errorf("%q is neither a folder nor a file:// or s3:// URL", path)
	case scheme == "s3" && ok && (rest == "" || rest[0] == '/'):
		return fmt.Errorf("%q names no bucket; write s3://bucket or s3://bucket/prefix", path)
	}
	return nil
}

// checkDefinitions checks the form of a URL; whether a file is there shows when it is read.
func checkDefinitions(path string) error {
	scheme, rest, ok := strings.Cut(path, "://")
	switch {
	case ok && scheme != "s3":
		return fmt.Errorf("%q is neither a file or folder nor an s3:// URL", path)
	case ok && (rest == "" || rest[0] == '/'):
		return fmt.Errorf("%q names no bucket; write s3://bucket/file.yaml or s3://bucket/prefix", path)
	}
	return nil
}

func checkReload(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%v is less than 0; write 0 to reload on SIGHUP only", FormatDuration(d))
	}
	return nil
}

func checkEndpoint(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if strings.Contains(text, "@") || (err == nil && u.User != nil) {
		return errors.New("it has a user or password before an @; set s3.access_key_id and s3.secret_access_key instead, and change a secret that was written here")
	}
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q is not an endpoint; write http:// or https:// and a host, for example http://localhost:7080", text)
	}
	return nil
}

func checkPair(idEmpty, secretEmpty bool, other string) error {
	if idEmpty != secretEmpty {
		return fmt.Errorf("it goes with %s; set both, or none to use the AWS SDK's own chain", other)
	}
	return nil
}

// checkRedis checks the form only, and prints no part of the URL. The store itself checks its parameters.
func checkRedis(u SecretURL) error {
	if u.IsZero() {
		return nil
	}
	scheme, rest, ok := strings.Cut(u.Reveal(), "://")
	if !ok {
		return errors.New("it is not a URL; write for example redis://localhost:6379")
	}
	secure, kind, _ := strings.Cut(scheme, "+")
	if !slices.Contains([]string{"redis", "rediss"}, secure) || !slices.Contains([]string{"", "sentinel", "cluster"}, kind) {
		return errors.New("its scheme is neither redis:// nor rediss:// (TLS), nor one of these with +sentinel or +cluster; write for example redis://localhost:6379")
	}
	host := rest[strings.LastIndexByte(rest, '@')+1:]
	if host == "" || strings.ContainsRune("/?:", rune(host[0])) {
		return errors.New("it names no host; write for example redis://localhost:6379")
	}
	rest, _, _ = strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@') + 1
	login, hosts := authority[:at], authority[at:]
	if u, err := url.Parse("redis://" + login + "h"); err != nil || u.Host != "h" {
		return errors.New("its user or password cannot be read; write / ? # @ : and % in them percent-encoded, for example %23 for #")
	}
	return checkRedisHosts(kind, hosts, path)
}

// checkRedisHosts checks what stands behind user and password, printing none of it: it may be part of a password that was misread.
func checkRedisHosts(kind, hosts, path string) error {
	list := strings.Split(hosts, ",")
	if kind == "" && len(list) > 1 {
		return errors.New("it has several hosts, which is for redis+sentinel:// and redis+cluster://")
	}
	for _, host := range list {
		u, err := url.Parse("redis://" + host)
		if err != nil || u.Hostname() == "" || u.Host != host || (u.Port() != "" && checkPort(u.Port(), 1) != nil) {
			return errors.New("one of its hosts or ports is not valid; write host:port with a port from 1 to 65535, and / ? # @ : and % of a password percent-encoded")
		}
	}
	if kind == "sentinel" && path == "" {
		return errors.New("it names no master behind its hosts; write for example redis+sentinel://localhost:26379/mymaster")
	}
	if _, err := strconv.Atoi(path); kind == "" && path != "" && err != nil {
		return errors.New("what follows its host is not the number of a database; write for example redis://localhost:6379/0")
	}
	return nil
}

func checkPrefix(prefix string) error {
	switch {
	case prefix == "":
		return errors.New("it is empty; write a short name, for example twofold")
	case strings.ContainsAny(prefix, "{} \t\r\n"):
		return fmt.Errorf("%q has white space or a brace, which would change the cluster slot of a key; leave them out", prefix)
	}
	return nil
}

func checkPositive(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%v is not more than 0; write seconds, for example 300, or a number with a unit, for example 5m", FormatDuration(d))
	}
	return nil
}

func checkNotNegative(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%v is less than 0; write 0 to cut calls off at once", FormatDuration(d))
	}
	return nil
}

func checkListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not an address to listen on; write :port or host:port, for example :7070", address)
	}
	return checkPort(port, 0)
}

func checkDial(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not a server's address; write host:port, for example localhost:7070", address)
	}
	return checkPort(port, 1)
}

func checkPort(text string, least int) error {
	if port, err := strconv.Atoi(text); err != nil || port < least || port > 65535 {
		return fmt.Errorf("%q is not a port; write a number from %d to 65535", text, least)
	}
	return nil
}

func checkRange(n, least, most int64) error {
	if n < least || n > most {
		return fmt.Errorf("%d is not from %d to %d", n, least, most)
	}
	return nil
}

func checkSize(b, least, most Bytes) error {
	if b < least || b > most {
		return fmt.Errorf("%v is not from %v to %v", b, least, most)
	}
	return nil
}

// leastHotCache is the least memory that is worth the look: less is mostly a number without its unit.
const leastHotCache Bytes = 1 << 20

func checkHotCacheSize(b Bytes) error {
	if b != 0 && b < leastHotCache {
		return fmt.Errorf("%v is less than %v; write a size with its unit, for example 256MiB, or 0 to keep no rows in memory", b, leastHotCache)
	}
	return nil
}
