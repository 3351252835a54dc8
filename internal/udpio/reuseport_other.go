//go:build !linux

package udpio

import (
	"net"
	"syscall"

	"golang.org/x/net/bpf"
)

// CanSteer reports whether Steer works on this system.
func CanSteer() bool { return false }

// SharesPort reports whether others may bind the port of a socket.
func SharesPort(syscall.RawConn) bool { return false }

// SharePort has more than one socket have a port.
func SharePort(syscall.RawConn) error { return errNoSteering }

// KeepPort takes SharePort back.
func KeepPort(syscall.RawConn) error { return errNoSteering }

// Steer has the system choose among sockets that share a port.
func Steer(net.PacketConn, []bpf.RawInstruction) error { return errNoSteering }
