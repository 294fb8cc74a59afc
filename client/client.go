// Package client is the Go client of Twofold: online features, training sets, pushes and the registry over one gRPC
// connection. It links nothing but the contract and gRPC.
//
//	c, err := client.Dial("localhost:7070")
//	…
//	resp, err := c.Online(ctx, &twofoldv1.GetOnlineFeaturesRequest{
//		FeatureService: "departure_delay_v1",
//		Entities: []*twofoldv1.Column{client.Strings("origin", "EWR"), client.Strings("carrier", "UA"), client.Strings("tail_number", "N14228")},
//	})
//	speed, ok := client.Double(client.Find(resp.GetColumns(), "weather:wind_speed"), 0)
//
// Who ranks thousands of candidates asks over an OnlineStream, many requests at once. Who would rather have a part of the answer than none
// sets AllowPartial and looks at Faults; who can use values past their ttl sets IncludeExpired and reads them with Value.
package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// maxMessageBytes is the largest message that the client accepts, unless a dial option says otherwise.
const maxMessageBytes = 64 << 20

const (
	// streamWindowBytes is how much of a stream the server may send ahead of who reads it: a few batches of a training set. gRPC begins with 64 KiB and measures its way up.
	streamWindowBytes = 4 << 20
	// bufferBytes of a connection, each way: batches of a training set take fewer system calls than with gRPC's 32 KiB.
	bufferBytes = 256 << 10
)

// Client is a connection to a Twofold server. Its methods may be called by many goroutines at once. Errors are gRPC
// statuses; see service FeatureService in the contract for their codes.
type Client struct {
	conn     *grpc.ClientConn
	features twofoldv1.FeatureServiceClient
	registry twofoldv1.RegistryServiceClient
	sync     twofoldv1.SyncServiceClient
}

// Dial returns a client of the server at target ("host:port", or any gRPC target). It does not connect until the first call. The connection is
// not encrypted unless an option says so (grpc.WithTransportCredentials), and lets the server send 4 MiB of a stream ahead of its reader: a stream gets no more than that in
// a round trip, which on a link of 100 ms is 40 MB/s. grpc.WithInitialWindowSize sets another number; gRPC's own way of finding one is off.
func Dial(target string, options ...grpc.DialOption) (*Client, error) {
	defaults := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(bufferBytes), grpc.WithWriteBufferSize(bufferBytes),
		grpc.WithInitialWindowSize(streamWindowBytes), grpc.WithInitialConnWindowSize(2 * streamWindowBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
	}
	conn, err := grpc.NewClient(target, append(defaults, options...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %q: %w", target, err)
	}
	return &Client{conn, twofoldv1.NewFeatureServiceClient(conn), twofoldv1.NewRegistryServiceClient(conn), twofoldv1.NewSyncServiceClient(conn)}, nil
}

// Close closes the connection. Calls under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// Registry returns the client of the registry service.
func (c *Client) Registry() twofoldv1.RegistryServiceClient { return c.registry }

// Sync returns the client of the sync service: how views stand, their last runs, and runs on demand.
func (c *Client) Sync() twofoldv1.SyncServiceClient { return c.sync }

// Online returns the freshest features of the request's entities, or those of the moment that its AsOfMicros names (see AsOf).
func (c *Client) Online(ctx context.Context, req *twofoldv1.GetOnlineFeaturesRequest) (*twofoldv1.GetOnlineFeaturesResponse, error) {
	return c.features.GetOnlineFeatures(ctx, req)
}

// Push writes rows of one feature view to the online store.
func (c *Client) Push(ctx context.Context, req *twofoldv1.PushFeaturesRequest) (*twofoldv1.PushFeaturesResponse, error) {
	return c.features.PushFeatures(ctx, req)
}

// Healthy returns nil where the server says that it can answer, and else why it cannot.
func (c *Client) Healthy(ctx context.Context) error {
	resp, err := healthpb.NewHealthClient(c.conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("the server answers %v", resp.GetStatus())
	}
	return nil
}
