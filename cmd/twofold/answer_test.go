package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// partialAnswer has a value of each kind: fresh, expired, and one that could not be read.
func partialAnswer() *twofoldv1.GetOnlineFeaturesResponse {
	speed := client.Doubles("weather:wind_speed", 7.5, 3.25)
	speed.Statuses = []twofoldv1.ValueStatus{twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED}
	queue := client.Int64s("queue:length", 4, 0)
	queue.Statuses = []twofoldv1.ValueStatus{twofoldv1.ValueStatus_VALUE_STATUS_PRESENT, twofoldv1.ValueStatus_VALUE_STATUS_UNAVAILABLE}
	return &twofoldv1.GetOnlineFeaturesResponse{
		Columns: []*twofoldv1.Column{client.Strings("origin", "EWR", "JFK"), speed, queue},
		Views:   []*twofoldv1.ViewMetadata{{Name: "weather"}, {Name: "queue", Fault: status.New(codes.Unavailable, "redis does not answer").Proto()}},
	}
}

// TestExpiredAndUnavailableValues: an expired value is shown where it was asked for, marked as such, and what could not be read never is.
func TestExpiredAndUnavailableValues(t *testing.T) {
	for _, c := range []struct {
		expired          bool
		table, csv, json string
	}{
		{true, `(?m)^weather:wind_speed +7.5 +3.25 \(EXPIRED\)$`, "JFK,3.25,\n", `(?s)"weather:wind_speed": 3.25.*"weather:wind_speed": "EXPIRED"`},
		{false, `(?m)^weather:wind_speed +7.5 +\(EXPIRED\)$`, "JFK,,\n", `(?s)"weather:wind_speed": null.*"weather:wind_speed": "EXPIRED"`},
	} {
		a, err := newAnswer(partialAnswer(), 1, c.expired)
		require.NoError(t, err)
		var table, csv, json bytes.Buffer
		require.NoError(t, a.table(&table))
		require.NoError(t, a.csv(&csv))
		require.NoError(t, a.json(&json))
		require.Regexp(t, c.table, table.String())
		require.Regexp(t, `(?m)^queue:length +4 +\(UNAVAILABLE\)$`, table.String())
		require.Contains(t, csv.String(), "EWR,7.5,4\n")
		require.Contains(t, csv.String(), c.csv)
		require.Regexp(t, c.json, json.String())
		require.Regexp(t, `(?s)"queue:length": null.*"queue:length": "UNAVAILABLE".*"faults": \{\s*"queue": "redis does not answer"`, json.String())
		require.Equal(t, map[string]string{"queue": "redis does not answer"}, a.faults())
	}
}

// TestGetRequest: each flag reaches the request.
func TestGetRequest(t *testing.T) {
	o := getOptions{features: []string{"a:b"}, maxStaleness: time.Minute, asOf: "2013-07-01 12:00:00", eventTimes: true, includeExpired: true, allowPartial: true}
	request, err := o.request("")
	require.NoError(t, err)
	require.Equal(t, "2013-07-01T12:00:00Z", formatTime(request.GetAsOfMicros()))
	require.True(t, request.GetIncludeEventTimes() && request.GetIncludeExpired() && request.GetAllowPartial())
	require.Equal(t, time.Minute, request.GetMaxStaleness().AsDuration())

	request, err = getOptions{}.request("service_v1")
	require.NoError(t, err)
	require.Equal(t, "service_v1", request.GetFeatureService())
	require.Nil(t, request.AsOfMicros)
	require.Nil(t, request.GetMaxStaleness())
	require.False(t, request.GetIncludeExpired() || request.GetAllowPartial())

	_, err = getOptions{asOf: "yesterday"}.request("")
	require.ErrorContains(t, err, `--as-of: "yesterday" is not a time`)
}
