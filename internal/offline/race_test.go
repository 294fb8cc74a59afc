//go:build race

package offline

// raceEnabled makes long tests shorter: the race detector costs them several times their time.
const raceEnabled = true
