package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Bounds of one S3 request. A request is tried s3Attempts times, with growing waits of at most s3MaxBackoff between.
const (
	s3Attempts        = 4
	s3MaxBackoff      = 2 * time.Second
	s3ConnectTimeout  = 10 * time.Second
	s3ResponseTimeout = 30 * time.Second
	// s3MinBytesPerSecond is the slowest body that is waited for.
	s3MinBytesPerSecond = 256 << 10
)

// s3Driver reads any S3 service.
type s3Driver struct {
	client *s3.Client
	// pageKeys is how many keys one listing request asks for; 0 is the service's own, 1,000.
	pageKeys int32
	// patience is how long a body may send nothing before it is given up and asked for again.
	patience time.Duration
}

// newS3Driver makes the client. It reaches no server, unless the SDK's credential chain has to.
func newS3Driver(ctx context.Context, c S3Config) (*s3Driver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(s3HTTPClient())}
	region := c.Region
	if region == "" && c.Endpoint != "" {
		region = "us-east-1"
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	if c.AccessKeyID != "" {
		static := credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
		options = append(options, config.WithCredentialsProvider(static))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fault.New(fault.Precondition, "S3 configuration: %w", err)
	}
	if loaded.Region == "" {
		return nil, fault.New(fault.Precondition, "S3 configuration: no region is set; give one in the S3 settings or as AWS_REGION")
	}
	return &s3Driver{patience: s3ResponseTimeout, client: s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.UsePathStyle = c.PathStyle
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
		// Checksums that other services than Amazon's do not know are sent and asked for only where S3 itself demands them.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
			r.Retryables = append(r.Retryables, retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusTooManyRequests: {}}})
			r.MaxAttempts = s3Attempts
			r.MaxBackoff = s3MaxBackoff
		})
	})}, nil
}

func s3HTTPClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = s3ResponseTimeout
		t.TLSHandshakeTimeout = s3ConnectTimeout
		t.MaxIdleConnsPerHost = 32
	})
}

func (d *s3Driver) list(ctx context.Context, at location, yield func(object) error) error {
	input := &s3.ListObjectsV2Input{Bucket: &at.bucket, Prefix: &at.path}
	if d.pageKeys > 0 {
		input.MaxKeys = &d.pageKeys
	}
	pages := s3.NewListObjectsV2Paginator(d.client, input)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return s3Fault("list", at, err)
		}
		for _, found := range page.Contents {
			key := aws.ToString(found.Key)
			if strings.HasSuffix(key, "/") {
				continue // the mark of an empty folder
			}
			o := object{at: at.with(key), size: aws.ToInt64(found.Size), etag: aws.ToString(found.ETag)}
			if err := yield(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *s3Driver) stat(ctx context.Context, at location) (object, error) {
	if at.path == "" || strings.HasSuffix(at.path, "/") {
		return object{}, errNoObject
	}
	head, err := d.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &at.bucket, Key: &at.path})
	if err != nil {
		if isS3NotFound(err) {
			return object{}, errNoObject
		}
		return object{}, s3Fault("look up", at, err)
	}
	return object{at: at, size: aws.ToInt64(head.ContentLength), etag: aws.ToString(head.ETag)}, nil
}

func (d *s3Driver) open(_ context.Context, o object) (objectReader, error) {
	return &s3Reader{d.client, o, d.patience}, nil
}

type s3Reader struct {
	client   *s3.Client
	o        object
	patience time.Duration
}

func (r *s3Reader) close() error { return nil }

func (r *s3Reader) readAt(ctx context.Context, p []byte, offset int64) error {
	if offset < 0 || offset > r.o.size-int64(len(p)) {
		return errPastEnd(r.o, offset, int64(len(p)))
	}
	if len(p) == 0 {
		return nil
	}
	done := 0
	for attempt := 1; ; attempt++ {
		n, err := r.get(ctx, p[done:], offset+int64(done))
		done += n
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil || fault.KindOf(err) != fault.Unavailable || attempt == s3Attempts || isChanged(err):
			return err
		}
	}
}

// get reads one range once. It gives the bytes that came, also with an error: the SDK tries a request again, but not a
// body that breaks off.
func (r *s3Reader) get(ctx context.Context, p []byte, offset int64) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s3Patience(len(p)))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	input := &s3.GetObjectInput{
		Bucket: &r.o.at.bucket,
		Key:    &r.o.at.path,
		Range:  aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+int64(len(p))-1)),
	}
	if r.o.etag != "" {
		input.IfMatch = &r.o.etag
	}
	out, err := r.client.GetObject(ctx, input)
	if err != nil {
		if code := s3Code(err); code == "PreconditionFailed" || isS3NotFound(err) || code == "InvalidRange" {
			return 0, &changedError{errChanged(r.o, err)}
		}
		return 0, s3Fault("read", r.o.at, err)
	}
	defer out.Body.Close()
	if got := aws.ToString(out.ETag); r.o.etag != "" && got != "" && got != r.o.etag {
		return 0, &changedError{errChanged(r.o, fmt.Errorf("it is version %s now", got))}
	}
	n, err := readBody(out.Body, p, r.patience, func() { giveUp(errStalled) })
	switch {
	case err == nil:
		return n, nil
	case errors.Is(context.Cause(ctx), errStalled):
		return n, fault.New(fault.Unavailable, "read %s: %w in %v", r.o.at, errStalled, r.patience)
	default:
		return n, s3Fault("read", r.o.at, err)
	}
}

var errStalled = errors.New("the service sent nothing")

// readBody fills p, and calls giveUp where nothing comes for as long as patience.
func readBody(body io.Reader, p []byte, patience time.Duration, giveUp func()) (n int, err error) {
	timer := time.AfterFunc(patience, giveUp)
	defer timer.Stop()
	for n < len(p) && err == nil {
		var some int
		some, err = body.Read(p[n:])
		n += some
		timer.Reset(patience)
	}
	switch {
	case n == len(p):
		return n, nil
	case errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// s3Patience is how long a request that moves so many bytes is waited for, all its attempts together.
func s3Patience(bytes int) time.Duration {
	return s3Attempts*(s3ResponseTimeout+s3MaxBackoff) + time.Duration(bytes/s3MinBytesPerSecond)*time.Second
}

// changedError marks an error that no further attempt mends.
type changedError struct{ error }

func (e *changedError) Unwrap() error { return e.error }

func isChanged(err error) bool {
	_, ok := errors.AsType[*changedError](err)
	return ok
}

// s3Code gives the service's own code of an error, or the empty string.
func s3Code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

func isS3NotFound(err error) bool {
	code := s3Code(err)
	return code == "NoSuchKey" || code == "NotFound"
}

// s3Fault gives an error of the service or the network a kind.
func s3Fault(doing string, at location, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s %s: %w", doing, at, err)
	}
	status := 0
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = response.HTTPStatusCode()
	}
	code := s3Code(err)
	switch {
	case code == "NoSuchBucket":
		return fault.New(fault.Precondition, "%s %s: there is no bucket %q: %w", doing, at, at.bucket, err)
	case isS3NotFound(err):
		return fault.New(fault.Precondition, "%s %s: there is no such object: %w", doing, at, err)
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return fault.New(fault.Precondition, "%s %s: access is denied (%s); check the credentials and the bucket's policy: %w", doing, at, code, err)
	case status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect || code == "AuthorizationHeaderMalformed":
		return fault.New(fault.Precondition, "%s %s: the bucket is in another region than the one configured: %w", doing, at, err)
	case status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout:
		return fault.New(fault.Precondition, "%s %s: the service refuses the request (%s): %w", doing, at, code, err)
	default:
		return fault.New(fault.Unavailable, "%s %s: %w", doing, at, err)
	}
}
