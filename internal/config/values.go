package config

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// hidden is what stands for a secret wherever it would be printed.
const hidden = "***"

// Secret is a text that never prints: every way of formatting or marshalling it gives "***", or "" where it is empty.
type Secret struct{ text string }

// NewSecret makes a secret of a text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text, for the one call that needs it.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether no secret is set.
func (s Secret) IsZero() bool { return s.text == "" }

// String returns "***", or "" where no secret is set.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return hidden
}

// Format prints String for every verb, %#v and %x included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, s.String()) }

// MarshalText returns String; it serves JSON, YAML and XML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// SecretURL is a URL whose password never prints, nor any query parameter's value that is named like a secret.
type SecretURL struct{ text string }

// NewSecretURL makes a SecretURL of a text.
func NewSecretURL(text string) SecretURL { return SecretURL{text} }

// Reveal returns the URL with its password, for the one call that needs it.
func (u SecretURL) Reveal() string { return u.text }

// IsZero reports whether no URL is set.
func (u SecretURL) IsZero() bool { return u.text == "" }

// String returns the URL with "***" for its password. A text that is no URL is hidden whole. Where it is not plain what the password
// is, more is hidden rather than less.
func (u SecretURL) String() string {
	if u.text == "" {
		return ""
	}
	scheme, rest, ok := strings.Cut(u.text, "://")
	if !ok || strings.ContainsAny(scheme, ":@/ ") {
		return hidden
	}
	// By the last @, whatever stands before it: an unescaped password may hold any character.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, _, hasPassword := strings.Cut(rest[:at], ":")
		if hasPassword {
			user += ":" + hidden
		}
		rest = user + rest[at:]
	}
	if base, query, ok := strings.Cut(rest, "?"); ok {
		rest = base + "?" + hideQuery(query)
	}
	return scheme + "://" + rest
}

// hideQuery hides the values of query parameters that are named like secrets.
func hideQuery(raw string) string {
	pairs := strings.Split(raw, "&")
	for i, pair := range pairs {
		name, _, ok := strings.Cut(pair, "=")
		lower := strings.ToLower(name)
		if ok && (strings.Contains(lower, "pass") || strings.Contains(lower, "secret") || strings.Contains(lower, "token")) {
			pairs[i] = name + "=" + hidden
		}
	}
	return strings.Join(pairs, "&")
}

// Format prints String for every verb, %#v and %x included.
func (u SecretURL) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, u.String()) }

// MarshalText returns String; it serves JSON, YAML and XML.
func (u SecretURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// LogValue returns String.
func (u SecretURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// Toggle is a switch that may be left to the process.
type Toggle string

// The values of a Toggle.
const (
	Auto Toggle = "auto"
	On   Toggle = "true"
	Off  Toggle = "false"
)

// Or returns the switch's value; auto gives the value that the process chose.
func (t Toggle) Or(auto bool) bool {
	if t == Auto || t == "" {
		return auto
	}
	return t == On
}

// LogLevel is debug, info, warn or error.
type LogLevel string

// Level returns the level for a slog handler.
func (l LogLevel) Level() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l)); err != nil {
		return slog.LevelInfo
	}
	return level
}

// LogFormat is text or json.
type LogFormat string

// Bytes is a size in bytes.
type Bytes int64

// String returns the size in the largest unit that divides it: "64MiB".
func (b Bytes) String() string {
	for i := len(byteUnits) - 1; i >= 0; i-- {
		if u := byteUnits[i]; b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

var byteUnits = []struct {
	name string
	size int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

func parseBytes(text string) (Bytes, error) {
	digits, unit := strings.TrimSpace(text), int64(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(digits, u.name); ok {
			digits, unit = strings.TrimSpace(rest), u.size
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size; write bytes, or a number with KiB, MiB or GiB, for example 64MiB", text)
	}
	return Bytes(n * unit), nil
}

// Memory is a size, or a share of the memory that the process has, in percent: "2GiB", "50%".
type Memory string

// Of returns the size in bytes, where the process has total.
func (m Memory) Of(total int64) int64 {
	if percent, ok := m.percent(); ok {
		return int64(float64(total) / 100 * percent)
	}
	size, _ := parseBytes(string(m)) // was checked when it was set
	return int64(size)
}

func (m Memory) percent() (float64, bool) {
	digits, ok := strings.CutSuffix(strings.TrimSpace(string(m)), "%")
	percent, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	return percent, ok && err == nil && percent > 0 && percent <= 100
}

// leastMemory is the least size of a Memory.
const leastMemory Bytes = 64 << 20

func parseMemory(text string) (Memory, error) {
	m := Memory(text)
	if _, ok := m.percent(); ok {
		return m, nil
	}
	size, err := parseBytes(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("%q is neither a share nor a size; write for example 50%% or 2GiB", text)
	case size < leastMemory:
		return "", fmt.Errorf("%v is too little; write at least %v", size, leastMemory)
	}
	return m, nil
}

// List is some texts with commas between.
type List string

// Items returns the texts, without spaces around them and without empty ones.
func (l List) Items() []string {
	var items []string
	for item := range strings.SplitSeq(string(l), ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// parseDuration reads "300" (seconds), "5m" or "1h30m".
func parseDuration(text string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		// Past this many seconds a Duration overflows; the test also refuses NaN and infinities.
		if math.Abs(seconds) < math.MaxInt64/float64(time.Second) {
			return time.Duration(seconds * float64(time.Second)), nil
		}
	} else if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not a duration; write seconds, for example 300, or a number with a unit, for example 5m", text)
}

func oneOf(text string, allowed ...string) error {
	for _, a := range allowed {
		if text == a {
			return nil
		}
	}
	last := len(allowed) - 1
	return fmt.Errorf("%q is not known; write %s or %s", text, strings.Join(allowed[:last], ", "), allowed[last])
}
