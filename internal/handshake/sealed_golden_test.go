package handshake

import (
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// The examples of §8 in Appendix A that are not encrypted, or are what is encrypted.
func init() {
	metadata := framing.Header{{Key: "authorization", Value: "Bearer t0ken"}, {Key: "route", Value: "eu-1"}}
	params := func(b []byte, err error) func(testing.TB) []byte {
		return func(t testing.TB) []byte {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	goldens = append(goldens,
		golden{"Datagram: HELLO with crypto", framing.TypeHello, crc, 0, func(testing.TB) []byte {
			return AppendCryptoHello(nil, &CryptoFrame{SourceID: clientID, Data: goldenTLS(0x01)})
		}},
		golden{"Datagram: HELLO with crypto, cookie and what has come", framing.TypeHello, crc, 0, func(testing.TB) []byte {
			return AppendCryptoHello(nil, &CryptoFrame{SourceID: clientID, Cookie: goldenCookie(), HasHave: true, InitialHave: 90, HandshakeHave: 1100})
		}},
		golden{"Datagram: WELCOME with crypto", framing.TypeWelcome, crc, 0, func(testing.TB) []byte {
			return AppendCryptoWelcome(nil, &CryptoFrame{SourceID: serverID, ClientID: clientID, Offset: 1100, Data: goldenTLS(0x02)})
		}},
		golden{"Datagram: ERR, reset", framing.TypeErr, crc, 0, func(testing.TB) []byte {
			return AppendReset(nil, serverID, testToken)
		}},
		golden{"Parameters: of a client", 0, 0, 0, params(AppendClientParams(nil, &sealedClient))},
		golden{"Parameters: of a server", 0, 0, 0, params(AppendServerParams(nil, &sealedServer))},
		golden{"Control: HELLO", framing.TypeHello, 0, 0, params(AppendControlHello(nil, metadata))},
		golden{"Control: WELCOME", framing.TypeWelcome, 0, 0, params(AppendControlWelcome(nil, goldenServer.Header))},
		golden{"Control: ERR", framing.TypeErr, 0, 0, params(AppendControlErr(nil, framing.CodeRefused, "unknown token", framing.Header{{Key: "retry-after", Value: "30"}}))},
		golden{"Control: DATA", framing.TypeData, 0, 0, params(AppendControlData(nil, goldenTLS(0x04)), nil)},
	)
}

// goldenTLS stands for a handshake message of TLS of that type.
func goldenTLS(typ byte) []byte { return []byte{typ, 0, 0, 4, 0x74, 0x6c, 0x73, 0x21} }

// TestGoldenParams: the examples of transport parameters are understood.
func TestGoldenParams(t *testing.T) {
	blocks := goldenBlocks(t)
	c, err := ParseClientParams(blocks["Parameters: of a client"])
	if err != nil || c.SourceID != clientID || !c.Stream || c.HasResetToken {
		t.Fatalf("%+v, %v", c, err)
	}
	s, err := ParseServerParams(blocks["Parameters: of a server"])
	if err != nil || s.SourceID != serverID || s.ClientID != clientID || s.SessionID != goldenID || !s.Confirm {
		t.Fatalf("%+v, %v", s, err)
	}
	r, err := Negotiate(c, s, true)
	if err != nil || r.Version != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
}
