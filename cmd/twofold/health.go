package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twofold-ml/twofold/internal/fault"
)

func (a *app) healthCommand() *cobra.Command {
	var timeout time.Duration
	var at string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it can answer",
		Long: `Asks a server whether it can answer, and exits 0 if it can and 3 if it cannot: a probe for containers,
which need no other program for it. A syncer has no gRPC; ask it over HTTP with --url.`,
		Example: `  twofold health
  twofold health --server features.internal:7070 --timeout 1s
  twofold health --url http://localhost:7072/readyz`,
		GroupID: groupServe,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if at != "" {
				return a.probe(cmd, at, timeout)
			}
			c, done, err := a.connect(cmd, timeout)
			if err != nil {
				return err
			}
			defer done()
			if err := c.Healthy(c.ctx); err != nil {
				return fault.New(fault.Unavailable, "%w", c.wrap(err))
			}
			_, err = fmt.Fprintln(a.out, "healthy")
			return err
		},
	}
	clientFlags(cmd, &timeout, 3*time.Second)
	cmd.Flags().StringVar(&at, "url", "", "HTTP `URL` to ask instead, which is healthy if it answers 200")
	return cmd
}

// probe asks a URL.
func (a *app) probe(cmd *cobra.Command, at string, timeout time.Duration) error {
	if u, err := url.Parse(at); err != nil || u.Host == "" {
		return usagef(cmd, "--url: %q is not a URL; write for example http://localhost:7072/readyz", at)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return usagef(cmd, "--url: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fault.New(fault.Unavailable, "cannot reach %s: %w", at, err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // the text is a courtesy; the code decides
	text := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return fault.New(fault.Unavailable, "%s answers %s: %s", at, response.Status, text)
	}
	_, err = fmt.Fprintln(a.out, "healthy")
	return err
}
