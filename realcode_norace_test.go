//go:build !race

package vstp_test

const raceEnabled = false
