package event

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// IntakeOptions is what an Intake is made of.
type IntakeOptions struct {
	// Queue is where events end. Required.
	Queue *Queue
	// Router is what they go by at first; Intake.Replace replaces it. Defaults to one without views.
	Router *Router
	// Metrics is told of events. Defaults to none.
	Metrics prometheus.Registerer
	// Logger receives what an operator should know. Defaults to slog.Default().
	Logger *slog.Logger
}

// Intake takes what sources tell and puts it into the queue of the views that it belongs to. Its methods may be called by many goroutines at once.
type Intake struct {
	queue   *Queue
	metrics *metrics
	logger  *slog.Logger

	// mu keeps a view from being dropped between an event's routing and its queuing.
	mu     sync.RWMutex
	router *Router
	// replaced is closed when the router is.
	replaced chan struct{}
}

// NewIntake makes an intake.
func NewIntake(o IntakeOptions) *Intake {
	if o.Router == nil {
		o.Router = NewRouter()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Intake{queue: o.Queue, router: o.Router, metrics: newMetrics(o.Queue, o.Metrics), logger: o.Logger, replaced: make(chan struct{})}
}

// Replace makes events go by another router from now on. What waits for views that it does not have is dropped.
func (i *Intake) Replace(router *Router) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.router = router
	i.queue.retain(router.has)
	close(i.replaced)
	i.replaced = make(chan struct{})
}

// current gives the router and a channel that is closed when it is replaced.
func (i *Intake) current() (*Router, <-chan struct{}) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.router, i.replaced
}

// offer puts objects into the queue and gives a ticket for each view of each. Objects of no view are counted.
func (i *Intake) offer(source string, objects ...Object) []ticket {
	i.mu.RLock()
	defer i.mu.RUnlock()
	var tickets []ticket
	for _, o := range objects {
		o.Source = source
		if o.At.IsZero() {
			o.At = time.Now()
		}
		views := i.router.Views(o.URL)
		if o.literal != "" {
			for _, view := range i.router.Views(o.literal) {
				if !slices.Contains(views, view) {
					views = append(views, view)
				}
			}
		}
		outcome := outcomeRouted
		if len(views) == 0 {
			outcome = outcomeNoView
		}
		i.metrics.count(source, outcome, 1)
		for _, view := range views {
			tickets = append(tickets, i.queue.add(view, o))
		}
	}
	return tickets
}
