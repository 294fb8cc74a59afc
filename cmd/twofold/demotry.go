package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

const (
	demoService  = "departure_delay_v1"
	onlineMethod = "twofold.v1.FeatureService/GetOnlineFeatures"
)

// demoKeys are the entity keys of the feature service.
var demoKeys = []string{"origin", "carrier", "tail_number"}

// waitHealthy returns when the server says that it serves.
func waitHealthy(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	watch, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	for err == nil {
		var r *healthpb.HealthCheckResponse
		if r, err = watch.Recv(); r.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			return nil
		}
	}
	return err
}

// onlineRequest is the JSON of a request for one entity.
func onlineRequest(keys map[string]string) string {
	type column map[string]any
	request := struct {
		FeatureService string   `json:"feature_service"`
		Entities       []column `json:"entities"`
	}{FeatureService: demoService}
	for _, key := range demoKeys {
		request.Entities = append(request.Entities, column{"name": key, "strings": map[string][]string{"values": {keys[key]}}})
	}
	text, err := json.Marshal(request)
	if err != nil {
		panic("demo: " + err.Error()) // strings always marshal
	}
	return string(text)
}

// try makes the three requests and checks their answers.
func (d *demo) try(ctx context.Context) error {
	for i, step := range []struct {
		name string
		run  func(context.Context) (string, error)
	}{{"gRPC, by the server's own reflection", d.tryGRPC}, {"twofold get", d.tryGet}, {"twofold train", d.tryTrain}} {
		begun := time.Now()
		found, err := step.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(d.app.out, "ok %d of 3: %s: %s (%s)\n", i+1, step.name, found, time.Since(begun).Round(time.Millisecond))
	}
	fmt.Fprintln(d.app.out, "All answers are those that pandas found on the same files.")
	return nil
}

// findGrpcurl looks for grpcurl where `make tools` puts it, and on PATH.
func findGrpcurl() (string, bool) {
	for _, name := range []string{filepath.Join(".tools", "grpcurl"), "grpcurl"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	return "", false
}

// tryGRPC asks for each example as grpcurl does: the server describes its own methods. Without grpcurl this program does the same.
func (d *demo) tryGRPC(ctx context.Context) (string, error) {
	how, call := "asked as grpcurl does, which is not installed", d.reflectively
	if path, ok := findGrpcurl(); ok {
		how = "asked with " + path
		call = func(ctx context.Context, request string) ([]byte, error) {
			return grpcurl(ctx, path, d.address, request)
		}
	}
	values := 0
	for _, example := range d.expected.Online {
		text, err := call(ctx, onlineRequest(example.Keys))
		if err != nil {
			return "", err
		}
		response := &twofoldv1.GetOnlineFeaturesResponse{}
		if err := protojson.Unmarshal(text, response); err != nil {
			return "", fmt.Errorf("the answer is not that of %s: %w", onlineMethod, err)
		}
		answer, err := newAnswer(response, len(demoKeys), false)
		if err != nil {
			return "", err
		}
		if err := example.check(answer, 0); err != nil {
			return "", fmt.Errorf("%s %w", example.Title, err)
		}
		values += len(example.Features)
	}
	return fmt.Sprintf("%d values of %d entities, %s", values, len(d.expected.Online), how), nil
}

func grpcurl(ctx context.Context, path, address, request string) ([]byte, error) {
	var out, failure bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "-plaintext", "-emit-defaults", "-d", request, address, onlineMethod)
	cmd.Stdout, cmd.Stderr = &out, &failure
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(failure.Bytes()))
	}
	return out.Bytes(), nil
}

// reflectively makes a call of JSON in and out, knowing only what the server says of itself.
func (d *demo) reflectively(ctx context.Context, request string) ([]byte, error) {
	return callByReflection(ctx, d.conn, onlineMethod, []byte(request))
}

// tryGet asks for all examples at once, as a person would, and then as a program would.
func (d *demo) tryGet(ctx context.Context) (string, error) {
	args := append([]string{"get"}, getArgs(d.expected.Online)...)
	table, err := d.command(ctx, args...)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(d.app.out, "\n%s\n", table)
	text, err := d.command(ctx, append(args, "-o", "json")...)
	if err != nil {
		return "", err
	}
	var answer answerJSON
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", err
	}
	if len(answer.Rows) != len(d.expected.Online) {
		return "", fmt.Errorf("%d entities came back, %d were asked for", len(answer.Rows), len(d.expected.Online))
	}
	for i, example := range d.expected.Online {
		if err := example.checkJSON(answer.Rows[i]); err != nil {
			return "", fmt.Errorf("%s %w", example.Title, err)
		}
	}
	return fmt.Sprintf("%d entities, every value, status and event time", len(answer.Rows)), nil
}

// tryTrain makes the training set of every flight, compares every column, and makes it again by its manifest.
func (d *demo) tryTrain(ctx context.Context) (string, error) {
	out := filepath.Join(d.dir, "training.parquet")
	if _, err := d.command(ctx, append([]string{"train"}, trainArgs(d.flights(), out)...)...); err != nil {
		return "", err
	}
	rows, err := d.expected.Training.check(ctx, d.app, out)
	if err != nil {
		return "", err
	}
	again := filepath.Join(d.dir, "again.parquet")
	if _, err := d.command(ctx, "train", "--manifest", out+manifestSuffix, "--out", again); err != nil {
		return "", err
	}
	if err := sameBytes(out, again); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d rows, %d feature columns, every value, and the same bytes again by its manifest", rows, len(d.expected.Training.Columns)), nil
}

// sameBytes compares two files, which fit in memory.
func sameBytes(first, second string) error {
	a, err := os.ReadFile(first)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(second)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return fmt.Errorf("%s, which repeats %s by its manifest, has other bytes", second, first)
	}
	return nil
}

// command runs a command of this program against the demo's server, and returns what it prints.
func (d *demo) command(ctx context.Context, args ...string) ([]byte, error) {
	var out, failure bytes.Buffer
	a := &app{in: bytes.NewReader(nil), out: &out, err: &failure}
	if code := a.run(ctx, append(args, "--server", d.address)); code != exitOK {
		return nil, fmt.Errorf("exit code %d: %s", code, bytes.TrimSpace(failure.Bytes()))
	}
	return out.Bytes(), nil
}
