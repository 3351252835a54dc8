package endpoint

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/crate"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
)

// TestMalformed: junk of all kinds is counted, and slows nobody. Trap S5, S6, S11.
func TestMalformed(t *testing.T) {
	cfg := testConfig()
	cfg.KeepAlive = 0
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		rnd := rand.New(rand.NewPCG(1, 2))
		m := newClientMachine(t, 1, true)
		seeds := [][]byte{w.cookie(t, m), handshake.AppendUnknownID(nil, handshake.ConnID(s.peerID))}
		for _, typ := range []framing.Type{1, 2, 3, 4, 5, 6, 7, 8} {
			for _, h := range [][]byte{nil, append([]byte{1, 12, 1}, make([]byte, 12)...), append([]byte{1, 8, 1}, s.id[:]...)} {
				b, _ := framing.AppendFrame(nil, framing.Frame{Type: typ, Flags: framing.FlagCRC, Header: h, Payload: []byte{1, 2, 3}}, framing.TrailerByFlag)
				seeds = append(seeds, b)
			}
		}
		for i := range 5000 {
			b := bytes.Clone(seeds[i%len(seeds)])
			switch i % 5 {
			case 0:
				b = b[:rnd.IntN(len(b)+1)]
			case 1:
				b = append(b, byte(i))
			case 2, 3:
				b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			}
			w.send(b)
		}
		// And into the association itself, from its own address.
		from, to := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(d.b.LocalAddr().String())
		for i := range 1000 {
			b := append([]byte("VT\x01\x03\x00\x0f\x00\x00\x00\x00\x00\x01\x0c\x01"), s.id[:]...)
			b = b[:len(b)-i%2]
			d.net.Inject(from, to, b)
		}
		time.Sleep(time.Second)
		want := pattern(10000)
		go func() {
			c.Write(want)
			c.Close()
		}()
		got, err := io.ReadAll(s)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, want)
		if st := d.b.Stats(); st.Malformed < 1000 {
			t.Errorf("%+v", st)
		}
		if n := w.count(); n > 5000/2 {
			t.Errorf("%d answers", n)
		}
	})
}

// count returns how many datagrams have come.
func (w *wire) count() (n int) {
	for w.recv() != nil {
		n++
	}
	return n
}

// TestUnknownID: answers to packets for nobody are few and small, and never answered.
// Trap S9.
func TestUnknownID(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		packet := append([]byte("VT\x01\x03\x00\x0f\x00\x00\x00\x00\x64\x01\x0c\x01"), make([]byte, 112)...)
		for range 1000 {
			w.send(packet)
		}
		n := 0
		for b := w.recv(); b != nil; b = w.recv() {
			if len(b) > len(packet) {
				t.Error("the answer is larger")
			}
			n++
		}
		if n != resetsPerSecond {
			t.Errorf("%d answers", n)
		}
		w.send(packet[:30])                               // too small to be answered
		w.send(handshake.AppendUnknownID(nil, [8]byte{})) // ERR is not answered
		if b := w.recv(); b != nil {
			t.Errorf("%x", b)
		}
	})
}

// TestForeignAddress: who knows the id but not the address does no harm. Trap U9.
func TestForeignAddress(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		w.send(append([]byte("VT\x01\x03\x00\x0f\x00\x00\x00\x00\x01\x01\x0c\x01"), append(s.id[:], 0, 0, 0, 9, 0x1c)...))
		w.send(handshake.AppendUnknownID(nil, handshake.ConnID(s.peerID)))
		time.Sleep(time.Second)
		c.Write([]byte("x"))
		if n, err := s.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Fatal(err)
		}
	})
}

// TestForeignServer: who knows the id of a client but is not at the server's address does
// no harm. Trap U9.
func TestForeignServer(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		w := &wire{d.hb.ListenPacket(0), d.a.LocalAddr()}
		defer w.pc.Close()
		w.send(append([]byte("VT\x01\x03\x00\x0f\x00\x00\x00\x00\x01\x01\x0c\x01"), append(c.id[:], 0, 0, 0, 9, 0x1c)...))
		w.send(handshake.AppendUnknownID(nil, handshake.ConnID(c.peerID)))
		time.Sleep(time.Second)
		c.Write([]byte("x"))
		if n, err := s.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Fatal(err)
		}
		if n := d.a.Stats().Dropped; n != 1 {
			t.Errorf("%d dropped", n)
		}
	})
}

// TestManyAssociations proves trap C7: after many of them nothing is left.
func TestManyAssociations(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		d.b.Listen()
		go func() {
			for {
				s, err := d.b.Accept(t.Context())
				if err != nil {
					return
				}
				go func() {
					io.Copy(s, s)
					s.Close()
				}()
			}
		}()
		var before runtime.MemStats
		for round := range 20 {
			done := make(chan error)
			for range 50 {
				go func() {
					c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
					if err == nil {
						c.SetReadDeadline(time.Now().Add(time.Hour))
						c.Write([]byte("hello"))
						c.CloseWrite()
						_, err = io.ReadAll(c)
						err = errors.Join(err, c.Close())
					}
					done <- err
				}()
			}
			for range 50 {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			settle(t, d.a, d.b)
			if round == 2 {
				runtime.GC()
				runtime.GC() // pools give up what they have at the second
				runtime.ReadMemStats(&before)
			}
		}
		runtime.GC()
		runtime.GC()
		var after runtime.MemStats
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
			t.Errorf("%d bytes more after 850 more associations", grown)
		} else {
			t.Log(grown, "bytes more")
		}
	})
}

// TestIdleAssociations: an idle session has no goroutine, and little memory.
func TestIdleAssociations(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testIdleAssociations(t, testConfig(), 8<<10) })
	t.Run("TLS", func(t *testing.T) { testIdleAssociations(t, sealedConfig(), 8<<10) })
}

func testIdleAssociations(t *testing.T, cfg *Config, limit int64) {
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		const count = 200
		connect(t, d.a, d.b)
		goroutines := runtime.NumGoroutine()
		inUse := func() int64 {
			for range 3 { // what is in a sync.Pool survives the first
				runtime.GC()
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := inUse()
		keep := make([]*Session, 0, 2*count)
		for range count {
			c, s := connect(t, d.a, d.b)
			keep = append(keep, c, s)
		}
		time.Sleep(time.Minute) // also half-open ones are forgotten
		synctest.Wait()
		after := inUse()
		if n := runtime.NumGoroutine() - goroutines; n > 2 {
			t.Errorf("%d goroutines for %d sessions", n, 2*count)
		}
		each := (after - before) / (2 * count)
		t.Logf("%d bytes for an idle session", each)
		if each > limit {
			t.Errorf("%d bytes for an idle session", each)
		}
		runtime.KeepAlive(keep)
	})
}

// TestCrate: messages of crate peers come in, and go out where they are known or told.
func TestCrate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		legacy := testConfig()
		legacy.Legacy = true
		d := newDuo(t, 1, clean, legacy, testConfig())
		h := framing.Header{{Key: "k", Value: "v"}}
		for _, size := range []int{0, 10, 20000} {
			for _, ack := range []bool{false, true} {
				want := pattern(size)
				send(t, d.a, addrOf(t, d.b), &session.Message{Header: h, Payload: want, ReqAck: ack})
				m := receive(t, d.b)
				equal(t, m.Payload, want)
				if m.Header.Get("k") != "v" || m.ReqAck != ack {
					t.Error(m.Header, m.ReqAck)
				}
			}
		}
		if d.b.Stats().Associations != 0 {
			t.Error("an association for a crate peer")
		}
		// b has heard a in the crate profile only, and answers in it.
		send(t, d.b, addrOf(t, d.a), &session.Message{Payload: []byte("answer"), ReqAck: true})
		equal(t, receive(t, d.a).Payload, []byte("answer"))
		if d.b.Stats().Associations != 0 {
			t.Error("an association for a crate peer")
		}
		err := d.a.SendMessage(t.Context(), &session.Message{Payload: make([]byte, crate.MaxDatagram*(crate.MaxFragments+1))}, addrOf(t, d.b))
		if err != session.ErrMessageTooLarge {
			t.Error(err)
		}
		// Nobody is there.
		d.net.Both(d.ha, d.hb, simnet.Path{Down: true})
		if err := d.a.SendMessage(t.Context(), &session.Message{ReqAck: true}, addrOf(t, d.b)); err != session.ErrAckTimeout {
			t.Error(err)
		}
		d.net.Both(d.ha, d.hb, clean)
		go func() {
			time.Sleep(time.Second)
			d.a.Close()
		}()
		d.net.Both(d.ha, d.hb, simnet.Path{Down: true})
		if err := d.a.SendMessage(t.Context(), &session.Message{ReqAck: true}, addrOf(t, d.b)); err != net.ErrClosed {
			t.Error(err)
		}
		settle(t, d.a, d.b)
	})
}

// TestCrateForged: datagrams with forged addresses do not keep those of crate peers from
// being known, and do not make a peer that has negotiated one of the crate. Trap S3.
func TestCrateForged(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		at := func(e *Endpoint) netip.AddrPort { return netip.MustParseAddrPort(e.LocalAddr().String()) }
		data, err := framing.AppendFrame(nil, framing.Frame{Type: framing.TypeData}, framing.TrailerAlways)
		if err != nil {
			t.Fatal(err)
		}
		b := addrOf(t, d.b).AddrPort
		for _, e := range []*Endpoint{d.a, d.b} { // as client and as server
			other := d.a
			if e == d.a {
				other = d.b
			}
			send(t, e, addrOf(t, other), &session.Message{ReqAck: true})
			receive(t, other)
			d.net.Inject(at(other), at(e), data)
			time.Sleep(time.Second)
			if e.crate.knows(addrOf(t, other).AddrPort) {
				t.Error("a forged datagram has undone a negotiation")
			}
			receive(t, e)
		}
		stranger := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 6969)
		}
		for i := range maxCratePeers + 10 {
			d.net.Inject(stranger(i), b, data)
			time.Sleep(time.Millisecond)
			receive(t, d.b)
		}
		c := &d.b.crate
		if last := stranger(maxCratePeers + 9); !c.knows(last) || c.knows(stranger(0)) || len(c.peers.crate.all) > maxCratePeers {
			t.Error("the last one is not known, or the first one still is")
		} else if time.Sleep(cratePeerLife); c.knows(last) {
			t.Error("known for ever")
		}
		d.net.Inject(stranger(0), b, data)
		time.Sleep(time.Second)
		c.mu.Lock()
		if n := len(c.peers.crate.all); n != 1 || c.peers.crate.order.Len() != 1 {
			t.Errorf("%d addresses are kept", n)
		}
		c.mu.Unlock()
	})
}

// TestSocketGone: with the socket
// everything ends.
func TestSocketGone(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, _ := connect(t, d.a, d.b)
		errs := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			errs <- err
		}()
		go func() {
			_, _, err := d.a.ReceiveMessage(t.Context())
			errs <- err
		}()
		synctest.Wait()
		d.a.sock.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		if _, err := d.a.DialStream(t.Context(), addrOf(t, d.b)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		settle(t, d.a)
	})
}

// TestMTUError: EMSGSIZE makes datagrams smaller, and nothing else. Trap U2.
func TestMTUError(t *testing.T) {
	bubble(t, simnet.Path{Delay: time.Millisecond, MTU: 1400, MTUError: true}, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		want := pattern(1 << 20)
		go func() {
			c.Write(want)
			c.Close()
		}()
		got, err := io.ReadAll(s)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, want)
		if mtu := c.Stats().MTU; mtu < 1200 || mtu > 1372 {
			t.Error("MTU", mtu)
		}
	})
}
