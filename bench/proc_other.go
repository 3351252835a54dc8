//go:build !linux

package main

import (
	"errors"
	"net"
	"runtime"
	"time"
)

// cpuTime is not measured here: the figures made of it are zero.
func cpuTime() time.Duration { return 0 }

func residentBytes() uint64 { return 0 }

func resetResidentPeak() {}

func residentPeak() uint64 { return 0 }

func raiseFileLimit() int { return 1 << 20 }

const canSpin = false

func spin(<-chan struct{}) error { return errors.New("no idle priority on this system") }

func udpOffload(*net.UDPConn, int) error { return errors.New("no GSO and GRO on this system") }

type cpuStat struct{ total, idle, steal uint64 }

func readCPUStat() cpuStat { return cpuStat{} }

func systemFacts() (cpu, kernel, tcp string) { return "", runtime.GOOS, "" }

func loadAverage() float64 { return 0 }
