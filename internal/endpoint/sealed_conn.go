package endpoint

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/vstp-go/vstp/internal/udpio"
)

// A helloConn is what callbacks of a tls.Config get as ClientHelloInfo.Conn: they look at
// its addresses, and must not use it otherwise.
type helloConn struct{ local, remote net.Addr }

var errHelloConn = errors.New("vstp: the connection of a ClientHello has addresses only")

func (c helloConn) LocalAddr() net.Addr              { return c.local }
func (c helloConn) RemoteAddr() net.Addr             { return c.remote }
func (c helloConn) Read([]byte) (int, error)         { return 0, errHelloConn }
func (c helloConn) Write([]byte) (int, error)        { return 0, errHelloConn }
func (c helloConn) Close() error                     { return errHelloConn }
func (c helloConn) SetDeadline(time.Time) error      { return errHelloConn }
func (c helloConn) SetReadDeadline(time.Time) error  { return errHelloConn }
func (c helloConn) SetWriteDeadline(time.Time) error { return errHelloConn }

// helloConn returns the addresses of a handshake.
func (e *Endpoint) helloConn(remote udpio.Addr, local udpio.Local) net.Conn {
	return helloConn{localAddr(e.sock.LocalAddr(), local.Addr), remote.NetAddr()}
}

// localAddr returns the address a of a socket, with the one at which a peer reaches it
// where that is known.
func localAddr(a net.Addr, local netip.Addr) net.Addr {
	u, ok := a.(*net.UDPAddr)
	if !ok || !u.IP.IsUnspecified() || !local.IsValid() {
		return a
	}
	local = local.Unmap()
	return &net.UDPAddr{IP: local.AsSlice(), Port: u.Port, Zone: local.Zone()}
}
