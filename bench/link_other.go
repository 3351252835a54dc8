//go:build !linux

package main

import (
	"errors"
	"os/exec"
	"syscall"
)

var errNoLink = errors.New("links are emulated on Linux only")

func canLink() error { return errNoLink }

func congestionControl(string) func(network, address string, c syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error { return errNoLink }
}

func retransmitted(s stream) (float64, bool) { return retransmittedOf(s) }

type link struct{}

type place struct{}

func newLink(*linkSpec, uint64) (*link, error)        { return nil, errNoLink }
func (*link) host() string                            { return "" }
func (*link) server() *place                          { return nil }
func (*link) client() *place                          { return nil }
func (*link) counts() (toClient, toServer linkCounts) { return }
func (*link) blockUDP(bool)                           {}
func (*link) close() error                            { return nil }
func (*place) start(*exec.Cmd) error                  { return errNoLink }
