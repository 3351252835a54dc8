package udpio

import (
	"net"
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

// askBuffers has a wrapper that hides the socket enlarge its buffers, trap U6. What
// comes of it is unknown.
func askBuffers(pc net.PacketConn, target int) {
	if r, ok := pc.(interface{ SetReadBuffer(int) error }); ok {
		r.SetReadBuffer(target)
	}
	if w, ok := pc.(interface{ SetWriteBuffer(int) error }); ok {
		w.SetWriteBuffer(target)
	}
}
