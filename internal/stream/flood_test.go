package stream

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// heapGrowth returns how much more is alive after f than before.
func heapGrowth(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// TestFlood sends a hundred thousand of each frame that costs its sender little, and
// reads no answer: nothing grows, and data still gets through. S3, S9.
func TestFlood(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers int // at most, in bytes
		b       []byte
	}{
		{"PING", 64 << 10, frame(framing.TypePing, 0, field(framing.KeyPing, make([]byte, 16)...), nil)},
		{"PONG", 0, frame(framing.TypePong, 0, field(framing.KeyPing, make([]byte, 8)...), nil)},
		{"PONG without token", 0, frame(framing.TypePong, 0, nil, nil)},
		{"ACK", 0, frame(framing.TypeAck, 0, nums(framing.KeyMessage, framing.MaxVarint), nil)},
		{"ACK of the first", 0, frame(framing.TypeAck, 0, nums(framing.KeyMessage, 0), nil)},
		{"cancel", 0, frame(framing.TypeData, 0, nums(framing.KeyCancel, 12345), nil)},
		{"empty DATA", 0, streamData(0, "")},
		{"DATA with metadata alone", 0, frame(framing.TypeData, 0, field("key", 'v'), nil)},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, p := open(t, testConfig(false), handshake.Params{}, 0)
				defer s.Close()
				many := bytes.Repeat(c.b, 1000)
				grown := heapGrowth(func() {
					go func() {
						for range 100 {
							p.send(many)
						}
						p.send(streamData(0, "end"))
					}()
					if n, err := io.ReadFull(readerOf{s}, make([]byte, 3)); err != nil {
						t.Errorf("%d, %v", n, err)
					}
				})
				synctest.Wait()
				if grown > 1<<20 {
					t.Errorf("%d bytes more", grown)
				}
				if n := p.c.Buffered(); n > c.answers {
					t.Errorf("%d bytes of answers", n)
				}
			})
		})
	}
	t.Run("BYE", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s, p := open(t, testConfig(false), handshake.Params{}, 0)
			defer s.Close()
			for range 3 {
				p.send(frame(framing.TypeBye, 0, nil, nil))
			}
			p.send(frame(framing.TypePing, 0, nil, nil), frame(framing.TypeBye, 0, field(framing.KeyClose), nil))
			if _, err := s.Read(make([]byte, 1)); err != io.EOF {
				t.Error(err)
			}
			if _, err := s.Ping(contextFor(time.Second)); err != context.DeadlineExceeded {
				t.Error(err)
			}
			if _, err := s.Write([]byte("x")); err != session.ErrPeerClosed {
				t.Errorf("after BYE with close: %v", err)
			}
		})
	})
}

func contextFor(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// TestPingsAnsweredLatest has the last of many PINGs answered once the peer reads.
func TestPingsAnsweredLatest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{}, 40)
		defer s.Close()
		go io.Copy(io.Discard, readerOf{s})
		for i := range byte(200) {
			p.send(frame(framing.TypePing, 0, field(framing.KeyPing, i), nil))
		}
		synctest.Wait()
		for n := 0; ; n++ {
			token, _ := p.want(framing.TypePong).Header.Lookup(framing.KeyPing)
			if token[0] == 199 {
				break
			}
			if n > 10 {
				t.Fatal("too many PONGs")
			}
		}
	})
}

// TestMessageFlood sends a million messages that nobody takes: the sender is stopped,
// memory is not used up, and nothing is lost later. F10.
func TestMessageFlood(t *testing.T) {
	for _, c := range []struct {
		name string
		next func(id uint64) []byte
		grow int64
		most int
	}{
		{"tiny", func(id uint64) []byte { return message(0, id, "x") }, 2 << 20, maxQueuedMessages + 1},
		{"empty", func(id uint64) []byte { return message(0, id, "") }, 2 << 20, maxQueuedMessages + 1},
		{"1 MiB", func(id uint64) []byte { return message(0, id, string(make([]byte, 1<<20))) }, 8 << 20, 6},
		{"many empty fields", func(id uint64) []byte {
			return frame(framing.TypeData, 0, join(nums(framing.KeyMessage, id), make([]byte, 2*30_000)), nil)
		}, 8 << 20, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, p := open(t, testConfig(false), handshake.Params{}, 0)
				sent := make(chan int, 1)
				go io.Copy(io.Discard, readerOf{s}) // somebody reads, but no messages
				grown := heapGrowth(func() {
					go func() {
						n := 0
						for id := range uint64(1_000_000) {
							if _, err := p.c.Write(c.next(id)); err != nil {
								break
							}
							n++
						}
						sent <- n
					}()
					synctest.Wait()
				})
				if grown > c.grow {
					t.Errorf("%d bytes more", grown)
				}
				s.mu.Lock()
				queued := len(s.msgs)
				s.mu.Unlock()
				if queued > c.most || queued < 3 {
					t.Errorf("%d messages queued", queued)
				}
				for i := range 3000 {
					if _, err := s.ReceiveMessage(context.Background()); err != nil {
						t.Fatalf("%d: %v", i, err)
					}
					if i > 50 && c.most < 100 {
						break
					}
				}
				s.Close()
				p.c.Close()
				<-sent
			})
		})
	}
}

// TestClaims announces much and sends little: "Allocation follows bytes received, never
// a length claimed." F2.
func TestClaims(t *testing.T) {
	for name, b := range map[string][]byte{
		"frame of 8 MiB":          framing.AppendFixed(nil, framing.TypeData, 0, 0, 8<<20-framing.FixedLen),
		"frame of 8 MiB with CRC": framing.AppendFixed(nil, framing.TypeData, crc, 0, 8<<20-framing.FixedLen-4),
		"message of 8 MiB":        append(framing.AppendFixed(nil, framing.TypeData, 0, 4, 8<<20-framing.FixedLen-4), nums(framing.KeyMessage, 0)...),
		"fragments of 100 MiB":    fragment(0, 0, 100<<20, 0, "x"),
		"fragments with CRC":      fragment(crc, 0, 100<<20, 0, "x"),
		"fragment frame of 8 MiB": append(framing.AppendFixed(nil, framing.TypeData, frag, 9, 8<<20-framing.FixedLen-9), nums(framing.KeyMessage, 0, 100<<20, 0)...),
		"largest header":          framing.AppendFixed(nil, framing.TypeData, 0, framing.MaxHeaderLen, 0),
	} {
		bubble(t, func(t *testing.T) {
			s, p := open(t, testConfig(false), handshake.Params{}, 0)
			defer s.Close()
			p.send(b, []byte("0123456789"))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := s.ReceiveMessage(contextFor(time.Second)); err == nil {
				t.Errorf("%s: no error", name)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 300<<10 {
				t.Errorf("%s: %d bytes allocated", name, n)
			}
		})
	}
}

// TestBackPressure lets one kind of data wait for the application while it reads the
// other: up to a bound, then the carrier is not read any more. §5.9.
func TestBackPressure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{}, 1000)
		defer s.Close()
		chunk := string(bytes.Repeat([]byte("s"), 64<<10))
		done := make(chan bool)
		go func() {
			for range 4 {
				p.send(streamData(0, chunk))
			}
			p.send(streamData(0, chunk), message(0, 0, "first"), streamData(0, chunk), message(0, 1, "second"))
			close(done)
		}()
		// 4 of the chunks can wait, the fifth cannot.
		if _, err := s.ReceiveMessage(contextFor(time.Second)); err != context.DeadlineExceeded {
			t.Errorf("ReceiveMessage: %v", err)
		}
		if n := s.sbuf.len(); n != maxBufferedStream {
			t.Errorf("%d bytes wait", n)
		}
		recv := make(chan string)
		go func() {
			for range 2 {
				m, err := s.ReceiveMessage(context.Background())
				if err != nil {
					t.Error(err)
					break
				}
				recv <- string(m.Payload)
			}
		}()
		synctest.Wait()
		if n, err := io.ReadFull(readerOf{s}, make([]byte, 64<<10)); err != nil {
			t.Error(n, err)
		}
		if m := <-recv; m != "first" {
			t.Errorf("got %q", m)
		}
		if n, err := io.ReadFull(readerOf{s}, make([]byte, 5*64<<10)); err != nil {
			t.Error(n, err)
		}
		if m := <-recv; m != "second" {
			t.Errorf("got %q", m)
		}
		<-done
	})
	bubble(t, func(t *testing.T) { // Read past messages
		s, p := open(t, testConfig(true), handshake.Params{}, 1000)
		defer s.Close()
		go func() {
			for id := range uint64(maxQueuedMessages + 1) {
				p.send(message(0, id, "m"), streamData(0, "s"))
			}
		}()
		if n, err := io.ReadFull(readerOf{s}, make([]byte, maxQueuedMessages)); err != nil {
			t.Error(n, err)
		}
		s.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := s.Read(make([]byte, 1)); !isTimeout(err) {
			t.Error(n, err)
		}
		s.SetReadDeadline(time.Time{})
		read := make(chan error)
		go func() { _, err := s.Read(make([]byte, 1)); read <- err }()
		synctest.Wait()
		if _, err := s.ReceiveMessage(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-read; err != nil {
			t.Error(err)
		}
	})
}

// TestAcksUnread has a peer that wants ACKs and does not read them: it is stopped at a
// bound, and gets each of them once when it does.
func TestAcksUnread(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{}, 100)
		defer s.Close()
		const n = 5000
		go func() {
			for id := range uint64(n) {
				if _, err := p.c.Write(message(ack, id, "m")); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		got := make(chan int)
		go func() {
			for range n {
				if _, err := s.ReceiveMessage(context.Background()); err != nil {
					t.Error(err)
				}
			}
			got <- n
		}()
		synctest.Wait()
		s.mu.Lock()
		if k := len(s.ctl.acks); k > maxPendingAcks {
			t.Errorf("%d ACKs wait", k)
		}
		s.mu.Unlock()
		for id := range uint64(n) {
			v, _ := p.want(framing.TypeAck).Header.Lookup(framing.KeyMessage)
			if k, _ := framing.ConsumeVarint(v); k != id {
				t.Fatalf("ACK of %d, want %d", k, id)
			}
		}
		<-got
		synctest.Wait()
		if p.c.Buffered() > 0 {
			t.Error("more ACKs")
		}
	})
}
