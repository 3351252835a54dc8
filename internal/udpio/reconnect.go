package udpio

import (
	"errors"
	"net"
)

// CanReconnect reports whether Reconnect may work: the conn is a connected socket on a
// system where that is known how to do.
func (c *Conn) CanReconnect() bool { return c.peer != nil && canReconnect }

// Reconnect has the system choose the address of a connected socket anew, which packets
// leave from and LocalAddr returns, and the way to its peer: the one before may be gone.
// What of the address the application has chosen stays. Packets that come meanwhile may
// be lost, and if Reconnect fails, nothing can be sent until it succeeds. It may be
// called while Read and Write are, but not twice at a time. The error is
// errors.ErrUnsupported if CanReconnect is false.
func (c *Conn) Reconnect() error {
	if !c.CanReconnect() {
		return errors.ErrUnsupported
	}
	if c.isClosed() {
		return net.ErrClosed
	}
	local, err := reconnect(c.raw, c.peer, c.socket.v6)
	if err != nil {
		return err
	}
	c.local.Store(local)
	c.io.moved(local)
	return nil
}

// peerOf returns the address that a socket is connected to, nil if it is not.
func peerOf(pc net.PacketConn) *net.UDPAddr {
	if u, ok := pc.(*net.UDPConn); ok {
		if a, ok := u.RemoteAddr().(*net.UDPAddr); ok {
			return a
		}
	}
	return nil
}
