package main

import (
	"strings"
	"unicode"

	"github.com/twofold-ml/twofold/internal/feature"
)

// cell returns a value for a table: the value, or its status in brackets.
func cell(c *feature.Column, row int) string {
	if !c.IsPresent(row) {
		return "(" + c.Status[row].String() + ")"
	}
	// No control character of a value reaches a terminal.
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, c.TextAt(row))
}

// formatTime returns microseconds since the epoch as RFC 3339 in UTC.
func formatTime(micros int64) string { return feature.TimeText(micros) }
