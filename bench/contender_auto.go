package main

import (
	"slices"

	"github.com/vstp-go/vstp"
)

// autoBases: a connection of "auto" on UDP shall cost what one of "rudp" does.
var autoBases = map[string]string{"bulk": "vstp-rudp", "rr": "vstp-rudp", "message": "vstp-rudp", "dials": "vstp-rudp", "idle": "vstp-rudp"}

func vstpAutoContender() *contender {
	return autoOver("vstp-auto", "vstp stream that moves between UDP and TCP, CRC on (the default)", vstp.CarrierAny,
		func(*env, bool) *vstp.Config { return new(vstp.Config) })
}

func vstpAutoTLSContender() *contender {
	c := autoOver("vstp-auto-tls", "vstp stream that moves between UDP and TCP, TLS 1.3", vstp.CarrierAny, withTLS)
	c.tests = append(c.tests, "handshakes")
	c.bases = map[string]string{}
	for test, base := range autoBases {
		c.bases[test] = base + "-tls"
	}
	return c
}

// vstpAutoTCPContender is what is left of it where UDP is blocked.
func vstpAutoTCPContender() *contender {
	c := autoOver("vstp-auto-tcp", "the same, pinned to TCP", vstp.CarrierTCP,
		func(*env, bool) *vstp.Config { return new(vstp.Config) })
	c.tests = slices.Clone(coreTests)
	c.bases = map[string]string{"bulk": "vstp", "rr": "vstp", "message": "vstp", "dials": "vstp", "idle": "vstp"}
	return c
}

func autoOver(name, what string, pin vstp.Carrier, config func(e *env, server bool) *vstp.Config) *contender {
	c := vstpOver(name, what, "", "auto", func(e *env, server bool) *vstp.Config {
		cfg := config(e, server)
		cfg.Auto = vstp.AutoConfig{Pin: pin, Memory: e.memory}
		return cfg
	})
	c.tests = append(slices.Clone(coreTests), "link", "moves")
	c.bases = autoBases
	c.idleConns = 2000 // each has two sockets
	return c
}
