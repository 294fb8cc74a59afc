// Package s3gateway runs a versitygw for a benchmark: an S3 service on the loopback network, on a free port, over a folder.
package s3gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/twofold-ml/twofold/bench/internal/process"
)

const (
	startTimeout = 30 * time.Second
	accessKey    = "twofold-bench"
	secretKey    = "twofold-bench-secret"
	region       = "us-east-1"
)

// Gateway is a running versitygw with one bucket.
type Gateway struct {
	process  *process.Process
	bucket   string
	endpoint string
	client   *s3.Client
}

// Start starts the program in a folder, whose objects of an earlier run are there again, and makes the bucket unless it is one of them.
func Start(ctx context.Context, program, folder, bucket string) (*Gateway, error) {
	program, err := process.Find(program, "get it with make tools, or name one with --versitygw")
	if err != nil {
		return nil, err
	}
	if program, err = filepath.Abs(program); err != nil {
		return nil, err
	}
	objects, meta := filepath.Join(folder, "objects"), filepath.Join(folder, "meta")
	if err := errors.Join(os.MkdirAll(objects, 0o700), os.MkdirAll(meta, 0o700)); err != nil {
		return nil, fmt.Errorf("make folders for versitygw: %w", err)
	}
	for range 5 { // somebody else may take the free port first
		var g *Gateway
		if g, err = start(ctx, program, folder, objects, meta, bucket); err == nil {
			return g, nil
		}
	}
	return nil, err
}

func start(ctx context.Context, program, folder, objects, meta, bucket string) (*Gateway, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	// Object attributes are kept in files: not every temporary folder is on a file system with extended attributes.
	command := exec.Command(program, "--port", address, "--quiet", "posix", "--sidecar", meta, objects)
	command.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	command.Dir = folder
	p, err := process.Start("versitygw", command)
	if err != nil {
		return nil, err
	}
	g := &Gateway{process: p, bucket: bucket, endpoint: "http://" + address}
	g.client = s3.New(s3.Options{
		BaseEndpoint: &g.endpoint, Region: region, UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
	if err := g.await(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return g, nil
}

// await makes the bucket as soon as the service answers.
func (g *Gateway) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := g.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &g.bucket})
		if _, owned := errors.AsType[*types.BucketAlreadyOwnedByYou](err); err == nil || owned {
			return nil
		}
		if failed := g.process.Failed(); failed != nil {
			return failed
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("versitygw did not answer within %v: %w", startTimeout, err)
		}
	}
}

// Put stores a file under a key.
func (g *Gateway) Put(ctx context.Context, path, key string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("put %s into S3: %w", key, err)
	}
	defer file.Close()
	if _, err = g.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &g.bucket, Key: &key, Body: file}); err != nil {
		return fmt.Errorf("put %s into S3: %w", key, err)
	}
	return nil
}

// Delete removes an object. It is no error where there is none.
func (g *Gateway) Delete(ctx context.Context, key string) error {
	if _, err := g.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &g.bucket, Key: &key}); err != nil {
		return fmt.Errorf("delete %s from S3: %w", key, err)
	}
	return nil
}

// URL of the bucket, as an offline store's.
func (g *Gateway) URL() string { return "s3://" + g.bucket }

// PID returns the process id.
func (g *Gateway) PID() int { return g.process.PID() }

// Flags and Environment tell twofold of the service.
func (g *Gateway) Flags() []string {
	return []string{"--s3-endpoint", g.endpoint, "--s3-region", region}
}

// Environment has the keys that go with Flags: "NAME=value".
func (g *Gateway) Environment() []string {
	return []string{"TWOFOLD_S3_ACCESS_KEY_ID=" + accessKey, "TWOFOLD_S3_SECRET_ACCESS_KEY=" + secretKey}
}

// Stop ends the service; its objects stay.
func (g *Gateway) Stop() { g.process.Stop() }
