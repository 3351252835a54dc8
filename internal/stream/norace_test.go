//go:build !race

package stream

// raceEnabled reports whether the race detector is on: sync.Pool forgets at random then,
// so allocations cannot be counted, and all is slower.
const raceEnabled = false
