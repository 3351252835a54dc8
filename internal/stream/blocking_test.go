package stream

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
)

// A deafConn is a connection of which a Write comes back when its bytes are taken or it is
// closed, whatever its deadline: as one whose system call takes its time.
type deafConn struct{ *memconn.Conn }

func (c deafConn) SetWriteDeadline(time.Time) error { return nil }
func (c deafConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }

// TestNoLockAcrossWrite: while a Write of the connection takes its time, all other calls
// return when they have to. Somebody who waits for a lock meanwhile would stop the clock of
// the bubble for ever.
func TestNoLockAcrossWrite(t *testing.T) {
	for _, role := range roles {
		t.Run(role.name, func(t *testing.T) {
			stuck := time.AfterFunc(2*time.Minute, func() {
				panic("a lock is held across a system call: see which goroutine waits for a sync.Mutex, and who has it")
			})
			defer stuck.Stop()
			bubble(t, func(t *testing.T) { testBlockedWrite(t, role.client) })
		})
	}
}

func testBlockedWrite(t *testing.T, client bool) {
	a, b := memconn.Pipe(4 << 10)
	ends := [2]*Session{New(deafConn{a}, testConfig(client)), New(b, testConfig(!client))}
	s, peer := ends[0], ends[1]
	shaken := make(chan error, 1)
	go func() { shaken <- peer.Handshake(context.Background()) }()
	if err := errors.Join(s.Handshake(context.Background()), <-shaken); err != nil {
		t.Fatal(err)
	}

	wrote := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, 1<<20))
		wrote <- err
	}()
	synctest.Wait()

	const soon = 50 * time.Millisecond
	after := func(what string, d time.Duration, want error, f func() error) {
		t.Helper()
		begin, done := time.Now(), make(chan error, 1)
		go func() { done <- f() }()
		select {
		case err := <-done:
			if took := time.Since(begin); took != d || !errors.Is(err, want) {
				t.Errorf("%s: %v after %v, want %v after %v", what, err, took, want, d)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s waits for the connection", what)
		}
	}
	within := func(f func(ctx context.Context) error) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(context.Background(), soon)
			defer cancel()
			return f(ctx)
		}
	}
	asks := func() error {
		s.Stats()
		s.Result()
		s.TLSState()
		s.NetConn()
		s.LocalAddr()
		s.RemoteAddr()
		return errors.Join(s.SetReadDeadline(time.Now().Add(soon)), s.SetWriteDeadline(time.Now().Add(soon)))
	}
	after("Stats and deadlines", 0, nil, asks)
	after("Read", soon, os.ErrDeadlineExceeded, func() error { _, err := s.Read(make([]byte, 1)); return err })
	asks()
	after("Write", soon, os.ErrDeadlineExceeded, func() error { _, err := s.Write([]byte("more")); return err })
	s.SetReadDeadline(time.Time{})
	s.SetWriteDeadline(time.Time{})
	after("Ping", soon, context.DeadlineExceeded, within(func(ctx context.Context) error { _, err := s.Ping(ctx); return err }))
	after("SendMessage", soon, context.DeadlineExceeded, within(func(ctx context.Context) error {
		return s.SendMessage(ctx, &session.Message{Payload: []byte("x"), ReqAck: true})
	}))
	after("ReceiveMessage", soon, context.DeadlineExceeded, within(func(ctx context.Context) error { _, err := s.ReceiveMessage(ctx); return err }))
	if _, err := peer.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	after("Read of what comes", 0, nil, func() error { _, err := s.Read(make([]byte, 5)); return err })
	after("CloseWrite", 0, nil, s.CloseWrite) // the end goes out behind the bytes
	after("Close", testConfig(client).Linger, session.ErrUnsent, s.Close)
	if err := <-wrote; !errors.Is(err, net.ErrClosed) {
		t.Error("the Write that waited:", err)
	}
	peer.CloseWithError(framing.CodeApplication, "")
}
