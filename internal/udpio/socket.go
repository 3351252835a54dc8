package udpio

import (
	"net"
	"net/netip"
	"syscall"
)

// socketInfo is what tune found out.
type socketInfo struct {
	isUDP                  bool
	v6                     bool // an IPv6 socket, with IPv4 through mapped addresses
	recvBuffer, sendBuffer int  // bytes
}

// rawConn returns the way to the socket under pc, nil if there is none.
func rawConn(pc net.PacketConn) syscall.RawConn {
	sc, ok := pc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// boundTo returns the one address that a socket receives at, the zero Addr if it
// receives at all of them.
func boundTo(a net.Addr) netip.Addr {
	local, err := AddrOf(a)
	if err != nil || local.Other != nil || local.Addr().IsUnspecified() {
		return netip.Addr{}
	}
	return local.Addr().WithZone("")
}
