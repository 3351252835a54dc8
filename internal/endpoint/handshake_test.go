package endpoint

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/internal/udpio"
)

// TestHandshakeLoss: HELLO and WELCOME come through whatever is lost, also in parts.
func TestHandshakeLoss(t *testing.T) {
	simnet.Run(t, 10, func(t *testing.T, seed uint64) {
		cfg := testConfig()
		for i := range 300 {
			cfg.Header.Add("key "+strconv.Itoa(i), "value")
		}
		cfg.HandshakeTimeout = time.Minute
		path := simnet.Path{Delay: 5 * time.Millisecond, Loss: 0.3, Duplicate: 0.2, Reorder: 0.2}
		d := newDuo(t, seed, path, cfg, cfg)
		c, s := connect(t, d.a, d.b)
		for _, x := range []*Session{c, s} {
			if r, ok := x.Result(); !ok || !slices.Equal(r.PeerHeader, cfg.Header) {
				t.Error("metadata has changed")
			}
		}
		rc, _ := c.Result()
		rs, _ := s.Result()
		if rc.SessionID != rs.SessionID || rc.SessionID == [16]byte{} {
			t.Error("session ids differ")
		}
		time.Sleep(time.Minute)
		if n := d.b.Stats().Associations; n > 1 {
			t.Errorf("%d associations from one dial", n)
		}
	})
}

// TestDialTimeout: a dial to nobody ends, and leaves nothing. Trap N14.
func TestDialTimeout(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		nobody := udpio.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.2:1")}
		start := time.Now()
		_, err := d.a.DialStream(t.Context(), nobody)
		if err != session.ErrHandshakeTimeout || time.Since(start) != 10*time.Second {
			t.Error(err, time.Since(start))
		}
		if n := d.a.Stats().DatagramsSent; n < 6 || n > 9 { // 250 ms, doubling to 2 s
			t.Errorf("%d HELLOs", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err = d.a.DialStream(ctx, nobody)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Error(err, time.Since(start))
		}
		if n := d.a.Stats().Associations; n != 0 {
			t.Errorf("%d associations", n)
		}
	})
}

// TestVerify: what the hook says reaches the client, and what it must not does not.
func TestVerify(t *testing.T) {
	cfg := testConfig()
	cfg.Verify = func(ctx context.Context, h *Hello) (framing.Header, error) {
		switch h.Header.Get("token") {
		case "good":
			return framing.Header{{Key: "hello", Value: h.RemoteAddr.String()}}, nil
		case "bad":
			return nil, &session.Refusal{Reason: "bad token", Header: framing.Header{{Key: "why", Value: "old"}}}
		case "slow":
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return nil, errors.New("a secret")
	}
	dial := func(t *testing.T, d *duo, token string) (*Session, error) {
		cfg := testConfig()
		cfg.Header = framing.Header{{Key: "token", Value: token}}
		cfg.HandshakeTimeout = 20 * time.Second
		e := newEndpoint(t, d.ha.ListenPacket(0), cfg)
		defer e.CloseWhenIdle()
		return e.DialStream(t.Context(), addrOf(t, d.b))
	}
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, clean, testConfig(), cfg)
		d.b.Listen()
		s, err := dial(t, d, "good")
		if err != nil {
			t.Fatal(err)
		}
		if r, _ := s.Result(); r.PeerHeader.Get("hello") != s.LocalAddr().String() {
			t.Error(r.PeerHeader, s.LocalAddr())
		}
		s.Close()
		for token, want := range map[string]handshake.RemoteError{
			"bad":  {Code: framing.CodeRefused, Reason: "bad token"},
			"ugly": {Code: framing.CodeRefused},
			"slow": {Code: framing.CodeTimeout, Reason: "handshake"},
		} {
			_, err := dial(t, d, token)
			var remote *handshake.RemoteError
			if !errors.As(err, &remote) || remote.Code != want.Code || remote.Reason != want.Reason {
				t.Error(token, err)
			} else if token == "bad" && remote.Header.Get("why") != "old" {
				t.Error(remote.Header)
			}
		}
		settle(t, d.a, d.b)
	})
}

// A wire speaks to an endpoint datagram by datagram.
type wire struct {
	pc *simnet.Conn
	to net.Addr
}

func (w *wire) send(b []byte) { w.pc.WriteTo(b, w.to) }

// recv returns what comes within a second, or nil.
func (w *wire) recv() []byte {
	w.pc.SetReadDeadline(time.Now().Add(time.Second))
	b := make([]byte, 2000)
	n, _, err := w.pc.ReadFrom(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

func newClientMachine(t *testing.T, id byte, stream bool) *handshake.DatagramClient {
	m, err := handshake.NewDatagramClient(handshake.DatagramParams{SourceID: handshake.ConnID{id, 1, 2, 3}, Stream: stream})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// cookie gets m its cookie and returns the HELLO with it.
func (w *wire) cookie(t *testing.T, m *handshake.DatagramClient) []byte {
	first := m.AppendHello(nil)[0]
	w.send(first)
	b := w.recv()
	if len(b) > len(first) {
		t.Errorf("%d bytes answer %d", len(b), len(first))
	}
	if o, err := m.Receive(b); o != handshake.Again || err != nil {
		t.Fatal(o, err)
	}
	return m.AppendHello(nil)[0]
}

// TestStateless proves trap S1: without a cookie a HELLO leaves nothing, and with a
// wrong one neither.
func TestStateless(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		d.b.Listen()
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		for i := range 200 {
			w.send(newClientMachine(t, byte(i), true).AppendHello(nil)[0])
		}
		for w.recv() != nil {
		}
		hello := w.cookie(t, newClientMachine(t, 201, true))
		// The cookie is for one address and one id, and for a time.
		other := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer other.pc.Close()
		other.send(hello)
		time.Sleep(handshake.CookieLifetime)
		w.send(hello)
		time.Sleep(time.Second)
		if st := d.b.Stats(); st.Associations != 0 || st.Handshakes != 0 || st.BadCookies != 2 {
			t.Errorf("%+v", st)
		}
		d.b.mu.Lock()
		if len(d.b.clients.all) != 0 {
			t.Error("something is kept of clients without a cookie")
		}
		d.b.mu.Unlock()
	})
}

// TestReplay: a HELLO makes one association, however often it comes.
func TestReplay(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		d.b.Listen()
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		m := newClientMachine(t, 1, true)
		hello := w.cookie(t, m)
		w.send(hello)
		welcome := w.recv()
		w.send(hello)
		if again := w.recv(); !slices.Equal(welcome, again) {
			t.Error("the second WELCOME is another one")
		}
		s, err := d.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.CloseWithError(framing.CodeInternal, "")
		time.Sleep(10 * time.Second)
		w.send(hello)
		for b := w.recv(); b != nil; b = w.recv() {
			if _, _, kind := handshake.RouteID(b); kind != handshake.KindPacket {
				t.Errorf("answer to a replayed HELLO: %x", b)
			}
		}
		if n := d.b.Stats().Associations; n != 0 {
			t.Errorf("%d associations", n)
		}
		settle(t, d.b)
	})
}

// TestReplayYounger: a client is remembered as long as its youngest cookie is good, not
// only its first one. Trap S1.
func TestReplayYounger(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		d.b.Listen()
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		w.send(w.cookie(t, newClientMachine(t, 1, true)))
		w.recv()
		s, err := d.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(handshake.CookieLifetime - 5*time.Second)
		younger := w.cookie(t, newClientMachine(t, 1, true))
		w.send(younger)
		s.CloseWithError(framing.CodeInternal, "")
		time.Sleep(handshake.CookieLifetime - 5*time.Second)
		for w.recv() != nil {
		}
		w.send(younger)
		time.Sleep(time.Second)
		if n := d.b.Stats().Associations; n != 0 {
			t.Errorf("%d associations from a replayed HELLO", n)
		}
		time.Sleep(2 * handshake.CookieLifetime)
		w.send(w.cookie(t, newClientMachine(t, 2, true)))
		w.recv()
		d.b.mu.Lock()
		if n := len(d.b.clients.all); n != 1 || len(d.b.clients.order) != 1 {
			t.Errorf("%d clients are remembered, %d in order", n, len(d.b.clients.order))
		}
		d.b.mu.Unlock()
	})
}

// TestRetryOnce: the parts of a HELLO whose cookie is not good any more are answered by
// one retry.
func TestRetryOnce(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		d.b.Listen()
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		p := handshake.DatagramParams{SourceID: handshake.ConnID{1, 2, 3}}
		for i := range 500 {
			p.Header.Add("key "+strconv.Itoa(i), "value")
		}
		m, err := handshake.NewDatagramClient(p)
		if err != nil {
			t.Fatal(err)
		}
		w.cookie(t, m)
		parts := m.AppendHello(nil)
		if len(parts) < 3 {
			t.Fatal(len(parts), "parts")
		}
		time.Sleep(handshake.CookieLifetime)
		for _, b := range parts {
			w.send(b)
		}
		n := 0
		for w.recv() != nil {
			n++
		}
		if n != 1 {
			t.Errorf("%d retries for %d parts", n, len(parts))
		}
	})
}

// TestHalfOpen: the oldest is given up. Trap S2.
func TestHalfOpen(t *testing.T) {
	cfg := testConfig()
	cfg.MaxHandshakes = 3
	var asked, ended atomic.Int32
	cfg.Verify = func(ctx context.Context, h *Hello) (framing.Header, error) {
		asked.Add(1)
		<-ctx.Done()
		ended.Add(1)
		return nil, ctx.Err()
	}
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		d.b.Listen()
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		for i := range 10 {
			w.send(w.cookie(t, newClientMachine(t, byte(i), true)))
			time.Sleep(10 * time.Millisecond)
			for w.recv() != nil {
			}
		}
		if n := d.b.Stats().Handshakes; n > 3 || asked.Load() != 10 || ended.Load() < 7 {
			t.Error(n, asked.Load(), ended.Load())
		}
		settle(t, d.b)
		if ended.Load() != 10 {
			t.Error("a hook still runs")
		}
	})
}

// TestBacklog: beyond it clients wait, and nothing else does.
func TestBacklog(t *testing.T) {
	cfg := testConfig()
	cfg.AcceptBacklog = 2
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		d.b.Listen()
		dialed := make(chan error, 5)
		for range 5 {
			go func() {
				_, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
				dialed <- err
			}()
		}
		time.Sleep(4 * time.Second)
		if len(dialed) != 2 || d.b.Stats().Associations != 2 {
			t.Error(len(dialed), d.b.Stats().Associations)
		}
		for range 5 {
			if _, err := d.b.Accept(t.Context()); err != nil {
				t.Error(err)
			}
		}
		for range 5 {
			if err := <-dialed; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestMaxAssociations(t *testing.T) {
	cfg := testConfig()
	cfg.MaxAssociations = 2
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, clean, testConfig(), cfg)
		connect(t, d.a, d.b)
		connect(t, d.a, d.b)
		_, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		var remote *handshake.RemoteError
		if !errors.As(err, &remote) || remote.Code != framing.CodeOverload {
			t.Fatal(err)
		}
	})
}

// TestCloseListen: accepted streams live on, those in the queue end; and the socket
// ends with the last one if that is asked for. Trap N11.
func TestCloseListen(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		queued, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan error)
		d.b.Accept(t.Context())
		queued2, _ := d.a.DialStream(t.Context(), addrOf(t, d.b))
		d.b.CloseWhenIdle()
		go func() {
			_, err := d.b.Accept(t.Context())
			accepted <- err
		}()
		if err := <-accepted; err != net.ErrClosed {
			t.Error(err)
		}
		if _, err := queued2.Read(make([]byte, 1)); err == nil {
			t.Error("what was in the queue lives on")
		}
		if _, err := d.a.DialStream(t.Context(), addrOf(t, d.b)); err == nil {
			t.Error("dialed after CloseListen")
		}
		c.Write([]byte("still"))
		if n, err := s.Read(make([]byte, 10)); n != 5 || err != nil {
			t.Error(n, err)
		}
		c.Close()
		queued.Close()
		queued2.Close()
		s.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case <-d.b.done:
		default:
			t.Error("the socket is still open: ", d.b.Stats().Associations)
		}
	})
}

// TestStillborn: "A server SHOULD give up an association from whose client no packet has
// come within the time that the handshake may take", and nobody accepts it any more.
func TestStillborn(t *testing.T) {
	cfg := testConfig()
	cfg.Idle = 0
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		d.b.Listen()
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		hello := func(id byte, stream bool) {
			m := newClientMachine(t, id, stream)
			w.send(w.cookie(t, m))
			w.count() // WELCOME, and what its packets ask
		}
		hello(1, true)
		taken, err := d.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		hello(2, true)
		hello(3, false)
		time.Sleep(time.Second)
		if n := d.b.Stats().Associations; n != 3 {
			t.Error(n)
		}
		if _, err := taken.Read(make([]byte, 1)); err != session.ErrHandshakeTimeout {
			t.Error(err)
		}
		time.Sleep(cfg.HandshakeTimeout)
		if n := d.b.Stats().Associations; n != 0 {
			t.Error(n)
		}
		c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.b.Accept(t.Context())
		if err != nil || s.peerID != c.id {
			t.Error("another one was accepted", err)
		}
		time.Sleep(time.Minute)
		if d.b.Stats().Associations != 1 {
			t.Error("one that lives was given up")
		}
	})
}

// TestClosedBeforeWelcome: a server that closes at once, and whose WELCOME is lost,
// repeats both for as long as the client asks, which learns why.
func TestClosedBeforeWelcome(t *testing.T) {
	for lost := 1; lost <= 4; lost++ {
		near := simnet.Path{Delay: 100 * time.Microsecond}
		bubble(t, near, testConfig(), func(t *testing.T, d *duo) {
			d.b.Listen()
			// The first datagram to the client is the cookie, then come WELCOME and CLOSE.
			d.net.Path(d.hb, d.ha).Filter(func(n int, b []byte) bool { return n > 0 && n <= lost })
			go func() {
				if s, err := d.b.Accept(t.Context()); err == nil {
					s.CloseWithError(framing.CodeApplication, "full")
				}
			}()
			start := time.Now()
			s, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
			if err == nil {
				_, err = s.Read(make([]byte, 1))
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), `"full"`) {
				t.Errorf("%d lost: %v after %v", lost, err, time.Since(start))
			}
		})
	}
}
