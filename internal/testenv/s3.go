package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3Server is a versitygw on the loopback network.
type S3Server struct {
	// Endpoint is its URL.
	Endpoint string
	// AccessKey and SecretKey are of its one, all-powerful user.
	AccessKey, SecretKey string
	// Region that requests are signed for.
	Region string

	client *s3.Client
	stop   func()
}

// s3StartTimeout is how long a start may take; the server is ready in well under a second where the machine is not busy.
const s3StartTimeout = 30 * time.Second

// sharedS3 is the server that the tests running now have in common.
var sharedS3 struct {
	sync.Mutex
	server *S3Server
	users  int
}

// S3 gives a running S3 server. Tests that run at the same time (a test and its subtests, parallel tests) share one and keep apart by
// buckets; when the last of them ends, the server and its data go. The program is looked for in VERSITYGW, .tools and PATH; without it
// the test fails, or is skipped where TWOFOLD_TEST_SKIP names "s3".
func S3(t testing.TB) *S3Server {
	t.Helper()
	skipUnwanted(t, "s3")
	sharedS3.Lock()
	defer sharedS3.Unlock()
	if sharedS3.server == nil {
		program := tool(t, "versitygw", "VERSITYGW", "run \"make tools\"")
		server, err := startS3(program)
		if err != nil {
			t.Fatalf("start %s: %v", program, err)
		}
		sharedS3.server = server
	}
	sharedS3.users++
	t.Cleanup(releaseS3)
	return sharedS3.server
}

func releaseS3() {
	sharedS3.Lock()
	defer sharedS3.Unlock()
	if sharedS3.users--; sharedS3.users == 0 {
		sharedS3.server.stop()
		sharedS3.server = nil
	}
}

// startS3 starts a server in a temporary folder of its own.
func startS3(program string) (*S3Server, error) {
	var lastErr error
	for range 5 {
		server, err := tryS3(program)
		if err == nil {
			return server, nil
		}
		lastErr = err // perhaps somebody else took the free port before the server had it
	}
	return nil, lastErr
}

func tryS3(program string) (_ *S3Server, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp("", "twofold-s3-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(data))
		}
	}()
	objects, meta := filepath.Join(data, "objects"), filepath.Join(data, "meta")
	if err := errors.Join(os.Mkdir(objects, 0o700), os.Mkdir(meta, 0o700)); err != nil {
		return nil, err
	}
	server := &S3Server{
		Endpoint:  "http://" + address,
		AccessKey: "twofold-test",
		SecretKey: "twofold-test-secret",
		Region:    "us-east-1",
	}
	server.client = server.newClient()
	var log lockedBuffer
	// Object attributes are kept in files: not every temporary folder is on a file system with extended attributes.
	command := exec.Command(program, "--port", address, "--quiet", "posix", "--sidecar", meta, objects)
	command.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+server.AccessKey, "ROOT_SECRET_KEY="+server.SecretKey)
	command.Dir, command.Stdout, command.Stderr = data, &log, &log
	process, err := startProcess(command)
	if err != nil {
		return nil, err
	}
	server.stop = func() {
		process.stop()
		_ = os.RemoveAll(data)
	}
	if err := server.await(process); err != nil {
		process.stop()
		return nil, fmt.Errorf("%w\n%s", err, log.String())
	}
	return server, nil
}

func (s *S3Server) newClient() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint:               &s.Endpoint,
		Region:                     s.Region,
		UsePathStyle:               true,
		Credentials:                credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

// await returns when the server answers a signed request.
func (s *S3Server) await(p *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), s3StartTimeout)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		_, err := s.client.ListBuckets(ctx, &s3.ListBucketsInput{})
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended at once: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("it did not answer within %v: %w", s3StartTimeout, err)
		case <-poll.C:
		}
	}
}

// Bucket makes a bucket of a fresh name for the test.
func (s *S3Server) Bucket(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:16])
	if _, err := s.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatalf("make bucket %s: %v", name, err)
	}
	return name
}

// Put writes an object.
func (s *S3Server) Put(t testing.TB, bucket, key string, data []byte) {
	t.Helper()
	_, err := s.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(data)})
	if err != nil {
		t.Fatalf("put s3://%s/%s: %v", bucket, key, err)
	}
}

// Delete removes an object.
func (s *S3Server) Delete(t testing.TB, bucket, key string) {
	t.Helper()
	if _, err := s.client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		t.Fatalf("delete s3://%s/%s: %v", bucket, key, err)
	}
}

// freeAddress gives the address of a loopback port that was free a moment ago.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
