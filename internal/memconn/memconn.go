// Package memconn is a pair of connected net.Conns in memory for tests: buffered
// like sockets, within a bound, with deadlines, half-close and faults on demand. It
// works inside testing/synctest bubbles, where sockets do not.
//
// Like a socket of the runtime's poller, a blocked call looks at the deadline when
// it gets to run: a deadline that has passed and been moved since has not passed.
package memconn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// DefaultBuffer is how many bytes each direction holds if Pipe is given 0.
const DefaultBuffer = 64 << 10

// A Conn is one end.
type Conn struct {
	in, out *half
	name    string
}

// half is one direction.
type half struct {
	mu      sync.Mutex
	cond    sync.Cond
	buf     []byte
	limit   int
	maxRead int // largest Read, 0: any

	eof     bool // the writer has ended it
	rclosed bool // the reader has closed its end
	wclosed bool // the writer has closed its end

	rerr    error // what the reader gets after buf
	werr    error // what the writer gets
	written int64 // bytes taken so far
	read    int64

	failAt  int64 // written reaches it: werr becomes failErr; 0: never
	failErr error
	flipAt  int64 // offset of a byte that is damaged on its way
	flip    byte
	rd, wd  deadline
}

// deadline wakes its half when it passes.
type deadline struct {
	t     time.Time
	timer *time.Timer
}

// Pipe returns two connected ends, each direction of which holds up to buffer bytes.
func Pipe(buffer int) (a, b *Conn) {
	if buffer == 0 {
		buffer = DefaultBuffer
	}
	ab, ba := newHalf(buffer), newHalf(buffer)
	return &Conn{in: ba, out: ab, name: "a"}, &Conn{in: ab, out: ba, name: "b"}
}

func newHalf(limit int) *half {
	h := &half{limit: limit, flipAt: -1}
	h.cond.L = &h.mu
	return h
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.rclosed:
			return 0, opError("read", net.ErrClosed)
		case len(p) == 0:
			return 0, nil
		case h.rd.passed():
			return 0, opError("read", os.ErrDeadlineExceeded)
		case len(h.buf) > 0:
			if h.maxRead > 0 && len(p) > h.maxRead {
				p = p[:h.maxRead]
			}
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			if len(h.buf) == 0 {
				h.buf = nil
			}
			h.read += int64(n)
			h.cond.Broadcast()
			return n, nil
		case h.rerr != nil:
			return 0, opError("read", h.rerr)
		case h.eof:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

// Write implements net.Conn. A deadline that passes leaves the bytes before n sent.
func (c *Conn) Write(p []byte) (n int, err error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.wclosed:
			return n, opError("write", net.ErrClosed)
		case h.wd.passed():
			return n, opError("write", os.ErrDeadlineExceeded)
		case h.eof:
			return n, opError("write", syscall.EPIPE)
		case h.werr != nil:
			return n, opError("write", h.werr)
		case h.rclosed:
			return n, opError("write", syscall.EPIPE)
		case n == len(p):
			return n, nil
		}
		if m := min(len(p)-n, h.limit-len(h.buf)); m > 0 {
			n += h.take(p[n : n+m])
			continue
		}
		h.cond.Wait()
	}
}

// take moves p to the buffer, as far as the faults allow.
func (h *half) take(p []byte) int {
	if h.failAt > 0 && h.written+int64(len(p)) >= h.failAt {
		p = p[:h.failAt-h.written]
		h.werr = h.failErr
	}
	start := len(h.buf)
	h.buf = append(h.buf, p...)
	if i := h.flipAt - h.written; i >= 0 && i < int64(len(p)) {
		h.buf[start+int(i)] ^= h.flip
	}
	h.written += int64(len(p))
	h.cond.Broadcast()
	return len(p)
}

// CloseWrite ends the outgoing direction: the other end reads io.EOF after what it has.
func (c *Conn) CloseWrite() error {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wclosed {
		return opError("close", net.ErrClosed)
	}
	h.eof = true
	h.cond.Broadcast()
	return nil
}

// Close implements net.Conn. Blocked calls of this end return, the other end reads
// io.EOF and cannot write.
func (c *Conn) Close() error {
	c.out.mu.Lock()
	again := c.out.wclosed
	c.out.eof, c.out.wclosed = true, true
	c.out.wd.set(c.out, time.Time{})
	c.out.cond.Broadcast()
	c.out.mu.Unlock()
	c.in.mu.Lock()
	c.in.rclosed = true
	c.in.buf = nil
	c.in.rd.set(c.in, time.Time{})
	c.in.cond.Broadcast()
	c.in.mu.Unlock()
	if again {
		return opError("close", net.ErrClosed)
	}
	return nil
}

// Reset destroys the connection as a RST does: both ends get ECONNRESET, and what
// was on its way is lost.
func (c *Conn) Reset() {
	for _, h := range []*half{c.in, c.out} {
		h.mu.Lock()
		h.buf = nil
		h.rerr, h.werr = syscall.ECONNRESET, syscall.ECONNRESET
		h.cond.Broadcast()
		h.mu.Unlock()
	}
}

// Closed reports whether this end has been closed.
func (c *Conn) Closed() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.wclosed
}

// Buffered returns how many bytes wait to be read at this end.
func (c *Conn) Buffered() int {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.buf)
}

// Written returns how many bytes this end has sent.
func (c *Conn) Written() int64 {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.written
}

// SetWriteBuffer sets how many bytes the outgoing direction holds. Less than there
// are is fine.
func (c *Conn) SetWriteBuffer(n int) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.limit = n
	c.out.cond.Broadcast()
}

// SetMaxRead makes Read return at most n bytes at a time.
func (c *Conn) SetMaxRead(n int) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.maxRead = n
}

// FailWriteAt makes the write fail with err that would send more than n bytes in all;
// those before it arrive.
func (c *Conn) FailWriteAt(n int64, err error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.failAt, c.out.failErr = n, err
	if n <= c.out.written {
		c.out.werr = err
		c.out.cond.Broadcast()
	}
}

// FailRead makes Read fail with err once what is buffered has been read.
func (c *Conn) FailRead(err error) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.rerr = err
	c.in.cond.Broadcast()
}

// FlipAt damages the byte at offset at of all that this end sends: x is added without carry.
func (c *Conn) FlipAt(at int64, x byte) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.flipAt, c.out.flip = at, x
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	if c.in.rclosed {
		return opError("set", net.ErrClosed)
	}
	c.in.rd.set(c.in, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.wclosed {
		return opError("set", net.ErrClosed)
	}
	c.out.wd.set(c.out, t)
	return nil
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (d *deadline) passed() bool { return !d.t.IsZero() && !time.Now().Before(d.t) }

func (d *deadline) set(h *half, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.t = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.cond.Broadcast()
		})
	}
	h.cond.Broadcast()
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return Addr(c.name) }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr {
	if c.name == "a" {
		return Addr("b")
	}
	return Addr("a")
}

// An Addr is the address of an end.
type Addr string

// Network implements net.Addr.
func (Addr) Network() string { return "mem" }

func (a Addr) String() string { return string(a) }

func opError(op string, err error) error { return &net.OpError{Op: op, Net: "mem", Err: err} }
