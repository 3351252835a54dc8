//go:build race

package vstp_test

// Under the race detector the largest sizes are smaller. Run the tests without it
// as well, for the full ones.
const raceEnabled = true
