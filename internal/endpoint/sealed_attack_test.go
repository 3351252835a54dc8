package endpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/simnet"
)

// An attacker makes datagrams. It knows the ids in ids, or none.
type attacker struct {
	t    *testing.T
	rnd  *rand.Rand
	ids  []handshake.ConnID
	made int
}

func newAttacker(t *testing.T, seed uint64) *attacker {
	return &attacker{t: t, rnd: rand.New(rand.NewPCG(seed, 7))}
}

func (a *attacker) id() (id handshake.ConnID) {
	if len(a.ids) > 0 && a.rnd.IntN(4) > 0 {
		return a.ids[a.rnd.IntN(len(a.ids))]
	}
	return handshake.ConnID(a.bytes(8))
}

func (a *attacker) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(a.rnd.Uint32())
	}
	return b
}

// forge makes a datagram of any kind; but for who knows the ids none of the Initial
// level, which nobody has signed.
func (a *attacker) forge() []byte {
	id := a.id()
	a.made++
	switch n := a.rnd.IntN(12); n {
	case 0:
		if len(a.ids) == 0 {
			return newStranger(a.t, a.made).hello(a.t)
		}
		return handshake.AppendCryptoHello(nil, &handshake.CryptoFrame{SourceID: id, HasHave: true, HandshakeHave: 1000})
	case 1:
		if len(a.ids) > 0 {
			id = handshake.ConnID(a.bytes(8))
		}
		return handshake.AppendCryptoWelcome(nil, &handshake.CryptoFrame{ClientID: id, SourceID: a.id(), Data: a.bytes(100)})
	case 2:
		b, _ := handshake.AppendRefusal(nil, id, framing.ErrorCode(a.rnd.IntN(20)), "go away", nil)
		return b
	case 3:
		return handshake.AppendUnknownID(nil, id)
	case 4:
		return handshake.AppendReset(nil, id, [16]byte(a.bytes(16)))
	case 5:
		if len(a.ids) > 0 {
			return handshake.AppendUnknownID(nil, id)
		}
		return handshake.AppendRetry(nil, id, a.bytes(24))
	case 6, 7, 8: // a packet in plaintext that closes, pings, has a challenge or junk
		chunks := [][]byte{{0x1c, 0, 0}, {0x1c, 1, 2, 'n', 'o'}, {0x01}, append([]byte{0x1a}, a.bytes(8)...), a.bytes(50)}[a.rnd.IntN(5)]
		flags := framing.Flags(0)
		if n == 8 {
			flags = framing.FlagCRC
		}
		return a.packet(framing.TypeData, flags, id, append(chunks, make([]byte, a.rnd.IntN(2)*60)...))
	case 9: // sealed with the wrong keys
		typ := []framing.Type{framing.TypeData, framing.TypeHello, framing.TypeWelcome}[a.rnd.IntN(3)]
		return a.packet(typ, framing.FlagSealed, id, a.bytes(20+a.rnd.IntN(1400)))
	case 10: // tiny and huge
		return append([]byte("VT\x01"), a.bytes([]int{0, 1, 8, 30000}[a.rnd.IntN(4)])...)
	}
	return a.bytes(a.rnd.IntN(100))
}

// packet makes one by hand.
func (a *attacker) packet(typ framing.Type, flags framing.Flags, id handshake.ConnID, payload []byte) []byte {
	h := append([]byte{1, 12, 1}, id[:]...)
	h = append(h, 0, 0, 0, byte(a.rnd.IntN(30)))
	if flags&framing.FlagCRC != 0 {
		b, _ := framing.AppendFrame(nil, framing.Frame{Type: typ, Flags: flags, Header: h, Payload: payload}, framing.TrailerByFlag)
		return b
	}
	b := framing.AppendFixed(nil, typ, flags, len(h), int64(len(payload)))
	return append(append(b, h...), payload...)
}

// attack has f called every so often until the end of the test's work, or of the test.
func attack(t *testing.T, every time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-t.Context().Done():
				return
			case <-time.After(every):
				f()
			}
		}
	})
	return func() { close(done); all.Wait() }
}

// work dials and has both sides send n bytes to each other. It returns how long that took.
func work(t *testing.T, d *duo, n int) (dialed, all time.Duration) {
	t.Helper()
	d.b.Listen()
	start := time.Now()
	accepted := make(chan *Session, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		s, err := d.b.Accept(ctx)
		if err != nil {
			t.Error("accept:", err)
		}
		accepted <- s
	}()
	c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
	if err != nil {
		t.Fatalf("dial: %v after %v", err, time.Since(start))
	}
	dialed = time.Since(start)
	s := <-accepted
	if s == nil {
		t.FailNow()
	}
	want := pattern(n)
	var both sync.WaitGroup
	for _, p := range [][2]*Session{{c, s}, {s, c}} {
		both.Go(func() {
			for rest := want; len(rest) > 0; { // at a pace, so that it takes some time
				k := min(len(rest), 1000)
				if _, err := p[0].Write(rest[:k]); err != nil {
					t.Error("write:", err)
					return
				}
				rest = rest[k:]
				time.Sleep(5 * time.Millisecond)
			}
			p[0].CloseWrite()
		})
		both.Go(func() {
			got, err := io.ReadAll(p[1])
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d, or others: %v", len(got), len(want), err)
			}
		})
	}
	both.Wait()
	all = time.Since(start)
	c.Close()
	s.Close()
	return dialed, all
}

// TestSealedOffPath: who knows the addresses, but does not see the packets, can neither
// end an association nor keep one from beginning, nor slow it down. Trap S7.
func TestSealedOffPath(t *testing.T) {
	simnet.Run(t, 5, func(t *testing.T, seed uint64) {
		cfg := sealedConfig()
		d := newDuo(t, seed, simnet.Path{Delay: 20 * time.Millisecond}, cfg, cfg)
		from, to := addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort
		a := newAttacker(t, seed)
		defer attack(t, time.Millisecond, func() {
			for range 4 {
				b := a.forge()
				d.net.Inject(from, to, b)
				d.net.Inject(to, from, b)
			}
		})()
		time.Sleep(100 * time.Millisecond)
		dialed, all := work(t, d, 100000)
		// The cookie costs a round trip, as so many clients seem to come.
		if dialed > 80*time.Millisecond || all > 800*time.Millisecond {
			t.Error(dialed, all)
		}
		for _, e := range []*Endpoint{d.a, d.b} {
			if n := e.Stats().Handshakes; n > defaultMaxUnvalidated {
				t.Errorf("%d half-open", n)
			}
		}
	})
}

// TestSealedOnTheSide: who sees all packets, is faster than they are, and says what it
// likes, but can take nothing away, does not end an association or change what it carries;
// nor keep one from beginning, as long as it makes no ServerHello of its own.
func TestSealedOnTheSide(t *testing.T) {
	simnet.Run(t, 6, func(t *testing.T, seed uint64) {
		cfg := sealedConfig()
		if seed%2 == 0 {
			cfg.Header = framing.Header{{Key: "a", Value: "b"}}
		}
		d := newDuo(t, seed, simnet.Path{Delay: 20 * time.Millisecond}, cfg, cfg)
		from, to := addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort
		a := newAttacker(t, seed)
		var mu sync.Mutex
		var seen []simnet.Event
		d.net.Observe(func(e simnet.Event) {
			mu.Lock()
			defer mu.Unlock()
			e.Data = bytes.Clone(e.Data)
			if len(e.Data) >= 22 && len(a.ids) < 20 {
				a.ids = append(a.ids, handshake.ConnID(e.Data[14:22]))
			}
			if len(seen) < 2000 {
				seen = append(seen, e)
			}
			// Right away, and so before the packet itself: from elsewhere, and damaged.
			if _, _, kind := handshake.RouteID(e.Data); kind == handshake.KindHello || kind == handshake.KindWelcome {
				d.net.Inject(e.From, e.To, e.Data) // of these it could make others, and that is not forbidden
				return
			}
			switch a.rnd.IntN(3) {
			case 0:
				d.net.Inject(spoofed(a.rnd.IntN(10)), e.To, e.Data)
			case 1:
				b := bytes.Clone(e.Data)
				b[a.rnd.IntN(len(b))] ^= 1 << a.rnd.IntN(8)
				d.net.Inject(e.From, e.To, b)
			case 2:
				d.net.Inject(e.From, e.To, e.Data[:a.rnd.IntN(len(e.Data))])
			}
		})
		stop := attack(t, time.Millisecond, func() {
			mu.Lock()
			b := a.forge()
			var e simnet.Event
			if len(seen) > 0 {
				e = seen[a.rnd.IntN(len(seen))]
			}
			port := netip.AddrPortFrom(e.From.Addr(), e.From.Port()+1)
			mu.Unlock()
			d.net.Inject(from, to, b)
			d.net.Inject(to, from, b)
			if e.Data != nil {
				d.net.Inject(e.From, e.To, e.Data)
				d.net.Inject(port, e.To, e.Data)
			}
		})
		dialed, all := work(t, d, 100000)
		stop()
		d.net.Observe(nil)
		if dialed > 2*time.Second || all > 5*time.Second {
			t.Error(dialed, all)
		}
	})
}

// TestSealedOnPath: who may change and drop everything can keep two ends apart, but never
// have one of them take other bytes than the other has sent, or another peer.
func TestSealedOnPath(t *testing.T) {
	var through atomic.Int32
	simnet.Run(t, 40, func(t *testing.T, seed uint64) {
		cfg := sealedConfig()
		cfg.HandshakeTimeout, cfg.Linger = 5*time.Second, 5*time.Second
		cfg.Header = framing.Header{{Key: "a", Value: "b"}}
		d := newDuo(t, seed, simnet.Path{Delay: 5 * time.Millisecond}, cfg, cfg)
		rnd := rand.New(rand.NewPCG(seed, 3))
		var mu sync.Mutex
		share := []int{0, 5, 20, 60}[seed%4] // of 100 datagrams
		change := func(_ int, b []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			if rnd.IntN(100) >= share {
				return false
			}
			switch rnd.IntN(4) {
			case 0:
				return true
			case 1: // the checksum is right again
				if framing.Flags(b[4])&framing.FlagCRC != 0 && len(b) > 40 {
					b[11+rnd.IntN(len(b)-15)] ^= 1 << rnd.IntN(8)
					fixTrailer(b)
					return false
				}
			}
			b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			return false
		}
		d.net.Path(d.ha, d.hb).Filter(change)
		d.net.Path(d.hb, d.ha).Filter(change)
		d.b.Listen()
		want := pattern(20000)
		go func() {
			s, err := d.b.Accept(t.Context())
			if err != nil {
				return
			}
			if r, _ := s.Result(); r.PeerHeader.Get("a") != "b" {
				t.Error("metadata:", r.PeerHeader)
			}
			got, _ := io.ReadAll(s)
			if !bytes.HasPrefix(want, got) {
				t.Error("other bytes")
			}
			s.Write(got)
			s.Close()
		}()
		c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			if share == 0 {
				t.Error(err)
			}
			return
		}
		c.SetReadDeadline(time.Now().Add(time.Minute))
		c.SetWriteDeadline(time.Now().Add(time.Minute))
		if r, _ := c.Result(); r.PeerHeader.Get("a") != "b" {
			t.Error("metadata:", r.PeerHeader)
		}
		c.Write(want)
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if !bytes.HasPrefix(want, got) || err == nil && len(got) != len(want) {
			t.Errorf("%d of %d bytes, or others; %v", len(got), len(want), err)
		}
		if err == nil {
			through.Add(1)
		}
		c.Close()
	})
	if n := through.Load(); n < 15 {
		t.Errorf("%d of 40 came through", n)
	}
}

// fixTrailer makes the CRC of a frame right.
func fixTrailer(b []byte) {
	n := len(b) - framing.TrailerLen
	framing.AppendTrailer(b[:n], framing.Checksum(0, b[:n]))
}

// TestSealedForgedRefusal: an ERR that anybody could have sent is believed when nothing
// better comes, and only then.
func TestSealedForgedRefusal(t *testing.T) {
	for _, silent := range []bool{false, true} {
		bubble(t, simnet.Path{Delay: 20 * time.Millisecond}, sealedConfig(), func(t *testing.T, d *duo) {
			d.b.Listen()
			from, to := addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort
			d.net.Path(d.ha, d.hb).Filter(func(_ int, b []byte) bool {
				if id, _, kind := handshake.RouteID(b); kind == handshake.KindHello {
					forged, _ := handshake.AppendRefusal(nil, id, framing.CodeRefused, "I am the server", nil)
					d.net.Inject(to, from, forged)
				}
				return silent
			})
			start := time.Now()
			c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
			took := time.Since(start)
			var r *handshake.RemoteError
			switch {
			case !silent && (err != nil || took != 40*time.Millisecond):
				t.Error(err, took)
			case silent && (!errors.As(err, &r) || took != hintPatience):
				t.Error(err, took)
			}
			if c != nil {
				c.Close()
			}
			d.b.CloseListen()
			settle(t, d.a, d.b)
		})
	}
}

// TestSealedHelloRepeated: nor does it help to repeat what the client has said until the
// server is tired of it, or to say that the client has all.
func TestSealedHelloRepeated(t *testing.T) {
	bubble(t, simnet.Path{Delay: 20 * time.Millisecond}, sealedConfig(), func(t *testing.T, d *duo) {
		from, to := addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort
		start := time.Now()
		d.net.Path(d.hb, d.ha).Filter(func(int, []byte) bool { return time.Since(start) < time.Second })
		said := record(d.net.Path(d.ha, d.hb))
		stop := attack(t, time.Millisecond, func() {
			for _, b := range said.take() {
				if id, _, kind := handshake.RouteID(b); kind == handshake.KindHello {
					d.net.Inject(from, to, b)
					d.net.Inject(from, to, handshake.AppendCryptoHello(nil, &handshake.CryptoFrame{
						SourceID: id, HasHave: true, InitialHave: 1 << 20, HandshakeHave: 1 << 20,
					}))
				}
			}
		})
		dialed, _ := work(t, d, 1000)
		stop()
		if dialed > 3*time.Second {
			t.Error(dialed)
		}
	})
}
