package endpoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/auto"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/internal/stream"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// A movers is a duo whose sessions can move: b listens on TCP too.
type movers struct {
	*duo
	sealed bool
	ln     *simnet.TCPListener
	addr   netip.AddrPort // of b

	accepted chan *Session // sessions that began on TCP
	mu       sync.Mutex
	failed   []error // of handshakes on TCP at b
}

func newMovers(t *testing.T, seed uint64, path simnet.Path, tcp simnet.TCPPath, sealed bool, change func(c *Config)) *movers {
	m := &movers{sealed: sealed, accepted: make(chan *Session, 8)}
	config := func(client bool) *Config {
		c := plainOrSealed(sealed)
		c.KeepAlive = 15 * time.Second
		c.Auto = &AutoConfig{Decide: auto.Config{}.WithDefaults(), StandbyInterval: 90 * time.Second}
		if client {
			c.Auto.Attach = m.attach
		}
		if change != nil {
			change(c)
		}
		return c
	}
	m.duo = newDuo(t, seed, path, config(true), config(false))
	m.net.BothTCP(m.ha, m.hb, tcp)
	m.addr = addrOf(t, m.b).AddrPort
	ln, err := m.hb.ListenTCP(int(m.addr.Port()))
	if err != nil {
		t.Fatal(err)
	}
	m.ln = ln
	t.Cleanup(func() { ln.Close() })
	go m.serve()
	return m
}

// streamConfig is what the root package would make of the same Config.
func (m *movers) streamConfig(e *Endpoint, client bool) *stream.Config {
	c := &stream.Config{
		Client:           client,
		Params:           handshake.Params{MaxMessage: 100 << 20, MaxFrame: 8 << 20, Idle: e.cfg.Idle, Header: e.cfg.Header},
		NewSessionID:     func() (id [16]byte) { e.cfg.random(id[:]); return id },
		HandshakeTimeout: e.cfg.HandshakeTimeout,
		Linger:           e.cfg.Linger,
	}
	if m.sealed {
		c.TLS = e.cfg.ServerTLS
		if client {
			c.TLS = e.cfg.ClientTLS(udpio.Addr{AddrPort: m.addr})
		}
	}
	if !client {
		c.AutoServer = e
	}
	return c
}

func (m *movers) serve() {
	for {
		c, err := m.ln.Accept()
		if err != nil {
			return
		}
		go func() {
			s := stream.New(c, m.streamConfig(m.b, false))
			if err := s.Handshake(context.Background()); err != nil {
				m.mu.Lock()
				m.failed = append(m.failed, err)
				m.mu.Unlock()
				s.Close()
				return
			}
			switch r := s.Auto(); {
			case r == nil:
				s.Close()
			case r.Attach != nil:
				m.b.Attached(r.Attach, s.Detach())
			default:
				x, err := m.b.BeginStream(s.Detach(), &r.Result, &r.Own, false, udpio.Addr{})
				if err == nil {
					m.accepted <- x
				}
			}
		}()
	}
}

func (m *movers) attach(ctx context.Context, s *Session, r *handshake.AttachRequest) (Bearer, error) {
	conn, err := m.ha.DialTCP(ctx, m.addr)
	if err != nil {
		return nil, err
	}
	x := stream.New(conn, m.streamConfig(m.a, true))
	b, err := x.Attach(ctx, r)
	if err != nil {
		x.Close()
		return nil, err
	}
	return b, nil
}

// dialStream makes a session that begins on TCP.
func (m *movers) dialStream(t *testing.T) (c, s *Session) {
	t.Helper()
	conn, err := m.ha.DialTCP(t.Context(), m.addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg := m.streamConfig(m.a, true)
	p, err := m.a.AutoParams(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Auto = &p
	x := stream.New(conn, cfg)
	if err := x.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := x.Auto()
	if r == nil {
		t.Fatal("an ordinary session")
	}
	c, err = m.a.BeginStream(x.Detach(), &r.Result, &r.Own, true, udpio.Addr{AddrPort: m.addr})
	if err != nil {
		t.Fatal(err)
	}
	return c, <-m.accepted
}

// swap sends a little both ways.
func swap(t *testing.T, c, s *Session) {
	t.Helper()
	for _, x := range [...][2]*Session{{c, s}, {s, c}} {
		want := pattern(5000)
		if _, err := x[0].Write(want); err != nil {
			t.Fatal("Write:", err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(x[1], got); err != nil {
			t.Fatal("Read:", err)
		}
		equal(t, got, want)
	}
}

// attachedBoth waits until s has both carriers.
func attachedBoth(t *testing.T, ss ...*Session) {
	t.Helper()
	for _, s := range ss {
		for i := 0; ; i++ {
			s.mu.Lock()
			ok := s.mob != nil && s.mob.bearer != nil && s.mob.dgrams
			s.mu.Unlock()
			if ok {
				break
			}
			if i == 10_000 {
				t.Fatal("no second carrier")
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// moversBubble runs f plain and with TLS, born on datagrams and on a byte stream.
func moversBubble(t *testing.T, path simnet.Path, tcp simnet.TCPPath, f func(t *testing.T, m *movers, c, s *Session)) {
	for _, sealed := range [...]bool{false, true} {
		for _, born := range [...]reliable.Carrier{reliable.Datagrams, reliable.ByteStream} {
			t.Run(fmt.Sprintf("%v/sealed=%v", born, sealed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMovers(t, 1, path, tcp, sealed, nil)
					var c, s *Session
					if born == reliable.Datagrams {
						c, s = connect(t, m.a, m.b)
					} else {
						c, s = m.dialStream(t)
					}
					f(t, m, c, s)
					c.Close()
					s.Close()
					settle(t, m.a, m.b)
				})
			})
		}
	}
}

// TestCarrierAttach: whatever a session was born on, it soon has both carriers, and
// carries bytes on each.
func TestCarrierAttach(t *testing.T) {
	moversBubble(t, simnet.Path{Delay: 20 * time.Millisecond}, simnet.TCPPath{Delay: 20 * time.Millisecond}, func(t *testing.T, m *movers, c, s *Session) {
		begin := time.Now()
		attachedBoth(t, c, s)
		t.Log("both after", time.Since(begin))
		swap(t, c, s)
		for _, to := range [...]reliable.Carrier{reliable.ByteStream, reliable.Datagrams, reliable.ByteStream} {
			if err := c.Move(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			swap(t, c, s)
			if c.Carrier() != to || s.Carrier() != to {
				t.Errorf("on %v and %v, want %v", c.Carrier(), s.Carrier(), to)
			}
		}
	})
}

// TestCarrierMoves: bytes go both ways, and both ends order moves all the time. Trap A1.
func TestCarrierMoves(t *testing.T) {
	for _, loss := range [...]float64{0, 0.05, 0.2} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			moversBubble(t, simnet.Path{Delay: 5 * time.Millisecond, Loss: loss, Jitter: time.Millisecond}, simnet.TCPPath{Delay: 5 * time.Millisecond}, func(t *testing.T, m *movers, c, s *Session) {
				attachedBoth(t, c, s)
				n := 0
				bothWays(t, c, s, pattern(300_000), func() bool {
					n++
					for _, x := range [...]*Session{c, s} {
						if n%3 == 0 && x == s {
							continue
						}
						x.Move(t.Context(), other(x.Carrier()))
					}
					time.Sleep(3 * time.Millisecond)
					return n < 200
				})
				if st := c.Stats(); st.Moves < 100 || len(st.RecentMoves) != recentMoves {
					t.Errorf("%d moves, %d known", st.Moves, len(st.RecentMoves))
				}
			})
		})
	}
}

// TestCarrierDies: UDP is blocked while bytes are on their way, and comes back.
func TestCarrierDies(t *testing.T) {
	moversBubble(t, simnet.Path{Delay: 20 * time.Millisecond, Rate: 1_250_000}, simnet.TCPPath{Delay: 20 * time.Millisecond, Rate: 1_250_000}, func(t *testing.T, m *movers, c, s *Session) {
		attachedBoth(t, c, s)
		time.Sleep(time.Second)
		if c.Carrier() != reliable.Datagrams {
			c.Move(t.Context(), reliable.Datagrams)
			time.Sleep(time.Second)
		}
		var blocked, gap time.Duration
		begin := time.Now()
		go func() {
			b := pattern(64 << 10)
			for time.Since(begin) < 40*time.Second {
				if _, err := s.Write(b); err != nil {
					t.Error("Write:", err)
					return
				}
			}
			s.CloseWrite()
		}()
		last := time.Now()
		buf := make([]byte, 64<<10)
		var n int64
		for {
			k, err := c.Read(buf)
			now := time.Now()
			gap = max(gap, now.Sub(last))
			last = now
			n += int64(k)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal("Read:", err, c.Stats().RecentMoves)
			}
			if blocked == 0 && time.Since(begin) > 3*time.Second {
				blocked = time.Since(begin)
				m.net.Both(m.ha, m.hb, simnet.Path{Loss: 1})
				gap = 0
			}
			if blocked > 0 && blocked < time.Hour && time.Since(begin) > 8*time.Second {
				t.Logf("blocked: gap %v", gap)
				if gap > 500*time.Millisecond {
					t.Errorf("payload stood still for %v", gap)
				}
				if c.Carrier() != reliable.ByteStream {
					t.Error("still on", c.Carrier())
				}
				blocked = time.Hour
				m.net.Both(m.ha, m.hb, simnet.Path{Delay: 20 * time.Millisecond, Rate: 1_250_000})
				gap = 0
			}
		}
		t.Logf("back: gap %v, %d MB; %+v", gap, n>>20, c.Stats().RecentMoves)
		if gap > 45*time.Millisecond {
			t.Errorf("payload stood still for %v on the way back", gap)
		}
		if c.Carrier() != reliable.Datagrams {
			t.Error("not back on datagrams")
		}
	})
}

// TestCarrierReset: a session whose only byte stream is reset comes back.
func TestCarrierReset(t *testing.T) {
	for _, sealed := range [...]bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newMovers(t, 1, simnet.Path{Loss: 1}, simnet.TCPPath{Delay: 10 * time.Millisecond}, sealed, nil)
			c, s := m.dialStream(t)
			swap(t, c, s)
			for range 3 {
				m.net.ResetTCP(m.ha, m.hb)
				swap(t, c, s)
			}
			c.Close()
			s.Close()
			settle(t, m.a, m.b)
		})
	}
}

// TestCarrierRefused: what is no attach of the session leaves it alone. Trap A5, A6.
func TestCarrierRefused(t *testing.T) {
	for _, sealed := range [...]bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newMovers(t, 1, simnet.Path{Delay: time.Millisecond}, simnet.TCPPath{Delay: time.Millisecond}, sealed, nil)
			c, s := connect(t, m.a, m.b)
			attachedBoth(t, c, s)
			c2, s2 := connect(t, m.a, m.b)
			attachedBoth(t, c2, s2)
			c.mu.Lock()
			k, err := c.secret()
			req := handshake.AttachRequest{K: k, ServerID: handshake.ConnID(c.peerID), ClientID: handshake.ConnID(c.id), N: c.mob.n}
			c.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			c2.mu.Lock()
			k2, _ := c2.secret()
			c2.mu.Unlock()
			try := func(what string, r handshake.AttachRequest, want framing.ErrorCode) {
				b, err := m.attach(t.Context(), nil, &r)
				var remote *handshake.RemoteError
				if !errors.As(err, &remote) || remote.Code != want {
					t.Errorf("%s: %v", what, err)
				}
				if b != nil {
					b.Close()
				}
			}
			try("replayed", req, framing.CodeAttach)
			next := req
			next.N++
			wrong := next
			wrong.K = bytes.Repeat([]byte{1}, 32)
			try("wrong proof", wrong, framing.CodeAttach)
			wrong.K = k2
			try("another session's", wrong, framing.CodeAttach)
			wrong = next
			wrong.ServerID[0]++
			try("unknown", wrong, framing.CodeUnknownID)
			if sealed { // never from TLS to no TLS
				conn, err := m.ha.DialTCP(t.Context(), m.addr)
				if err != nil {
					t.Fatal(err)
				}
				cfg := m.streamConfig(m.a, true)
				cfg.TLS = nil
				if _, err := stream.New(conn, cfg).Attach(t.Context(), &next); !errors.Is(err, session.ErrTLSRequired) {
					t.Error("plaintext:", err)
				}
			}
			swap(t, c, s)
			swap(t, c2, s2)
			if n := c.Stats().Moves + s.Stats().Moves; n != 0 {
				t.Error(n, "moves")
			}
			c2.Close()
			s2.Close()
			old := next
			old.ServerID = handshake.ConnID(c2.peerID)
			time.Sleep(time.Minute)
			try("closed", old, framing.CodeUnknownID)
			swap(t, c, s)
			c.Close()
			s.Close()
			settle(t, m.a, m.b)
		})
	}
}

var _ net.Conn = (*simnet.TCPConn)(nil)
var _ tls.ConnectionState

// TestCarrierElsewhere: datagrams reach another server than the byte stream, which does
// not know the session. It goes on without them. Trap A6.
func TestCarrierElsewhere(t *testing.T) {
	for _, sealed := range [...]bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			path, tcp := simnet.Path{Delay: time.Millisecond}, simnet.TCPPath{Delay: time.Millisecond}
			m := newMovers(t, 1, path, tcp, sealed, nil)
			other := newEndpoint(t, m.hb.ListenPacket(7000), m.b.cfg)
			other.Listen()
			port := m.addr.Port()
			conn, err := m.ha.DialTCP(t.Context(), m.addr)
			if err != nil {
				t.Fatal(err)
			}
			cfg := m.streamConfig(m.a, true)
			p, err := m.a.AutoParams(nil)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Auto = &p
			x := stream.New(conn, cfg)
			if err := x.Handshake(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := x.Auto()
			c, err := m.a.BeginStream(x.Detach(), &r.Result, &r.Own, true, udpio.Addr{AddrPort: netip.AddrPortFrom(m.addr.Addr(), 7000)})
			if err != nil {
				t.Fatal(err)
			}
			s := <-m.accepted
			for range 20 {
				swap(t, c, s)
				time.Sleep(20 * time.Second)
			}
			if other.Stats().UnknownID == 0 || c.Carrier() != reliable.ByteStream || m.addr.Port() != port {
				t.Error("nobody was asked")
			}
			c.Close()
			s.Close()
			settle(t, m.a, m.b, other)
		})
	}
}
