package handshake

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// addDatagramSeeds adds a datagram of every kind.
func addDatagramSeeds(f *testing.F, add func(b []byte)) {
	c, hello := hellos(f, 2500)
	var s DatagramServer
	for _, b := range hello {
		h, err := ParseHello(b)
		if err != nil {
			f.Fatal(err)
		}
		s.Receive(&h)
	}
	p := richServer
	p.Header = bigHeader(2500)
	if _, err := s.Welcome(p, goldenID, nil); err != nil {
		f.Fatal(err)
	}
	refusal, err := AppendRefusal(nil, clientID, framing.CodeRefused, "no", richServer.Header)
	if err != nil {
		f.Fatal(err)
	}
	c.cookie = nil
	for _, b := range slices.Concat(hello, s.Answer(), c.AppendHello(nil), [][]byte{
		refusal, AppendUnknownID(nil, serverID), AppendRetry(nil, clientID, []byte("cookie")),
		appendRaw(nil, framing.TypeWelcome, append(welcomeRoute(), block(f, framing.Header{versions1, session})...), nil),
		appendRaw(nil, framing.TypeHello, append(helloRoute(), block(f, framing.Header{versions1})...), nil),
		appendRaw(nil, framing.TypeData, append(append([]byte{1, 12, 1}, serverID[:]...), 0, 0, 0, 1), []byte{1}),
		AppendCryptoHello(nil, &CryptoFrame{SourceID: clientID, Data: goldenTLS(1)}),
		AppendCryptoHello(nil, &CryptoFrame{SourceID: clientID, Cookie: goldenCookie(), Offset: 1000, HasHave: true, HandshakeHave: 5000}),
		AppendCryptoWelcome(nil, &CryptoFrame{SourceID: serverID, ClientID: clientID, Data: goldenTLS(2)}),
		AppendReset(nil, serverID, testToken),
		sealedPacket(framing.TypeHello, framing.KeyPacket, framing.FlagSealed),
		sealedPacket(framing.TypeWelcome, framing.KeyPacket, framing.FlagSealed|framing.FlagPhase),
		sealedPacket(framing.TypeHello, framing.KeySourceID, framing.FlagSealed),
	}) {
		add(b)
	}
}

// reseal makes the CRC right, so that what is inside gets looked at.
func reseal(b []byte) []byte {
	if len(b) < framing.FixedLen+framing.TrailerLen {
		return b
	}
	b = bytes.Clone(b)
	b[4] = byte(framing.FlagCRC)
	n := len(b) - framing.TrailerLen
	return framing.AppendTrailer(b[:n], framing.Checksum(0, b[:n]))
}

// FuzzDatagramClient: whatever comes, and comes twice, a client ignores it, goes on,
// or ends in one of the two kinds of error; and what does not have its id does
// nothing.
func FuzzDatagramClient(f *testing.F) {
	addDatagramSeeds(f, func(b []byte) { f.Add(b, b, true) })
	f.Fuzz(func(t *testing.T, one, two []byte, good bool) {
		c := newDatagramClient(t, richClient)
		over := false
		for _, b := range [][]byte{one, two, one} {
			if good {
				b = reseal(b)
			}
			before := bytes.Clone(b)
			o, err := c.Receive(b)
			if !bytes.Equal(b, before) {
				t.Fatal("written to")
			}
			id, _, kind := RouteID(b)
			if (o != Ignored || err != nil) && (over || id != clientID || kind != KindWelcome && kind != KindErr) {
				t.Fatalf("%v, %v for %x", o, err, b)
			}
			var he *Error
			var re *RemoteError
			switch {
			case errors.As(err, &re) && kind == KindErr, errors.As(err, &he) && kind == KindWelcome && he.Code != framing.CodeInternal:
				over = true
			case err != nil:
				t.Fatal(err)
			case o == Done:
				over = true
				r := c.Result()
				if r.Version != 1 || r.Idle < 0 || r.Peer.MaxDatagram < MinMaxDatagram || r.Peer.MaxDatagram > MaxMaxDatagram ||
					r.Peer.AckDelay < 0 || r.Peer.AckDelay > MaxAckDelay || r.PeerHeader.HasReserved() || r.Peer.MaxMessage < 0 {
					t.Fatalf("%+v", r)
				}
			case o == Again:
				for _, d := range c.AppendHello(nil) {
					if h, err := ParseHello(d); err != nil || h.Cookie == nil {
						t.Fatalf("%+v, %v", h, err)
					}
				}
			}
		}
	})
}

// FuzzDatagramServer: whatever comes, a server without state drops it or can answer
// it with less; one with state ends in a Hello within the limits, or in an error
// that it can tell.
func FuzzDatagramServer(f *testing.F) {
	addDatagramSeeds(f, func(b []byte) { f.Add(b, b, true) })
	f.Fuzz(func(t *testing.T, one, two []byte, good bool) {
		var s DatagramServer
		done := false
		for _, b := range [][]byte{one, two, one} {
			if good {
				b = reseal(b)
			}
			h, err := ParseHello(b)
			if err != nil {
				continue
			}
			if id, _, kind := RouteID(b); kind != KindHello || id != h.SourceID {
				t.Fatalf("%v, %x", kind, id)
			}
			if h.Cookie == nil {
				if r := AppendRetry(nil, h.SourceID, make([]byte, MaxCookie)); len(r) > len(b) {
					t.Fatalf("%d bytes answer %d", len(r), len(b))
				}
				continue
			}
			switch o, err := s.Receive(&h); {
			case err != nil:
				var he *Error
				if done || !errors.As(err, &he) || he.Code == framing.CodeInternal {
					t.Fatal(err)
				}
				done = true
				s.Refuse(he.Code, he.Reason, nil)
			case o == Done:
				p := s.Hello()
				if done || p.MaxDatagram < MinMaxDatagram || p.MaxDatagram > MaxMaxDatagram || p.AckDelay < 0 || p.AckDelay > MaxAckDelay ||
					len(p.Header) > MaxFields || p.Header.HasReserved() || p.SourceID != h.SourceID {
					t.Fatalf("%+v", p)
				}
				done = true
				if _, err := s.Welcome(richServer, goldenID, nil); err != nil {
					t.Fatal(err)
				}
			case o == Again && !done:
				t.Fatal("an answer to nothing")
			}
			for _, d := range s.Answer() {
				if len(d) > MaxHandshakeDatagram {
					t.Fatalf("%d bytes", len(d))
				}
			}
		}
	})
}

// FuzzRouteID: what is said about a datagram is what a whole look at it says.
func FuzzRouteID(f *testing.F) {
	addDatagramSeeds(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		id, _, kind := RouteID(b)
		fr, _, err := framing.ParseDatagram(b)
		if err != nil {
			return // its receiver finds that out
		}
		if kind == KindNone {
			t.Fatal("a frame was not seen")
		}
		key, value, _, err := fr.Header.Next()
		first := framing.KeyPacket
		if kind == KindHello || kind == KindEarly {
			first = framing.KeySourceID
		}
		if kind != KindCrate && (err != nil || string(key) != first || !bytes.HasPrefix(value, id[:])) {
			t.Fatalf("%v, %x of %x", kind, id, b)
		}
		if kind == KindCrate && err == nil && string(key) == framing.KeyPacket && len(value) == 8 &&
			(fr.Type == framing.TypeWelcome || fr.Type == framing.TypeErr) {
			t.Fatalf("%x was not seen", b)
		}
		sealed := kind == KindSealedHello || kind == KindSealedWelcome || kind == KindEarly
		if sealed && (fr.Flags&^framing.FlagPhase != framing.FlagSealed || len(fr.Header) != 15) {
			t.Fatalf("%v, of %x", kind, b)
		}
		if unknown, _, _, ok := ParseUnknownID(b); ok && (kind != KindErr || unknown != id) {
			t.Fatalf("%v, %x", kind, id)
		}
	})
}

// FuzzCookie: only what was made is accepted.
func FuzzCookie(f *testing.F) {
	f.Add(testKey.Append(nil, testNow, testAddr, clientID), testAddr, clientID[:], int64(0))
	f.Add([]byte{}, []byte{}, []byte("12345678"), int64(1))
	f.Add(make([]byte, CookieLen), testAddr, clientID[:], int64(time.Minute))
	f.Fuzz(func(t *testing.T, cookie, addr, id []byte, age int64) {
		if len(id) != 8 {
			return
		}
		own := testKey.Append(nil, testNow, addr, ConnID(id))
		age %= int64(time.Hour)
		now := testNow.Add(time.Duration(age))
		if got := testKey.Check(now, addr, ConnID(id), own); got != (age >= 0 && age < int64(CookieLifetime)) {
			t.Fatalf("%v after %d", got, age)
		}
		if testKey.Check(testNow, addr, ConnID(id), cookie) != bytes.Equal(cookie, own) {
			t.Fatal("another cookie of this moment")
		}
	})
}
