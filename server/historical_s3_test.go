package server_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/testenv"
	"github.com/twofold-ml/twofold/server/servertest"
)

// s3World is a bucket of a real S3 server behind a proxy that a test can make worse.
type s3World struct {
	server *testenv.S3Server
	bucket string
	// config reaches the bucket through the proxy, client without it.
	config offline.S3Config
	client *s3.Client

	mu       sync.Mutex
	rule     s3Rule
	requests []string
}

// s3Rule answers a request itself and returns true, or leaves it to S3. n counts the requests since the rule was set, from 1.
type s3Rule func(w http.ResponseWriter, r *http.Request, n int) bool

func newS3World(t *testing.T) *s3World {
	t.Helper()
	w := &s3World{server: testenv.S3(t)}
	w.bucket = w.server.Bucket(t)
	target, err := url.Parse(w.server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	// The host of a request is signed, so it stays as it is.
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
		},
		ModifyResponse: w.damage,
		ErrorHandler:   func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) },
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, r.Method+" "+r.URL.RequestURI())
		n, rule := len(w.requests), w.rule
		w.mu.Unlock()
		if rule != nil && rule(rw, r, n) {
			return
		}
		forward.ServeHTTP(rw, r)
	}))
	t.Cleanup(proxy.Close)
	w.config = offline.S3Config{
		Endpoint: proxy.URL, Region: w.server.Region, PathStyle: true, AccessKeyID: w.server.AccessKey, SecretAccessKey: w.server.SecretKey,
	}
	w.client = s3.New(s3.Options{
		BaseEndpoint: &w.server.Endpoint, Region: w.server.Region, UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(w.server.AccessKey, w.server.SecretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired, ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
	return w
}

// cutHeader asks the proxy to break an answer's body off after so many bytes.
const cutHeader = "X-Test-Cut"

// damage breaks off the bodies of answers whose requests ask for it.
func (w *s3World) damage(r *http.Response) error {
	var after int64
	if _, err := fmt.Sscan(r.Request.Header.Get(cutHeader), &after); err != nil {
		return nil //nolint:nilerr // most are left alone
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r.Body, after), r.Body}
	return nil
}

// set makes a rule hold from now on, and forgets the requests before.
func (w *s3World) set(rule s3Rule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule, w.requests = rule, nil
}

// seen gives the requests since the last rule was set that contain a text.
func (w *s3World) seen(part string) (found []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if strings.Contains(r, part) {
			found = append(found, r)
		}
	}
	return found
}

// url gives the URL of a key.
func (w *s3World) url(key string) string { return "s3://" + w.bucket + "/" + key }

// put writes an object, past the proxy.
func (w *s3World) put(t *testing.T, key string, data []byte) {
	t.Helper()
	w.server.Put(t, w.bucket, key, data)
}

// putTable writes a table as a Parquet object.
func (w *s3World) putTable(t *testing.T, key string, rows *servertest.Table) {
	t.Helper()
	w.put(t, key, parquetBytes(t, rows))
}

// keys lists the objects, and uploads those that are not complete.
func (w *s3World) keys(t *testing.T) (keys, uploads []string) {
	t.Helper()
	objects, err := w.client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &w.bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects.Contents {
		keys = append(keys, aws.ToString(o.Key))
	}
	parts, err := w.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &w.bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range parts.Uploads {
		uploads = append(uploads, aws.ToString(u.Key))
	}
	return keys, uploads
}

// get reads an object, past the proxy.
func (w *s3World) get(t *testing.T, key string) []byte {
	t.Helper()
	o, err := w.client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &w.bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	data, err := io.ReadAll(o.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// parquetBytes is the table as a Parquet file.
func parquetBytes(t *testing.T, rows *servertest.Table) []byte {
	t.Helper()
	var out bytes.Buffer
	record := rows.Record(t)
	w, err := offline.NewParquetWriter(&out, record.Schema())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(record); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// refuse answers as S3 does when it refuses.
func refuse(w http.ResponseWriter, code int, name string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>the test says so</Message></Error>`, name) // the client may be gone
	return true
}
