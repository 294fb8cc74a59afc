//go:build race

package main

// buildFlags build the program with the race detector where the tests have it.
var buildFlags = []string{"-race"}
