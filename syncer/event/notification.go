package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/internal/fault"
)

// notification is what one message of a service tells.
type notification struct {
	objects []Object
	// ignored counts events that tell of nothing that a sync could carry.
	ignored int
	// bad says why parts of the message could not be read.
	bad []error
	// subscription is the URL that confirms a subscription of SNS, for an operator to open. It is not fetched here, because anybody could have sent it.
	subscription string
}

// message is the union of the forms that are known. Each is told by the fields that only it has.
type message struct {
	// Records is S3's own form, which MinIO, Ceph and versitygw send as well.
	Records []record `json:"Records"`
	// Event is "s3:TestEvent" in what S3 sends when notifications are set up.
	Event string `json:"Event"`

	// Type, Message and SubscribeURL are of SNS, which wraps another form in Message.
	Type         string `json:"Type"`
	Message      string `json:"Message"`
	SubscribeURL string `json:"SubscribeURL"`

	// DetailType, Detail and Time are of EventBridge.
	DetailType string `json:"detail-type"`
	Detail     detail `json:"detail"`
	Time       string `json:"time"`
}

type record struct {
	EventName string `json:"eventName"`
	EventTime string `json:"eventTime"`
	S3        detail `json:"s3"`
}

type detail struct {
	Bucket struct {
		Name string `json:"name"`
	} `json:"bucket"`
	Object struct {
		Key string `json:"key"`
	} `json:"object"`
}

// deepest is how many lists and wrappings a message may have around it: EventBridge's form, in SNS's, in a list.
const deepest = 3

// parseNotification reads a message. What it cannot read is in the answer's bad.
func parseNotification(body []byte) notification {
	var n notification
	n.read(body, deepest)
	return n
}

func (n *notification) read(body []byte, depth int) {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		n.reject("the message is empty")
	case depth == 0:
		n.reject("the message is wrapped more than %d times", deepest-1)
	case body[0] == '[':
		var list []json.RawMessage
		if err := json.Unmarshal(body, &list); err != nil {
			n.reject("the message is not JSON: %w", err)
		}
		for _, element := range list {
			n.read(element, depth-1)
		}
	default:
		var m message
		if err := json.Unmarshal(body, &m); err != nil {
			n.reject("the message is not a JSON object of a known form: %w", err)
			return
		}
		n.add(m, depth)
	}
}

func (n *notification) add(m message, depth int) {
	switch {
	case m.Records != nil:
		for _, r := range m.Records {
			n.event(kindOfRecord(r.EventName), r.S3.Bucket.Name, r.S3.Object.Key, url.QueryUnescape, r.EventTime)
		}
	case m.Event == "s3:TestEvent":
		n.ignored++
	case m.Type == "Notification":
		n.read([]byte(m.Message), depth-1)
	case m.Type == "SubscriptionConfirmation":
		n.ignored++
		n.subscription = m.SubscribeURL
	case m.Type == "UnsubscribeConfirmation":
		n.ignored++
	case m.DetailType != "":
		// Unlike S3's own form, EventBridge's has keys as they are.
		n.event(kindOfDetail(m.DetailType), m.Detail.Bucket.Name, m.Detail.Object.Key, asItIs, m.Time)
	default:
		n.reject("the message has none of the fields Records (S3, MinIO), Type (SNS) and detail-type (EventBridge)")
	}
}

// kind is what happened to an object.
type kind uint8

const (
	other kind = iota
	came
	went
)

// kindOfRecord reads an event's name, "ObjectCreated:Put", which some services prefix with "s3:".
func kindOfRecord(name string) kind {
	group, what, _ := strings.Cut(strings.TrimPrefix(name, "s3:"), ":")
	switch {
	case group == "ObjectCreated", group == "ObjectRestore" && what == "Completed":
		return came
	case group == "ObjectRemoved", group == "LifecycleExpiration", group == "ObjectLifecycle" && strings.HasPrefix(what, "Expiration"):
		return went
	default:
		return other
	}
}

func kindOfDetail(detailType string) kind {
	switch detailType {
	case "Object Created", "Object Restore Completed":
		return came
	case "Object Deleted":
		return went
	default:
		return other
	}
}

func asItIs(key string) (string, error) { return key, nil }

func (n *notification) event(k kind, bucket, key string, decode func(string) (string, error), at string) {
	switch {
	case k == other:
		n.ignored++
	case bucket == "" || strings.Contains(bucket, "/"):
		n.reject("an event has %q for a bucket's name", bucket)
	case key == "":
		n.reject("an event of bucket %q names no object", bucket)
	default:
		o := Object{URL: "s3://" + bucket + "/" + key, Removed: k == went}
		if decoded, err := decode(key); err == nil && decoded != key {
			o.URL, o.literal = "s3://"+bucket+"/"+decoded, o.URL
		}
		// A time that cannot be read is no reason to lose the event.
		if when, err := time.Parse(time.RFC3339Nano, at); err == nil {
			o.At = when
		}
		n.objects = append(n.objects, o)
	}
}

func (n *notification) reject(format string, args ...any) {
	n.bad = append(n.bad, fault.New(fault.Invalid, format, args...))
}

// err joins the first few reasons of bad.
func (n *notification) err() error {
	const shown = 3
	errs := n.bad[:min(len(n.bad), shown)]
	if more := len(n.bad) - len(errs); more > 0 {
		return errors.Join(append(errs[:shown:shown], fault.New(fault.Invalid, "and %d more", more))...)
	}
	return errors.Join(errs...)
}

// tell puts what a message told into the queue and counts the rest. Subscriptions are logged.
func (i *Intake) tell(source string, n notification) []ticket {
	i.metrics.count(source, outcomeIgnored, n.ignored)
	i.metrics.count(source, outcomeBad, len(n.bad))
	if n.subscription != "" {
		i.logger.Warn("SNS asks whether it may send events here; if it is your topic, open this address to confirm",
			"source", source, "subscribe_url", n.subscription)
	}
	return i.offer(source, n.objects...)
}
