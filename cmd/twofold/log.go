package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/definition"
)

// logger returns a logger to standard error.
func (a *app) logger(c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level.Level()}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(a.err, options))
	}
	return slog.New(slog.NewTextHandler(a.err, options))
}

// logProblem logs what is wrong with definitions in one record, and each line of its timeline, where it has one, in one more, so that it can be read as it is drawn.
func logProblem(log *slog.Logger, level slog.Level, problem definition.Problem) {
	log.Log(context.Background(), level, "definitions: "+problem.String())
	for _, line := range problem.Timeline {
		log.Log(context.Background(), level, "definitions: | "+line)
	}
}

// atLeast lets only records of a level and above through.
type atLeast struct {
	slog.Handler
	level slog.Level
}

// Enabled implements slog.Handler.
func (h atLeast) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level && h.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup implements slog.Handler.
func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.Handler.WithGroup(name), h.level}
}

// redisLog takes what go-redis would write to standard error. It is for the eyes of who debugs the connection: what fails is
// returned as an error as well.
type redisLog struct{ log *slog.Logger }

// Printf implements the interface that redis.SetLogger asks for.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, "redis client: "+fmt.Sprintf(format, args...))
}
