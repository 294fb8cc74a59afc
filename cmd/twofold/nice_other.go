//go:build !linux

package main

// yieldProcessor does nothing where a process cannot be told to in the same way.
func yieldProcessor() {}
