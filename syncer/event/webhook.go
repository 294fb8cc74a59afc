package event

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// WebhookOptions is what a webhook is made of.
type WebhookOptions struct {
	// Intake takes the events. Required.
	Intake *Intake
	// Secret must be in each request: "Authorization: Bearer <secret>", or the password of "Authorization: Basic", for senders that can only be
	// given a URL (https://twofold:<secret>@host/path), such as SNS. Defaults to none: anybody may post.
	Secret string
	// MaxBodyBytes bounds a request's body. Defaults to 1 MiB.
	MaxBodyBytes int64
}

// NewWebhook gives a handler for POST requests whose bodies are event notifications: of AWS S3, of the services that speak like it (MinIO, Ceph, versitygw),
// and of S3 by way of SNS or EventBridge.
//
// It answers 200 once all events are in the queue; 400 for a body that cannot be read, whose readable events are queued all the same; 401 without the
// secret; 405 for another method; 413 for a body that is too large.
func NewWebhook(o WebhookOptions) http.Handler {
	setDefault(&o.MaxBodyBytes, 1<<20)
	return &webhook{o}
}

type webhook struct{ o WebhookOptions }

// ServeHTTP implements http.Handler.
func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		h.refuse(w, r, http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed: post an event notification", r.Method))
		return
	}
	if !h.authorized(r) {
		w.Header().Add("WWW-Authenticate", `Bearer realm="twofold events"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="twofold events"`)
		h.refuse(w, r, http.StatusUnauthorized, errors.New("the Authorization header has not the secret of this webhook"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.o.MaxBodyBytes))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		h.bad(w, r, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than the %d bytes that are read", tooLarge.Limit))
		return
	}
	if err != nil {
		h.bad(w, r, http.StatusBadRequest, fmt.Errorf("read the body: %w", err))
		return
	}
	n := parseNotification(body)
	h.o.Intake.tell(sourceWebhook, n)
	if err := n.err(); err != nil {
		h.refuse(w, r, http.StatusBadRequest, err)
		return
	}
	fmt.Fprintf(w, "%d events taken, %d ignored\n", len(n.objects), n.ignored)
}

// authorized reports whether a request has the secret. Hashes are compared, so that the time tells nothing, not even a length.
func (h *webhook) authorized(r *http.Request) bool {
	if h.o.Secret == "" {
		return true
	}
	_, given, basic := r.BasicAuth()
	if !basic {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return false
		}
		given = strings.TrimSpace(token)
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(h.o.Secret))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// bad refuses a request whose events could not even be counted.
func (h *webhook) bad(w http.ResponseWriter, r *http.Request, code int, err error) {
	h.o.Intake.metrics.count(sourceWebhook, outcomeBad, 1)
	h.refuse(w, r, code, err)
}

func (h *webhook) refuse(w http.ResponseWriter, r *http.Request, code int, err error) {
	h.o.Intake.logger.WarnContext(r.Context(), "a request of the event webhook was refused", "remote", r.RemoteAddr, "status", code, "error", err)
	http.Error(w, err.Error(), code)
}
