package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/syncer/event"
)

// syncEvents are the sources of events that a process was told to have, and the queue that they end in. One that was told of none has a nil one, whose methods do
// nothing.
type syncEvents struct {
	queue   *event.Queue
	intake  *event.Intake
	offline *offline.Store
	// webhook, folders and kafka are nil where there is no such source.
	webhook http.Handler
	path    string
	folders *event.Folders
	kafka   *event.Kafka
}

// newSyncEvents makes the sources that the configuration names. They go by no view until route is called.
func (p *process) newSyncEvents(registry *prometheus.Registry) (*syncEvents, error) {
	c := p.config.Events
	if !c.UsesWebhook() && !c.UsesKafka() && !c.Folders.Enabled {
		return nil, nil
	}
	e := &syncEvents{queue: event.NewQueue(event.QueueOptions{Debounce: c.Debounce, MaxWait: c.MaxWait}), offline: p.offline}
	e.intake = event.NewIntake(event.IntakeOptions{Queue: e.queue, Metrics: registry, Logger: p.log})
	if c.UsesWebhook() {
		e.path = c.Webhook.Path
		e.webhook = event.NewWebhook(event.WebhookOptions{Intake: e.intake, Secret: c.Webhook.Secret.Reveal(), MaxBodyBytes: int64(c.Webhook.MaxBodyBytes)})
		p.log.Info("taking events over HTTP", "path", e.path)
		if c.Webhook.Secret.IsZero() {
			p.log.Warn("anybody who reaches the HTTP address may post events, because events.webhook.secret is not set")
		}
	}
	if c.Folders.Enabled {
		e.folders = event.NewFolders(event.FolderOptions{Intake: e.intake, Settle: c.Folders.Settle, PollInterval: c.Folders.PollInterval, Poll: c.Folders.Poll})
	}
	if c.UsesKafka() {
		options, err := kafkaOptions(c.Kafka)
		if err != nil {
			return nil, configError{err}
		}
		options.Intake = e.intake
		if e.kafka, err = event.NewKafka(options); err != nil {
			return nil, configError{fmt.Errorf("events.kafka: %w", err)}
		}
		p.log.Info("reading events from Kafka", "brokers", c.Kafka.Brokers, "topic", c.Kafka.Topic, "group", c.Kafka.Group)
	}
	return e, nil
}

// kafkaOptions reads the files that the settings of Kafka name.
func kafkaOptions(c config.Kafka) (event.KafkaOptions, error) {
	o := event.KafkaOptions{Brokers: c.Brokers.Items(), Topic: c.Topic, Group: c.Group, SASL: c.SASL, User: c.User, Password: c.Password.Reveal()}
	if !c.UsesTLS() {
		return o, nil
	}
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLSCAFile != "" {
		text, err := os.ReadFile(c.TLSCAFile)
		if err != nil {
			return o, fmt.Errorf("events.kafka.tls_ca_file: %w", err)
		}
		o.TLS.RootCAs = x509.NewCertPool()
		if !o.TLS.RootCAs.AppendCertsFromPEM(text) {
			return o, fmt.Errorf("events.kafka.tls_ca_file: %s has no certificate in PEM", c.TLSCAFile)
		}
	}
	if c.TLSCertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCertFile, c.TLSKeyFile)
		if err != nil {
			return o, fmt.Errorf("events.kafka.tls_cert_file, tls_key_file: %w", err)
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	return o, nil
}

// queued is the queue, nil where there are no events.
func (e *syncEvents) queued() *event.Queue {
	if e == nil {
		return nil
	}
	return e.queue
}

// handlers are those of the HTTP server.
func (e *syncEvents) handlers() map[string]http.Handler {
	if e == nil || e.webhook == nil {
		return nil
	}
	return map[string]http.Handler{e.path: e.webhook}
}

// route makes events go by the source paths of these views. Nothing changes where one of them cannot be understood.
func (e *syncEvents) route(views []*feature.View) error {
	if e == nil {
		return nil
	}
	routes := make([]event.Route, len(views))
	for i, view := range views {
		url, err := e.offline.Resolve(view.Source.Path)
		if err != nil {
			return fmt.Errorf("feature view %q: %w", view.Name, err)
		}
		files, err := offline.ParsePattern(url)
		if err != nil {
			return fmt.Errorf("feature view %q: %w", view.Name, err)
		}
		routes[i] = event.Route{View: view.Name, Files: files}
	}
	e.intake.Replace(event.NewRouter(routes...))
	return nil
}

// await waits until the folders of all views are watched, so that a file which a sync that begins now does not find leads to another one.
func (e *syncEvents) await(ctx context.Context) error {
	if e == nil || e.folders == nil {
		return nil
	}
	return e.folders.Await(ctx)
}

// run runs the sources that have to be until ctx is done.
func (e *syncEvents) run(ctx context.Context) error {
	if e == nil {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var sources []func(context.Context) error
	if e.folders != nil {
		sources = append(sources, e.folders.Run)
	}
	if e.kafka != nil {
		sources = append(sources, e.kafka.Run)
	}
	ended := make(chan error)
	for _, source := range sources {
		go func() { ended <- source(ctx) }()
	}
	var errs []error
	for range sources {
		if err := <-ended; err != nil {
			errs = append(errs, err)
			stop()
		}
	}
	return errors.Join(errs...)
}
