package stream

import (
	"crypto/tls"
	"net"
)

// A Bearer is a byte stream behind its handshake that carries the packets of a session.
// One goroutine may read, one may write; the rest is for all.
type Bearer struct{}

// ReadPacket returns the next packet, a whole frame, valid until the next call.
func (b *Bearer) ReadPacket() ([]byte, error) { return nil, errStub }

// Write sends whole frames. It blocks for as long as that takes.
func (b *Bearer) Write(p []byte) error { return errStub }

// Close ends the byte stream. Blocked calls return.
func (b *Bearer) Close() error { return nil }

// TLSState returns the state of the TLS connection, nil in plaintext.
func (b *Bearer) TLSState() *tls.ConnectionState { return nil }

// LocalAddr returns the address of the carrier.
func (b *Bearer) LocalAddr() net.Addr { return nil }

// RemoteAddr returns the peer's address on the carrier.
func (b *Bearer) RemoteAddr() net.Addr { return nil }

// NetConn returns the carrier's connection.
func (b *Bearer) NetConn() net.Conn { return nil }
