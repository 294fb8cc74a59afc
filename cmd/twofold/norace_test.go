//go:build !race

package main

// buildFlags build the program as these tests are built.
var buildFlags []string

// underRace is whether these tests run under the race detector.
const underRace = false
