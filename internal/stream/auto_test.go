package stream

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/tlsvstp"
)

var (
	autoClientID = handshake.ConnID{0xc0, 1, 2, 3, 4, 5, 6, 7}
	autoServerID = handshake.ConnID{0xd0, 1, 2, 3, 4, 5, 6, 7}
	autoOffer    = handshake.DatagramParams{SourceID: autoClientID, MaxDatagram: 1472, Credit: handshake.Credit{MaxData: 1, MaxStreamData: 2, MaxStreams: 3, MaxMessages: 4}, AckDelay: time.Millisecond}
	autoOwn      = handshake.DatagramParams{SourceID: autoServerID, MaxDatagram: 9000, Credit: handshake.Credit{MaxData: 5, MaxStreamData: 6, MaxStreams: 7, MaxMessages: 8}, Carriers: handshake.BothCarriers}
)

// autoSession is one that a server knows.
type autoSession struct {
	k     []byte
	tls   bool
	fixed bool // it does not move
	n     uint64
}

// autoServer is an AutoServer with the sessions of a test.
type autoServer struct {
	own      handshake.DatagramParams
	err      error // of AutoParams
	mu       sync.Mutex
	sessions map[handshake.ConnID]*autoSession
	busy     error
}

func (a *autoServer) AutoParams(h *handshake.Hello) (handshake.DatagramParams, error) {
	own := a.own
	own.Header = append(own.Header, h.Header...)
	return own, a.err
}

func (a *autoServer) AttachSession(at *handshake.Attach, state *tls.ConnectionState) (proof [handshake.ProofLen]byte, token any, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[at.ServerID]
	switch {
	case a.busy != nil:
		return proof, nil, a.busy
	case s == nil:
		return proof, nil, &handshake.Error{Code: framing.CodeUnknownID}
	case s.fixed || s.tls != (state != nil):
		return proof, nil, &handshake.Error{Code: framing.CodeAttach}
	}
	var binding []byte
	if state != nil {
		if binding, err = tlsvstp.AttachBinding(state); err != nil {
			return proof, nil, err
		}
	}
	want := handshake.AttachProof(s.k, false, at.ServerID, autoClientID, at.N, binding)
	if !hmac.Equal(want[:], at.Proof[:]) || at.N <= s.n {
		return proof, nil, &handshake.Error{Code: framing.CodeAttach}
	}
	s.n = at.N
	return handshake.AttachProof(s.k, true, at.ServerID, autoClientID, at.N, binding), s, nil
}

// autoConfigs are those of a client and of a server that know of carriers.
func autoConfigs(m mode) (c, s *Config, a *autoServer) {
	c, s = m.apply(testConfig(true)), m.apply(testConfig(false))
	offer := autoOffer
	a = &autoServer{own: autoOwn, sessions: map[handshake.ConnID]*autoSession{}}
	a.own.Checksum = m.sum
	c.Auto, s.AutoServer = &offer, a
	return c, s, a
}

// packet makes one with a payload of that many bytes.
func packet(flags framing.Flags, payload int) []byte {
	h := append([]byte{1, 12, 1}, autoServerID[:]...)
	return frame(framing.TypeData, flags, append(h, 0, 0, byte(payload>>8), byte(payload)), bytes.Repeat([]byte{byte(payload)}, payload))
}

// wantPackets reads packets and compares.
func wantPackets(t testing.TB, b *Bearer, packets ...[]byte) {
	t.Helper()
	for i, want := range packets {
		got, err := b.ReadPacket()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("packet %d of %d bytes: %d bytes, %v", i, len(want), len(got), err)
		}
	}
}

// TestAutoHandshake: both ends know of carriers, and packets follow. Nothing of the
// sessions is left.
func TestAutoHandshake(t *testing.T) {
	for _, m := range modes {
		bubble(t, func(t *testing.T) {
			cc, sc, a := autoConfigs(m)
			cc.Params.Idle, sc.Params.Idle, a.own.Idle = 3*time.Second, 3*time.Second, 2*time.Second
			cc.KeepAlive, sc.KeepAlive = time.Second, time.Second
			cc.Params.Header = framing.Header{{Key: "route", Value: "eu-1"}}
			a.own.Header = framing.Header{{Key: "node", Value: "a7"}}
			sc.Verify = func(_ context.Context, _ *Session, h *handshake.Hello) (framing.Header, error) {
				if h.Auto == nil || h.Auto.SourceID != autoClientID || !h.Auto.Moves || h.Auto.MaxDatagram != 1472 {
					t.Errorf("%+v", h.Auto)
				}
				return framing.Header{{Key: "x", Value: "y"}}, nil
			}
			c, s, cconn, _ := m.pair(t, cc, sc)
			ca, sa := c.Auto(), s.Auto()
			if ca == nil || sa == nil {
				t.Fatal("an ordinary session")
			}
			sum := m.sum && !m.tls
			cr, sr := ca.Result, sa.Result
			if cr.PeerID != autoServerID || sr.PeerID != autoClientID || !cr.Moves || !sr.Moves || !cr.Stream || !sr.Stream ||
				cr.Checksum != sum || sr.Checksum != sum || cr.Idle != 2*time.Second || sr.Idle != 2*time.Second ||
				cr.SessionID != sr.SessionID || cr.SessionID == [16]byte{} || cr.Compression != 0 || sr.Compression != 0 {
				t.Errorf("%s: %+v\n%+v", m.name, cr, sr)
			}
			if cr.Peer.Credit != autoOwn.Credit || sr.Peer.Credit != autoOffer.Credit || cr.Peer.MaxDatagram != 9000 || sr.Peer.AckDelay != time.Millisecond {
				t.Errorf("%s: %+v\n%+v", m.name, cr.Peer, sr.Peer)
			}
			if len(cr.PeerHeader) != 3 || len(sr.PeerHeader) != 1 || cr.PeerHeader[2].Key != "x" {
				t.Errorf("%v, %v", cr.PeerHeader, sr.PeerHeader)
			}
			if ca.Own.SourceID != autoClientID || ca.Own.Idle != 3*time.Second || !ca.Own.Moves || sa.Own.SourceID != autoServerID || sa.Attach != nil {
				t.Errorf("%+v\n%+v", ca.Own, sa.Own)
			}
			wantAll(t, c, func(what string, err error) {
				if err != errPackets {
					t.Errorf("%s: %v", what, err)
				}
			})
			cb, sb := c.Detach(), s.Detach()
			if c.Detach() != nil || c.Close() != nil || s.CloseWithError(300, "") != nil || (cb.TLSState() != nil) != m.tls {
				t.Error("given away twice")
			}
			before := cconn.Written()
			time.Sleep(time.Hour)
			if n := cconn.Written(); n != before {
				t.Errorf("%d bytes of a session that is over", n-before)
			}
			exchange(t, cb, sb)
			cb.Close()
			if _, err := sb.ReadPacket(); err != io.EOF {
				t.Errorf("the end: %v", err)
			}
			sb.Close()
		})
	}
}

// exchange sends packets of all sizes both ways, in pieces of several.
func exchange(t testing.TB, a, b *Bearer) {
	t.Helper()
	var packets [][]byte
	for _, n := range []int{1, 0, 5, 900, 1100, 1350, 5000, 0, 16384, 40000, MaxPacket - 26, 3, 60000, 60000, 60000} {
		packets = append(packets, packet(0, n))
	}
	packets = append(packets, packet(framing.FlagCRC, MaxPacket-30))
	all := bytes.Join(packets, nil)
	for _, dir := range [][2]*Bearer{{a, b}, {b, a}} {
		done := make(chan error, 1)
		go func() {
			err := dir[0].Write(all)
			for _, p := range packets {
				err = errors.Join(err, dir[0].Write(p))
			}
			done <- err
		}()
		wantPackets(t, dir[1], packets...)
		wantPackets(t, dir[1], packets...)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestAutoFallback: one end does not know of carriers, or does not want them here. The
// session is an ordinary one.
func TestAutoFallback(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		for name, change := range map[string]func(c, s *Config, a *autoServer){
			"client":         func(c, s *Config, a *autoServer) { c.Auto = nil },
			"server":         func(c, s *Config, a *autoServer) { s.AutoServer = nil },
			"no carriers":    func(c, s *Config, a *autoServer) { a.own.Carriers = 0 },
			"datagrams only": func(c, s *Config, a *autoServer) { a.own.Carriers = handshake.CarrierDatagrams },
		} {
			bubble(t, func(t *testing.T) {
				cc, sc, a := autoConfigs(m)
				change(cc, sc, a)
				c, s, _, _ := m.pair(t, cc, sc)
				if c.Auto() != nil || s.Auto() != nil || c.Detach() != nil || s.Detach() != nil {
					t.Fatalf("%s: packets", name)
				}
				go c.Write([]byte("hello"))
				b := make([]byte, 5)
				if _, err := io.ReadFull(s, b); err != nil || string(b) != "hello" {
					t.Errorf("%s: %q, %v", name, b, err)
				}
				c.Close()
				s.Close()
			})
		}
	}
	bubble(t, func(t *testing.T) { // packets on this byte stream, and nowhere else
		cc, sc, a := autoConfigs(mode{})
		a.own.Carriers = handshake.CarrierByteStream
		c, s := pair(t, cc, sc, 0)
		if c.Auto() == nil || s.Auto() == nil || c.Auto().Result.Moves || s.Auto().Result.Moves {
			t.Error(c.Auto(), s.Auto())
		}
		c.Close()
		s.Close()
	})
}

// TestAutoRefused: the client learns why.
func TestAutoRefused(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code framing.ErrorCode
	}{
		{&handshake.Error{Code: framing.CodeOverload}, framing.CodeOverload},
		{&session.Refusal{Reason: "no"}, framing.CodeRefused},
		{errors.New("secret"), framing.CodeInternal},
	} {
		bubble(t, func(t *testing.T) {
			cc, sc, a := autoConfigs(mode{})
			a.err = tt.err
			ca, sa := memconn.Pipe(0)
			c, s := New(ca, cc), New(sa, sc)
			go s.Handshake(t.Context())
			var remote *handshake.RemoteError
			if err := c.Handshake(t.Context()); !errors.As(err, &remote) || remote.Code != tt.code || remote.Reason == "secret" {
				t.Error(err)
			}
			if c.Auto() != nil || s.Auto() != nil || s.Detach() != nil {
				t.Error("a result")
			}
			s.Close()
		})
	}
}

// TestAutoClose: a session that carries packets and was not given away.
func TestAutoClose(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		bubble(t, func(t *testing.T) {
			cc, sc, _ := autoConfigs(m)
			c, s, _, _ := m.pair(t, cc, sc)
			s.CloseWithError(framing.CodeOverload, "later")
			b := s.Detach()
			if _, err := b.ReadPacket(); err != net.ErrClosed {
				t.Error(err)
			}
			if err := b.Write(packet(0, 1)); err != net.ErrClosed || b.Close() != nil {
				t.Error(err)
			}
			b = c.Detach()
			var remote *handshake.RemoteError
			if _, err := b.ReadPacket(); !errors.As(err, &remote) || remote.Code != framing.CodeOverload || remote.Reason != "later" {
				t.Error(err)
			}
			b.Close()

			c, s, _, _ = m.pair(t, cc, sc)
			c.Close()
			b = s.Detach()
			if _, err := b.ReadPacket(); err != io.EOF {
				t.Error(err)
			}
			b.Close()
		})
	}
}

// TestDetachReadAhead: what has come behind WELCOME is not lost, wherever it is cut.
func TestDetachReadAhead(t *testing.T) {
	many := [][]byte{}
	for i := range 300 {
		many = append(many, packet(0, i*7%1200))
	}
	large := [][]byte{packet(0, MaxPacket-26), packet(0, MaxPacket-26), packet(0, 1)}
	for _, packets := range [][][]byte{nil, {packet(0, 10)}, {packet(0, 3), packet(framing.FlagCRC, 0), packet(0, 100)}, many, large} {
		synctest.Test(t, func(t *testing.T) {
			cc, _, a := autoConfigs(mode{})
			m := handshake.NewServer(handshake.Params{})
			m.AllowAuto()
			welcome := autoWelcome(t, m, cc, a)
			all := append(bytes.Clone(welcome), bytes.Join(packets, nil)...)
			step := max(1, len(all)/400)
			for cut := 1; cut <= len(all); cut += step {
				ca, sa := memconn.Pipe(1 << 20)
				c := New(ca, cc)
				sa.Write(all[:cut])
				go func() {
					time.Sleep(time.Second)
					sa.Write(all[cut:])
					sa.CloseWrite()
				}()
				if err := c.Handshake(t.Context()); err != nil {
					t.Fatal(err)
				}
				b := c.Detach()
				wantPackets(t, b, packets...)
				if _, err := b.ReadPacket(); err != io.EOF {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				b.Close()
				sa.Close()
			}
		})
	}
}

// autoWelcome is what m answers to the HELLO of that client.
func autoWelcome(t testing.TB, m *handshake.Server, cc *Config, a *autoServer) []byte {
	t.Helper()
	client := handshake.NewClient(cc.Params)
	client.Offer(*cc.Auto)
	b, err := client.AppendHello(nil)
	if err != nil {
		t.Fatal(err)
	}
	f, _, err := framing.Parse(b, 0, framing.TrailerByFlag)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Receive(f); err != nil {
		t.Fatal(err)
	}
	own := a.own
	b, _, err = m.AppendWelcomeAuto(nil, [16]byte{}, &own, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDetachDeadlines: none of the handshake is left, on real sockets too.
func TestDetachDeadlines(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		cc, sc, _ := autoConfigs(m)
		cc.HandshakeTimeout, sc.HandshakeTimeout = 500*time.Millisecond, 500*time.Millisecond
		cb, sb := bearers(t, cc, sc)
		time.Sleep(600 * time.Millisecond) // sockets know no bubble
		exchange(t, cb, sb)
	}
}

// bearers returns both ends of a TCP connection that carries packets.
func bearers(t testing.TB, cc, sc *Config) (c, s *Bearer) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	cs, ss := New(a, cc), New(b, sc)
	done := make(chan error, 1)
	go func() { done <- ss.Handshake(context.Background()) }()
	if err := errors.Join(cs.Handshake(context.Background()), <-done); err != nil {
		t.Fatal(err)
	}
	c, s = cs.Detach(), ss.Detach()
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c, s
}
