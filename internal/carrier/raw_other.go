//go:build !linux

package carrier

import "net"

const maxRaw = 0

// Elsewhere there is nothing to gain.
type smallWriter struct{}

func newSmallWriter(net.Conn) *smallWriter { return nil }

func (*smallWriter) write(conn net.Conn, p []byte) (int, error) { return conn.Write(p) }
