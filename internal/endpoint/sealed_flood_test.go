package endpoint

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/sealed"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/tlsvstp"
)

// A stranger is a client that speaks to an endpoint by hand.
type stranger struct {
	*sealed.Client
	id handshake.ConnID
}

// newStranger begins a handshake whose ClientHello fits one datagram.
func newStranger(t testing.TB, n int) *stranger {
	t.Helper()
	s := new(stranger)
	binary.BigEndian.PutUint64(s.id[:], uint64(n)+1)
	config := tlsvstp.ClientConfig(&tls.Config{RootCAs: testCert().Pool, CurvePreferences: []tls.CurveID{tls.X25519}}, "10.0.0.2")
	p := handshake.SealedParams{DatagramParams: handshake.DatagramParams{SourceID: s.id, Stream: true}}
	var err error
	if s.Client, err = sealed.NewClient(context.Background(), config, p, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// hello returns the one datagram.
func (s *stranger) hello(t testing.TB) []byte {
	t.Helper()
	f := s.AppendFlight(nil)
	if len(f) != 1 {
		t.Fatalf("%d datagrams", len(f))
	}
	return f[0]
}

// spoofed is an address that nobody has.
func spoofed(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)}), 1234)
}

// TestSealedFloodSpoofed: any number of ClientHellos from addresses where nobody is keep
// nobody out: who comes has to show a cookie then, and no more. Trap S1, S2.
func TestSealedFloodSpoofed(t *testing.T) {
	cfg := sealedConfig()
	cfg.Idle = 0
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, simnet.Path{Delay: 20 * time.Millisecond}, cfg, cfg)
		d.b.Listen()
		to := addrOf(t, d.b).AddrPort
		flood := func() {
			for i := range 3 * defaultMaxUnvalidated {
				d.net.Inject(spoofed(i), to, newStranger(t, i).hello(t))
			}
			synctest.Wait()
		}
		for i := range 3 {
			flood()
			if n := d.b.Stats().Handshakes; n > defaultMaxUnvalidated {
				t.Errorf("%d half-open", n)
			}
			start := time.Now()
			c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
			if err != nil {
				t.Fatal(err, time.Since(start))
			}
			want := 80 * time.Millisecond
			if i > 0 {
				want = 40 * time.Millisecond // with the token of the first time
			}
			if took := time.Since(start); took != want {
				t.Errorf("dialing took %v", took)
			}
			s, err := d.b.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			s.Close()
			time.Sleep(cfg.HandshakeTimeout + time.Second)
		}
		settle(t, d.a, d.b)
	})
}

// TestSealedFloodOpen: neither do clients that have shown their addresses, and then say
// nothing any more.
func TestSealedFloodOpen(t *testing.T) {
	cfg := sealedConfig()
	cfg.MaxUnvalidated = -1
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, simnet.Path{Delay: 20 * time.Millisecond}, cfg, cfg)
		d.b.Listen()
		w := &wire{d.net.Host("10.0.0.66").ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		for i := range 2 * defaultMaxHandshakes {
			s := newStranger(t, i)
			w.send(s.hello(t))
			for b := w.recv(); !s.Receive(b); b = w.recv() { // it may be for one before
				if b == nil {
					t.Fatal("no retry")
				}
			}
			w.send(s.hello(t))
			if i < 2*defaultMaxHandshakes-3 {
				continue
			}
			start := time.Now()
			d.a.ownTokens.forget() // one would do in place of a cookie
			c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took != 80*time.Millisecond {
				t.Errorf("dialing took %v", took)
			}
			s2, err := d.b.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			s2.Close()
		}
		if n := d.b.Stats().Handshakes; n > defaultMaxHandshakes {
			t.Errorf("%d half-open", n)
		}
		time.Sleep(cfg.HandshakeTimeout)
		settle(t, d.a, d.b)
	})
}

// TestSealedBacklog: a client for which there is no place at the moment gets one when
// there is, without having to dial again.
func TestSealedBacklog(t *testing.T) {
	cfg := sealedConfig()
	cfg.AcceptBacklog = 2
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, simnet.Path{Delay: 20 * time.Millisecond}, cfg, cfg)
		d.b.Listen()
		const all = 8
		dialed := make(chan error, all)
		for range all {
			go func() {
				c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
				if err == nil {
					_, err = c.Read(make([]byte, 1))
					c.Close()
				}
				dialed <- err
			}()
		}
		time.Sleep(time.Second)
		d.b.mu.Lock()
		if n := len(d.b.backlog) + d.b.waiting; n != 2 {
			t.Errorf("%d wait", n)
		}
		d.b.mu.Unlock()
		for range all {
			s, err := d.b.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.Write([]byte("x"))
			go s.Close()
		}
		for range all {
			if err := <-dialed; err != nil {
				t.Error(err)
			}
		}
		settle(t, d.a, d.b)
	})
}

// TestSealedFloodSilent: nor do those who complete their handshakes, and then do not say
// what they have to.
func TestSealedFloodSilent(t *testing.T) {
	cfg := sealedConfig()
	cfg.Idle = 0
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, simnet.Path{Delay: time.Millisecond}, cfg, cfg)
		d.b.Listen()
		w := &wire{d.net.Host("10.0.0.66").ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		for i := range defaultAcceptBacklog {
			s := newStranger(t, i)
			w.send(s.hello(t))
			for !s.Done() {
				b := w.recv()
				if b == nil {
					t.Fatal("no answer")
				}
				s.Receive(b)
			}
			for _, b := range s.AppendFlight(nil) {
				w.send(b)
			}
		}
		time.Sleep(10 * time.Millisecond)
		d.b.mu.Lock()
		if d.b.waiting != defaultAcceptBacklog {
			t.Error(d.b.waiting, "wait")
		}
		d.b.mu.Unlock()
		start := time.Now()
		dialed := make(chan error, 1)
		go func() {
			c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
			if err == nil {
				c.Close()
			}
			dialed <- err
		}()
		s, err := d.b.Accept(t.Context())
		if took := time.Since(start); err != nil || took > 2*maxSilence {
			t.Error(err, took)
		}
		s.Close()
		if err := <-dialed; err != nil {
			t.Error(err)
		}
		settle(t, d.a, d.b)
		d.b.mu.Lock()
		if len(d.b.silent) > defaultAcceptBacklog {
			t.Error(len(d.b.silent), "are kept")
		}
		d.b.mu.Unlock()
	})
}
