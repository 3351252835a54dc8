package endpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/reliable"
)

// A gate is a socket whose WriteTo to one address blocks while it is shut.
type gate struct {
	net.PacketConn
	closed func() // by Close, which lets all go

	mu      sync.Mutex
	to      net.Addr
	open    chan struct{}
	blocked int
}

func newGate(pc net.PacketConn) *gate { return &gate{PacketConn: pc, closed: func() {}} }

func (g *gate) WriteTo(b []byte, to net.Addr) (int, error) {
	g.mu.Lock()
	open := g.open
	if open != nil && to.String() == g.to.String() {
		g.blocked++
		g.mu.Unlock()
		<-open
		g.mu.Lock()
		g.blocked--
	}
	g.mu.Unlock()
	return g.PacketConn.WriteTo(b, to)
}

func (g *gate) shut(to net.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.to, g.open = to, make(chan struct{})
	g.closed = sync.OnceFunc(func() { close(g.open) })
}

func (g *gate) Close() error {
	g.closed()
	return g.PacketConn.Close()
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.blocked
}

// unlocked runs f in a bubble. A bubble in which somebody waits for a lock that is held by
// somebody who waits for the socket neither goes on nor fails: that is found out here.
func unlocked(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	stuck := time.AfterFunc(2*time.Minute, func() {
		panic("a lock is held across a system call: see which goroutine waits for a sync.Mutex, and who has it")
	})
	defer stuck.Stop()
	synctest.Test(t, f)
}

// after calls f, and fails unless it returns with an error like want after exactly that time.
func after(t *testing.T, what string, d time.Duration, want error, f func() error) {
	t.Helper()
	begin, done := time.Now(), make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if took := time.Since(begin); took != d || !errors.Is(err, want) {
			t.Errorf("%s: %v after %v, want %v after %v", what, err, took, want, d)
		}
	case <-time.After(d + time.Minute):
		t.Errorf("%s waits for the socket", what)
	}
}

// going calls f, and fails unless it succeeds within a second.
func going(t *testing.T, what string, f func() error) {
	t.Helper()
	begin, done := time.Now(), make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if took := time.Since(begin); err != nil || took > time.Second {
			t.Errorf("%s: %v after %v", what, err, took)
		}
	case <-time.After(time.Minute):
		t.Errorf("%s waits for the socket", what)
	}
}

const soon = 50 * time.Millisecond

// stillAnswers calls the methods of a session that can send nothing at present, and has a
// Write that waits.
func stillAnswers(t *testing.T, s *Session) {
	t.Helper()
	within := func(f func(ctx context.Context) error) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			return f(ctx)
		}
	}
	asks := func() error {
		s.Stats()
		s.Result()
		s.TLSState()
		s.LocalAddr()
		s.RemoteAddr()
		s.EarlyData()
		s.Carrier()
		s.ep.Stats()
		s.ep.LocalAddr()
		return errors.Join(s.SetReadDeadline(time.Now().Add(soon)), s.SetWriteDeadline(time.Now().Add(soon)))
	}
	after(t, "Stats and deadlines", 0, nil, asks)
	after(t, "Read", soon, os.ErrDeadlineExceeded, func() error { _, err := s.Read(make([]byte, 1)); return err })
	asks()
	after(t, "Write", soon, os.ErrDeadlineExceeded, func() error { _, err := s.Write([]byte("more")); return err })
	s.SetReadDeadline(time.Time{})
	s.SetWriteDeadline(time.Time{})
	after(t, "Ping", soon, context.DeadlineExceeded, within(func(ctx context.Context) error { _, err := s.Ping(ctx); return err }))
	after(t, "SendMessage", soon, context.DeadlineExceeded, within(func(ctx context.Context) error {
		return s.SendMessage(ctx, &session.Message{Payload: pattern(100), ReqAck: true})
	}))
	after(t, "ReceiveMessage", soon, context.DeadlineExceeded, within(func(ctx context.Context) error { _, err := s.ReceiveMessage(ctx); return err }))
}

// TestNoLockAcrossWriteTo: while a call of the system takes its time for one session, all
// other calls, of that session and of others, do what they do otherwise.
func TestNoLockAcrossWriteTo(t *testing.T) {
	for name, sealed := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			unlocked(t, func(t *testing.T) { testBlockedWriteTo(t, plainOrSealed(sealed)) })
		})
	}
}

func testBlockedWriteTo(t *testing.T, cfg *Config) {
	n := simnet.New(t, simnet.Options{Seed: 1, Path: simnet.Path{Delay: time.Millisecond}, Limit: time.Hour})
	host := n.Host("10.0.0.2") // of the certificate
	g := newGate(host.ListenPacket(6969))
	a := newEndpoint(t, g, cfg)
	b := newEndpoint(t, host.ListenPacket(6970), cfg)
	c := newEndpoint(t, host.ListenPacket(6971), cfg)
	s, peer := connect(t, a, b)
	other, otherPeer := connect(t, a, c)
	in, inPeer := connect(t, c, a)
	time.Sleep(time.Second)

	g.shut(b.LocalAddr())
	wrote := make(chan error, 1)
	go func() {
		_, err := s.Write(pattern(8 << 20))
		wrote <- err
	}()
	synctest.Wait()
	if g.waiting() != 1 {
		t.Fatal(g.waiting(), "calls of WriteTo wait")
	}

	stillAnswers(t, s)
	if _, err := peer.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	after(t, "Read of what comes", time.Millisecond, nil, func() error { _, err := io.ReadFull(s, make([]byte, 5)); return err })

	// All others.
	talk := func(x, y *Session) func() error {
		return func() error {
			go x.Write(pattern(100_000))
			got := make([]byte, 100_000)
			if _, err := io.ReadFull(y, got); err != nil || !bytes.Equal(got, pattern(100_000)) {
				return errors.Join(err, errors.New("other bytes"))
			}
			return nil
		}
	}
	going(t, "another session", talk(other, otherPeer))
	going(t, "its other direction", talk(otherPeer, other))
	going(t, "a session that was accepted", talk(in, inPeer))
	going(t, "its other direction", talk(inPeer, in))
	going(t, "Ping of another", func() error { _, err := other.Ping(t.Context()); return err })
	going(t, "Dial", func() error {
		x, err := a.DialStream(t.Context(), addrOf(t, c))
		if err == nil {
			err = x.Close()
		}
		return err
	})
	going(t, "Accept", func() error {
		go c.DialStream(t.Context(), addrOf(t, a))
		_, err := a.Accept(t.Context())
		return err
	})
	going(t, "messages", func() error {
		err := a.SendMessage(t.Context(), &session.Message{ReqAck: true}, addrOf(t, c))
		if err == nil {
			_, _, err = c.ReceiveMessage(t.Context())
		}
		return err
	})
	after(t, "ReceiveMessage of the endpoint", soon, os.ErrDeadlineExceeded, func() error {
		a.SetReadDeadline(time.Now().Add(soon))
		_, _, err := a.ReceiveMessage(t.Context())
		return err
	})
	going(t, "Close of another", in.Close)

	// The end. Nothing of what was written can go out.
	after(t, "Close", cfg.Linger, session.ErrUnsent, s.Close)
	if g.waiting() != 1 {
		t.Error(g.waiting(), "calls of WriteTo wait at the end")
	}
	going(t, "another session after that", talk(other, otherPeer))
	going(t, "Close of a session that has nothing to send", other.Close)
	going(t, "Close of the endpoint", a.Close)
	if err := <-wrote; !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the Write that waited:", err)
	}
}

// TestNoLockAcrossCarrier: the same where the session's packets take a byte stream that
// takes no more, and nothing else is there.
func TestNoLockAcrossCarrier(t *testing.T) {
	for name, sealed := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			unlocked(t, func(t *testing.T) {
				m := newMovers(t, 1, clean, simnet.TCPPath{Delay: 10 * time.Millisecond}, sealed, nil)
				c, s := m.dialStream(t)
				other, otherPeer := connect(t, m.a, m.b)
				attachedBoth(t, c, s, other)
				swap(t, c, s)
				tcp := reliable.ByteStream
				if err := c.Pin(&tcp); err != nil {
					t.Fatal(err)
				}
				m.net.BothTCP(m.ha, m.hb, simnet.TCPPath{Stalled: true})
				wrote := make(chan error, 1)
				go func() {
					_, err := c.Write(pattern(32 << 20))
					wrote <- err
				}()
				synctest.Wait()
				stillAnswers(t, c)
				going(t, "another session", func() error {
					go other.Write(pattern(100_000))
					_, err := io.ReadFull(otherPeer, make([]byte, 100_000))
					return err
				})
				going(t, "Close of another", other.Close)
				m.net.Both(m.ha, m.hb, simnet.Path{Down: true}) // it would go there
				after(t, "Close", m.a.cfg.Linger, session.ErrUnsent, c.Close)
				if err := <-wrote; !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the Write that waited:", err)
				}
				going(t, "Close of the endpoint", m.a.Close)
			})
		})
	}
}
