package definition

import (
	"strings"
	"testing"
	"time"
)

// TestExplicitRetention: 0 is a retention like any other, and not the default.
func TestExplicitRetention(t *testing.T) {
	for text, want := range map[string]time.Duration{"0s": 0, "1m": time.Minute, "100h": 100 * time.Hour} {
		set := parse(t, strings.Replace(whole, "ttl: 72h", "ttl: 72h\n    expired_retention: "+text, 1))
		view, err := set.Registry.View("halved")
		if err != nil {
			t.Fatal(err)
		}
		if view.ExpiredRetention != want {
			t.Errorf("expired_retention %s: expired rows are kept %v", text, view.ExpiredRetention)
		}
	}
}
