//go:build race

package main

// buildFlags build the program with the race detector where the tests have it.
var buildFlags = []string{"-race"}

// underRace is whether these tests run under the race detector.
const underRace = true
