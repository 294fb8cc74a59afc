//go:build race

package storedrow

const raceEnabled = true
