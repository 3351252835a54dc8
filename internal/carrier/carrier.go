// Package carrier moves whole frames over one byte stream: a TCP connection, a
// Unix socket, or whatever net.Conn the caller has, with TLS 1.3 around it or not.
//
// Its reason to exist is one promise that neither net.Conn nor crypto/tls makes:
// a write deadline never leaves half a frame as the last word. WriteFrame either
// takes the frame, and then all of its bytes reach the stream in order, or it
// takes nothing. What the socket had no room for when the deadline passed is kept
// here and leaves first, with the next WriteFrame or Flush. Underneath TLS the
// same holds for records, so that crypto/tls never sees a write fail for a
// deadline, after which it could not go on (golang.org/issue/46977).
//
// A Carrier has no locks for its users: one goroutine at a time may write, one
// may read; deadlines may be set by others at any time.
package carrier

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// joinLimit is the size up to which header and payload are joined in one buffer
// instead of being handed over as a vector. Below it, copying is cheaper than a
// second iovec, and in TLS than a second record.
const joinLimit = 1 << 10

// joinLimitTLS is joinLimit inside TLS, where a header apart is a record of its
// own with its own seal.
const joinLimitTLS = 4 << 10

// A Carrier is one byte stream that carries frames.
type Carrier struct {
	conn   net.Conn  // the socket; deadlines are set on it
	tls    *tls.Conn // nil in plaintext
	vec    *vectorReader
	writev bool // net.Buffers is a single writev on conn

	// Owned by the writer.
	iov     [3][]byte // backing store of bufs
	bufs    net.Buffers
	rest    []byte       // what the socket has not taken yet of frames already accepted
	werr    error        // the first write error that is no timeout; final
	restBuf *[]byte      // from bufferPool, with rest in it, or nil
	sw      *smallWriter // nil if conn is no socket
	try     *tryWriter   // nil until it is needed, or where there is none

	seal sealed // the outgoing side of TLS
}

// New returns a plaintext carrier over conn.
func New(conn net.Conn) *Carrier {
	c := &Carrier{}
	c.Init(conn)
	return c
}

// Init makes c a plaintext carrier over conn.
func (c *Carrier) Init(conn net.Conn) {
	switch conn := conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		c.writev = true
	case *tls.Conn:
		// The caller's own TLS does not survive a write deadline.
		c.conn = newPumped(conn)
		return
	}
	c.conn = conn
	c.vec = newVectorReader(conn)
	c.sw = newSmallWriter(conn)
}

// NetConn returns what New was given.
func (c *Carrier) NetConn() net.Conn { return c.bare() }

// Read reads from the stream. It may be called again after a timeout.
func (c *Carrier) Read(p []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Read(p)
	}
	return c.readSocket(p)
}

// readSocket reads from what is underneath TLS.
func (c *Carrier) readSocket(p []byte) (int, error) {
	if c.vec != nil && 0 < len(p) && len(p) <= maxRaw {
		return c.vec.readSmall(p)
	}
	return c.conn.Read(p)
}

// CanReadv reports whether Readv fills both slices with one system call.
func (c *Carrier) CanReadv() bool { return c.tls == nil && c.vec != nil }

// Readv reads into a and, if there is more, into b, with one system call where
// CanReadv says so. It returns the sum.
func (c *Carrier) Readv(a, b []byte) (int, error) {
	if !c.CanReadv() {
		return c.Read(a)
	}
	return c.vec.readv(a, b)
}

// SetReadDeadline sets the deadline of Read, also of a Read that is blocked.
func (c *Carrier) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of WriteFrame and Flush, also of one that is blocked.
func (c *Carrier) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// WriteFrame sends the concatenation of head, payload and tail. A nil error means
// that all of it is on its way: with the socket, or kept here (see Pending). With
// any error nothing of it was or will be sent, unless the stream is broken. A
// timeout (os.ErrDeadlineExceeded) leaves the carrier usable. The slices are
// only borrowed.
func (c *Carrier) WriteFrame(head, payload, tail []byte) error {
	if err := c.Flush(); err != nil {
		return err
	}
	if c.tls != nil {
		return c.writeSealed(head, payload, tail)
	}
	return c.writeVector(head, payload, tail)
}

// writeVector hands a frame to the socket without copying the payload, where the
// socket has writev.
func (c *Carrier) writeVector(head, payload, tail []byte) error {
	if !c.writev || len(payload) <= joinLimit {
		// One Write a frame, as some connections make a packet of each.
		b := bufferPool.Get().(*[]byte)
		*b = append(append(append((*b)[:0], head...), payload...), tail...)
		n, err := c.writeSocket(*b)
		err = c.wrote(n, err, *b)
		bufferPool.Put(b)
		return err
	}
	c.iov = [3][]byte{head, payload, tail}
	c.bufs = c.iov[:]
	if len(tail) == 0 {
		c.bufs = c.iov[:2]
	}
	n, err := c.bufs.WriteTo(c.conn)
	if err != nil {
		// WriteTo has cut what it sent from the front of bufs.
		if n > 0 && isTimeout(err) {
			for _, b := range c.bufs {
				c.rest = append(c.rest, b...)
			}
			err = nil
		} else if !isTimeout(err) {
			c.werr = err
		}
	}
	c.iov = [3][]byte{} // not ours to keep
	c.bufs = nil
	return err
}

// writeSocket writes p to the socket.
func (c *Carrier) writeSocket(p []byte) (int, error) {
	if c.sw != nil && len(p) <= maxRaw {
		return c.sw.write(c.conn, p)
	}
	return c.conn.Write(p)
}

// wrote turns the result of a single Write of p into that of WriteFrame.
func (c *Carrier) wrote(n int, err error, p []byte) error {
	switch {
	case err == nil:
		return nil
	case !isTimeout(err):
		c.werr = err
		return err
	case n > 0:
		c.rest = append(c.rest, p[n:]...)
		return nil
	}
	return err
}

// Pending reports whether accepted bytes wait for Flush.
func (c *Carrier) Pending() bool { return len(c.rest) > 0 || c.tls != nil && c.seal.pending() }

// Sealed reports whether TLS has something to send. Unlike Pending it may be called
// by others than the writer.
func (c *Carrier) Sealed() bool { return c.tls != nil && c.seal.pending() }

// Flush sends what earlier calls have left over. After a timeout it can be called again.
func (c *Carrier) Flush() error {
	if c.werr != nil {
		return c.werr
	}
	for {
		if len(c.rest) > 0 {
			n, err := c.conn.Write(c.rest)
			c.rest = c.rest[n:]
			if err != nil {
				if !isTimeout(err) {
					c.werr = err
				}
				return err
			}
		}
		c.rest = nil
		if p, ok := c.conn.(*pumped); ok {
			err := p.wait()
			if err != nil && !isTimeout(err) {
				c.werr = err
			}
			return err
		}
		if c.tls == nil || !c.seal.pending() {
			return nil
		}
		c.rest = c.seal.take()
	}
}

// ReadFromN sends head and then n bytes read from r, for which the socket may use
// sendfile; see CanSendfile. It returns how many bytes of r were sent and whether
// the frame was begun: then, after a timeout, the caller owes the stream the
// rest (see Owe), and sent short of n with a nil error says that r ended early.
func (c *Carrier) ReadFromN(head []byte, r io.Reader, n int64) (begun bool, sent int64, err error) {
	if err := c.WriteFrame(head, nil, nil); err != nil {
		return false, 0, err
	}
	if err := c.Flush(); err != nil {
		return true, 0, err
	}
	sent, err = c.conn.(io.ReaderFrom).ReadFrom(&io.LimitedReader{R: r, N: n})
	if err != nil && !isTimeout(err) {
		c.werr = err
	}
	return true, sent, err
}

// Owe appends p to what Flush will send. It completes a frame of ReadFromN.
func (c *Carrier) Owe(p []byte) { c.rest = append(c.rest, p...) }

// CanSendfile reports whether ReadFromN does without copies.
func (c *Carrier) CanSendfile() bool {
	_, ok := c.conn.(io.ReaderFrom)
	return ok && c.tls == nil && c.writev
}

// Break makes every later write fail with err.
func (c *Carrier) Break(err error) {
	if c.werr == nil {
		c.werr = err
	}
}

// CloseWriteBlocks reports whether CloseWrite may wait for the peer, as the
// close_notify of TLS does on a carrier that is full.
func (c *Carrier) CloseWriteBlocks() bool {
	_, pumped := c.conn.(*pumped)
	return c.tls != nil || pumped
}

// CloseWrite ends the outgoing direction: close_notify inside TLS, FIN on a
// socket that can. It reports whether the stream has such an end; where it has
// none, only Close tells the peer. The caller has flushed before.
func (c *Carrier) CloseWrite() bool {
	if c.tls != nil {
		c.tls.CloseWrite() // into c.seal
		c.Flush()
	}
	if cw, ok := c.conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite() == nil
	}
	return false
}

// Discard reads and drops what comes until the stream ends or fails, without
// regard to TLS.
func (c *Carrier) Discard(buf []byte) {
	for {
		if _, err := c.conn.Read(buf); err != nil {
			return
		}
	}
}

// Close closes the socket. Blocked calls return.
func (c *Carrier) Close() error { return c.conn.Close() }

// LocalAddr and RemoteAddr are those of the socket.
func (c *Carrier) LocalAddr() net.Addr  { return c.conn.LocalAddr() }
func (c *Carrier) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// isTimeout reports whether err is an expired deadline, after which a write can go on.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// bufferPool lends the buffers in which small frames are put together, and sealed
// records wait for the socket.
var bufferPool = sync.Pool{New: func() any { return new([]byte) }}
