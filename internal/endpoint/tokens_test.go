package endpoint

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/simnet"
)

// forget drops all tokens.
func (t *Tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = nil
}

// dialTime dials, and closes both ends; what comes is how long the dial took.
func dialTime(t *testing.T, a, b *Endpoint) time.Duration {
	t.Helper()
	start := time.Now()
	c, err := a.DialStream(t.Context(), addrOf(t, b))
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	s, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	c.Close()
	s.Close()
	return took
}

// "With a token there is no retry": a second dial takes one round trip, plain and with TLS
// where a cookie is asked for; after a restart of the server and a day it takes two, and
// fails never. PROTOCOL §7.3.
func TestTokenRedial(t *testing.T) {
	for _, seals := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", seals), func(t *testing.T) {
			cfg := &Config{HandshakeTimeout: 5 * time.Second}
			if seals {
				cfg = sealedConfig()
				cfg.MaxUnvalidated = -1
			}
			const rtt = 40 * time.Millisecond
			synctest.Test(t, func(t *testing.T) {
				d := &duo{net: simnet.New(t, simnet.Options{Seed: 1, Path: simnet.Path{Delay: rtt / 2}, Limit: -1})}
				d.a = newEndpoint(t, d.net.Host("10.0.0.1").ListenPacket(0), cfg)
				d.b = newEndpoint(t, d.net.Host("10.0.0.2").ListenPacket(6969), cfg)
				d.b.Listen()
				redial := func(want time.Duration, when string) {
					t.Helper()
					if got := dialTime(t, d.a, d.b); got != want {
						t.Errorf("%s: %v, want %v", when, got, want)
					}
				}
				redial(2*rtt, "first")
				redial(rtt, "second")
				redial(rtt, "third")
				time.Sleep(handshake.TokenLifetime - time.Minute)
				redial(rtt, "nearly a day later")
				time.Sleep(handshake.TokenLifetime)
				redial(2*rtt, "a day later")
				d.b.issuer.init(cfg.random) // as a server that was started anew has another key
				redial(2*rtt, "other key")
				redial(rtt, "and again")
				d.b.CloseListen()
				settle(t, d.a, d.b)
			})
		})
	}
}

// A HELLO with a token that is sent again, from that address or another port, by another
// client too, makes no second association.
func TestTokenReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := &Config{HandshakeTimeout: 5 * time.Second}
		d := newDuo(t, 1, simnet.Path{Delay: 20 * time.Millisecond}, cfg, cfg)
		d.b.Listen()
		dialTime(t, d.a, d.b)
		var hello []byte
		there := d.net.Path(d.ha, d.hb)
		there.Filter(func(_ int, b []byte) bool {
			if _, _, kind := handshake.RouteID(b); kind == handshake.KindHello && hello == nil {
				hello = append(hello, b...)
			}
			return false
		})
		dialTime(t, d.a, d.b)
		h, err := handshake.ParseHello(hello)
		if err != nil || len(h.Cookie) != handshake.TokenLen {
			t.Fatalf("%x, %v", hello, err)
		}
		time.Sleep(2 * handshake.CookieLifetime) // the client is forgotten
		before := d.b.Stats().Associations
		from := addrOf(t, d.a).AddrPort
		for _, port := range []uint16{from.Port(), 1, 2} {
			d.net.Inject(netip.AddrPortFrom(from.Addr(), port), addrOf(t, d.b).AddrPort, hello)
			time.Sleep(time.Second)
			if st := d.b.Stats(); st.Associations != before || st.Handshakes != 0 {
				t.Errorf("from port %d: %d associations, %d handshakes", port, st.Associations, st.Handshakes)
			}
		}
		d.b.CloseListen()
		settle(t, d.a, d.b)
	})
}

// A token that was used is not taken again, however many are used meanwhile, and for what is
// remembered there is a bound.
func TestUsedTokens(t *testing.T) {
	var u usedTokens
	token := func(n int) *handshake.Token {
		tk := &handshake.Token{Issued: time.Duration(n) * time.Millisecond}
		tk.ID = [handshake.TokenIDLen]byte{byte(n), byte(n >> 8), byte(n >> 16)}
		return tk
	}
	const n = 3 * maxUsedTokens
	for i := range n {
		now := time.Duration(i)*time.Millisecond + time.Second
		if !u.first(now, token(i)) {
			t.Fatalf("token %d is refused", i)
		}
		for _, before := range []int{i, i / 2, max(0, i-1), max(0, i-maxUsedTokens), max(0, i-maxUsedTokens/2)} {
			if u.first(now, token(before)) {
				t.Fatalf("token %d is taken again after %d", before, i)
			}
		}
		if len(u.now)+len(u.before) > maxUsedTokens {
			t.Fatalf("%d are remembered", len(u.now)+len(u.before))
		}
	}
	late := token(n + 1)
	late.Issued = n*time.Millisecond + 2*handshake.TokenLifetime
	if !u.first(late.Issued, late) {
		t.Error("after a long time")
	}
}

// Tokens are bounded, for each place and in all, and each is given out once.
func TestTokensBounded(t *testing.T) {
	var tokens Tokens
	now := time.Unix(1e9, 0)
	place := func(n int) tokenPlace {
		return tokenPlace{server: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 1)}
	}
	for i := range 2 * maxTokenPlaces {
		for j := range 2 * maxTokensEach {
			tokens.put(now, place(i), []byte{byte(i), byte(j)})
		}
		tokens.put(now, place(0), []byte{0, 0}) // heard of again and again
	}
	if len(tokens.all) != maxTokenPlaces {
		t.Errorf("%d servers", len(tokens.all))
	}
	if tokens.take(now, place(1)) != nil {
		t.Error("the oldest is there")
	}
	last := place(2*maxTokenPlaces - 1)
	for j := range maxTokensEach {
		if got := tokens.take(now, last); len(got) != 2 || got[1] != byte(2*maxTokensEach-1-j) {
			t.Errorf("%d: %x", j, got)
		}
	}
	if tokens.take(now, last) != nil {
		t.Error("one was given out twice")
	}
	if tokens.take(now, place(0)) == nil {
		t.Error("what was heard of again is gone")
	}
	if tokens.take(now.Add(handshake.TokenLifetime), place(0)) != nil {
		t.Error("one that is too old")
	}
}
