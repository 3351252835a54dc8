package vstp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// Tests in which time passes run in bubbles, where it can be told exactly.

// A blocked call ends at once when its connection is closed, with net.ErrClosed, and
// Close itself waits no longer than Config.Linger (C2, C6).
func TestCloseUnblocks(t *testing.T) {
	calls := map[string]func(c *vstp.Conn) error{
		"Read": func(c *vstp.Conn) error {
			_, err := c.Read(make([]byte, 1))
			return err
		},
		"WriteTo": func(c *vstp.Conn) error {
			_, err := c.WriteTo(io.Discard)
			return err
		},
		"Write": func(c *vstp.Conn) error {
			_, err := c.Write(make([]byte, 1<<20))
			return err
		},
		"ReadFrom": func(c *vstp.Conn) error {
			_, err := c.ReadFrom(&contentReader{})
			return err
		},
		"ReceiveMessage": func(c *vstp.Conn) error {
			_, err := c.ReceiveMessage(context.Background())
			return err
		},
		"SendMessage": func(c *vstp.Conn) error {
			return c.SendMessage(context.Background(), &vstp.Message{Payload: make([]byte, 1<<20)})
		},
		"SendMessage, ack": func(c *vstp.Conn) error {
			return c.SendMessage(context.Background(), &vstp.Message{RequireAck: true})
		},
		"Ping": func(c *vstp.Conn) error {
			_, err := c.Ping(context.Background())
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := memPair(t, 10_000, &vstp.Config{AckTimeout: -1})
				const callers = 3
				ended := make(chan time.Time, callers)
				errs := make(chan error, callers)
				for range callers {
					go func() {
						err := call(c)
						ended <- time.Now()
						errs <- err
					}()
				}
				synctest.Wait() // all are blocked
				require.Empty(t, errs)
				start := time.Now()
				err := c.Close()
				took := time.Since(start)
				for range callers {
					require.Equal(t, start, <-ended)
					require.ErrorIs(t, <-errs, net.ErrClosed)
				}
				if err != nil { // the peer reads nothing: what was accepted cannot leave
					require.ErrorIs(t, err, vstp.ErrUnsent)
					require.Equal(t, vstp.DefaultLinger, took)
				} else {
					require.Zero(t, took)
				}
				s.Close() // the carrier may have gone from the other end
			})
		})
	}
}

// A Write of nothing has nothing to wait for (N6), also when the peer reads nothing and
// a deadline has left bytes behind that are still to be sent.
func TestEmptyWriteDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := memPair(t, 10_000, nil)
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
		_, err := c.Write(make([]byte, 1<<20))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, c.SetWriteDeadline(time.Time{}))
		written := async(func() error { _, err := c.Write(nil); return err })
		synctest.Wait()
		returned := len(written) == 1
		s.Close()
		c.Close()
		require.True(t, returned, "Write(nil) waits")
		require.NoError(t, <-written)
	})
}

// Over net.Pipe, where a Write ends only when the peer has read: a dead peer holds
// Close for Config.Linger and no longer (C2).
func TestCloseDeadPeer(t *testing.T) {
	for _, linger := range []time.Duration{0, 300 * time.Millisecond, time.Minute, -1} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			c, s := vstp.Client(a, &vstp.Config{Linger: linger}), vstp.Server(b, nil)
			shake(t, c, s)
			want := max(linger, 0)
			if linger == 0 {
				want = vstp.DefaultLinger
			}
			start := time.Now()
			err := c.Close()
			require.Equal(t, want, time.Since(start))
			if want > 0 {
				require.ErrorIs(t, err, vstp.ErrUnsent)
			}
			_, err = s.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "no BYE, so no orderly end")
			s.Close()
		})
	}
}

// Both ends close at once although neither direction has room, since nobody has read
// what came: that is no reason to wait (C5; smux#37, FIN blocked by a full buffer).
func TestCloseSimultaneousFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := memPair(t, 10_000, nil)
		for _, end := range []*vstp.Conn{c, s} {
			require.NoError(t, end.SetWriteDeadline(time.Now().Add(time.Second)))
			_, err := end.Write(make([]byte, 1<<20))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		start := time.Now()
		first := async(c.Close)
		second := s.Close()
		require.NoError(t, <-first)
		require.NoError(t, second)
		require.Zero(t, time.Since(start))
	})
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe() // never has room
		c, s := vstp.Client(a, nil), vstp.Server(b, nil)
		shake(t, c, s)
		start := time.Now()
		first := async(c.Close)
		second := s.Close()
		require.NoError(t, <-first)
		require.NoError(t, second)
		require.Zero(t, time.Since(start))
	})
}

// Close during the handshake ends it at once, on either side, and the other side
// sees an end that is no orderly one (C5).
func TestCloseDuringHandshake(t *testing.T) {
	for _, side := range []string{"client", "server"} {
		synctest.Test(t, func(t *testing.T) {
			a, b := memPipe(10_000)
			c := vstp.Client(a, nil)
			if side == "server" {
				c = vstp.Server(a, nil)
			}
			shaken := async(func() error { return c.Handshake(context.Background()) })
			read := async(func() error { _, err := c.Read(make([]byte, 1)); return err })
			synctest.Wait()
			start := time.Now()
			require.NoError(t, c.Close())
			require.ErrorIs(t, <-shaken, net.ErrClosed)
			require.ErrorIs(t, <-read, net.ErrClosed)
			require.Zero(t, time.Since(start))
			_, err := io.ReadAll(b)
			require.NoError(t, err) // the socket is closed
			b.Close()
		})
	}
}

// A peer that vanishes without BYE is io.ErrUnexpectedEOF for the reader, not io.EOF
// (N2).
func TestTruncationIsVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memPipe(1 << 20)
		c, s := vstp.Client(a, nil), vstp.Server(b, nil)
		shake(t, c, s)
		_, err := c.Write([]byte("half of it"))
		require.NoError(t, err)
		a.Close()
		got, err := io.ReadAll(s)
		require.Equal(t, "half of it", string(got))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		var oe *net.OpError
		require.True(t, errors.As(err, &oe))
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "again")
		require.NoError(t, s.Close())
	})
}

// memServe is a listener over memory and what a client needs to connect to it.
func memServe(t *testing.T, config *vstp.Config) (*vstp.Listener, *memListener, func() *vstp.Conn) {
	t.Helper()
	inner := newMemListener()
	return vstp.NewListener(inner, config), inner, func() *vstp.Conn {
		raw, err := inner.dial()
		require.NoError(t, err)
		c := vstp.Client(raw, nil)
		require.NoError(t, c.Handshake(t.Context()))
		return c
	}
}

// SetDeadline holds for an Accept that is blocked already, whether the deadline comes
// earlier or later than before or goes away (D2), and is over when it is lifted.
func TestAcceptDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, _, dial := memServe(t, nil)
		defer ln.Close()
		accept := func() <-chan error {
			return async(func() error {
				c, err := ln.Accept()
				if err == nil {
					c.Close()
				}
				return err
			})
		}
		isTimeout := func(err error) {
			t.Helper()
			ne, ok := err.(net.Error)
			require.True(t, ok && ne.Timeout(), "N1: %v", err)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		start := time.Now()
		at := func(d time.Duration) { // sets a deadline d after start
			t.Helper()
			require.NoError(t, ln.SetDeadline(start.Add(d)))
		}

		at(10 * time.Second)
		accepted := accept()
		synctest.Wait()
		at(3 * time.Second) // earlier
		isTimeout(<-accepted)
		require.Equal(t, 3*time.Second, time.Since(start))

		start = time.Now()
		at(3 * time.Second)
		accepted = accept()
		synctest.Wait()
		at(10 * time.Second) // later
		isTimeout(<-accepted)
		require.Equal(t, 10*time.Second, time.Since(start))

		at(-time.Second) // past (D1), although somebody waits
		c := dial()
		isTimeout(<-accept())
		isTimeout(<-accept())

		start = time.Now()
		require.NoError(t, ln.SetDeadline(time.Time{}))
		require.NoError(t, <-accept())
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		c.Close()

		at(5 * time.Second)
		accepted = accept()
		synctest.Wait()
		require.NoError(t, ln.SetDeadline(time.Time{})) // gone
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, accepted)
		c = dial()
		require.NoError(t, <-accepted)
		c.Close()

		at(0) // now (D4)
		isTimeout(<-accept())
	})
}

// temporary is an error after which a listener goes on.
type temporary struct{ error }

func (temporary) Temporary() bool { return true }
func (temporary) Timeout() bool   { return false }

// Errors of the socket that pass, such as having no file descriptors, do not end
// Accept; one that stays does, each time, with what came before it still accepted (N10).
func TestAcceptSocketErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, inner, dial := memServe(t, nil)
		defer ln.Close()
		for range 20 {
			inner.errs <- temporary{errors.New("too many open files")}
		}
		c := dial()
		s, err := ln.Accept()
		require.NoError(t, err)
		s.Close()
		c.Close()

		last := dial()
		synctest.Wait()
		gone := errors.New("the network is gone")
		inner.errs <- gone
		synctest.Wait()
		s, err = ln.Accept()
		require.NoError(t, err)
		s.Close()
		last.Close()
		for range 3 {
			_, err = ln.Accept()
			require.ErrorIs(t, err, gone)
			var oe *net.OpError
			require.True(t, errors.As(err, &oe))
			require.Equal(t, "accept", oe.Op)
		}
	})
}

// A client that sends its HELLO one byte a second is given up after HandshakeTimeout,
// to the second, without anybody else having had to wait for it (S2).
func TestSlowLoris(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = vstp.DefaultHandshakeTimeout
		ln, inner, dial := memServe(t, &vstp.Config{MaxHandshakes: 10})
		defer ln.Close()
		// What a client's HELLO looks like.
		a, b := memPipe(10_000)
		go vstp.Client(a, nil).Handshake(t.Context())
		hello := make([]byte, 4096)
		n, err := b.Read(hello)
		require.NoError(t, err)
		require.Greater(t, n, int(timeout/time.Second), "too short to be slow")
		hello = hello[:n]
		b.Close()

		start := time.Now()
		ended := make(chan time.Duration, 5)
		for range cap(ended) {
			raw, err := inner.dial()
			require.NoError(t, err)
			go func() {
				for _, x := range hello {
					time.Sleep(time.Second)
					if _, err := raw.Write([]byte{x}); err != nil {
						break
					}
				}
			}()
			go func() {
				io.Copy(io.Discard, raw)
				ended <- time.Since(start)
				raw.Close()
			}()
		}
		for range 5 { // honest clients meanwhile
			time.Sleep(time.Second)
			before := time.Now()
			c := dial()
			s, err := ln.Accept()
			require.NoError(t, err)
			require.Zero(t, time.Since(before))
			s.Close()
			c.Close()
		}
		for range cap(ended) {
			require.Equal(t, timeout, <-ended)
		}
		require.NoError(t, ln.SetDeadline(time.Now().Add(time.Minute)))
		_, err = ln.Accept()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "no failed handshake comes out of Accept (N10)")
	})
}
