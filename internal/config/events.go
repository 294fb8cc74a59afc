package config

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// checkSyncGRPC checks where a syncer serves gRPC; nothing, or NoAddress, is nowhere.
func checkSyncGRPC(address, httpAddress string) error {
	switch {
	case address == "" || address == NoAddress:
		return nil
	case address == httpAddress && !strings.HasSuffix(address, ":0"):
		return fmt.Errorf("%q is http_address too; choose another port, or none", address)
	}
	return checkListen(address)
}

// check reports the settings that no source of events could run with.
func (e Events) check(violation func(key string, err error)) {
	violation("events.debounce", checkPositive(e.Debounce))
	violation("events.max_wait", checkPositive(e.MaxWait))
	if e.MaxWait > 0 && e.MaxWait < e.Debounce {
		violation("events.max_wait", fmt.Errorf("%s is less than events.debounce, %s; write a longer time", FormatDuration(e.MaxWait), FormatDuration(e.Debounce)))
	}
	violation("events.webhook.enabled", checkToggle(e.Webhook.Enabled))
	violation("events.webhook.path", checkWebhookPath(e.Webhook.Path))
	violation("events.webhook.max_body_bytes", checkSize(e.Webhook.MaxBodyBytes, 1<<10, 1<<30))
	e.Kafka.check(violation)
	violation("events.folders.settle", checkPositive(e.Folders.Settle))
	violation("events.folders.poll_interval", checkPositive(e.Folders.PollInterval))
}

// checkWebhookPath refuses paths that are no plain ones, and those that say something else already.
func checkWebhookPath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/") || path == "/" || strings.HasSuffix(path, "/") || strings.Contains(path, "//"):
		return fmt.Errorf("%q is not a path for events; write for example /events", path)
	case strings.ContainsAny(path, "{}? #%\\") || strings.Contains(path, "/.") || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("%q has characters that are not for a path; write letters, digits, - and _, for example /events", path)
	case path == "/healthz" || path == "/readyz" || path == "/metrics":
		return fmt.Errorf("%q is taken; write another path, for example /events", path)
	}
	return nil
}

// check reports what no Kafka source could run with. Whether brokers and files are there shows when they are used.
func (k Kafka) check(violation func(key string, err error)) {
	for _, broker := range k.Brokers.Items() {
		if host, port, err := net.SplitHostPort(broker); err != nil || host == "" || checkPort(port, 1) != nil {
			violation("events.kafka.brokers", fmt.Errorf("%q is not a broker's address; write host:port, for example localhost:9092", broker))
		}
	}
	if len(k.Brokers.Items()) > 0 && k.Topic == "" {
		violation("events.kafka.topic", errors.New("it is empty, and events.kafka.brokers is set; name the topic that events are read from"))
	}
	if k.Group == "" {
		violation("events.kafka.group", errors.New("it is empty; name a consumer group, for example twofold"))
	}
	violation("events.kafka.tls", checkToggle(k.TLS))
	if k.TLS == Off && (k.TLSCAFile != "" || k.TLSCertFile != "") {
		violation("events.kafka.tls", errors.New("it is false, and a file for TLS is set; leave one of them out"))
	}
	if (k.TLSCertFile == "") != (k.TLSKeyFile == "") {
		violation("events.kafka.tls_cert_file", errors.New("it goes with events.kafka.tls_key_file; set both or none"))
	}
	if k.SASL != "" {
		violation("events.kafka.sasl", oneOf(k.SASL, "plain", "scram-sha-256", "scram-sha-512"))
	}
	if (k.SASL == "") != (k.User == "") || (k.SASL == "") != k.Password.IsZero() {
		violation("events.kafka.sasl", errors.New("it goes with events.kafka.user and events.kafka.password; set all three or none"))
	}
}
