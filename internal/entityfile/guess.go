package entityfile

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/twofold-ml/twofold/internal/feature"
)

// exactDigits is how many decimal digits every DOUBLE keeps, but for the smallest.
const exactDigits = 15

// guess is what the cells of a CSV column have in common.
type guess struct{ any, notInt, notDouble, notBool bool }

func (g *guess) see(text string) {
	if text == "" || g.notInt && g.notDouble && g.notBool {
		return
	}
	g.any = true
	coded := leadingZero(text)
	_, err := strconv.ParseInt(text, 10, 64)
	g.notInt = g.notInt || err != nil || coded
	switch {
	case g.notDouble:
	case err == nil && len(text) <= exactDigits && !coded: // a whole number that DOUBLE holds
	default:
		// A whole number that is too large for INT64 is an id.
		g.notDouble = errors.Is(err, strconv.ErrRange) || coded || !survivesDouble(text)
	}
	if !g.notBool {
		_, err := parseBool(text)
		g.notBool = err != nil
	}
}

// leadingZero reports whether text is a number that is written like a code ("007", "+1", "0x1p4", "1_000"), which must stay text.
func leadingZero(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	return strings.HasPrefix(digits, "+") || strings.ContainsAny(digits, "xX_") ||
		len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'
}

// survivesDouble reports whether text is a number that DOUBLE holds with all its digits.
func survivesDouble(text string) bool {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	if len(text) <= exactDigits && math.Abs(v) > 1e-300 {
		return true
	}
	digits := significantDigits(text)
	if len(digits) > 17 {
		return false
	}
	return len(digits) == 0 || significantDigits(strconv.FormatFloat(v, 'e', len(digits)-1, 64)) == digits
}

// significantDigits returns the digits of a decimal number without zeros at its ends.
func significantDigits(number string) string {
	mantissa, _, _ := strings.Cut(strings.ToLower(number), "e")
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, mantissa)
	return strings.Trim(digits, "0")
}

func (g *guess) result() feature.Type {
	switch {
	case !g.any:
		return feature.String
	case !g.notInt:
		return feature.Int64
	case !g.notDouble:
		return feature.Double
	case !g.notBool:
		return feature.Bool
	default:
		return feature.String
	}
}
