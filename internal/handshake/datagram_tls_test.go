package handshake

import (
	"bytes"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

var testToken = [ResetTokenLen]byte{0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff}

// TestCryptoFrames: what is made is what is parsed, §8.5.
func TestCryptoFrames(t *testing.T) {
	for _, cookie := range []int{0, 1, CookieLen, MaxCookie} {
		for _, n := range []int{0, 1, 63, 64, 1000, CryptoRoom(cookie)} {
			for _, have := range []bool{false, true} {
				f := CryptoFrame{SourceID: clientID, Offset: maxCryptoNumber - 1, Data: bytes.Repeat([]byte{7}, n), HasHave: have}
				if cookie > 0 {
					f.Cookie = bytes.Repeat([]byte{9}, cookie)
				}
				if have {
					f.InitialHave, f.HandshakeHave = 1<<16, maxCryptoNumber-1
				}
				b := AppendCryptoHello([]byte("x"), &f)[1:]
				if len(b) != MaxHandshakeDatagram {
					t.Fatalf("%d bytes", len(b))
				}
				h, err := ParseHello(b)
				if err != nil || !h.Crypto || h.SourceID != clientID || !bytes.Equal(h.Cookie, f.Cookie) || (h.Cookie == nil) != (cookie == 0) ||
					h.Offset != f.Offset || !bytes.Equal(h.Data, f.Data) || h.HasHave != have || h.InitialHave != f.InitialHave || h.HandshakeHave != f.HandshakeHave {
					t.Fatalf("%+v, %v", h, err)
				}
				if _, ok := ParseCryptoWelcome(b); ok {
					t.Fatal("a WELCOME")
				}
			}
		}
	}
	for _, n := range []int{0, 1, 1000, CryptoRoom(0)} {
		f := CryptoFrame{SourceID: serverID, ClientID: clientID, Offset: maxCryptoNumber - 1, Data: bytes.Repeat([]byte{7}, n)}
		b := AppendCryptoWelcome([]byte("x"), &f)[1:]
		if len(b) > MaxHandshakeDatagram || n == CryptoRoom(0) && len(b) != MaxHandshakeDatagram {
			t.Fatalf("%d bytes of TLS: %d", n, len(b))
		}
		g, ok := ParseCryptoWelcome(b)
		if !ok || g.SourceID != serverID || g.ClientID != clientID || g.Offset != f.Offset || !bytes.Equal(g.Data, f.Data) || g.HasHave || g.Cookie != nil {
			t.Fatalf("%+v, %v", g, ok)
		}
		if _, ok := ParseRetry(b, clientID); ok {
			t.Fatal("a retry")
		}
		// A client without TLS drops it.
		if o, err := newDatagramClient(t, smallClient).Receive(b); o != Ignored || err != nil {
			t.Fatal(o, err)
		}
	}
}

// TestCryptoWithoutTLS: "a server without TLS [refuses] one with it, by ERR with code
// 12", §8.5.
func TestCryptoWithoutTLS(t *testing.T) {
	var s DatagramServer
	h, err := ParseHello(AppendCryptoHello(nil, &CryptoFrame{SourceID: clientID, Cookie: goldenCookie(), Data: []byte("ClientHello")}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Receive(&h)
	wantError(t, "crypto", err, framing.CodeTLS)
	s.Refuse(framing.CodeTLS, "", nil)
	if o, err := s.Receive(&h); o != Again || err != nil {
		t.Fatal(o, err)
	}
	e, ok := ParseRefusal(s.Answer()[0], clientID)
	if !ok || e.Code != framing.CodeTLS {
		t.Fatal(e, ok)
	}
	if _, ok := ParseRefusal(s.Answer()[0], serverID); ok {
		t.Fatal("of another client")
	}
}

// TestReset: the ERR of §8.10 has 49 bytes, and is one of §7.4 to those who know no
// tokens.
func TestReset(t *testing.T) {
	b := AppendReset([]byte("x"), serverID, testToken)[1:]
	if len(b) != ResetLen || ResetLen != 49 {
		t.Fatalf("%d bytes", len(b))
	}
	id, token, hasToken, ok := ParseUnknownID(b)
	if !ok || !hasToken || id != serverID || token != testToken {
		t.Fatalf("%x, %x, %v, %v", id, token, hasToken, ok)
	}
	if _, _, kind := RouteID(b); kind != KindErr {
		t.Fatal(kind)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, _, _, ok := ParseUnknownID(c); ok {
			t.Errorf("byte %d changed", i)
		}
		if _, _, _, ok := ParseUnknownID(b[:i]); ok {
			t.Errorf("cut off at %d", i)
		}
	}
}

// TestParseRetry: a retry, and nothing else.
func TestParseRetry(t *testing.T) {
	retry := AppendRetry(nil, clientID, []byte("cookie"))
	if cookie, ok := ParseRetry(retry, clientID); !ok || string(cookie) != "cookie" {
		t.Fatalf("%q, %v", cookie, ok)
	}
	if _, ok := ParseRetry(retry, serverID); ok {
		t.Error("of another client")
	}
	route := appendID(nil, framing.KeyPacket, clientID)
	for name, b := range map[string][]byte{
		"empty cookie":       appendRaw(nil, framing.TypeWelcome, append(bytes.Clone(route), 1, 0, 0x17), nil),
		"cookie of 65 bytes": appendRaw(nil, framing.TypeWelcome, append(append(bytes.Clone(route), 1, 65, 0x17), make([]byte, 65)...), nil),
		"no cookie":          appendRaw(nil, framing.TypeWelcome, route, nil),
		"HELLO":              goldenHello(t, goldenClient)[0],
		"ERR":                AppendUnknownID(nil, clientID),
		"nothing":            nil,
	} {
		if _, ok := ParseRetry(b, clientID); ok {
			t.Error(name)
		}
	}
}
