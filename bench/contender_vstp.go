package main

import (
	"context"

	"github.com/vstp-go/vstp"
)

func vstpContender() *contender {
	return vstpOver("vstp", "vstp over TCP, CRC on (the default)", "tcp", "tcp",
		func(*env, bool) *vstp.Config { return nil })
}

func vstpNoCRCContender() *contender {
	return vstpOver("vstp-nocrc", "vstp over TCP, CRC off", "tcp", "tcp", noCRC)
}

func vstpTLSContender() *contender {
	c := vstpOver("vstp-tls", "vstp over TCP and TLS 1.3", "tls", "tcp",
		func(e *env, server bool) *vstp.Config {
			if server {
				return &vstp.Config{TLS: e.serverTLS}
			}
			return &vstp.Config{TLS: e.clientTLS}
		})
	c.idleConns = 2000
	return c
}

func vstpUnixContender() *contender {
	return vstpOver("vstp-unix", "vstp over a unix socket, CRC on", "unix", "unix",
		func(*env, bool) *vstp.Config { return nil })
}

func vstpUnixNoCRCContender() *contender {
	return vstpOver("vstp-unix-nocrc", "vstp over a unix socket, CRC off", "unix", "unix", noCRC)
}

func noCRC(*env, bool) *vstp.Config { return &vstp.Config{Checksum: vstp.ChecksumOff} }

func vstpOver(name, what, base, network string, config func(e *env, server bool) *vstp.Config) *contender {
	return &contender{
		name: name, what: what, base: base, tests: coreTests,
		listen: func(e *env, host string) (acceptor, error) {
			addr := host + ":0"
			if network == "unix" {
				var err error
				if addr, err = socketPath(e); err != nil {
					return nil, err
				}
			}
			lc := vstp.ListenConfig{Config: config(e, true)}
			ln, err := lc.Listen(context.Background(), network, addr)
			if err != nil {
				return nil, err
			}
			return netAcceptor{ln}, nil
		},
		dial: func(e *env, addr string) (stream, error) {
			d := vstp.Dialer{Config: config(e, false)}
			return d.Dial(network, addr)
		},
	}
}
