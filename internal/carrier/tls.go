package carrier

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// maxSealed bounds the records that wait between crypto/tls and the socket. One
// frame of 64 KiB is 70 KiB sealed; the rest is room for the few records that
// TLS sends of its own accord (answers to KeyUpdate, alerts). A peer that makes
// TLS send more while it reads nothing loses the connection.
const maxSealed = 256 << 10

// errSealedOverflow is what crypto/tls sees when maxSealed is exceeded.
var errSealedOverflow = errors.New("carrier: peer makes TLS send without reading")

// sealed is where records wait for the socket. crypto/tls appends from Write and,
// for its own messages, from Read; the writer of the Carrier takes.
type sealed struct {
	mu      sync.Mutex
	buf     *[]byte // nil when empty
	corked  bool    // the writer is about to take: no need to call onWrite
	direct  bool    // handshake: write through
	onWrite func()  // called when TLS itself has something to send
}

func (s *sealed) pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf != nil && len(*s.buf) > 0
}

// take returns what waits. The slice belongs to the caller.
func (s *sealed) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buf == nil {
		return nil
	}
	b := *s.buf
	s.buf = nil
	return b
}

func (s *sealed) cork(on bool) {
	s.mu.Lock()
	s.corked = on
	s.mu.Unlock()
}

// tlsSocket is the net.Conn beneath crypto/tls: reads go to the socket, writes
// never fail for a deadline because they go to memory.
type tlsSocket struct{ c *Carrier }

func (t tlsSocket) Read(p []byte) (int, error) { return t.c.readSocket(p) }

func (t tlsSocket) Write(p []byte) (int, error) {
	s := &t.c.seal
	s.mu.Lock()
	if s.direct {
		s.mu.Unlock()
		return t.c.conn.Write(p)
	}
	if s.buf == nil {
		s.buf = bufferPool.Get().(*[]byte)
		*s.buf = (*s.buf)[:0]
	}
	if len(*s.buf)+len(p) > maxSealed {
		s.mu.Unlock()
		return 0, errSealedOverflow
	}
	*s.buf = append(*s.buf, p...)
	wake := s.onWrite
	if s.corked {
		wake = nil
	}
	s.mu.Unlock()
	if wake != nil {
		wake()
	}
	return len(p), nil
}

func (t tlsSocket) Close() error                     { return t.c.conn.Close() }
func (t tlsSocket) LocalAddr() net.Addr              { return t.c.conn.LocalAddr() }
func (t tlsSocket) RemoteAddr() net.Addr             { return t.c.conn.RemoteAddr() }
func (t tlsSocket) SetDeadline(time.Time) error      { return nil } // deadlines are the Carrier's
func (t tlsSocket) SetReadDeadline(time.Time) error  { return nil }
func (t tlsSocket) SetWriteDeadline(time.Time) error { return nil }

// StartTLS runs the TLS handshake, after which everything is sealed. Nothing may
// have been read or written before. onWrite is called, from any goroutine, when
// TLS has something to send that no WriteFrame asked for; it must arrange for
// Flush and not block. A deadline on the carrier or the end of ctx breaks the
// handshake for good.
func (c *Carrier) StartTLS(ctx context.Context, config *tls.Config, client bool, onWrite func()) error {
	c.seal.direct = true
	c.seal.onWrite = onWrite
	if client {
		c.tls = tls.Client(tlsSocket{c}, config)
	} else {
		c.tls = tls.Server(tlsSocket{c}, config)
	}
	if err := c.tls.HandshakeContext(ctx); err != nil {
		c.werr = err
		return err
	}
	c.seal.mu.Lock()
	c.seal.direct = false
	c.seal.mu.Unlock()
	return nil
}

// Detach ends what StartTLS has begun: onWrite is not called any more. What TLS itself has
// to send goes out with the next frame.
func (c *Carrier) Detach() {
	c.seal.mu.Lock()
	c.seal.onWrite = nil
	c.seal.mu.Unlock()
}

// Plain gives TLS up after a handshake that failed because the peer does not speak
// it, so that it can be told in the clear.
func (c *Carrier) Plain() {
	c.tls = nil
	c.werr = nil
}

// TLS returns the TLS connection, or nil in plaintext.
func (c *Carrier) TLS() *tls.Conn { return c.tls }

// writeSealed seals a frame and sends its records with one Write. Once sealed the
// records have to be sent, so from there on the frame is accepted.
func (c *Carrier) writeSealed(head, payload, tail []byte) error {
	c.seal.cork(true)
	err := c.sealFrame(head, payload, tail)
	c.seal.cork(false)
	if err != nil {
		c.werr = err
		return err
	}
	for {
		c.seal.mu.Lock()
		b := c.seal.buf
		c.seal.buf = nil
		c.seal.mu.Unlock()
		if b == nil {
			return nil
		}
		n, err := c.writeSocket(*b)
		if err == nil {
			bufferPool.Put(b)
			continue
		}
		if !isTimeout(err) {
			c.werr = err
			return err
		}
		c.rest = (*b)[n:]
		return nil
	}
}

// sealFrame gives the frame to crypto/tls. A small one is one record; of a large
// one the header is a record of its own, which is cheaper than to copy the payload.
func (c *Carrier) sealFrame(head, payload, tail []byte) error {
	if len(payload) <= joinLimitTLS {
		b := bufferPool.Get().(*[]byte)
		*b = append(append(append((*b)[:0], head...), payload...), tail...)
		_, err := c.tls.Write(*b)
		bufferPool.Put(b)
		return err
	}
	for _, b := range [...][]byte{head, payload, tail} {
		if len(b) == 0 {
			continue
		}
		if _, err := c.tls.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// IsTLSRecord reports whether b, the first bytes of a stream, look like a TLS record,
// as far as they are there.
func IsTLSRecord(b []byte) bool {
	return len(b) > 0 && b[0] >= 20 && b[0] <= 23 && (len(b) == 1 || b[1] == 3)
}

var _ io.Closer = tlsSocket{}
