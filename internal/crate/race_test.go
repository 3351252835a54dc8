//go:build race

package crate

const raceEnabled = true
