//go:build race

package reliable

// raceEnabled says that this is a race build, in which everything takes ten times as long.
const raceEnabled = true
