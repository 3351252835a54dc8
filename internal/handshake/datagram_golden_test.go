package handshake

import (
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// The examples of datagrams in Appendix A. Those of packets are checked in package
// reliable, which makes them.
func init() {
	goldens = append(goldens,
		golden{"Datagram: HELLO", framing.TypeHello, crc, 0, func(t testing.TB) []byte {
			return newDatagramClient(t, goldenClient).AppendHello(nil)[0]
		}},
		golden{"Datagram: retry", framing.TypeWelcome, crc, 0, func(testing.TB) []byte {
			return AppendRetry(nil, clientID, goldenCookie())
		}},
		golden{"Datagram: HELLO with the cookie", framing.TypeHello, crc, 0, func(t testing.TB) []byte {
			return goldenHello(t, goldenClient)[0]
		}},
		golden{"Datagram: WELCOME", framing.TypeWelcome, crc, 0, func(t testing.TB) []byte {
			var s DatagramServer
			h, err := ParseHello(goldenHello(t, goldenClient)[0])
			if err != nil {
				t.Fatal(err)
			}
			if o, err := s.Receive(&h); o != Done || err != nil {
				t.Fatal(o, err)
			}
			if _, err := s.Welcome(goldenServer, goldenID, nil); err != nil {
				t.Fatal(err)
			}
			return s.Answer()[0]
		}},
		golden{"Datagram: WELCOME with a token", framing.TypeWelcome, crc, 0, func(t testing.TB) []byte {
			var s DatagramServer
			h, err := ParseHello(goldenHello(t, goldenClient)[0])
			if err != nil {
				t.Fatal(err)
			}
			if o, err := s.Receive(&h); o != Done || err != nil {
				t.Fatal(o, err)
			}
			p := goldenServer
			p.Token = goldenToken()
			if _, err := s.Welcome(p, goldenID, nil); err != nil {
				t.Fatal(err)
			}
			return s.Answer()[0]
		}},
		golden{"Datagram: HELLO with the token", framing.TypeHello, crc, 0, func(t testing.TB) []byte {
			c := newDatagramClient(t, goldenClient)
			c.SetToken(goldenToken())
			return c.AppendHello(nil)[0]
		}},
		golden{"Control: WELCOME with a token", framing.TypeWelcome, 0, 0, func(t testing.TB) []byte {
			b, err := AppendControlWelcomeToken(nil, goldenServer.Header, goldenToken())
			if err != nil {
				t.Fatal(err)
			}
			return b
		}},
		golden{"Datagram: HELLO, second part", framing.TypeHello, crc, 0, func(t testing.TB) []byte {
			p := goldenClient
			p.Header = append(bigHeader(1114), framing.Field{Key: "route", Value: "eu-1"})
			d := goldenHello(t, p)
			if len(d) != 2 || len(d[0]) != MaxHandshakeDatagram {
				t.Fatalf("%d parts, the first of %d bytes", len(d), len(d[0]))
			}
			return d[1]
		}},
		golden{"Datagram: ERR, a refusal", framing.TypeErr, crc, 0, func(t testing.TB) []byte {
			b, err := AppendRefusal(nil, clientID, framing.CodeOverload, "come back later", framing.Header{{Key: "retry-after", Value: "30"}})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}},
		golden{"Datagram: ERR, unknown id", framing.TypeErr, crc, 0, func(testing.TB) []byte {
			return AppendUnknownID(nil, serverID)
		}},
	)
}

var (
	goldenClient = DatagramParams{
		Params:      Params{Checksum: true, Idle: richClient.Idle},
		SourceID:    clientID,
		MaxDatagram: 1472,
		Credit:      Credit{1 << 20, 1 << 19, 16, 1 << 27},
		Stream:      true,
	}
	goldenServer = DatagramParams{
		Params:      Params{Checksum: true, Header: framing.Header{{Key: "node", Value: "a7"}}},
		SourceID:    serverID,
		MaxDatagram: MaxMaxDatagram,
		Credit:      Credit{1 << 21, 1 << 20, 100, 1 << 27},
		AckDelay:    richServer.AckDelay,
	}
)

func goldenToken() []byte {
	return makeToken(testTokenKey(), time.Hour, 40*time.Millisecond, "\xc0\x00\x02\x07")
}

func goldenCookie() []byte { return testKey.Append(nil, testNow, testAddr, clientID) }

func goldenHello(t testing.TB, p DatagramParams) [][]byte {
	t.Helper()
	c := newDatagramClient(t, p)
	if o, err := c.Receive(AppendRetry(nil, clientID, goldenCookie())); o != Again || err != nil {
		t.Fatal(o, err)
	}
	return c.AppendHello(nil)
}
