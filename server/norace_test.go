//go:build !race

package server_test

// raceEnabled makes long tests shorter: the race detector costs them several times their time.
const raceEnabled = false
