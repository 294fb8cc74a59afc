package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// How objects are written. At once in memory are the parts that are sent, one that is filled and the first: 6 parts at most.
const (
	// uploadPartBytes is the size of a part, and the size from which there is more than one. S3 takes 10,000 parts: 80 GiB.
	uploadPartBytes = 8 << 20
	// uploadsAtOnce is how many parts of one object are sent at a time.
	uploadsAtOnce = 4
	// uploadCleanup bounds the taking back of an upload that failed.
	uploadCleanup = 30 * time.Second
	// An upload that failed is taken back abortTries times, the second time after abortPause and then after four times as long each.
	abortTries = 4
	abortPause = 20 * time.Millisecond
	// uploadCompletion bounds the wait for an answer where the service puts many parts together.
	uploadCompletion = 10 * time.Minute
)

// s3Writer sends what is written to it to a goroutine that uploads it.
type s3Writer struct {
	at     location
	pipe   *io.PipeWriter
	cancel context.CancelFunc
	size   atomic.Int64
	closed bool
	// done is closed when the upload has ended; output and err are its result.
	done   chan struct{}
	output *transfermanager.UploadObjectOutput
	err    error
}

func (d *s3Driver) create(ctx context.Context, at location, overwrite bool) (objectWriter, error) {
	input := &transfermanager.UploadObjectInput{Bucket: &at.bucket, Key: &at.path}
	if !overwrite {
		// Told before the work rather than after it; the service decides when the object is complete.
		switch _, err := d.stat(ctx, at); {
		case err == nil:
			return nil, errExists(at)
		case !errors.Is(err, errNoObject):
			return nil, err
		}
		input.IfNoneMatch = aws.String("*")
	}
	uploads := transfermanager.New(boundedUploads{d.client}, func(o *transfermanager.Options) {
		o.PartSizeBytes, o.MultipartUploadThreshold = uploadPartBytes, uploadPartBytes
		o.Concurrency = uploadsAtOnce
		o.FailTimeout = uploadCleanup
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	})
	reader, pipe := io.Pipe()
	input.Body = reader
	ctx, cancel := context.WithCancel(ctx)
	w := &s3Writer{at: at, pipe: pipe, cancel: cancel, done: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = pipe.CloseWithError(ctx.Err()) }) // never fails
	go func() {
		defer close(w.done)
		defer stop()
		w.output, w.err = uploads.UploadObject(ctx, input)
		if w.err != nil {
			w.err = w.fault(w.err)
		}
		_ = reader.CloseWithError(w.err) // never fails
	}()
	return w, nil
}

// fault gives the error of an upload a kind.
func (w *s3Writer) fault(err error) error {
	if s3Code(err) == "PreconditionFailed" || s3Code(err) == "ConditionalRequestConflict" {
		return errExists(w.at)
	}
	return s3Fault("write", w.at, err)
}

func (w *s3Writer) Write(p []byte) (int, error) {
	n, err := w.pipe.Write(p)
	w.size.Add(int64(n))
	return n, err
}

func (w *s3Writer) commit(ctx context.Context) (object, error) {
	if w.closed {
		return object{}, fmt.Errorf("write %s: %w", w.at, fs.ErrClosed)
	}
	w.closed = true
	defer w.cancel()
	_ = w.pipe.Close() // never fails
	select {
	case <-w.done:
	case <-ctx.Done():
		w.cancel()
		<-w.done
	}
	if w.err != nil {
		return object{}, w.err
	}
	return object{at: w.at, size: w.size.Load(), etag: aws.ToString(w.output.ETag)}, nil
}

func (w *s3Writer) abort() {
	if w.closed {
		return
	}
	w.closed = true
	_ = w.pipe.CloseWithError(context.Canceled) // never fails
	w.cancel()
	<-w.done
}

// boundedUploads gives each request of an upload a bound in time, so that a service that freezes does not hold it for ever.
type boundedUploads struct{ *s3.Client }

func (c boundedUploads) PutObject(ctx context.Context, in *s3.PutObjectInput, options ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, s3Patience(uploadPartBytes))
	defer cancel()
	return c.Client.PutObject(ctx, in, options...)
}

func (c boundedUploads) UploadPart(ctx context.Context, in *s3.UploadPartInput, options ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, s3Patience(uploadPartBytes))
	defer cancel()
	return c.Client.UploadPart(ctx, in, options...)
}

func (c boundedUploads) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, options ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, uploadCompletion)
	defer cancel()
	return c.Client.CompleteMultipartUpload(ctx, in, append(options, func(o *s3.Options) {
		if client, ok := o.HTTPClient.(*awshttp.BuildableClient); ok {
			o.HTTPClient = client.WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = uploadCompletion })
		}
	})...)
}

// AbortMultipartUpload takes an upload back more than once: a part that was on its way when it was cancelled may come to the service after the first time, which then keeps
// what there is of the upload (https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html). That there is nothing to take back, as a later answer mostly
// says, does not tell that there will not be.
func (c boundedUploads) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, options ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	out, err := c.Client.AbortMultipartUpload(ctx, in, options...)
	for try, pause := 1, abortPause; err == nil && try < abortTries && sleep(ctx, pause); try, pause = try+1, 4*pause {
		_, _ = c.Client.AbortMultipartUpload(ctx, in, options...) // it was taken back once
	}
	return out, err
}

// sleep waits so long, and reports false where ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
