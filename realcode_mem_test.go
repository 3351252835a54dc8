package vstp_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

var errEcho = errors.New("the echo differs")

// A memConn is one end of a connection in memory, for synctest bubbles: as a
// socket it has buffers of a limited size and half-close, which net.Pipe has not.
type memConn struct {
	r, w *memBuffer
	once sync.Once
}

// memPipe returns both ends of a connection that holds limit bytes each way.
func memPipe(limit int) (net.Conn, net.Conn) {
	a := &memBuffer{limit: limit, wake: make(chan struct{})}
	b := &memBuffer{limit: limit, wake: make(chan struct{})}
	return &memConn{r: a, w: b}, &memConn{r: b, w: a}
}

type memBuffer struct {
	mu           sync.Mutex
	wake         chan struct{} // closed and renewed at each change
	b            []byte
	limit        int
	ended        bool // by the writer
	rgone, wgone bool // closed
	rdl, wdl     time.Time
}

// update changes b and wakes everybody.
func (b *memBuffer) update(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.wake)
	b.wake = make(chan struct{})
}

// do calls try until it says done, or the deadline passes.
func (b *memBuffer) do(deadline *time.Time, try func() (done bool, err error)) error {
	for {
		b.mu.Lock()
		var timeout <-chan time.Time
		if !deadline.IsZero() {
			d := time.Until(*deadline)
			if d <= 0 {
				b.mu.Unlock()
				return os.ErrDeadlineExceeded
			}
			timeout = time.After(d)
		}
		done, err := try()
		wake := b.wake
		if done {
			close(b.wake)
			b.wake = make(chan struct{})
		}
		b.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-wake:
		case <-timeout:
		}
	}
}

func (c *memConn) Read(p []byte) (n int, err error) {
	b := c.r
	err = b.do(&b.rdl, func() (bool, error) {
		switch {
		case b.rgone:
			return true, net.ErrClosed
		case len(p) == 0:
			return true, nil
		case len(b.b) > 0:
			n = copy(p, b.b)
			b.b = b.b[n:]
			return true, nil
		case b.ended:
			return true, io.EOF
		}
		return false, nil
	})
	return n, err
}

func (c *memConn) Write(p []byte) (n int, err error) {
	b := c.w
	err = b.do(&b.wdl, func() (bool, error) {
		switch {
		case b.wgone || b.ended:
			return true, net.ErrClosed
		case b.rgone:
			return true, io.ErrClosedPipe
		}
		m := min(len(p)-n, b.limit-len(b.b))
		b.b = append(b.b, p[n:n+m]...)
		n += m
		if m > 0 && n < len(p) {
			close(b.wake) // the reader
			b.wake = make(chan struct{})
		}
		return n == len(p), nil
	})
	return n, err
}

func (c *memConn) CloseWrite() error {
	c.w.update(func() { c.w.ended = true })
	return nil
}

func (c *memConn) Close() error {
	c.once.Do(func() {
		c.w.update(func() { c.w.ended, c.w.wgone = true, true })
		c.r.update(func() { c.r.rgone = true })
	})
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.r.update(func() { c.r.rdl = t })
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.w.update(func() { c.w.wdl = t })
	return nil
}

func (c *memConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memConn) LocalAddr() net.Addr  { return memAddr{} }
func (c *memConn) RemoteAddr() net.Addr { return memAddr{} }

type memAddr struct{}

func (memAddr) Network() string { return "mem" }
func (memAddr) String() string  { return "mem" }

// memBufferSize is how much a connection of a memListener holds each way.
const memBufferSize = 64 << 10

// A memListener accepts what its dial makes.
type memListener struct {
	ch   chan net.Conn
	errs chan error // each is returned once by Accept
	done chan struct{}
	once sync.Once
}

func newMemListener() *memListener {
	return &memListener{ch: make(chan net.Conn), errs: make(chan error), done: make(chan struct{})}
}

// dial returns the client's end of a raw connection that was accepted.
func (l *memListener) dial() (net.Conn, error) {
	a, b := memPipe(memBufferSize)
	select {
	case l.ch <- b:
		return a, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ch:
		return c, nil
	case err := <-l.errs:
		return nil, err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddr{} }

// memPair returns both ends of a vstp connection over memory, with the handshake done.
func memPair(t testing.TB, limit int, config *vstp.Config) (client, server *vstp.Conn) {
	t.Helper()
	a, b := memPipe(limit)
	client, server = vstp.Client(a, config), vstp.Server(b, config)
	shake(t, client, server)
	return client, server
}

// shake runs the handshake on both ends.
func shake(t testing.TB, client, server *vstp.Conn) {
	t.Helper()
	ch := async(func() error { return server.Handshake(t.Context()) })
	require.NoError(t, client.Handshake(t.Context()))
	require.NoError(t, <-ch)
}
