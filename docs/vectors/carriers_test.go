package vectors

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// carrierVector is the first frame on a byte stream of an end that knows of carriers.
type carrierVector struct {
	Name   string   `json:"name"`
	Role   string   `json:"role"` // of the receiver
	Self   *params  `json:"self,omitempty"`
	Sent   hexBytes `json:"sent,omitempty"` // client: its HELLO
	Bytes  hexBytes `json:"bytes"`
	Result string   `json:"result"`
	Code   uint64   `json:"code,omitempty"`
	Peer   *params  `json:"peer,omitempty"` // server: what HELLO says
	Agreed *agreed  `json:"agreed,omitempty"`
	Answer hexBytes `json:"answer,omitempty"` // server: its WELCOME
	Attach *attach  `json:"attach,omitempty"`
}

// attach is what an attach HELLO says.
type attach struct {
	ServerID hexBytes `json:"server_id"`
	N        uint64   `json:"n"`
	Proof    hexBytes `json:"proof"`
}

func (v *carrierVector) run(t *testing.T) {
	t.Helper()
	f, n, err := framing.Parse(v.Bytes, 0, framing.TrailerByFlag)
	if err != nil || n != len(v.Bytes) {
		t.Fatal(v.Name, err)
	}
	own := v.Self.datagram()
	if v.Role == "server" {
		s := handshake.NewServer(v.Self.params())
		s.AllowAuto()
		h, err := s.Receive(f)
		switch {
		case v.failed(t, err):
		case h.Attach != nil:
			v.Result = "attach"
			v.Attach = &attach{h.Attach.ServerID[:], h.Attach.N, h.Attach.Proof[:]}
		case h.Auto != nil && own.Carriers&handshake.CarrierByteStream != 0:
			b, r, err := s.AppendWelcomeAuto(nil, sessionID, &own, nil)
			if err != nil {
				t.Fatal(v.Name, err)
			}
			v.Result, v.Peer, v.Agreed, v.Answer = "packets", datagramParamsOf(h.Auto), datagramAgreedOf(&r), b
		default:
			b, r, err := s.AppendWelcome(nil, sessionID, nil)
			if err != nil {
				t.Fatal(v.Name, err)
			}
			v.Result, v.Peer, v.Agreed, v.Answer = "ordinary", paramsOf(&h.Params), agreedOf(&r), b
		}
		return
	}
	c := handshake.NewClient(v.Self.params())
	c.Offer(own)
	if v.Sent, err = c.AppendHello(nil); err != nil {
		t.Fatal(v.Name, err)
	}
	r, err := c.Receive(f)
	switch {
	case v.failed(t, err):
	case c.Auto() != nil:
		v.Result, v.Agreed = "packets", datagramAgreedOf(c.Auto())
	default:
		v.Result, v.Agreed = "ordinary", agreedOf(&r)
	}
}

func (v *carrierVector) failed(t *testing.T, err error) bool {
	t.Helper()
	var local *handshake.Error
	if err != nil && !errors.As(err, &local) {
		t.Fatal(v.Name, err)
	}
	if err != nil {
		v.Result, v.Code = "error", uint64(local.Code)
	}
	return err != nil
}

func carrierVectors(t *testing.T) []carrierVector {
	var vs []carrierVector
	cp, sp := ends()
	cp.Datagram.Service, sp.Datagram.Carriers = 2, hexBytes{0, 1}
	cp.defaults()
	sp.defaults()
	add := func(role, name string, self *params, b []byte, want string, code uint64) *carrierVector {
		t.Helper()
		v := carrierVector{Name: name, Role: role, Self: self, Bytes: b}
		v.run(t)
		if v.Result != want || v.Code != code {
			t.Errorf("%s, %s: %s %d, want %s %d", role, name, v.Result, v.Code, want, code)
		}
		vs = append(vs, v)
		return &vs[len(vs)-1]
	}
	first := handshake.NewClient(cp.params())
	first.Offer(cp.datagram())
	full, err := first.AppendHello(nil)
	if err != nil {
		t.Fatal(err)
	}
	source, from := field(framing.KeySourceID, string(clientID[:])), field(framing.KeySourceID, string(serverID[:]))
	moves, both := field(framing.KeyService, "\x02"), field(framing.KeyCarriers, "\x00\x01")
	one1 := *sp
	d := *sp.Datagram
	d.Carriers, one1.Datagram = hexBytes{1}, &d
	none := *sp
	d0 := *sp.Datagram
	d0.Carriers, none.Datagram = nil, &d0

	v := add("server", "every key", sp, full, "packets", 0)
	add("client", "every key", cp, v.Answer, "packets", 0)
	v = add("server", "to one with the byte stream only", &one1, full, "packets", 0)
	add("client", "from one with the byte stream only", cp, v.Answer, "packets", 0)
	v = add("server", "to one that does not want packets here", &none, full, "ordinary", 0)
	add("client", "from one that does not know of carriers", cp, v.Answer, "ordinary", 0)
	hello1 := func(name, want string, code uint64, fs ...framing.Field) {
		t.Helper()
		add("server", name, sp, hello(t, append(fields{one}, fs...)...), want, code)
	}
	hello1("what absent keys say", "packets", 0, source, moves)
	hello1("no service", "ordinary", 0, source)
	hello1("service 01 means nothing", "ordinary", 0, source, field(framing.KeyService, "\x01"))
	hello1("service of two bytes means nothing", "ordinary", 0, source, field(framing.KeyService, "\x02\x00"))
	hello1("no source id", "error", 1, moves)
	hello1("source id of seven bytes", "error", 1, moves, field(framing.KeySourceID, "1234567"))
	hello1("source id twice", "error", 1, moves, source, source)
	hello1("service twice", "error", 1, source, moves, moves)
	hello1("credit of three varints", "error", 1, source, moves, varints(framing.KeyCredit, 1, 2, 3))
	hello1("max datagram of 1,199", "error", 1, source, moves, varints(framing.KeyMaxDatagram, 1199))
	hello1("ack delay of more than a second", "error", 1, source, moves, varints(framing.KeyAckDelay, 1_000_001))
	hello1("the same without service means nothing", "ordinary", 0, varints(framing.KeyCredit, 1, 2, 3), varints(framing.KeyMaxDatagram, 1))
	welcome1 := func(name, want string, code uint64, fs ...framing.Field) {
		t.Helper()
		add("client", name, cp, welcome(t, append(fields{one, session}, fs...)...), want, code)
	}
	welcome1("what absent keys say", "packets", 0, from, both)
	welcome1("carriers with others", "packets", 0, from, field(framing.KeyCarriers, "\x07\x01"))
	welcome1("datagrams only", "ordinary", 0, from, field(framing.KeyCarriers, "\x00"))
	welcome1("no carriers", "ordinary", 0, from)
	welcome1("carriers of no bytes", "ordinary", 0, from, field(framing.KeyCarriers, ""))
	welcome1("carriers twice", "error", 1, from, both, both)
	welcome1("no source id", "error", 1, both)
	welcome1("source id of nine bytes", "error", 1, both, field(framing.KeySourceID, "123456789"))
	welcome1("credit of no bytes", "error", 1, from, both, field(framing.KeyCredit, ""))

	at := field(framing.KeyAttach, string(serverID[:])+"\x00\x00\x00\x00\x00\x00\x00\x01"+"sixteen bytes 01")
	hello1("attach", "attach", 0, at)
	hello1("attach, with an unknown key", "attach", 0, at, field("\x0f", "x"))
	hello1("attach twice", "error", 1, at, at)
	hello1("attach of 31 bytes", "error", 1, field(framing.KeyAttach, at.Value[1:]))
	hello1("attach of 33 bytes", "error", 1, field(framing.KeyAttach, at.Value+"x"))
	hello1("attach with metadata", "error", 1, at, field("route", "eu-1"))
	hello1("attach with idle", "error", 1, at, varints(framing.KeyIdle, 1))
	hello1("attach with service", "error", 1, at, moves)
	add("server", "attach of another version", sp, hello(t, varints(framing.KeyVersions, 2), at), "error", 2)
	return vs
}

// proofVector is how the proofs of an attach come about, step by step.
type proofVector struct {
	Name        string   `json:"name"`
	ClientID    hexBytes `json:"client_id"`
	ServerID    hexBytes `json:"server_id"`
	SessionID   hexBytes `json:"session_id,omitempty"`   // plaintext
	SecretInput hexBytes `json:"secret_input,omitempty"` // plaintext: what is hashed
	Secret      hexBytes `json:"secret"`
	N           uint64   `json:"n"`
	Binding     hexBytes `json:"binding,omitempty"` // TLS
	ClientInput hexBytes `json:"client_input"`      // of the HMAC
	ClientProof hexBytes `json:"client_proof"`
	ServerInput hexBytes `json:"server_input"`
	ServerProof hexBytes `json:"server_proof"`
	Hello       hexBytes `json:"hello"`
	Welcome     hexBytes `json:"welcome"`
}

func proofVectors(t *testing.T) []proofVector {
	var vs []proofVector
	add := func(name string, secret, binding []byte, n uint64) {
		t.Helper()
		v := proofVector{Name: name, ClientID: clientID[:], ServerID: serverID[:], Secret: secret, N: n, Binding: binding}
		if secret == nil {
			v.SessionID = sessionID[:]
			v.SecretInput = slices.Concat([]byte("vstp session"), clientID[:], serverID[:], sessionID[:])
			sum := sha256.Sum256(v.SecretInput)
			v.Secret = sum[:]
			if !bytes.Equal(v.Secret, handshake.PlainSecret(clientID, serverID, sessionID)) {
				t.Errorf("%s: secret", name)
			}
		}
		rest := slices.Concat(serverID[:], clientID[:], binary.BigEndian.AppendUint64(nil, n), binding)
		prove := func(input []byte, server bool) []byte {
			m := hmac.New(sha256.New, v.Secret)
			m.Write(input)
			p := handshake.AttachProof(v.Secret, server, serverID, clientID, n, binding)
			if !bytes.Equal(p[:], m.Sum(nil)[:16]) {
				t.Errorf("%s: proof", name)
			}
			return p[:]
		}
		v.ClientInput = append([]byte("vstp attach client"), rest...)
		v.ServerInput = append([]byte("vstp attach server"), rest...)
		v.ClientProof, v.ServerProof = prove(v.ClientInput, false), prove(v.ServerInput, true)
		v.Hello = handshake.AppendAttachHello(nil, &handshake.Attach{ServerID: serverID, N: n, Proof: [16]byte(v.ClientProof)})
		v.Welcome = handshake.AppendAttachWelcome(nil, [16]byte(v.ServerProof))
		vs = append(vs, v)
	}
	add("plaintext, the first attempt", nil, nil, 1)
	add("plaintext, a later one", nil, nil, 1<<40+2)
	add("TLS", pattern(32), slices.Repeat([]byte{0xb1}, 32), 3)
	return vs
}

func TestCarrierVectors(t *testing.T) {
	checkFile(t, "handshake-carriers.json", "Handshakes on byte streams that carry packets, PROTOCOL 7.14. Described in README.md.",
		listOf("vectors", carrierVectors(t)), listOf("proofs", proofVectors(t)))
	var file struct {
		About   string          `json:"about"`
		Vectors []carrierVector `json:"vectors"`
		Proofs  []proofVector   `json:"proofs"`
	}
	readFile(t, "handshake-carriers.json", &file)
	for _, v := range file.Vectors {
		got := carrierVector{Name: v.Name, Role: v.Role, Self: v.Self, Bytes: v.Bytes}
		got.run(t)
		same(t, v.Name, v, got)
	}
	for _, v := range file.Proofs {
		f, _, err := framing.Parse(v.Hello, 0, framing.TrailerByFlag)
		if err != nil {
			t.Fatal(err)
		}
		a, err := handshake.ParseAttachHello(f)
		if err != nil || a.N != v.N || !bytes.Equal(a.Proof[:], v.ClientProof) {
			t.Errorf("%s: %+v, %v", v.Name, a, err)
		}
	}
}
