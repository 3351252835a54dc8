package vstp

import (
	"context"
	"net"
)

// SetAutoSockets gives d sockets of tests in place of the system's for dials of "auto".
func SetAutoSockets(d *Dialer, listenUDP func() (net.PacketConn, error), dialTCP func(ctx context.Context, address string) (net.Conn, error)) {
	d.sockets = &autoSockets{listenUDP: listenUDP, dialTCP: dialTCP}
}

// ListenerNetwork returns the network that l was made with.
func ListenerNetwork(l *Listener) string { return l.network }

// OnConn has f be told of each connection of "auto" that is made with c.
func OnConn(c *Config, f func(*Conn)) { c.Auto.onConn = f }
