package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/twofold-ml/twofold/bench/internal/process"
)

// gateway is a versitygw: an S3 service on the loopback network, over a folder.
type gateway struct {
	process  *process.Process
	endpoint string
	client   *s3.Client
}

const (
	gatewayStart  = 30 * time.Second
	gatewayKey    = "twofold-bench"
	gatewaySecret = "twofold-bench-secret"
	gatewayRegion = "us-east-1"
	bucket        = "history"
)

// startGateway starts the program in a folder and makes the bucket.
func startGateway(ctx context.Context, program, folder string) (*gateway, error) {
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
		var g *gateway
		if g, err = tryGateway(ctx, program, folder, objects, meta); err == nil {
			return g, nil
		}
	}
	return nil, err
}

func tryGateway(ctx context.Context, program, folder, objects, meta string) (*gateway, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	// Object attributes are kept in files: not every temporary folder is on a file system with extended attributes.
	command := exec.Command(program, "--port", address, "--quiet", "posix", "--sidecar", meta, objects)
	command.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+gatewayKey, "ROOT_SECRET_KEY="+gatewaySecret)
	command.Dir = folder
	p, err := process.Start("versitygw", command)
	if err != nil {
		return nil, err
	}
	g := &gateway{process: p, endpoint: "http://" + address}
	g.client = s3.New(s3.Options{
		BaseEndpoint: &g.endpoint, Region: gatewayRegion, UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(gatewayKey, gatewaySecret, ""),
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
func (g *gateway) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, gatewayStart)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := g.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
		if err == nil {
			return nil
		}
		if failed := g.process.Failed(); failed != nil {
			return failed
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("versitygw did not answer within %v: %w", gatewayStart, err)
		}
	}
}

// upload puts a table's files under the same names.
func (g *gateway) upload(ctx context.Context, root string, t table) error {
	paths, err := filepath.Glob(filepath.Join(root, t.name(), "*.parquet"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := g.put(ctx, path, t.name()+"/"+filepath.Base(path)); err != nil {
			return fmt.Errorf("put %s into S3: %w", path, err)
		}
	}
	return nil
}

func (g *gateway) put(ctx context.Context, path, key string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = g.client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: file})
	return err
}

// flags and environment tell twofold serve of the service.
func (g *gateway) flags() []string {
	return []string{"--s3-endpoint", g.endpoint, "--s3-region", gatewayRegion}
}

func (g *gateway) environment() []string {
	return []string{"TWOFOLD_S3_ACCESS_KEY_ID=" + gatewayKey, "TWOFOLD_S3_SECRET_ACCESS_KEY=" + gatewaySecret}
}

// freeAddress returns a loopback address that nobody listens on at the moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
