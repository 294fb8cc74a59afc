package feature

import (
	"testing"
	"time"
)

func TestWhen(t *testing.T) {
	zone := time.FixedZone("Europe/Berlin", 3600)
	for want, sync := range map[string]Sync{
		"every 10m0s": {Interval: 10 * time.Minute, TimeZone: time.UTC},
		`at "5 3 * * *" Europe/Berlin, at most 25h0m0s apart`: {Interval: 25 * time.Hour, Cron: "5 3 * * *", TimeZone: zone},
	} {
		if got := sync.When(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
