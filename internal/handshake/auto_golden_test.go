package handshake

import (
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// The examples of §7.14 in Appendix A.
var (
	goldenMover = func() DatagramParams {
		p := goldenClient
		p.Moves = true
		return p
	}()
	goldenBoth = func() DatagramParams {
		p := goldenServer
		p.Carriers = BothCarriers
		return p
	}()
	goldenSecret = PlainSecret(clientID, serverID, goldenID)
)

func init() {
	attach := &Attach{ServerID: serverID, N: 1, Proof: AttachProof(goldenSecret, false, serverID, clientID, 1, nil)}
	refusal := func(code framing.ErrorCode) func(testing.TB) []byte {
		return func(t testing.TB) []byte {
			b, err := AppendErr(nil, code, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	client, server := sealedClient, sealedServer
	client.Moves, server.Carriers = true, BothCarriers
	goldens = append(goldens,
		golden{"Datagram: HELLO of a client that would move", framing.TypeHello, crc, 0, func(t testing.TB) []byte {
			return goldenHello(t, goldenMover)[0]
		}},
		golden{"Datagram: WELCOME with carriers", framing.TypeWelcome, crc, 0, func(t testing.TB) []byte {
			var s DatagramServer
			h, err := ParseHello(goldenHello(t, goldenMover)[0])
			if err != nil {
				t.Fatal(err)
			}
			if o, err := s.Receive(&h); o != Done || err != nil {
				t.Fatal(o, err)
			}
			if r, err := s.Welcome(goldenBoth, goldenID, nil); err != nil || !r.Moves {
				t.Fatal(r, err)
			}
			return s.Answer()[0]
		}},
		golden{"Parameters: of a client that would move", 0, 0, 0, func(t testing.TB) []byte {
			b, err := AppendClientParams(nil, &client)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}},
		golden{"Parameters: of a server with carriers", 0, 0, 0, func(t testing.TB) []byte {
			b, err := AppendServerParams(nil, &server)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}},
		golden{"Carriers: HELLO on a byte stream", framing.TypeHello, crc, 0, func(t testing.TB) []byte {
			_, b := newMover(t)
			return b
		}},
		golden{"Carriers: WELCOME on a byte stream", framing.TypeWelcome, crc, 0, func(t testing.TB) []byte {
			_, hello := newMover(t)
			s, _ := receiveAuto(t, hello)
			own := goldenBoth
			b, r, err := s.AppendWelcomeAuto(nil, goldenID, &own, nil)
			if err != nil || !r.Moves {
				t.Fatal(r, err)
			}
			return b
		}},
		golden{"Carriers: HELLO that attaches", framing.TypeHello, crc, 0, func(testing.TB) []byte {
			return AppendAttachHello(nil, attach)
		}},
		golden{"Carriers: WELCOME that attaches", framing.TypeWelcome, crc, 0, func(testing.TB) []byte {
			return AppendAttachWelcome(nil, AttachProof(goldenSecret, true, serverID, clientID, 1, nil))
		}},
		golden{"Carriers: ERR, unknown id", framing.TypeErr, crc, 0, refusal(framing.CodeUnknownID)},
		golden{"Carriers: ERR, attach refused", framing.TypeErr, crc, 0, refusal(framing.CodeAttach)},
	)
}

// newMover returns a client on a byte stream who would move, and its HELLO.
func newMover(t testing.TB) (*Client, []byte) {
	t.Helper()
	c := NewClient(goldenMover.Params)
	c.Offer(goldenMover)
	b, err := c.AppendHello(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, b
}

// receiveAuto gives a HELLO to a server that knows of carriers.
func receiveAuto(t testing.TB, hello []byte) (*Server, *Hello) {
	t.Helper()
	s := NewServer(Params{})
	s.AllowAuto()
	h, err := s.Receive(parseFrame(t, hello))
	if err != nil {
		t.Fatal(err)
	}
	return s, h
}

func parseFrame(t testing.TB, b []byte) framing.Frame {
	t.Helper()
	f, n, err := framing.Parse(b, 0, framing.TrailerByFlag)
	if err != nil || n != len(b) {
		t.Fatal(n, err)
	}
	return f
}
