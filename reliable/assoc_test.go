package reliable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

// TestStreamOverBadPaths: bytes arrive once, in order and unchanged, whatever the
// path does (traps C1, R1, R6, R7, F1).
func TestStreamOverBadPaths(t *testing.T) {
	paths := map[string]wire{
		"clean":      {delay: 5 * time.Millisecond},
		"loss 5":     {delay: 5 * time.Millisecond, loss: 0.05},
		"loss 30":    {delay: 5 * time.Millisecond, loss: 0.3},
		"jitter":     {delay: 5 * time.Millisecond, jitter: 20 * time.Millisecond},
		"dup":        {delay: 5 * time.Millisecond, dup: 0.2},
		"corrupt":    {delay: 5 * time.Millisecond, corrupt: 0.05},
		"all":        {delay: 5 * time.Millisecond, jitter: 10 * time.Millisecond, loss: 0.1, dup: 0.1, corrupt: 0.02},
		"tiny queue": {delay: 5 * time.Millisecond, rate: 10 * mbit, queue: 6000},
		"huge queue": {delay: 5 * time.Millisecond, rate: 10 * mbit, queue: 10 << 20},
		"slow":       {delay: 50 * time.Millisecond, rate: 0.1 * mbit, queue: 20000},
	}
	for name, w := range paths {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3) {
				s := newRig(t, seed, w)
				n := []int{0, 1, 1000, 100000, 3 << 20}[s.rng.IntN(5)]
				if w.rate == 0.1*mbit {
					n = min(n, 100000)
				}
				if _, err := s.bulk(int(seed)%2, n, 5*time.Minute); err != nil {
					t.Fatalf("seed %d, %d bytes: %v", seed, n, err)
				}
				s.shutdown(t, seed)
			}
		})
	}
}

// shutdown ends both sides, and fails if they do not come to rest.
func (s *rig) shutdown(t *testing.T, seed uint64) {
	t.Helper()
	s.ends[0].Shutdown(s.now)
	s.ends[1].Shutdown(s.now)
	if !s.run(2*time.Minute, func() bool { return s.ends[0].Done() && s.ends[1].Done() }) {
		t.Fatalf("seed %d: no end: %v %v, %v %v", seed, s.ends[0].life, s.ends[0].err, s.ends[1].life, s.ends[1].err)
	}
}

// TestMessagesOverBadPaths: each message that wants an acknowledgement is delivered
// exactly once, and its sender learns of it.
func TestMessagesOverBadPaths(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		w := wire{
			delay: time.Duration(rng.IntN(50)) * time.Millisecond, jitter: time.Duration(rng.IntN(20)) * time.Millisecond,
			loss: float64(rng.IntN(4)) * 0.1, dup: float64(rng.IntN(2)) * 0.1, corrupt: float64(rng.IntN(2)) * 0.05,
		}
		s := newRig(t, seed, w, func(c *Config) { c.Retry.MaxRetries = 20; c.KeepAlive = time.Second })
		type sent struct {
			m       *Outgoing
			payload []byte
			got     int
		}
		var all []*sent
		done := 0
		s.onEvent = func(end int, e Event) {
			if e.Kind == EventMessageDone {
				done++
				if e.Message.Err() != nil {
					t.Errorf("seed %d: %v", seed, e.Message.Err())
				}
			}
		}
		total := 50
		ok := s.run(10*time.Minute, func() bool {
			for len(all) < total && rng.IntN(3) > 0 {
				p := make([]byte, 4+rng.IntN([]int{1, 1000, 10000, 300000}[rng.IntN(4)]))
				for i := range p {
					p[i] = byte(rng.Uint32())
				}
				p[0], p[1] = byte(len(all)), byte(len(all)>>8)
				m := &Outgoing{Payload: p, Ack: true, Ordered: rng.IntN(2) == 0, Channel: uint64(rng.IntN(2)), Priority: int8(rng.IntN(3))}
				if rng.IntN(2) == 0 {
					m.Header = []byte{1, 1, 'k', 'v'}
				}
				if err := s.ends[0].SendMessage(s.now, m); err != nil {
					t.Fatal(err)
				}
				all = append(all, &sent{m: m, payload: p})
			}
			for {
				in, ok := s.ends[1].ReceiveMessage(s.now)
				if !ok {
					break
				}
				i := int(in.Payload[0]) + int(in.Payload[1])<<8
				all[i].got++
				if !bytes.Equal(in.Payload, all[i].payload) || !in.Ack {
					t.Fatalf("seed %d: message %d is not what was sent", seed, i)
				}
			}
			return len(all) == total && done == total
		})
		if !ok {
			t.Fatalf("seed %d: %d of %d done; %+v", seed, done, total, s.ends[0].Stats())
		}
		for i, x := range all {
			if x.got != 1 {
				t.Fatalf("seed %d: message %d delivered %d times", seed, i, x.got)
			}
		}
		if a := s.ends[1]; len(a.partials) != 0 || len(a.messagesDone) != 1 {
			t.Fatalf("seed %d: state left behind: %d partials, %v", seed, len(a.partials), a.messagesDone)
		}
		s.shutdown(t, seed)
	}
}

// TestLargeMessage: 100 MB in one message.
func TestLargeMessage(t *testing.T) {
	s := newRig(t, 1, wire{delay: 2 * time.Millisecond, loss: 0.01, rate: 1000 * mbit, queue: 1 << 20})
	p := make([]byte, 100<<20)
	for i := 0; i < len(p); i += 4093 {
		p[i] = byte(i)
	}
	m := &Outgoing{Payload: p, Ack: true}
	if err := s.ends[0].SendMessage(s.now, m); err != nil {
		t.Fatal(err)
	}
	var got []byte
	if !s.run(time.Minute, func() bool {
		if in, ok := s.ends[1].ReceiveMessage(s.now); ok {
			got = in.Payload
		}
		return m.Done()
	}) {
		t.Fatalf("not there: %+v", s.ends[0].Stats())
	}
	if m.Err() != nil || !bytes.Equal(got, p) {
		t.Fatal(m.Err())
	}
	t.Log(s.since())
}

// TestBlackout: ten seconds without a path lose nothing.
func TestBlackout(t *testing.T) {
	s := newRig(t, 3, wire{delay: 10 * time.Millisecond, rate: 20 * mbit, queue: 100000})
	begin := s.now
	s.onEvent = func(int, Event) {}
	_, err := s.bulkWith(0, 10<<20, time.Minute, func() {
		d := s.now.Sub(begin)
		s.links[0].down = d > time.Second && d < 11*time.Second
		s.links[1].down = s.links[0].down
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := s.since(); d > 18*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestMTUDrop: the path becomes narrower in mid-transfer (trap R12).
func TestMTUDrop(t *testing.T) {
	s := newRig(t, 3, wire{delay: 10 * time.Millisecond, rate: 20 * mbit, queue: 100000})
	begin := s.now
	_, err := s.bulkWith(0, 10<<20, time.Minute, func() {
		if s.now.Sub(begin) > time.Second {
			s.links[0].mtu = 1300
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if st := s.ends[0].Stats(); st.BlackHoles == 0 || st.MTU > 1300 {
		t.Errorf("%+v", st)
	}
	if d := s.since(); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestDeadPeer: a message fails with its typed error after its retries, and the
// association after the idle timeout.
func TestDeadPeer(t *testing.T) {
	s := newRig(t, 1, wire{delay: 10 * time.Millisecond})
	s.bulk(0, 1000, time.Second)
	s.links[0].down, s.links[1].down = true, true
	m := &Outgoing{Payload: []byte("x"), Ack: true}
	s.ends[0].SendMessage(s.now, m)
	at := s.now
	s.run(time.Minute, m.Done)
	if d := s.now.Sub(at); !errors.Is(m.Err(), ErrNoAck) || d != 8700*time.Millisecond {
		t.Errorf("%v after %v", m.Err(), d)
	}
	s.run(2*time.Minute, func() bool { return s.ends[0].Err() != nil })
	if err := s.ends[0].Err(); err != ErrIdleTimeout {
		t.Error(err)
	}
	if _, err := s.ends[0].Write(s.now, 0, []byte("x")); err != ErrIdleTimeout {
		t.Error(err)
	}
	if _, err := s.ends[0].Read(s.now, 0, make([]byte, 1)); err != ErrIdleTimeout {
		t.Error(err)
	}
}

// TestHalfClose: FIN ends one direction, the other goes on; then Shutdown of one
// side ends both.
func TestHalfClose(t *testing.T) {
	s := newRig(t, 1, wire{delay: 10 * time.Millisecond, loss: 0.2})
	c, v := s.ends[0], s.ends[1]
	c.Write(s.now, 0, []byte("request"))
	c.CloseWrite(0)
	var got []byte
	eof := false
	read := func(a *Assoc) func() bool {
		got, eof = nil, false
		return func() bool {
			b := make([]byte, 100)
			n, err := a.Read(s.now, 0, b)
			got = append(got, b[:n]...)
			eof = eof || err == io.EOF
			return eof
		}
	}
	if !s.run(time.Minute, read(v)) || string(got) != "request" {
		t.Fatalf("%q", got)
	}
	if _, err := c.Write(s.now, 0, []byte("x")); err != ErrWriteClosed {
		t.Error(err)
	}
	v.Write(s.now, 0, []byte("answer"))
	v.Shutdown(s.now)
	if !s.run(time.Minute, read(c)) || string(got) != "answer" {
		t.Fatalf("%q", got)
	}
	if !s.run(time.Minute, func() bool { return c.Err() != nil && v.Done() }) || c.Err() != ErrPeerClosed || v.Err() != ErrClosed {
		t.Fatal(c.Err(), v.Err())
	}
}

// TestBackPressure: a peer that reads nothing stops the writer at the credit.
func TestBackPressure(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	written := 0
	s.run(10*time.Second, func() bool {
		n, err := s.ends[0].Write(s.now, 0, make([]byte, 100000))
		if err != nil {
			t.Fatal(err)
		}
		written += n
		return false
	})
	if written < 1<<20 || written > 1<<20+16<<20 {
		t.Errorf("%d bytes", written)
	}
	held := 0
	for _, b := range s.ends[1].streams.get(0).in.blocks {
		held += len(b)
	}
	if held > 1<<20+2*blockLen {
		t.Errorf("the receiver holds %d", held)
	}
	total := 0
	b := make([]byte, 1<<20)
	s.run(10*time.Second, func() bool {
		n, _ := s.ends[1].Read(s.now, 0, b)
		total += n
		return total == written
	})
	if total != written {
		t.Errorf("%d of %d", total, written)
	}
}

// TestIdleIsSilent: an association at rest sends nothing (trap R8).
func TestIdleIsSilent(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	s.bulk(0, 100000, time.Second)
	s.run(time.Second, func() bool { return false })
	before := s.links[0].sent + s.links[1].sent
	s.run(30*time.Second, func() bool { return false })
	if n := s.links[0].sent + s.links[1].sent - before; n != 0 {
		t.Errorf("%d packets", n)
	}
}

// TestKeepAlive keeps two idle ends together, one PING each period.
func TestKeepAlive(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond, loss: 0.1}, func(c *Config) { c.KeepAlive = 15 * time.Second })
	s.run(10*time.Minute, func() bool { return false })
	if s.ends[0].Err() != nil || s.ends[1].Err() != nil {
		t.Fatal(s.ends[0].Err(), s.ends[1].Err())
	}
	if n := s.links[0].sent + s.links[1].sent; n > 250 {
		t.Errorf("%d packets in ten minutes", n)
	}
}

var _ = fmt.Sprint
