package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// listpackValue is the hash-max-listpack-value from which rows of common size are stored compactly; it saved a quarter of the memory.
const listpackValue = 1024

// Warnings implements driver.Driver. Where the server does not tell its configuration, that is the only warning.
func (s *Store) Warnings(ctx context.Context) ([]string, error) {
	return do(ctx, s, "ask for the configuration of", func(ctx context.Context) ([]string, error) {
		var warnings []string
		err := s.eachMaster(ctx, func(ctx context.Context, c redis.Cmdable) error {
			found, err := warningsOf(ctx, c)
			for _, w := range found {
				if !slices.Contains(warnings, w) {
					warnings = append(warnings, w)
				}
			}
			return err
		})
		return warnings, err
	})
}

func warningsOf(ctx context.Context, c redis.Cmdable) ([]string, error) {
	config := map[string]string{}
	for _, pattern := range []string{"maxmemory*", "hash-max-*", "appendonly", "save"} {
		values, err := c.ConfigGet(ctx, pattern).Result()
		if code := answerCode(errorText(err)); code == "NOPERM" || code == "ERR" {
			return []string{"Redis does not tell its configuration (CONFIG GET is not allowed), so its eviction policy, persistence and hash encoding were not checked."}, nil
		}
		if err != nil {
			return nil, err
		}
		for name, value := range values {
			config[name] = value
		}
	}
	return judge(config), nil
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// judge says what is risky or wasteful in a configuration.
func judge(config map[string]string) []string {
	var warnings []string
	policy := config["maxmemory-policy"]
	if limit := config["maxmemory"]; limit != "0" && limit != "" && policy != "noeviction" {
		warnings = append(warnings, fmt.Sprintf("Redis may drop features that are still fresh when its memory is full (maxmemory-policy is %s): "+
			"set it to noeviction, which refuses writes instead.", policy))
	}
	if config["appendonly"] == "no" {
		loss := "everything"
		if strings.TrimSpace(config["save"]) != "" {
			loss = "what was written since its last snapshot"
		}
		warnings = append(warnings, fmt.Sprintf("Redis loses %s when it stops (appendonly is no): set appendonly to yes, or be ready to sync again.", loss))
	}
	name, text := "hash-max-listpack-value", config["hash-max-listpack-value"]
	if text == "" {
		name, text = "hash-max-ziplist-value", config["hash-max-ziplist-value"] // before Redis 7
	}
	if value, err := strconv.Atoi(text); err == nil && value < listpackValue {
		warnings = append(warnings, fmt.Sprintf("Redis stores rows of more than %d bytes in its roomier form (%s is %d): set it to %d to save up to a quarter of the memory.",
			value, name, value, listpackValue))
	}
	return warnings
}
