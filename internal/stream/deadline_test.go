package stream

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// TestCancelBesideDeadline moves deadlines while a context ends: the end must not be
// lost, whichever comes first. D2, D4.
func TestCancelBesideDeadline(t *testing.T) {
	for range 300 {
		bubble(t, func(t *testing.T) {
			s, _ := open(t, testConfig(true), handshake.Params{}, 1000)
			ctx, cancel := context.WithCancel(context.Background())
			results := make(chan error)
			go func() {
				_, err := s.ReceiveMessage(ctx)
				results <- err
			}()
			go func() { results <- s.SendMessage(ctx, &session.Message{Payload: make([]byte, 100_000)}) }()
			synctest.Wait()
			for i := range 2 {
				go func() {
					for j := range 50 {
						d := time.Now().Add(time.Duration(i*50+j+1) * time.Minute)
						s.SetReadDeadline(d)
						s.SetWriteDeadline(d)
					}
				}()
			}
			cancel()
			for range 2 {
				if err := <-results; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
			if d := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); d != 0 {
				t.Errorf("took %v", d)
			}
			s.Close()
		})
	}
}

// TestDeadlineMoves wakes blocked calls earlier and later. D1, D2, D3.
func TestDeadlineMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{}, 100)
		defer s.Close()
		type result struct {
			err error
			at  time.Duration
		}
		start := time.Now()
		run := func(f func() error) <-chan result {
			c := make(chan result, 1)
			go func() {
				err := f()
				c <- result{err, time.Since(start)}
			}()
			return c
		}
		want := func(what string, r <-chan result, at time.Duration) {
			t.Helper()
			got := <-r
			if !errors.Is(got.err, os.ErrDeadlineExceeded) || got.at != at {
				t.Errorf("%s: %v after %v, want %v", what, got.err, got.at, at)
			}
		}
		s.Write(make([]byte, 100-framing.FixedLen)) // fills the carrier
		s.SetReadDeadline(start.Add(10 * time.Second))
		s.SetWriteDeadline(start.Add(20 * time.Second))
		read := run(func() error { _, err := s.Read(make([]byte, 1)); return err })
		recv := run(func() error { _, err := s.ReceiveMessage(context.Background()); return err })
		write := run(func() error { _, err := s.Write(make([]byte, 1000)); return err })
		send := run(func() error { return s.SendMessage(context.Background(), &session.Message{}) })
		time.Sleep(time.Second)
		s.SetReadDeadline(start.Add(30 * time.Second)) // later
		s.SetWriteDeadline(start.Add(5 * time.Second)) // earlier
		want("Write", write, 5*time.Second)
		want("SendMessage", send, 5*time.Second)
		time.Sleep(7 * time.Second)
		s.SetReadDeadline(start.Add(13 * time.Second))
		want("Read", read, 13*time.Second)
		want("ReceiveMessage", recv, 13*time.Second)

		// Past: at once, whatever is there to read or room to write.
		p.send(streamData(0, "data"), message(0, 0, "message"))
		s.SetReadDeadline(start)
		s.SetWriteDeadline(time.Now()) // exactly now has passed
		at := time.Since(start)
		want("past Read", run(func() error { _, err := s.Read(make([]byte, 1)); return err }), at)
		want("past ReceiveMessage", run(func() error { _, err := s.ReceiveMessage(context.Background()); return err }), at)
		want("past Write", run(func() error { _, err := s.Write(make([]byte, 1)); return err }), at)
		want("past SendMessage", run(func() error { return s.SendMessage(context.Background(), &session.Message{}) }), at)

		// Lifted: everything works on.
		s.SetReadDeadline(time.Time{})
		s.SetWriteDeadline(time.Time{})
		if n, err := s.Read(make([]byte, 10)); n != 4 || err != nil {
			t.Errorf("Read: %d, %v", n, err)
		}
		if m, err := s.ReceiveMessage(context.Background()); err != nil || string(m.Payload) != "message" {
			t.Errorf("ReceiveMessage: %v, %v", m, err)
		}
		// A read deadline is none of Write's.
		s.SetReadDeadline(time.Now())
		go func() {
			for {
				if _, err := p.next(); err != nil {
					return
				}
			}
		}()
		if n, err := s.Write(make([]byte, 1000)); n != 1000 || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
		// Zero bytes, N6.
		s.SetReadDeadline(time.Time{})
		if n, err := s.Read(nil); n != 0 || err != nil {
			t.Errorf("Read of nothing: %d, %v", n, err)
		}
		if n, err := s.Write(nil); n != 0 || err != nil {
			t.Errorf("Write of nothing: %d, %v", n, err)
		}
		p.c.Close()
	})
}
