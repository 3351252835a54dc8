package sealed

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/tlsvstp"
)

// remoteOf returns what the peer has said for a reason.
func remoteOf(t *testing.T, err error) *handshake.RemoteError {
	t.Helper()
	var r *handshake.RemoteError
	if !errors.As(err, &r) {
		t.Fatalf("%v is not of the peer", err)
	}
	return r
}

// TestRefused: accept says no, and the client gets the code and the reason.
func TestRefused(t *testing.T) {
	s := newSetup()
	s.accept = func(p *handshake.SealedParams) (*handshake.SealedParams, error) {
		if p.SourceID != clientID || !p.Stream {
			t.Error("the client's parameters are not there")
		}
		return nil, &handshake.Error{Code: framing.CodeRefused, Reason: "nobody is here"}
	}
	n := newNetwork(t, s)
	n.run(5 * time.Second)
	r := remoteOf(t, n.client.Err())
	if r.Code != framing.CodeRefused || r.Reason != "nobody is here" || n.client.Hint() != nil || n.client.Done() {
		t.Error(r, n.client.Hint())
	}
	if n.server.Err() == nil || n.server.Done() || n.server.Params() != nil {
		t.Error(n.server.Err())
	}
	if n.sent != [2]int{1, 2} { // ServerHello, for without keys it would be a hint only; and CLOSE
		t.Error(n.sent)
	}
}

// TestAlerts: what TLS finds wrong gets to the other side, with its own words.
func TestAlerts(t *testing.T) {
	for _, c := range []struct {
		name   string
		set    func(*setup)
		client string // part of the error; of the hint if it begins with "?"
		server string
	}{
		{"unknown authority", func(s *setup) { s.client.RootCAs = nil }, "certificate", "peer: alert: tls: bad certificate"},
		{"hook of the client", func(s *setup) {
			s.client.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not him") }
		}, "not him", "peer: alert: tls: bad certificate"},
		{"no client certificate", func(s *setup) { s.server.ClientAuth = tls.RequireAnyClientCert },
			"peer: alert: tls: certificate required", "certificate"},
		{"bad client certificate", func(s *setup) {
			other, _ := tlsvstp.SelfSigned(tlsvstp.DevOptions{})
			s.client.Certificates = []tls.Certificate{other.Certificate}
			s.server.ClientAuth = tls.RequireAndVerifyClientCert
		}, "peer: alert: tls: ", "certificate"},
		{"hook of the server", func(s *setup) {
			s.server.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not her") }
		}, "peer: alert: tls: bad certificate", "not her"},
		{"no certificate for the name", func(s *setup) {
			s.server.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("who?") }
			s.server.Certificates = nil
		}, "?alert: tls: ", "who?"},
		{"another protocol", func(s *setup) {
			s.server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return &tls.Config{Certificates: s.server.Certificates, NextProtos: []string{"h3"}, CurvePreferences: []tls.CurveID{tls.X25519}}, nil
			}
		}, "?alert: tls: handshake failure", "tls"},
	} {
		for lost := range 3 {
			t.Run(c.name, func(t *testing.T) {
				s := newSetup()
				c.set(s)
				n := newNetwork(t, s)
				n.fate = func(toServer bool, i int) []time.Duration {
					if !toServer && i == lost {
						return nil
					}
					return []time.Duration{0}
				}
				n.run(3 * time.Second)
				err := n.client.Err()
				want, hint := strings.CutPrefix(c.client, "?")
				if hint && err == nil {
					err = n.client.Hint()
				}
				for _, e := range []struct {
					who  string
					err  error
					want string
				}{{"client", err, want}, {"server", n.server.Err(), c.server}} {
					text, remote := strings.CutPrefix(e.want, "peer: ")
					if e.err == nil {
						t.Errorf("the %s has no error", e.who)
						continue
					}
					if !strings.Contains(strings.ReplaceAll(e.err.Error(), `"`, ""), strings.TrimPrefix(text, "alert: ")) {
						t.Errorf("%s: %v", e.who, e.err)
					}
					var r *handshake.RemoteError
					var alert tls.AlertError
					if remote && (!errors.As(e.err, &r) || r.Code != framing.CodeAlert) || !remote && !hint && !errors.As(e.err, &alert) {
						t.Errorf("%s: %#v", e.who, e.err)
					}
				}
			})
		}
	}
}

// TestWrongIDs: parameters that belong to another handshake than the frames do.
func TestWrongIDs(t *testing.T) {
	n := newNetwork(t, newSetup())
	n.client.own.SourceID = handshake.ConnID{9} // but the parameters have clientID
	n.server.client = handshake.ConnID{9}
	n.server.packets.peer = handshake.ConnID{9}
	n.run(3 * time.Second)
	if !errors.Is(n.server.Err(), errIDs) || n.client.Done() {
		t.Error(n.server.Err())
	}
	n = newNetwork(t, newSetup())
	n.server.id = handshake.ConnID{9}
	n.server.accept = func(*handshake.SealedParams) (*handshake.SealedParams, error) {
		n.server.id = serverID // goes into the parameters
		return &handshake.SealedParams{}, nil
	}
	n.fate = func(toServer bool, i int) []time.Duration {
		n.server.id = handshake.ConnID{9} // into the frames
		return []time.Duration{0}
	}
	n.client.known, n.client.server = true, handshake.ConnID{9}
	n.client.packets.peer = handshake.ConnID{9}
	n.run(3 * time.Second)
	if !errors.Is(n.client.Err(), errIDs) && n.client.Err() != nil {
		t.Log(n.client.Err())
	}
	if n.client.Done() {
		t.Error("the client believes it")
	}
}

// TestGarbage: what does not belong to a handshake does not change it. Trap S5, S6.
func TestGarbage(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			clean := newNetwork(t, kind(k.name))
			clean.run(time.Minute)
			rnd := rand.New(rand.NewPCG(1, 2))
			n := newNetwork(t, kind(k.name))
			n.fate = func(toServer bool, _ int) []time.Duration {
				for range 20 {
					b := garbage(rnd, toServer)
					_, _, kind := handshake.RouteID(b)
					switch {
					case !toServer:
						n.client.Receive(b)
					case kind == handshake.KindSealedHello:
						n.server.Packet(b)
					case kind == handshake.KindHello:
						if h, err := handshake.ParseHello(b); err == nil {
							n.server.Hello(&h, len(b), false)
						}
					}
				}
				n.in += 1 << 20 // it is not about this here
				return []time.Duration{0}
			}
			if !n.run(time.Minute) {
				t.Fatal(n.client.Err(), n.server.Err())
			}
			n.agreed()
			if n.serverDone > clean.serverDone {
				t.Errorf("it takes %v, without %v", n.serverDone, clean.serverDone)
			}
		})
	}
}

// garbage is a datagram that somebody could send who knows no ids, or not what belongs
// behind them. Data of the Initial level, which nobody has signed, it has none.
func garbage(rnd *rand.Rand, toServer bool) []byte {
	id := clientID
	typ := framing.TypeWelcome
	if toServer {
		id, typ = serverID, framing.TypeHello
	}
	switch rnd.IntN(6) {
	case 0: // a packet that does not open
		p := packets{typ: typ, peer: id, pn: uint64(rnd.IntN(5)), write: testKeys()}
		return p.append(nil, make([]byte, rnd.IntN(1100)), 0, 0)[0]
	case 1: // one of another type
		p := packets{typ: framing.TypeWelcome + framing.TypeHello - typ, peer: id, write: testKeys()}
		return p.append(nil, nil, 0, 0)[0]
	case 2:
		b := make([]byte, rnd.IntN(1400))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		copy(b, []byte{framing.Magic0, framing.Magic1, framing.Version, byte(typ)})
		return b
	case 3: // for another one
		if toServer {
			return handshake.AppendCryptoHello(nil, &handshake.CryptoFrame{SourceID: clientID, Offset: 1 << 20, Data: []byte("far away")})
		}
		return handshake.AppendCryptoWelcome(nil, &handshake.CryptoFrame{ClientID: handshake.ConnID{1}, SourceID: serverID, Data: []byte("x")})
	case 4:
		b, _ := handshake.AppendRefusal(nil, id, framing.CodeRefused, "go away", nil)
		return b
	}
	return handshake.AppendUnknownID(nil, id)
}

// testKeys are some.
func testKeys() *tlsvstp.Keys {
	k, err := tlsvstp.NewKeys(tls.TLS_AES_128_GCM_SHA256, make([]byte, 32))
	if err != nil {
		panic(err)
	}
	return k
}

// TestHint: an ERR from anywhere says something only as long as there are no keys.
func TestHint(t *testing.T) {
	n := newNetwork(t, newSetup())
	forged, _ := handshake.AppendRefusal(nil, clientID, framing.CodeTLS, "no TLS here", nil)
	other, _ := handshake.AppendRefusal(nil, handshake.ConnID{1}, framing.CodeTLS, "no TLS here", nil)
	n.client.Receive(bytes.Clone(other))
	if n.client.Hint() != nil {
		t.Error("a hint for somebody else")
	}
	n.client.Receive(bytes.Clone(forged))
	if n.client.Hint() == nil || n.client.Err() != nil {
		t.Error("no hint")
	}
	if !n.run(time.Minute) || n.client.Hint() != nil {
		t.Error(n.client.Err(), n.client.Hint())
	}
	n.agreed()
	n.client.Receive(forged)
	if n.client.Hint() != nil || !n.client.Done() {
		t.Error("an ERR after the handshake")
	}
}

// TestRetries: a client follows so many cookies, and then no more.
func TestRetries(t *testing.T) {
	c := newTestClient(t, newSetup())
	for i := range 100 {
		retry := handshake.AppendRetry(nil, clientID, []byte{byte(i), 1})
		if news := c.Receive(retry); news != (i < maxRetries) || c.Fresh() != news {
			t.Fatal(i, news)
		}
		if c.Receive(handshake.AppendRetry(nil, clientID, []byte{byte(i), 1})) {
			t.Fatal("the same cookie is news")
		}
	}
	for _, b := range c.AppendFlight(nil) {
		if h, err := handshake.ParseHello(b); err != nil || string(h.Cookie) != string([]byte{maxRetries - 1, 1}) {
			t.Error(h.Cookie, err)
		}
	}
}

// TestRepetitionsBounded: a client that asks for ever is not always answered. But it may
// be somebody else who repeats what it has said: it has to be answered now and then.
func TestRepetitionsBounded(t *testing.T) {
	s := newSetup()
	c, m := newTestClient(t, s), newTestServer(t, s)
	h, err := handshake.ParseHello(c.AppendFlight(nil)[0])
	if err != nil {
		t.Fatal(err)
	}
	answers := 0
	for range 10 * maxFlights {
		m.Hello(&h, handshake.MaxHandshakeDatagram, true)
		if len(m.AppendFlight(nil)) > 0 {
			answers++
		}
		if len(m.AppendFlight(nil)) > 0 {
			t.Fatal("an answer to nothing")
		}
	}
	if answers != maxFlights+1+(9*maxFlights-1)/fewerFlights {
		t.Error(answers)
	}
}

// TestSecondHello: of two ClientHellos with one source id, the first one counts.
func TestSecondHello(t *testing.T) {
	s := newSetup()
	n := newNetwork(t, s)
	other := newTestClient(t, s)
	first := true
	n.fate = func(toServer bool, _ int) []time.Duration {
		if toServer && !first {
			for _, b := range other.AppendFlight(nil) {
				h, _ := handshake.ParseHello(b)
				n.server.Hello(&h, len(b), false)
				n.in += len(b)
			}
		}
		first = false
		return []time.Duration{0}
	}
	if !n.run(time.Minute) {
		t.Fatal(n.client.Err(), n.server.Err())
	}
	n.agreed()
}

// TestCanceled: the end of the context ends a handshake, and Close any.
func TestCanceled(t *testing.T) {
	s := newSetup()
	ctx, cancel := context.WithCancel(t.Context())
	m := NewServer(ctx, tlsvstp.ServerConfig(s.server), serverID, clientID, nil, s.accept)
	c := newTestClient(t, s)
	h, _ := handshake.ParseHello(c.AppendFlight(nil)[0])
	m.Hello(&h, handshake.MaxHandshakeDatagram, false)
	cancel()
	m.Close()
	m.Close()
	if m.Done() {
		t.Error("done")
	}
	NewServer(ctx, s.server, serverID, clientID, nil, s.accept).Close()
}

// TestPlainWelcome: a client never goes on without TLS, whatever it gets. PROTOCOL §8.5.
func TestPlainWelcome(t *testing.T) {
	c := newTestClient(t, newSetup())
	other, err := handshake.NewDatagramClient(handshake.DatagramParams{SourceID: clientID, Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	if o, err := other.Receive(handshake.AppendRetry(nil, clientID, []byte("crumbs"))); o != handshake.Again || err != nil {
		t.Fatal(o, err)
	}
	h, err := handshake.ParseHello(other.AppendHello(nil)[0])
	if err != nil {
		t.Fatal(err)
	}
	var m handshake.DatagramServer
	if o, err := m.Receive(&h); o != handshake.Done || err != nil {
		t.Fatal(o, err)
	}
	if _, err := m.Welcome(handshake.DatagramParams{SourceID: serverID}, [16]byte{1}, nil); err != nil {
		t.Fatal(err)
	}
	for _, b := range m.Answer() {
		if c.Receive(b) || c.Done() || c.Err() != nil || c.Hint() != nil {
			t.Error("it says something to a client with TLS")
		}
	}
	for _, b := range c.AppendFlight(nil) {
		if h, err := handshake.ParseHello(b); err != nil || !h.Crypto {
			t.Error("HELLO without TLS")
		}
	}
}
