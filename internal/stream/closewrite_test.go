package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
)

// TestCloseWriteDuringMessage half-closes while a fragmented message is under way:
// "After its first BYE an end MUST NOT send DATA, in none of the three kinds."
func TestCloseWriteDuringMessage(t *testing.T) {
	for size := 0; size <= 5; size++ {
		bubble(t, func(t *testing.T) {
			// The carrier holds some of the fragments.
			s, p := open(t, testConfig(true), handshake.Params{}, size*40_000+1000)
			defer s.Close()
			sent := make(chan error, 1)
			go func() {
				sent <- s.SendMessage(context.Background(), &session.Message{Payload: make([]byte, 300_000)})
			}()
			synctest.Wait()
			if err := s.CloseWrite(); err != nil {
				t.Error(err)
			}
			bye := false
			for {
				f, err := p.next()
				if err == nil && f.Type == framing.TypeBye {
					bye = true
					break
				}
				if err != nil || f.Type != framing.TypeData {
					t.Fatalf("%v, %v", f.Type, err)
				}
			}
			if err := <-sent; err != nil && err != session.ErrWriteClosed {
				t.Errorf("SendMessage: %v", err)
			}
			time.Sleep(time.Second)
			if n := p.c.Buffered(); n > 0 || !bye {
				t.Errorf("%d bytes after BYE", n)
			}
		})
	}
}

// TestCloseWriteRace half-closes beside writes and messages, which must not be
// overtaken by BYE.
func TestCloseWriteRace(t *testing.T) {
	for range 40 {
		bubble(t, func(t *testing.T) {
			c, s := pair(t, testConfig(true), testConfig(false), 0)
			defer s.Close()
			defer c.Close()
			var accepted bytes.Buffer
			wrote := make(chan bool)
			go func() {
				for b := byte(0); ; b++ {
					if _, err := c.Write([]byte{b}); err != nil {
						if err != session.ErrWriteClosed {
							t.Errorf("Write: %v", err)
						}
						break
					}
					accepted.WriteByte(b)
				}
				close(wrote)
			}()
			msgs := make(chan int)
			go func() {
				n := 0
				for ; ; n++ {
					if err := c.SendMessage(context.Background(), &session.Message{}); err != nil {
						break
					}
				}
				msgs <- n
			}()
			go c.CloseWrite()
			got := make(chan int)
			go func() {
				n := 0
				for ; ; n++ {
					if _, err := s.ReceiveMessage(context.Background()); err != nil {
						if err != io.EOF {
							t.Errorf("ReceiveMessage: %v", err)
						}
						break
					}
				}
				got <- n
			}()
			b, err := io.ReadAll(readerOf{s})
			<-wrote
			if err != nil || !bytes.Equal(b, accepted.Bytes()) {
				t.Errorf("read %d bytes of %d, %v", len(b), accepted.Len(), err)
			}
			if n, m := <-msgs, <-got; n != m {
				t.Errorf("%d of %d messages", m, n)
			}
		})
	}
}

// TestCloseWriteFirst half-closes a connection that has not begun, with a write
// deadline that has passed: BYE comes after HELLO and WELCOME.
func TestCloseWriteFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := memconn.Pipe(0)
		s := New(a, testConfig(true))
		defer s.Close()
		s.SetWriteDeadline(time.Now())
		closed := make(chan error, 1)
		go func() { closed <- s.CloseWrite() }()
		synctest.Wait()
		srv := New(b, testConfig(false))
		defer srv.Close()
		if err := srv.Handshake(context.Background()); err != nil {
			t.Fatal(err)
		}
		if r, _ := srv.Result(); r.Legacy {
			t.Error("taken for a crate peer")
		}
		if err := <-closed; err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("CloseWrite: %v", err)
		} else if err == nil {
			if _, err := srv.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("Read: %v", err)
			}
		}
	})
}

// TestHalfClose sends a long reply after the other side has closed its own: C5.
func TestHalfClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, s := pair(t, testConfig(true), testConfig(false), 1000)
		c.Write([]byte("question"))
		for range 2 {
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Write([]byte("x")); err != session.ErrWriteClosed {
			t.Errorf("Write: %v", err)
		}
		if err := c.SendMessage(context.Background(), &session.Message{}); err != session.ErrWriteClosed {
			t.Errorf("SendMessage: %v", err)
		}
		go func() {
			if b, err := io.ReadAll(readerOf{s}); string(b) != "question" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			if _, err := s.ReceiveMessage(context.Background()); err != io.EOF {
				t.Errorf("ReceiveMessage: %v", err)
			}
			s.Write(make([]byte, 1<<20))
			if err := s.SendMessage(context.Background(), &session.Message{Payload: []byte("m"), ReqAck: true}); err != nil {
				t.Errorf("message to a side that has half-closed: %v", err)
			}
			s.Close()
		}()
		if b, err := io.ReadAll(readerOf{c}); len(b) != 1<<20 || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if m, err := c.ReceiveMessage(context.Background()); err != nil || string(m.Payload) != "m" {
			t.Errorf("%v, %v", m, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
