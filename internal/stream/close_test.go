package stream

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
)

// TestCloseStalled closes while the peer reads nothing, with room for k bytes in the
// carrier: never longer than the linger. C2, N15.
func TestCloseStalled(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for k := range 250 {
				bubble(t, func(t *testing.T) {
					c, s, cc, _ := m.pair(t, testConfig(true), testConfig(false))
					defer s.Close()
					cc.SetWriteBuffer(k)
					c.SetWriteDeadline(time.Now().Add(time.Second))
					c.Write(bytes.Repeat([]byte("0123"), 25))
					start := time.Now()
					err := c.Close()
					d := time.Since(start)
					if d > c.cfg.Linger || err != nil && (err != session.ErrUnsent || d == 0) {
						t.Errorf("%d: %v after %v", k, err, d)
					}
					time.Sleep(c.cfg.Linger)
					synctest.Wait()
					if !cc.Closed() {
						t.Errorf("%d: the carrier is open", k)
					}
				})
			}
		})
	}
}

// TestErrStalled gets an ERR while the peer reads nothing: the session is over at once.
func TestErrStalled(t *testing.T) {
	for _, m := range modes {
		bubble(t, func(t *testing.T) {
			c, s, cc, sc := m.pair(t, testConfig(true), testConfig(false))
			cc.SetWriteBuffer(100)
			wrote := make(chan error, 1)
			go func() {
				for {
					if _, err := c.Write(make([]byte, 1000)); err != nil {
						wrote <- err
						return
					}
				}
			}()
			synctest.Wait()
			start := time.Now()
			sc.SetWriteBuffer(1000)
			if err := s.CloseWithError(framing.CodeInternal, "why"); err != nil {
				t.Error(err)
			}
			var e *handshake.RemoteError
			if _, err := c.Read(make([]byte, 1)); !errors.As(err, &e) {
				t.Errorf("%s: Read: %v", m.name, err)
			}
			if err := <-wrote; !errors.As(err, &e) {
				t.Errorf("%s: Write: %v", m.name, err)
			}
			if err := c.Close(); err != nil || time.Since(start) != 0 {
				t.Errorf("%s: %v after %v", m.name, err, time.Since(start))
			}
		})
	}
}

// TestViolationStalled breaks a rule while the peer reads nothing: both calls return,
// ERR is tried for as long as the linger.
func TestViolationStalled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{}, 100)
		wrote := make(chan error, 1)
		go func() {
			_, err := s.Write(make([]byte, 1000)) // blocked within a frame
			if err == nil {
				_, err = s.Write(make([]byte, 1000))
			}
			wrote <- err
		}()
		synctest.Wait()
		start := time.Now()
		p.send(streamData(0x80, ""))
		_, err := s.Read(make([]byte, 1))
		wantLocal(t, "Read", err, framing.CodeProtocol)
		wantLocal(t, "Write", <-wrote, framing.CodeProtocol)
		time.Sleep(s.cfg.Linger - time.Since(start))
		synctest.Wait()
		if !s.NetConn().(*memconn.Conn).Closed() {
			t.Error("the carrier is open")
		}
		s.Close()
	})
}

// TestCloseDelivers writes and closes at once, with unread data of the peer's on both
// sides: what was accepted arrives, then io.EOF. C1, C5.
func TestCloseDelivers(t *testing.T) {
	for _, m := range modes {
		for _, n := range []int{0, 1, 1000, 100_000, 1 << 20} {
			bubble(t, func(t *testing.T) {
				c, s, _, _ := m.pair(t, testConfig(true), testConfig(false))
				s.Write([]byte("unread"))
				s.SendMessage(context.Background(), &session.Message{Payload: []byte("unread")})
				go func() {
					c.Write(make([]byte, n))
					if err := c.Close(); err != nil {
						t.Errorf("%s %d: Close: %v", m.name, n, err)
					}
				}()
				b, err := io.ReadAll(readerOf{s})
				if len(b) != n || err != nil {
					t.Errorf("%s: %d of %d bytes, %v", m.name, len(b), n, err)
				}
				// Nobody reads any more.
				if _, err := s.Write([]byte("x")); err != session.ErrPeerClosed {
					t.Errorf("%s: Write after the peer's Close: %v", m.name, err)
				}
				start := time.Now()
				if err := s.Close(); err != nil || time.Since(start) != 0 {
					t.Errorf("%s: %v after %v", m.name, err, time.Since(start))
				}
			})
		}
	}
}

// TestSimultaneousClose closes both ends at once, again, and beside everything else.
// C5, C6.
func TestSimultaneousClose(t *testing.T) {
	for _, m := range modes {
		bubble(t, func(t *testing.T) {
			c, s, cc, sc := m.pair(t, testConfig(true), testConfig(false))
			done := make(chan string)
			n := 0
			run := func(what string, f func() error) {
				n++
				go func() {
					if err := f(); err == nil || !errors.Is(err, net.ErrClosed) && err != io.EOF && err != session.ErrPeerClosed {
						t.Errorf("%s: %s: %v", m.name, what, err)
					}
					done <- what
				}()
			}
			ctx := context.Background()
			run("Read", func() error { _, err := c.Read(make([]byte, 1)); return err })
			run("WriteTo", func() error { _, err := c.WriteTo(io.Discard); return cmp.Or(err, io.EOF) })
			run("ReceiveMessage", func() error { _, err := c.ReceiveMessage(ctx); return err })
			for i := range 2 {
				run("Write", func() error {
					for {
						if _, err := c.Write(make([]byte, 1<<20)); err != nil {
							return err
						}
					}
				})
				run("SendMessage", func() error {
					for {
						if err := c.SendMessage(ctx, &session.Message{Payload: make([]byte, i<<20)}); err != nil {
							return err
						}
					}
				})
			}
			run("SendMessage with ACK", func() error { return c.SendMessage(ctx, &session.Message{ReqAck: true}) })
			run("Ping", func() error { _, err := c.Ping(ctx); return err })
			time.Sleep(time.Second)
			start := time.Now()
			for _, x := range []*Session{c, s, c, s} {
				n++
				go func() {
					if err := x.Close(); err != nil && err != session.ErrUnsent {
						t.Errorf("%s: Close: %v", m.name, err)
					}
					done <- "Close"
				}()
			}
			for range n {
				<-done
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("%s: took %v", m.name, d)
			}
			time.Sleep(c.cfg.Linger)
			synctest.Wait()
			if !cc.Closed() || !sc.Closed() {
				t.Errorf("%s: a carrier is open", m.name)
			}
			for _, x := range []*Session{c, s} {
				wantAll(t, x, func(what string, err error) {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("%s: %s after Close: %v", m.name, what, err)
					}
				})
			}
		})
	}
}

// TestCloseFull closes both ends at once while neither reads and both directions are
// full: each drops what the other has sent, and neither waits. C5.
func TestCloseFull(t *testing.T) {
	for _, m := range modes {
		for _, n := range []int{1, 20, 100, 1000} {
			bubble(t, func(t *testing.T) {
				c, s, cc, sc := m.pair(t, testConfig(true), testConfig(false))
				errs := make(chan error)
				for _, e := range []*memconn.Conn{cc, sc} {
					e.SetWriteBuffer(n)
				}
				for _, x := range []*Session{c, s} {
					x.SetWriteDeadline(time.Now().Add(time.Second))
					for err := error(nil); err == nil; {
						_, err = x.Write(make([]byte, 1000))
					}
				}
				start := time.Now()
				go func() { errs <- c.Close() }()
				go func() { errs <- s.Close() }()
				for range 2 {
					if err := <-errs; err != nil {
						t.Errorf("%s: %v", m.name, err)
					}
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("%s: took %v", m.name, d)
				}
				time.Sleep(time.Second)
				if !cc.Closed() || !sc.Closed() {
					t.Errorf("%s: a carrier is open", m.name)
				}
			})
		}
	}
}

// TestCarrierFails has the carrier fail in the middle of frames: N2, "abnormal:
// non-EOF error".
func TestCarrierFails(t *testing.T) {
	boom := errors.New("boom")
	for at := range 40 {
		bubble(t, func(t *testing.T) { // while we write
			s, p := open(t, testConfig(true), handshake.Params{}, 0)
			cc := s.NetConn().(*memconn.Conn)
			cc.FailWriteAt(cc.Written()+int64(at)+1, boom)
			var err error
			for i := 0; err == nil && i < 10; i++ {
				_, err = s.Write([]byte("0123456789"))
			}
			if !errors.Is(err, boom) {
				t.Errorf("%d: Write: %v", at, err)
			}
			if err := s.SendMessage(context.Background(), &session.Message{}); !errors.Is(err, boom) {
				t.Errorf("%d: SendMessage: %v", at, err)
			}
			p.send(streamData(0, "still here"))
			if n, err := s.Read(make([]byte, 20)); n != 10 || err != nil {
				t.Errorf("%d: Read: %d, %v", at, n, err)
			}
			start := time.Now()
			if err := s.Close(); time.Since(start) != 0 {
				t.Errorf("%d: Close: %v after %v", at, err, time.Since(start))
			}
		})
		bubble(t, func(t *testing.T) { // while we read
			s, p := open(t, testConfig(true), handshake.Params{}, 0)
			p.send(join(streamData(0, "0123456789"), message(0, 0, "0123456789"))[:at])
			s.NetConn().(*memconn.Conn).FailRead(boom)
			if _, err := io.ReadAll(readerOf{s}); !errors.Is(err, boom) {
				t.Errorf("%d: Read: %v", at, err)
			}
			if _, err := s.ReceiveMessage(context.Background()); !errors.Is(err, boom) {
				t.Errorf("%d: ReceiveMessage: %v", at, err)
			}
			s.Close()
		})
	}
	bubble(t, func(t *testing.T) { // with bytes left over by a deadline: no spinning
		s, p := open(t, testConfig(true), handshake.Params{}, 50)
		s.SetWriteDeadline(time.Now().Add(time.Second))
		s.Write(make([]byte, 1000))
		s.SetWriteDeadline(time.Time{})
		p.c.Reset()
		synctest.Wait()
		if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Write: %v", err)
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read: %v", err)
		}
		s.Close()
	})
}
