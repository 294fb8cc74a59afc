package event

import (
	"time"

	"github.com/twofold-ml/twofold/internal/offline"
)

// Object is a file that came, changed or went.
type Object struct {
	// URL is s3://bucket/key, with the key as it is in the bucket, or an absolute local path.
	URL string
	// literal is the URL with the key in the letters in which it was sent, where these are others: S3 encodes keys, some services that speak like it do
	// not, and nothing in their messages tells. A view that either URL belongs to is run.
	literal string
	// Removed says that it went.
	Removed bool
	// At is when, by the clock of whoever noticed. Where that was not told it is when the event came here.
	At time.Time
	// Source is the kind of source that told of it: webhook, kafka or folder.
	Source string
}

// The sources of objects.
const (
	sourceWebhook = "webhook"
	sourceKafka   = "kafka"
	sourceFolder  = "folder"
)

// Route says where a view's files lie.
type Route struct {
	// View is the feature view's name.
	View string
	// Files are those of its source path.
	Files *offline.Pattern
}

// Router finds the views that an object belongs to. It does not change.
type Router struct{ routes []Route }

// NewRouter makes a router. A view may have several routes, and files several views.
func NewRouter(routes ...Route) *Router { return &Router{routes} }

// Views gives the names of the views that a file of this URL belongs to, each once, in the order of the routes.
func (r *Router) Views(url string) []string {
	var views []string
	seen := map[string]bool{}
	for _, route := range r.routes {
		if !seen[route.View] && route.Files.Matches(url) {
			seen[route.View] = true
			views = append(views, route.View)
		}
	}
	return views
}

// has reports whether there is a route of the view.
func (r *Router) has(view string) bool {
	for _, route := range r.routes {
		if route.View == view {
			return true
		}
	}
	return false
}

// localRoots gives the files and folders at and beneath which local files of views lie, each once.
func (r *Router) localRoots() []string {
	var roots []string
	seen := map[string]bool{"": true}
	for _, route := range r.routes {
		if root := route.Files.LocalRoot(); !seen[root] {
			seen[root] = true
			roots = append(roots, root)
		}
	}
	return roots
}
