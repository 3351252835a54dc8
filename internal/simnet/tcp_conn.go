package simnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// TCPConn is one end of a connection. It behaves as a *net.TCPConn. Close with what
// nobody has read, and data for an end that is closed, reset the connection. It is safe
// for concurrent use.
type TCPConn struct {
	nw            *tcpNet
	local, remote netip.AddrPort
	peer          *TCPConn
	out           *TCPLink
	listener      *TCPListener // of the server's end
	ready         sync.Cond    // anything of below has changed

	established bool
	closed      bool  // by Close
	err         error // with which it has ended
	gone        bool  // the host knows nothing of it any more
	forgotten   bool  // by ForgetTCP

	// Sending. Positions count bytes from the beginning; FIN is one more.
	sbuf     []byte // from una on
	smax     int
	una, nxt int64 // not acknowledged, to be sent next
	edge     int64 // what the peer takes
	fin      bool
	finAcked bool
	queued   bool // in out.waiting
	armed    bool // an event will call timeout
	probing  bool // after a timeout: one segment at a time
	rto      time.Duration
	expected int64 // when all that was sent should be acknowledged
	since    int64 // nothing was acknowledged since then; 0: all is well
	repeats  int   // acknowledgements that said nothing new
	recover  int64 // what was sent before the last gap
	lastDue  int64 // of the last segment

	// Receiving.
	rbuf   []byte
	rmax   int
	rcvNxt int64
	rfin   bool
	shown  int64 // what the peer was told that we take

	read, write tcpDeadline
}

var _ net.Conn = (*TCPConn)(nil)

func (t *tcpNet) newConn(local, remote netip.AddrPort) *TCPConn {
	size := t.net.opts.TCPBuffer
	c := &TCPConn{
		nw: t, local: local, remote: remote, out: t.link(local.Addr(), remote.Addr()),
		smax: size, rmax: size, edge: int64(size), shown: int64(size),
	}
	c.ready.L = &t.mu
	return c
}

// Read implements net.Conn.
func (c *TCPConn) Read(p []byte) (int, error) {
	c.nw.mu.Lock()
	defer c.nw.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.opError("read", net.ErrClosed)
		case len(p) == 0:
			return 0, nil
		case c.read.passed():
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		case len(c.rbuf) > 0:
			n := copy(p, c.rbuf)
			if c.rbuf = c.rbuf[n:]; len(c.rbuf) == 0 {
				c.rbuf = nil
			}
			// As RFC 9293 §3.8.6.2.2 has it, no window is opened bit by bit.
			free := c.rcvNxt + int64(c.rmax-len(c.rbuf))
			if !c.rfin && c.err == nil && free-c.shown >= min(int64(c.rmax)/2, 2*maxSegment) {
				c.sendAck()
			}
			return n, nil
		case c.err != nil:
			return 0, c.opError("read", c.err)
		case c.rfin:
			return 0, io.EOF
		}
		c.ready.Wait()
	}
}

// Write implements net.Conn. A deadline that passes leaves the bytes before n sent.
func (c *TCPConn) Write(p []byte) (n int, err error) {
	c.nw.mu.Lock()
	defer c.nw.mu.Unlock()
	for {
		switch {
		case c.closed:
			return n, c.opError("write", net.ErrClosed)
		case c.write.passed():
			return n, c.opError("write", os.ErrDeadlineExceeded)
		case c.fin:
			return n, c.opError("write", syscall.EPIPE)
		case c.err != nil:
			return n, c.opError("write", c.err)
		case n == len(p):
			return n, nil
		}
		if m := min(len(p)-n, c.smax-len(c.sbuf)); m > 0 {
			c.sbuf = append(c.sbuf, p[n:n+m]...)
			n += m
			c.kick()
			continue
		}
		c.ready.Wait()
	}
}

// CloseWrite ends the outgoing direction, behind what was written.
func (c *TCPConn) CloseWrite() error {
	c.nw.mu.Lock()
	defer c.nw.mu.Unlock()
	switch {
	case c.closed:
		return c.opError("close", net.ErrClosed)
	case c.err != nil:
		return c.opError("close", c.err)
	}
	c.endWrite()
	return nil
}

func (c *TCPConn) endWrite() {
	if !c.fin {
		c.fin = true
		c.kick()
	}
	c.ready.Broadcast()
}

// Close implements net.Conn. What was written is still sent in the background.
func (c *TCPConn) Close() error {
	c.nw.mu.Lock()
	defer c.nw.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	c.read.set(&c.ready, time.Time{})
	c.write.set(&c.ready, time.Time{})
	switch {
	case c.err != nil:
	case len(c.rbuf) > 0:
		c.reset()
	default:
		c.endWrite()
	}
	c.rbuf = nil
	c.ready.Broadcast()
	return nil
}

// Reset ends the connection as SO_LINGER with 0 does: the peer gets a reset.
func (c *TCPConn) Reset() {
	c.nw.mu.Lock()
	defer c.nw.mu.Unlock()
	if c.err == nil {
		c.reset()
	}
}

// Unsent returns how many bytes of what was written the peer has not acknowledged.
func (c *TCPConn) Unsent() int {
	c.nw.mu.Lock()
	defer c.nw.mu.Unlock()
	return len(c.sbuf)
}

// Buffered returns how many bytes wait to be read at this end.
func (c *TCPConn) Buffered() int {
	c.nw.mu.Lock()
	defer c.nw.mu.Unlock()
	return len(c.rbuf)
}

// LocalAddr returns a *net.TCPAddr.
func (c *TCPConn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr returns a *net.TCPAddr.
func (c *TCPConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetReadDeadline implements net.Conn.
func (c *TCPConn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.read, t) }

// SetWriteDeadline implements net.Conn.
func (c *TCPConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.write, t) }

// SetDeadline implements net.Conn.
func (c *TCPConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *TCPConn) setDeadline(d *tcpDeadline, t time.Time) error {
	c.nw.mu.Lock()
	defer c.nw.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	d.set(&c.ready, t)
	return nil
}

func (c *TCPConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// tcpDeadline wakes a cond when it passes.
type tcpDeadline struct {
	t     time.Time
	timer *time.Timer
}

func (d *tcpDeadline) passed() bool { return expired(d.t) }

func (d *tcpDeadline) set(cond *sync.Cond, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.t = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			cond.L.Lock()
			defer cond.L.Unlock()
			cond.Broadcast()
		})
	}
	cond.Broadcast()
}
