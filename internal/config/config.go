// Package config is the configuration of every Twofold process: one struct, read from flags, the environment and a YAML file, in that
// order of precedence, over defaults.
//
// The comments of Config's fields are the one text about each setting: flag help and docs/reference/configuration.md are made from
// them.
package config

import (
	"time"
)

// Config is the configuration of every process. Each field can be set by a flag (--offline-store-path), an environment variable
// (TWOFOLD_OFFLINE_STORE_PATH) or a key of the configuration file (offline_store_path).
type Config struct {
	// File or folder of feature definitions, or the s3:// URL of an object or of a prefix. Defaults to the definitions that `twofold apply`
	// published in the online store.
	Definitions string `yaml:"definitions"`
	// Time between two looks whether the definitions have changed, for `serve` and `sync`; new ones take effect without a restart. A plain
	// number is seconds; 0 reloads on the signal SIGHUP only. Defaults to 5s.
	DefinitionsReloadInterval time.Duration `yaml:"definitions_reload_interval"`
	// Where the feature history is: a folder, or a file:// or s3:// URL. Source paths of definitions are relative to it. Defaults
	// to the working directory.
	OfflineStorePath string `yaml:"offline_store_path" env:"OFFLINE_STORE_PATH"`
	// S3 is how to reach an offline store in S3.
	S3 S3 `yaml:"s3"`
	// OnlineStore is where the freshest rows are kept.
	OnlineStore OnlineStore `yaml:"online_store"`
	// Time between the starts of two sync runs of a view that has neither an interval nor a ttl of its own; a plain number is
	// seconds. Defaults to 300s.
	FeatureSyncInterval time.Duration `yaml:"feature_sync_interval" env:"FEATURE_SYNC_INTERVAL"`
	// How long after a feature view has gone from the definitions its rows are removed from the online store, by whoever syncs; a view that is defined again within that time
	// keeps them. Longer than servers take to learn of new definitions. A plain number is seconds; 0 leaves such rows where they are. Defaults to 10m.
	RemovedViewsGrace time.Duration `yaml:"removed_views_grace"`
	// Whether `serve` also syncs: true, false, or auto, which syncs when the embedded online store is used, because no other
	// process can open it. Defaults to auto.
	SyncInProcess Toggle `yaml:"sync_in_process"`
	// Sync says how syncs are carried out.
	Sync Sync `yaml:"sync"`
	// Address on which gRPC is served, host:port or :port; port 0 takes a free one. Defaults to :7070.
	GRPCAddress string `yaml:"grpc_address"`
	// Address on which /healthz, /readyz and /metrics are served over HTTP, host:port or :port; port 0 takes a free one. Defaults
	// to :7071, and for `twofold sync` to :7072, so that both can run on one machine.
	HTTPAddress string `yaml:"http_address"`
	// How long calls in flight may take to finish after a stop signal, before they are cut off; a plain number is seconds.
	// Defaults to 20s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// Log is what a process tells on standard error.
	Log Log `yaml:"log"`
	// Limits protect a server from requests that are too large, and from too many at once.
	Limits Limits `yaml:"limits"`
	// Memory that all training sets (GetHistoricalFeatures) which a server makes at once may take: a share of the machine's memory, or of the container's
	// limit, in percent; or a size with a unit: KiB, MiB, GiB; at least 64MiB. Entity rows and results that do not fit are worked in parts. Defaults
	// to 50%.
	Memory Memory `yaml:"memory"`
	// Historical says which files training sets may be made from and written to.
	Historical Historical `yaml:"historical"`
	// HotCache keeps the rows of often-read entities in the memory of a server.
	HotCache HotCache `yaml:"hot_cache"`
	// Replay: the process believes that it started at this instant (RFC 3339), and its clock runs on at normal speed from there. For
	// demos, tests and replays of recorded data. Defaults to the real clock.
	ClockStart time.Time `yaml:"clock_start"`
	// Address on which `twofold sync` serves gRPC (SyncService, health, reflection), host:port or :port; port 0 takes a free one, and none serves no gRPC. It is
	// not used by `serve`, which serves SyncService on grpc_address. Defaults to :7073.
	SyncGRPCAddress string `yaml:"sync_grpc_address"`
	// Events start syncs when files come, between the runs of the schedule.
	Events Events `yaml:"events"`
	// Address of the server that client commands (get, train, explain, status, health) call, host:port. Defaults to localhost:7070.
	Server string `yaml:"server"`
}

// S3 is how to reach an offline store in S3.
type S3 struct {
	// URL of the S3 endpoint, for any server that speaks S3. Defaults to AWS's own for the region.
	Endpoint string `yaml:"endpoint" env:"AWS_ENDPOINT_URL_S3,AWS_ENDPOINT_URL"`
	// Region of the bucket. Defaults to what the AWS SDK finds (its profile, its instance); where an endpoint is
	// given, to us-east-1.
	Region string `yaml:"region" env:"AWS_REGION,AWS_DEFAULT_REGION"`
	// Whether the bucket stands in the URL's path and not in its host name: true, false, or auto, which is true where an endpoint
	// is given. Defaults to auto.
	PathStyle Toggle `yaml:"path_style"`
	// Access key; goes with secret_access_key. Defaults to the AWS SDK's own chain (AWS_ACCESS_KEY_ID, profile, web identity,
	// instance role).
	AccessKeyID string `yaml:"access_key_id"`
	// Secret of the access key. Better set in the environment than as a flag, which other users of the machine can see. Defaults
	// to the AWS SDK's own chain.
	SecretAccessKey Secret `yaml:"secret_access_key"`
	// Session token of temporary keys; goes with access_key_id. Defaults to none.
	SessionToken Secret `yaml:"session_token"`
}

// OnlineStore is where the freshest rows are kept: Redis, or a store embedded in the process.
type OnlineStore struct {
	// URL of Redis: redis://[user:password@]host:6379[/db], redis+sentinel://host:26379,…/master or redis+cluster://host:6379,…, each with
	// rediss for TLS. Defaults to none, so that the embedded store is used.
	Redis SecretURL `yaml:"redis" env:"ONLINE_STORE_REDIS"`
	// What every key in Redis starts with, so that several deployments can share one Redis. Defaults to tf.
	RedisKeyPrefix string `yaml:"redis_key_prefix"`
	// Folder of the embedded store, made where it is missing; used only without redis. One process at a time may open it. Defaults
	// to ./twofold-data.
	Path string `yaml:"path"`
	// Breaker keeps requests from waiting for a Redis that does not answer.
	Breaker Breaker `yaml:"breaker"`
}

// Breaker makes requests fail at once, with UNAVAILABLE, while Redis does not answer, and finds out by one call at a time when it does again. In a
// Redis Cluster each node has a breaker of its own.
type Breaker struct {
	// Whether there is a breaker: true, false, or auto, which is true with Redis and false for the embedded store. Defaults to auto.
	Enabled Toggle `yaml:"enabled"`
	// Calls of Redis in a row that fail (refused, no answer in time) before further ones fail at once. Defaults to 10.
	Failures int `yaml:"failures"`
	// Share of failures among the calls of Redis in the last 10s, at least 20 calls, from which further ones fail at once, in percent; 100 is all. Defaults to 50.
	FailurePercent int `yaml:"failure_percent"`
	// Time for which all calls fail at once before one is let through, to find out whether Redis answers again; a plain number is seconds. Defaults to 1s.
	ProbeInterval time.Duration `yaml:"probe_interval"`
	// Least time that a request must have given Redis for its own deadline to count as a failure of Redis: so a client in too great a hurry does not
	// close Redis to the others. A plain number is seconds. Defaults to 50ms.
	Patience time.Duration `yaml:"patience"`
}

// Sync says how syncs are carried out.
type Sync struct {
	// Most rows a second that the syncs of this process write to the online store, all views together; 0 is no limit. With or without one, batches are
	// only so large that readers of the online store hardly wait for them. Defaults to 0.
	MaxRowsPerSecond int `yaml:"max_rows_per_second"`
}

// Log is what a process tells on standard error.
type Log struct {
	// Least level that is told: debug, info, warn or error. Defaults to info.
	Level LogLevel `yaml:"level"`
	// Form of a line: text or json. Defaults to text.
	Format LogFormat `yaml:"format"`
}

// Limits protect a server from requests that are too large, and from too many at once. What is past one is refused with
// RESOURCE_EXHAUSTED before any work is done.
type Limits struct {
	// Most rows in one online or push request. Defaults to 10000.
	MaxRowsPerRequest int `yaml:"max_rows_per_request"`
	// Most features that one online or historical request may name, and most columns that it may send. Defaults to 5000.
	MaxFeaturesPerRequest int `yaml:"max_features_per_request"`
	// Most values, rows × features, in one online or push request. Defaults to 10000000.
	MaxValuesPerRequest int `yaml:"max_values_per_request"`
	// Longest entity key in an online or push request, in bytes, or with a unit: KiB, MiB, GiB. Defaults to 8KiB.
	MaxKeyBytes Bytes `yaml:"max_key_bytes"`
	// Most elements of one list in an online or push request. Defaults to 65536.
	MaxListElements int `yaml:"max_list_elements"`
	// Largest gRPC message that is received or sent, in bytes, or with a unit: KiB, MiB, GiB. Defaults to 64MiB.
	MaxMessageBytes Bytes `yaml:"max_message_bytes"`
	// Most entity rows in one historical stream. Defaults to 50000000.
	MaxEntityRowsPerStream int `yaml:"max_entity_rows_per_stream"`
	// Most online requests that a server answers at once, those inside streams included; one more is refused and told to try again. Defaults
	// to 1024.
	MaxConcurrentOnline int `yaml:"max_concurrent_online"`
	// Most streams of online requests that are open at once. Defaults to 1024.
	MaxOnlineStreams int `yaml:"max_online_streams"`
	// Most requests of one online stream that are answered at once; further ones wait in the client, by gRPC's flow control. Defaults
	// to 32.
	MaxInFlightPerStream int `yaml:"max_in_flight_per_stream"`
	// Most push requests that a server answers at once. Defaults to 256.
	MaxConcurrentPushes int `yaml:"max_concurrent_pushes"`
	// Most historical streams that a server answers at once. Defaults to 8.
	MaxConcurrentHistorical int `yaml:"max_concurrent_historical"`
}

// Historical says which files GetHistoricalFeatures may read and write on behalf of a caller.
type Historical struct {
	// Folders, or s3:// prefixes, below which a call may name a file of entity rows for the server to read; several with commas between. Relative ones are
	// relative to offline_store_path. Defaults to none: entity rows are streamed.
	EntityPaths List `yaml:"entity_paths"`
	// Folders, or s3:// prefixes, below which a call may have the server write a training set; several with commas between. Relative ones are
	// relative to offline_store_path. Defaults to none: training sets are streamed.
	OutputPaths List `yaml:"output_paths"`
	// Folder for the entity rows of a call that are more than memory has room for. Defaults to the system's (TMPDIR).
	TempDir string `yaml:"temp_dir"`
}

// HotCache keeps the rows of often-read entities in the memory of a server, in front of the online store.
type HotCache struct {
	// Most memory that `serve` uses to keep the rows of often-read entities, keys and bookkeeping included, in bytes, or with a unit: KiB,
	// MiB, GiB; at least 1MiB, or 0 for none: each request then asks the online store. Defaults to 0.
	MaxBytes Bytes `yaml:"max_bytes"`
	// Longest that a row is served from memory after the online store was asked for it; a plain number is seconds; more than 0. What other processes
	// write may be seen this much later; what this one writes (PushFeatures) it sees at once, and a finished full sync within 2s. A ttl is
	// kept to the moment whatever is set here. Defaults to 1s.
	MaxStaleness time.Duration `yaml:"max_staleness"`
}

// Events start the sync of a view when a file of its source comes, changes or goes. The schedule of the view stays, and finds what no event told of.
type Events struct {
	// Time for which no event of a view must come before it is synced, so that a burst leads to one run; a plain number is seconds. Defaults to 5s.
	Debounce time.Duration `yaml:"debounce"`
	// Longest time that a view's first event waits, however many more come; a plain number is seconds. Defaults to 1m.
	MaxWait time.Duration `yaml:"max_wait"`
	// Webhook takes events over HTTP.
	Webhook Webhook `yaml:"webhook"`
	// Kafka is a topic of events.
	Kafka Kafka `yaml:"kafka"`
	// Folders are those of local files.
	Folders Folders `yaml:"folders"`
}

// Webhook takes S3 event notifications on the HTTP address of the process that syncs.
type Webhook struct {
	// Whether event notifications of S3 are taken over HTTP, on http_address: true, false, or auto, which is true where a secret is set. With true and no secret anybody who
	// reaches the address may post. Defaults to auto.
	Enabled Toggle `yaml:"enabled"`
	// Path that notifications are posted to. Defaults to /events.
	Path string `yaml:"path"`
	// What each request must bring along, as "Authorization: Bearer SECRET" or as the password of "Authorization: Basic" (https://twofold:SECRET@host/events). Better set in the
	// environment than as a flag, which other users of the machine can see. Defaults to none.
	Secret Secret `yaml:"secret"`
	// Largest body of a request, in bytes, or with a unit: KiB, MiB, GiB. Defaults to 1MiB.
	MaxBodyBytes Bytes `yaml:"max_body_bytes"`
}

// Kafka is a topic whose records are S3 event notifications.
type Kafka struct {
	// Addresses, host:port, of some brokers of the Kafka cluster that event notifications of S3 are read from, with commas between. Defaults to none, so that no topic is read.
	Brokers List `yaml:"brokers"`
	// Topic that is read; it goes with brokers. Defaults to none.
	Topic string `yaml:"topic"`
	// Consumer group that offsets are committed for; processes of one group share the partitions. Defaults to twofold.
	Group string `yaml:"group"`
	// Whether connections to the brokers are encrypted: true, false, or auto, which is true where tls_ca_file or tls_cert_file is set. Defaults to auto.
	TLS Toggle `yaml:"tls"`
	// PEM file of the certificate authorities that the brokers' certificates are checked by. Defaults to those of the system.
	TLSCAFile string `yaml:"tls_ca_file"`
	// PEM file of the certificate that this process shows to the brokers; goes with tls_key_file. Defaults to none.
	TLSCertFile string `yaml:"tls_cert_file"`
	// PEM file of the private key of that certificate. Defaults to none.
	TLSKeyFile string `yaml:"tls_key_file"`
	// How to log in to the brokers: plain, scram-sha-256 or scram-sha-512; goes with user and password. Defaults to none.
	SASL string `yaml:"sasl"`
	// User to log in as. Defaults to none.
	User string `yaml:"user"`
	// Password to log in with. Better set in the environment than as a flag, which other users of the machine can see. Defaults to none.
	Password Secret `yaml:"password"`
}

// Folders are watched for local files that belong to views.
type Folders struct {
	// Whether the folders of local files that belong to views are watched: true or false. Defaults to false.
	Enabled bool `yaml:"enabled"`
	// Time for which a file's size and time of modification must not change before it counts as written; a plain number is seconds. Defaults to 5s.
	Settle time.Duration `yaml:"settle"`
	// Time between two looks at all files, where the system cannot tell of changes, or polling is wanted; a plain number is seconds. Defaults to 30s.
	PollInterval time.Duration `yaml:"poll_interval"`
	// Whether all files are looked at on that interval from the beginning: true or false. For network file systems, where the system tells only of what this machine itself
	// changes. Defaults to false.
	Poll bool `yaml:"poll"`
}

// NoAddress is the value of sync_grpc_address by which no gRPC is served.
const NoAddress = "none"

// SyncHTTPAddress is the default of http_address for `twofold sync`.
const SyncHTTPAddress = ":7072"

// Defaults returns the configuration of a process that is told nothing.
func Defaults() Config {
	return Config{
		DefinitionsReloadInterval: 5 * time.Second,

		OfflineStorePath: ".",
		S3:               S3{PathStyle: Auto},
		OnlineStore: OnlineStore{RedisKeyPrefix: "tf", Path: "./twofold-data", Breaker: Breaker{
			Enabled: Auto, Failures: 10, FailurePercent: 50, ProbeInterval: time.Second, Patience: 50 * time.Millisecond,
		}},
		FeatureSyncInterval: 300 * time.Second,
		RemovedViewsGrace:   10 * time.Minute,
		SyncInProcess:       Auto,
		GRPCAddress:         ":7070",
		HTTPAddress:         ":7071",
		SyncGRPCAddress:     ":7073",
		DrainTimeout:        20 * time.Second,
		Events: Events{
			Debounce: 5 * time.Second, MaxWait: time.Minute, Webhook: Webhook{Enabled: Auto, Path: "/events", MaxBodyBytes: 1 << 20},
			Kafka: Kafka{Group: "twofold", TLS: Auto}, Folders: Folders{Settle: 5 * time.Second, PollInterval: 30 * time.Second},
		},
		Memory:   "50%",
		Log:      Log{Level: "info", Format: "text"},
		HotCache: HotCache{MaxStaleness: time.Second},
		Limits: Limits{
			MaxRowsPerRequest: 10_000, MaxFeaturesPerRequest: 5_000, MaxValuesPerRequest: 10_000_000, MaxKeyBytes: 8 << 10, MaxListElements: 1 << 16,
			MaxMessageBytes: 64 << 20, MaxEntityRowsPerStream: 50_000_000, MaxConcurrentOnline: 1024, MaxOnlineStreams: 1024, MaxInFlightPerStream: 32,
			MaxConcurrentPushes: 256, MaxConcurrentHistorical: 8,
		},
		Server: "localhost:7070",
	}
}

// Embedded reports whether the online store is the one embedded in the process.
func (c Config) Embedded() bool { return c.OnlineStore.Redis.IsZero() }

// Syncs reports whether `serve` also syncs.
func (c Config) Syncs() bool { return c.SyncInProcess.Or(c.Embedded()) }

// UsesBreaker reports whether calls of the online store fail at once while it does not answer.
func (c Config) UsesBreaker() bool { return c.OnlineStore.Breaker.Enabled.Or(!c.Embedded()) }

// UsesPathStyle reports whether S3's bucket stands in the URL's path.
func (c Config) UsesPathStyle() bool { return c.S3.PathStyle.Or(c.S3.Endpoint != "") }

// UsesWebhook reports whether the process that syncs takes events over HTTP.
func (e Events) UsesWebhook() bool { return e.Webhook.Enabled.Or(!e.Webhook.Secret.IsZero()) }

// UsesKafka reports whether the process that syncs reads events from a topic.
func (e Events) UsesKafka() bool { return len(e.Kafka.Brokers.Items()) > 0 }

// UsesTLS reports whether connections to the brokers are encrypted.
func (k Kafka) UsesTLS() bool { return k.TLS.Or(k.TLSCAFile != "" || k.TLSCertFile != "") }
