package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"

	"github.com/twofold-ml/twofold/bench/internal/serving"
	"github.com/twofold-ml/twofold/bench/internal/workload"
)

// onlineMethod is the method that both sides serve.
const onlineMethod = twofoldv1.FeatureService_GetOnlineFeatures_FullMethodName

// floorCommand serves the floor: what any server must do that answers GetOnlineFeatures with grpc-go and go-redis, and nothing else.
func floorCommand() *cobra.Command {
	var redisAddr string
	var shapes []string
	cmd := &cobra.Command{
		Use: "floor", Hidden: true, Args: cobra.NoArgs,
		Short: "Serve stored rows as they are, from a bare gRPC handler",
		RunE: func(cmd *cobra.Command, _ []string) error {
			parsed, err := parseShapes(shapes)
			if err != nil {
				return err
			}
			return serveFloor(cmd.Context(), redisAddr, workload.Layouts(parsed), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&redisAddr, "redis", "", "host:port of Redis")
	cmd.Flags().StringSliceVar(&shapes, "shapes", nil, "shapes that will be asked for")
	return cmd
}

// serveFloor serves until ctx is done. It writes where to log, in the same words as twofold does.
func serveFloor(ctx context.Context, redisAddr string, layouts []workload.Layout, log io.Writer) error {
	client := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer client.Close()
	f := &floor{client: client, services: map[string]floorService{}}
	for _, l := range layouts {
		f.services[l.Service()] = floorService{prefix: workload.StoredKeyPrefix(l), views: l.ViewNames()}
	}
	grpcListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	httpListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector())
	pages := &http.Server{Handler: promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}), ReadHeaderTimeout: time.Second}
	defer pages.Close()
	go func() { _ = pages.Serve(httpListener) }() // it ends with an error, always

	server := grpc.NewServer()
	server.RegisterService(&floorDesc, f)
	context.AfterFunc(ctx, server.Stop)
	ready := serving.Line{Message: serving.Serving, GRPC: grpcListener.Addr().String(), HTTP: httpListener.Addr().String()}
	if err := json.NewEncoder(log).Encode(ready); err != nil {
		return err
	}
	return server.Serve(grpcListener)
}

// floor answers GetOnlineFeatures with the stored rows, not decoded.
type floor struct {
	client   *redis.Client
	services map[string]floorService
}

// floorService is what the floor knows of a feature service: how its keys begin and which fields it reads of each.
type floorService struct {
	prefix string
	views  []string
}

// floorDesc describes the one method. It is written by hand because the answer is another message than the contract's.
var floorDesc = grpc.ServiceDesc{
	ServiceName: twofoldv1.FeatureService_ServiceDesc.ServiceName,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "GetOnlineFeatures",
		Handler: func(f any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			request := new(twofoldv1.GetOnlineFeaturesRequest)
			if err := decode(request); err != nil {
				return nil, err
			}
			return f.(*floor).get(ctx, request)
		},
	}},
}

// get reads every view of every entity: one HMGET an entity, all in one pipeline; a single HMGET needs no pipeline.
func (f *floor) get(ctx context.Context, request *twofoldv1.GetOnlineFeaturesRequest) (*twofoldv1.BytesArray, error) {
	service, ok := f.services[request.FeatureService]
	if !ok || len(request.Entities) != 1 {
		return nil, status.Errorf(codes.InvalidArgument, "the floor has no feature service %q with one key", request.FeatureService)
	}
	keys := request.Entities[0].GetInt64S().GetValues()
	answer := &twofoldv1.BytesArray{Values: make([][]byte, 0, len(keys)*len(service.views))}
	if len(keys) == 1 {
		values, err := f.client.HMGet(ctx, service.key(keys[0]), service.views...).Result()
		if err != nil {
			return nil, status.Errorf(codes.Unavailable, "read from Redis: %v", err)
		}
		answer.Values = appendRows(answer.Values, values)
		return answer, nil
	}
	pipe := f.client.Pipeline()
	answers := make([]*redis.SliceCmd, len(keys))
	for i, key := range keys {
		answers[i] = pipe.HMGet(ctx, service.key(key), service.views...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, status.Errorf(codes.Unavailable, "read from Redis: %v", err)
	}
	for _, a := range answers {
		answer.Values = appendRows(answer.Values, a.Val())
	}
	return answer, nil
}

func (s floorService) key(key int64) string { return s.prefix + strconv.FormatInt(key, 10) }

// appendRows appends the values of one HMGET without copying them, and an empty one for each that is not stored.
func appendRows(rows [][]byte, values []any) [][]byte {
	for _, value := range values {
		text, _ := value.(string) // nil where it is not stored
		rows = append(rows, unsafe.Slice(unsafe.StringData(text), len(text)))
	}
	return rows
}
