package endpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/reliable"
)

func heapInUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// sealedJunk is a packet of that type whose payload nobody has sealed.
func sealedJunk(typ framing.Type, key string, id handshake.ConnID, size int) []byte {
	b := framing.AppendFixed(nil, typ, framing.FlagSealed, 15, int64(size))
	b = append(append(b, 1, 12, key[0]), id[:]...)
	return append(b, make([]byte, 4+size)...)
}

// TestSealedEarlyForgotten: packets that come before there are keys take little room, and
// none when their sender is given up. It may be anybody, and send from any address. Trap
// S3, "encrypted-before-keys queue".
func TestSealedEarlyForgotten(t *testing.T) {
	cfg := sealedConfig()
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, clean, cfg, cfg)
		d.b.Listen()
		to := addrOf(t, d.b).AddrPort
		const clients = 50
		before := heapInUse()
		for i := range clients {
			s := newStranger(t, i)
			d.net.Inject(spoofed(i), to, s.hello(t))
			synctest.Wait()
			early := sealedJunk(framing.TypeHello, framing.KeySourceID, s.id, 60000)
			for range maxEarlySealed {
				d.net.Inject(spoofed(i), to, early)
			}
			synctest.Wait()
		}
		d.b.mu.Lock()
		for _, c := range d.b.clients.all {
			n := 0
			for _, b := range c.sealed.early {
				n += len(b)
			}
			if n == 0 || n > maxEarlyBytes {
				t.Errorf("%d bytes are kept", n)
			}
		}
		d.b.mu.Unlock()
		time.Sleep(cfg.HandshakeTimeout + time.Second)
		synctest.Wait()
		if n := heapInUse() - before; d.b.Stats().Handshakes != 0 || n > clients*64<<10 {
			t.Errorf("%d bytes of each that was given up", n/clients)
		}
	})
}

// TestSealedLargeHello: what is larger than a datagram of the handshake may be is none, and
// begins nothing. PROTOCOL §8.5.
func TestSealedLargeHello(t *testing.T) {
	cfg := sealedConfig()
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, clean, cfg, cfg)
		d.b.Listen()
		s := newStranger(t, 1)
		f, _, err := framing.ParseDatagram(s.hello(t))
		if err != nil {
			t.Fatal(err)
		}
		f.Payload = append(f.Payload, 0)
		b, err := framing.AppendFrame(nil, f, framing.TrailerByFlag)
		if err != nil {
			t.Fatal(err)
		}
		d.net.Inject(spoofed(1), addrOf(t, d.b).AddrPort, b)
		synctest.Wait()
		if st := d.b.Stats(); st.Handshakes != 0 || st.Dropped != 1 || st.DatagramsSent != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestResetTokenOfDialer: two sockets that only dial, and have the same key configured, or
// the same certificate, do not give away each other's tokens. PROTOCOL §8.10, RFC 9000
// §21.11.
func TestResetTokenOfDialer(t *testing.T) {
	server, client := sealedConfig(), sealedConfig()
	client.ServerTLS = nil
	client.ResetKey = &[32]byte{9}
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, clean, client, server)
		c, s := connect(t, d.a, d.b)
		time.Sleep(time.Second)
		sibling := newEndpoint(t, d.ha.ListenPacket(0), client)
		w := &wire{d.net.Host("10.0.0.66").ListenPacket(0), sibling.LocalAddr()}
		defer w.pc.Close()
		w.send(sealedJunk(framing.TypeData, framing.KeyPacket, handshake.ConnID(c.id), 60))
		b := w.recv()
		if id, _, hasToken, ok := handshake.ParseUnknownID(b); !ok || !hasToken || reliable.ConnID(id) != c.id {
			t.Fatalf("%x", b)
		}
		d.net.Inject(addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort, b)
		time.Sleep(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.hasPeerToken || s.ended != nil {
			t.Error(s.hasPeerToken, s.ended)
		}
	})
}

// TestSealedFloodOnePlace: who opens handshakes from one place, as fast as the limit lets
// him, and goes on with none, takes the room of his own and of nobody else. Trap S2.
func TestSealedFloodOnePlace(t *testing.T) {
	cfg := sealedConfig()
	cfg.MaxHandshakes = 100
	cfg.HandshakeRate = 2000 // so that half-open ones would live for 50 ms
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, simnet.Path{Delay: 50 * time.Millisecond}, cfg, cfg)
		d.b.Listen()
		place := d.net.Host("10.9.0.66")
		d.net.Both(place, d.hb, simnet.Path{Delay: time.Millisecond})
		w := &wire{place.ListenPacket(0), d.b.LocalAddr()}
		h, err := handshake.ParseHello(newStranger(t, 1).hello(t))
		if err != nil {
			t.Fatal(err)
		}
		hello := func(id handshake.ConnID, cookie []byte) { // a part, so that TLS has nothing to do
			w.send(handshake.AppendCryptoHello(nil, &handshake.CryptoFrame{SourceID: id, Cookie: cookie, Data: h.Data[:100]}))
		}
		n := uint32(0)
		stop := attack(t, time.Millisecond, func() {
			for range 2 {
				n++
				hello(handshake.ConnID(binary.BigEndian.AppendUint32([]byte("away"), n)), nil)
			}
		})
		var all sync.WaitGroup
		all.Go(func() {
			b := make([]byte, 2000)
			for {
				n, _, err := w.pc.ReadFrom(b)
				if err != nil {
					return
				}
				id, _, _ := handshake.RouteID(b[:n])
				if cookie, ok := handshake.ParseRetry(b[:n], id); ok {
					hello(id, cookie)
				}
			}
		})
		time.Sleep(time.Second)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			c, err := d.a.DialStream(ctx, addrOf(t, d.b))
			if err != nil {
				t.Fatal(err)
			}
			s, err := d.b.Accept(ctx)
			if err != nil {
				t.Fatal(err, d.b.Stats().Overloaded)
			}
			cancel()
			c.Close()
			s.Close()
		}
		if d.b.Stats().Overloaded < 1000 {
			t.Error("there was no flood")
		}
		stop()
		w.pc.Close()
		all.Wait()
		settle(t, d.a, d.b)
		d.b.mu.Lock()
		defer d.b.mu.Unlock()
		if cs := &d.b.clients; len(cs.halfOf) != 0 || len(cs.share) != 0 {
			t.Error("left behind:", len(cs.halfOf), cs.share)
		}
	})
}

// A talker is a slog.Handler that asks about what it is told of.
type talker struct {
	slog.Handler
	ask func()
}

func (h talker) Enabled(context.Context, slog.Level) bool        { return true }
func (h talker) Handle(ctx context.Context, r slog.Record) error { h.ask(); return nil }

// TestLoggerAsks: a Logger may take its time, and ask about connections: nobody waits for
// it, nor does it for them.
func TestLoggerAsks(t *testing.T) {
	cfg := sealedConfig()
	var d *duo
	var s *Session
	asked := 0
	cfg.Verify = func(_ context.Context, h *Hello) (framing.Header, error) {
		if h.Header.Get("who") != "" {
			return nil, errors.New("no")
		}
		return nil, nil
	}
	synctest.Test(t, func(t *testing.T) {
		server := *cfg
		server.Logger = slog.New(talker{slog.DiscardHandler, func() {
			d.b.mu.Lock()
			all := slices.Collect(maps.Values(d.b.sessions))
			d.b.mu.Unlock()
			for _, x := range all {
				x.Stats()
			}
			time.Sleep(time.Minute)
			asked++
		}})
		d = newDuo(t, 1, clean, cfg, &server)
		var c *Session
		c, s = connect(t, d.a, d.b)
		bad := *cfg
		bad.Header = framing.Header{{Key: "who", Value: "nobody"}}
		other := newEndpoint(t, d.ha.ListenPacket(0), &bad)
		if _, err := other.DialStream(t.Context(), addrOf(t, d.b)); err == nil {
			t.Error("let in")
		}
		at := time.Now()
		if _, err := c.Ping(t.Context()); err != nil || time.Since(at) > time.Second {
			t.Error(err, time.Since(at))
		}
		c.Close()
		s.Close()
		d.b.CloseListen()
		settle(t, d.a, d.b)
		if asked != 1 {
			t.Error(asked)
		}
	})
}
