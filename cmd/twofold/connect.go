package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/twofold-ml/twofold/client"
	"github.com/twofold-ml/twofold/internal/config"
)

// connection is a client of the server that the configuration names.
type connection struct {
	*client.Client
	server string
	config config.Config
	ctx    context.Context
}

// clientFlags adds the flags of a command that calls a server.
func clientFlags(cmd *cobra.Command, timeout *time.Duration, defaultTimeout time.Duration) {
	config.AddFlags(cmd.Flags(), "server", "limits.max_message_bytes")
	text := "longest time to wait for the server"
	if defaultTimeout == 0 {
		text += " (default no limit)"
	}
	cmd.Flags().DurationVar(timeout, "timeout", defaultTimeout, text)
}

// connect returns a client whose calls end after the timeout (0: never), and what frees it.
func (a *app) connect(cmd *cobra.Command, timeout time.Duration) (*connection, func(), error) {
	loaded, err := a.load(cmd)
	if err != nil {
		return nil, nil, err
	}
	size := int(loaded.Limits.MaxMessageBytes)
	c, err := client.Dial(loaded.Server, grpc.WithUserAgent("twofold/"+version),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(size), grpc.MaxCallSendMsgSize(size)))
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	return &connection{c, loaded.Server, loaded.Config, ctx}, func() { cancel(); _ = c.Close() }, nil
}

// wrap turns the error of a call into one that says which server it was.
func (c *connection) wrap(err error) error {
	if err == nil {
		return nil
	}
	return callError{c.server, err}
}
