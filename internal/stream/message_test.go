package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// TestAckWhenQueued has no ACK come before the message is queued: "the peer of the
// sender has the whole message, has verified it, and has queued it". §5.4.
func TestAckWhenQueued(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{}, 0)
		defer s.Close()
		go io.Copy(io.Discard, readerOf{s})
		for id := range uint64(maxQueuedMessages) {
			p.send(message(0, id, ""))
		}
		p.send(fragment(ack, 5000, 6, 0, "abc"), fragment(0, 5000, 6, 3, "def"), message(ack, 5001, "x"))
		synctest.Wait()
		if n := p.c.Buffered(); n > 0 {
			t.Errorf("%d bytes in answer to messages that are not queued", n)
		}
		for want := uint64(5000); want <= 5001; want++ {
			if _, err := s.ReceiveMessage(context.Background()); err != nil {
				t.Fatal(err)
			}
			f := p.want(framing.TypeAck)
			if v, _ := f.Header.Lookup(framing.KeyMessage); !bytes.Equal(v, framing.AppendVarint(nil, want)) || len(f.Header) != 2+1+len(v) {
				t.Errorf("ACK %x, want %d", f.Header, want)
			}
			synctest.Wait()
			if p.c.Buffered() > 0 && want == 5000 {
				t.Error("the next ACK came too early")
			}
		}
	})
	bubble(t, func(t *testing.T) { // a fragment is not a message
		s, p := open(t, testConfig(true), handshake.Params{}, 0)
		defer s.Close()
		go io.Copy(io.Discard, readerOf{s})
		p.send(fragment(ack, 1, 6, 0, "abc"))
		time.Sleep(time.Minute)
		if p.c.Buffered() > 0 {
			t.Error("acknowledged half a message")
		}
		p.send(frame(framing.TypeData, 0, nums(framing.KeyCancel, 1), nil), message(0, 2, "next"))
		if m, err := s.ReceiveMessage(context.Background()); err != nil || string(m.Payload) != "next" || p.c.Buffered() > 0 {
			t.Errorf("%v, %v", m, err)
		}
	})
}

// TestAckTimeout waits for an ACK that does not come.
func TestAckTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{}, 0)
		defer s.Close()
		go io.Copy(io.Discard, p.c)
		start := time.Now()
		err := s.SendMessage(context.Background(), &session.Message{ReqAck: true})
		var ne net.Error
		if err != session.ErrAckTimeout || !errors.As(err, &ne) || !ne.Timeout() || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		start = time.Now()
		if err := s.SendMessage(contextFor(time.Minute), &session.Message{ReqAck: true}); err != context.DeadlineExceeded || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		// A late ACK, one for what was never sent, and the right one.
		sent := make(chan error, 1)
		go func() { sent <- s.SendMessage(context.Background(), &session.Message{ReqAck: true}) }()
		synctest.Wait()
		for _, id := range []uint64{0, 1, 3, 99, framing.MaxVarint} {
			p.send(frame(framing.TypeAck, 0, nums(framing.KeyMessage, id), nil))
		}
		synctest.Wait()
		if len(sent) > 0 {
			t.Error("acknowledged by another's ACK")
		}
		p.send(frame(framing.TypeAck, 0, nums(framing.KeyMessage, 2), nil))
		if err := <-sent; err != nil {
			t.Error(err)
		}
		// The peer goes away.
		go func() { sent <- s.SendMessage(context.Background(), &session.Message{ReqAck: true}) }()
		synctest.Wait()
		p.c.Close()
		if err := <-sent; err != io.ErrUnexpectedEOF {
			t.Errorf("without the peer: %v", err)
		}
	})
}

// TestLifetime gives messages up that the carrier has not taken when their lifetime
// ends; what it has taken arrives, and is waited for.
func TestLifetime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{}, 1000)
		defer s.Close()
		for _, size := range []int{400_000, 0} { // in the middle of it, and before it
			start := time.Now()
			err := s.SendMessage(context.Background(), &session.Message{Payload: make([]byte, size), Lifetime: time.Second, ReqAck: true})
			var ne net.Error
			if err != session.ErrExpired || !errors.As(err, &ne) || !ne.Timeout() || time.Since(start) != time.Second {
				t.Errorf("%d: %v after %v", size, err, time.Since(start))
			}
		}
		go io.Copy(io.Discard, p.c)
		synctest.Wait()
		start := time.Now()
		err := s.SendMessage(context.Background(), &session.Message{Lifetime: time.Second, ReqAck: true})
		if err != session.ErrAckTimeout || time.Since(start) != 10*time.Second {
			t.Errorf("on its way: %v after %v", err, time.Since(start))
		}
	})
}

// TestConcurrentMessages sends a thousand acknowledged messages both ways at once, in
// every mode, beside streams, PINGs and readers of everything. N8.
func TestConcurrentMessages(t *testing.T) {
	for _, m := range modes {
		bubble(t, func(t *testing.T) {
			c, s, cc, sc := m.pair(t, testConfig(true), testConfig(false))
			cc.SetWriteBuffer(3000)
			sc.SetWriteBuffer(3000)
			const n = 200
			errs := make(chan error)
			goes := 0
			run := func(f func() error) { goes++; go func() { errs <- f() }() }
			for _, x := range []*Session{c, s} {
				for i := range uint64(n) {
					run(func() error {
						size := 8
						if i%100 == 0 {
							size = 200_000 // fragments
						}
						p := make([]byte, size)
						binary.BigEndian.PutUint64(p, i)
						return x.SendMessage(context.Background(), &session.Message{Payload: p, ReqAck: i%3 != 0})
					})
				}
				seen := make(map[uint64]bool)
				run(func() error {
					for range n {
						m, err := x.ReceiveMessage(context.Background())
						if err != nil {
							return err
						}
						id := binary.BigEndian.Uint64(m.Payload)
						if seen[id] {
							t.Errorf("%d came twice", id)
						}
						seen[id] = true
					}
					return nil
				})
				var readers sync.WaitGroup
				readers.Add(3)
				go func() { // whoever waits for an ACK or PONG needs the other side to read
					readers.Wait()
					io.Copy(io.Discard, readerOf{x})
				}()
				for range 3 {
					run(func() error { _, err := x.Write(bytes.Repeat([]byte("x"), 100_000)); return err })
					run(func() error {
						defer readers.Done()
						_, err := io.ReadFull(readerOf{x}, make([]byte, 100_000))
						return err
					})
					run(func() error { _, err := x.Ping(context.Background()); return err })
				}
				// Ends of all kinds, that must disturb nobody.
				run(func() error {
					for range 20 {
						if _, err := x.ReceiveMessage(contextFor(0)); err == nil {
							t.Error("a message for a context that has ended")
						}
						x.LocalAddr()
						x.Stats()
						if r, ok := x.Result(); !ok || r.Legacy {
							t.Error(r)
						}
					}
					return nil
				})
			}
			done := make(chan bool)
			go func() {
				for range goes {
					if err := <-errs; err != nil {
						t.Errorf("%s: %v", m.name, err)
					}
				}
				close(done)
			}()
			select {
			case <-done:
			case <-time.After(5 * time.Second):
				t.Errorf("%s: stuck", m.name)
			}
			c.Close()
			s.Close()
		})
	}
}

// TestLargeBesideSmall counts what comes before a small message, a PING or a byte of
// the stream when a large message is under way: F9, "a 100 MB message does not delay a
// 100-byte one beside it".
func TestLargeBesideSmall(t *testing.T) {
	for _, large := range []string{"message", "write"} {
		bubble(t, func(t *testing.T) {
			s, p := open(t, testConfig(true), handshake.Params{}, 10_000)
			defer s.Close()
			done := make(chan error, 1)
			go func() {
				b := make([]byte, 50<<20)
				if large == "message" {
					done <- s.SendMessage(context.Background(), &session.Message{Payload: b})
				} else {
					_, err := s.Write(b)
					done <- err
				}
			}()
			go s.Read(make([]byte, 1))
			for range 20 {
				synctest.Wait()
				go s.SendMessage(context.Background(), &session.Message{Payload: []byte("small")})
				go s.Ping(contextFor(time.Hour))
				want := []string{"small", "PING"}
				if large == "message" {
					go s.Write([]byte("stream"))
					want = append(want, "stream")
				}
				synctest.Wait()
				before := 0
				for len(want) > 0 {
					f, err := p.next()
					if err != nil {
						t.Fatal(err)
					}
					got := string(f.Payload)
					if f.Type == framing.TypePing {
						got = "PING"
					}
					if len(f.Payload) > maxFragment {
						t.Errorf("frame of %d bytes", len(f.Payload))
					}
					found := false
					for i, w := range want {
						if got == w {
							want = append(want[:i], want[i+1:]...)
							found = true
							break
						}
					}
					if !found {
						before++
					}
				}
				if before > 4 {
					t.Errorf("%s: %d large frames before the small ones", large, before)
				}
			}
			go io.Copy(io.Discard, p.c)
			if err := <-done; err != nil {
				t.Error(err)
			}
			p.c.Close()
		})
	}
}

// TestMessageRefused has what cannot be sent found before anything is sent. F8.
func TestMessageRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{MaxMessage: 1000}, 0)
		defer s.Close()
		var long framing.Header
		for range 255 {
			long = append(long, framing.Field{Key: "k", Value: string(make([]byte, 255))})
		}
		for _, c := range []struct {
			m    session.Message
			want error
		}{
			{session.Message{Payload: make([]byte, 1001)}, session.ErrMessageTooLarge},
			{session.Message{Payload: make([]byte, 1001), ReqAck: true}, session.ErrMessageTooLarge},
			{session.Message{Header: framing.Header{{Key: "\x02", Value: "x"}}}, session.ErrReservedKey},
			{session.Message{Header: framing.Header{{Key: "\x1fabc", Value: "x"}}}, session.ErrReservedKey},
			{session.Message{Header: framing.Header{{Key: string(make([]byte, 256))}}}, nil},
			{session.Message{Header: long}, framing.ErrHeaderTooLarge},
		} {
			err := s.SendMessage(context.Background(), &c.m)
			if err == nil || c.want != nil && err != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
		}
		if err := s.SendMessage(context.Background(), &session.Message{Payload: make([]byte, 1000), Header: framing.Header{{Key: "", Value: ""}, {Key: "k", Value: "1"}, {Key: "k", Value: "2"}}}); err != nil {
			t.Error(err)
		}
		f := p.want(framing.TypeData)
		h, err := f.Header.AppendUser(nil)
		if err != nil || len(h) != 3 || h[2].Value != "2" || len(f.Payload) != 1000 || p.c.Buffered() != 0 {
			t.Errorf("%v, %v", h, err)
		}
	})
}

// TestMessageSizes sends messages of sizes around those of frames, with metadata. F1.
func TestMessageSizes(t *testing.T) {
	for _, m := range modes {
		bubble(t, func(t *testing.T) {
			c, s, _, _ := m.pair(t, testConfig(true), testConfig(false))
			defer c.Close()
			defer s.Close()
			go io.Copy(io.Discard, readerOf{c})
			sizes := []int{0, 1, 127, 128, 129, maxFragment - 1, maxFragment, maxFragment + 1, 2*maxFragment - 1, 2 * maxFragment, 2*maxFragment + 1, 1 << 20}
			h := framing.Header{{Key: "name", Value: "x"}, {Key: "", Value: ""}, {Key: "name", Value: "y"}}
			go func() {
				for i, n := range sizes {
					if err := c.SendMessage(context.Background(), &session.Message{Header: h, Payload: bytes.Repeat([]byte{byte(i)}, n), ReqAck: i%2 == 0}); err != nil {
						t.Errorf("%d: %v", n, err)
					}
				}
			}()
			for i, n := range sizes {
				msg, err := s.ReceiveMessage(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(msg.Payload, bytes.Repeat([]byte{byte(i)}, n)) || len(msg.Header) != 3 || msg.ReqAck != (i%2 == 0) {
					t.Errorf("%s: %d: %d bytes, %v, %v", m.name, n, len(msg.Payload), msg.Header, msg.ReqAck)
				}
			}
		})
	}
}
