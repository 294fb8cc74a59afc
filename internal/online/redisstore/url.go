package redisstore

import (
	"crypto/tls"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Options configure a store.
type Options struct {
	// URL says where Redis is:
	//
	//	redis://[user:password@]host[:port][/db]                        one server
	//	redis+sentinel://[user:password@]host[:port],…/master[?db=n]    one server behind Sentinels
	//	redis+cluster://[user:password@]host[:port],…                   a Cluster, by some of its nodes
	//
	// and the same with rediss for TLS. The default port is 6379, of a Sentinel 26379. A password's special characters are
	// percent-encoded. sentinel_username and sentinel_password log in to the Sentinels. Every parameter of go-redis' URLs is
	// understood as well, for example ?pool_size=20&max_retries=1. Required. It may hold a password: String leaves it out.
	URL string
	// Prefix begins every key. Defaults to "tf".
	Prefix string
	// Timeout bounds each call, retries and waiting for a connection included (a read of more than 1,024 entities is several); a call's own
	// deadline may be earlier. Defaults to 3 s.
	Timeout time.Duration
	// RowsPerCall is the most rows that one call of the write script handles; Redis serves nobody else meanwhile. Defaults to 500.
	RowsPerCall int
	// TLS replaces the TLS configuration of a rediss URL, for example to trust a private authority. Defaults to nil.
	TLS *tls.Config
	// GuardNode makes what stands before every call of one node of a Cluster; node says which in words. Defaults to nil, which is nothing. Of one
	// server, and of one behind Sentinel, it is not called: there the whole store is one driver.Driver that can be stood before.
	GuardNode func(node string) Guard
}

func (o Options) withDefaults() Options {
	if o.Prefix == "" {
		o.Prefix = "tf"
	}
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Second
	}
	if o.RowsPerCall == 0 {
		o.RowsPerCall = 500
	}
	return o
}

// String returns the options without user and password.
func (o Options) String() string {
	p, err := splitURL(o.URL)
	if err != nil {
		return "Redis at an unreadable URL"
	}
	return p.String()
}

// GoString is String, so that %#v prints no password either.
func (o Options) GoString() string { return o.String() }

// location is a URL in parts.
type location struct {
	tls   bool
	kind  string // "", "sentinel" or "cluster"
	login string // "user:password@", still encoded, or empty
	hosts []string
	path  string // without the slash
	query string
}

// String says where it is, without secrets.
func (l location) String() string {
	switch l.kind {
	case "sentinel":
		return "Redis master " + l.path + " behind Sentinels " + strings.Join(l.hosts, ",")
	case "cluster":
		return "Redis Cluster " + strings.Join(l.hosts, ",")
	}
	return "Redis " + l.hosts[0]
}

// badURL is the error of a URL that cannot be understood. It never repeats any of it, since a misread password could be anywhere.
func badURL(why string) error {
	return fault.New(fault.Invalid, "the Redis URL cannot be understood: %s; it has the form redis://[user:password@]host[:port][/db], "+
		"redis+sentinel://…host,…/master or redis+cluster://…host,… (rediss for TLS), and in a password / ? # @ : and %% are written percent-encoded", why)
}

// splitURL takes a URL apart. net/url cannot: it allows one host only, and its errors repeat the password.
func splitURL(text string) (location, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return location{}, badURL("it has no ://")
	}
	var l location
	base, kind, _ := strings.Cut(scheme, "+")
	l.kind, l.tls = kind, base == "rediss"
	if (base != "redis" && base != "rediss") || (kind != "" && kind != "sentinel" && kind != "cluster") {
		return location{}, badURL("its scheme is unknown")
	}
	rest, l.query, _ = strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	l.path = path
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		l.login, authority = authority[:at+1], authority[at+1:]
	}
	if strings.Contains(path+l.query, "@") {
		return location{}, badURL("an @ stands behind its hosts")
	}
	port := "6379"
	if kind == "sentinel" {
		port = "26379"
	}
	for _, host := range strings.Split(authority, ",") {
		address, ok := withPort(host, port)
		if !ok {
			return location{}, badURL("one of its hosts or ports is not valid")
		}
		l.hosts = append(l.hosts, address)
	}
	if kind == "" && len(l.hosts) > 1 {
		return location{}, badURL("it has several hosts, which is for redis+sentinel and redis+cluster")
	}
	if kind == "sentinel" && (path == "" || strings.Contains(path, "/")) {
		return location{}, badURL("a redis+sentinel URL names the master behind its hosts")
	}
	if kind == "cluster" && path != "" && path != "0" {
		return location{}, badURL("a Redis Cluster has database 0 only")
	}
	return l, nil
}

// withPort returns "host:port" of a host, which may be an IPv6 address in brackets.
func withPort(host, port string) (string, bool) {
	if host == "" {
		return net.JoinHostPort("localhost", port), true
	}
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Hostname() == "" || u.User != nil || (strings.Contains(u.Hostname(), ":") && host[0] != '[') {
		return "", false
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port), true
}

// universal returns the client's options and where they lead, in words without secrets.
func (o Options) universal() (*redis.UniversalOptions, string, error) {
	l, err := splitURL(o.URL)
	if err != nil {
		return nil, "", err
	}
	query, err := url.ParseQuery(l.query)
	if err != nil {
		return nil, "", badURL("its parameters cannot be read")
	}
	sentinelUser, sentinelPassword := query.Get("sentinel_username"), query.Get("sentinel_password")
	if l.kind == "sentinel" {
		query.Del("sentinel_username")
		query.Del("sentinel_password")
	}
	single := "redis"
	if l.tls {
		single = "rediss"
	}
	single += "://" + l.login + l.hosts[0]
	if l.kind == "" && l.path != "" {
		single += "/" + l.path
	}
	p, err := redis.ParseURL(single + "?" + query.Encode())
	if err != nil {
		return nil, "", badURL("its user and password, its database or one of its parameters is not valid")
	}
	u := &redis.UniversalOptions{
		Addrs: l.hosts, IsClusterMode: l.kind == "cluster",
		Username: p.Username, Password: p.Password, DB: p.DB, Protocol: p.Protocol, ClientName: p.ClientName, TLSConfig: p.TLSConfig,
		MaxRetries: p.MaxRetries, MinRetryBackoff: p.MinRetryBackoff, MaxRetryBackoff: p.MaxRetryBackoff,
		DialTimeout: p.DialTimeout, ReadTimeout: p.ReadTimeout, WriteTimeout: p.WriteTimeout, PoolTimeout: p.PoolTimeout,
		PoolFIFO: p.PoolFIFO, PoolSize: p.PoolSize, MinIdleConns: p.MinIdleConns, MaxIdleConns: p.MaxIdleConns,
		MaxActiveConns: p.MaxActiveConns, ConnMaxIdleTime: p.ConnMaxIdleTime, ConnMaxLifetime: p.ConnMaxLifetime,
		// A context's deadline is the deadline of the socket; CLIENT SETINFO and maintenance notifications, which many servers do not
		// know, are not sent.
		ContextTimeoutEnabled: true,
		// A refused connection is an answer; a call has retries of its own.
		DialerRetries:            1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if u.Protocol == 0 {
		// RESP 2, which says all that is asked for here: RESP 3 makes the client look for notifications before every answer.
		u.Protocol = 2
	}
	if u.TLSConfig != nil && l.kind != "" {
		u.TLSConfig.ServerName = "" // each node is checked under its own name
	}
	if l.kind == "sentinel" {
		u.MasterName, u.SentinelUsername, u.SentinelPassword = l.path, sentinelUser, sentinelPassword
	}
	o.fillTimeouts(u)
	if l.tls && o.TLS != nil {
		u.TLSConfig = o.TLS.Clone()
	}
	return u, l.String(), nil
}

// fillTimeouts bounds the steps of a call where the URL does not: none may outlast the call.
func (o Options) fillTimeouts(u *redis.UniversalOptions) {
	for _, t := range []*time.Duration{&u.DialTimeout, &u.ReadTimeout, &u.WriteTimeout, &u.PoolTimeout} {
		if *t == 0 {
			*t = o.Timeout
		}
	}
}
