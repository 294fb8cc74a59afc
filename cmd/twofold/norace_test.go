//go:build !race

package main

// buildFlags build the program as these tests are built.
var buildFlags []string
