package handshake

import (
	"errors"

	"github.com/vstp-go/vstp/framing"
)

// errHello is returned for a datagram that is no HELLO of the negotiated profile.
var errHello = errors.New("handshake: malformed HELLO")

// A DatagramHello is a HELLO in a datagram, or a part of one, whose content is not
// looked into yet. Its slices are views of the datagram.
type DatagramHello struct {
	SourceID ConnID
	Cookie   []byte // nil if there is none

	// Crypto says that the client speaks TLS. The following are as in a [CryptoFrame].
	Crypto        bool
	Offset        uint64
	Data          []byte
	HasHave       bool
	InitialHave   uint64
	HandshakeHave uint64

	part    part
	block   []byte // the whole block
	payload []byte // or a part of it
}

// WantsAnswer reports whether h may be answered by itself, with a retry or with what
// its sender was told before: of a HELLO in parts, or of several that carry the bytes of
// TLS, only the first one.
func (h *DatagramHello) WantsAnswer() bool { return h.part.offset == 0 && h.Offset == 0 }

// ParseHello decodes as much of a HELLO as a server needs that keeps no state yet.
// It does not allocate. What it returns an error for is dropped, so that no answer
// is larger than what it answers. PROTOCOL §7.3.
func ParseHello(datagram []byte) (h DatagramHello, err error) {
	f, ok := parseHandshake(datagram)
	if !ok || f.Type != framing.TypeHello {
		return h, errHello
	}
	id, rest, ok := cutID(f.Header, framing.KeySourceID)
	if !ok {
		return h, errHello
	}
	cookie, rest, found := cutField(rest, framing.KeyCookie)
	if found && (len(cookie) == 0 || len(cookie) > MaxCookie) || !found && len(datagram) < MinHello {
		return h, errHello
	}
	if v, rest, crypto := cutField(rest, framing.KeyCrypto); crypto {
		var c CryptoFrame
		if len(rest) > 0 || len(datagram) < MaxHandshakeDatagram || !c.parseCrypto(v, f.Payload) {
			return h, errHello
		}
		return DatagramHello{SourceID: id, Cookie: cookie, Crypto: true, Offset: c.Offset, Data: c.Data,
			HasHave: c.HasHave, InitialHave: c.InitialHave, HandshakeHave: c.HandshakeHave}, nil
	}
	p, rest, ok := cutPart(rest, f.Payload)
	if !ok || !found && p.offset > 0 {
		return h, errHello
	}
	return DatagramHello{SourceID: id, Cookie: cookie, part: p, block: rest, payload: f.Payload}, nil
}

// AppendRetry appends the WELCOME that asks the client of that id to send HELLO
// again with the cookie, which has 1 to MaxCookie bytes. PROTOCOL §7.3.
func AppendRetry(b []byte, client ConnID, cookie []byte) []byte {
	if len(cookie) == 0 || len(cookie) > MaxCookie {
		panic("BUG: cookie of the wrong length")
	}
	h := appendID(make([]byte, 0, 16+MaxCookie), framing.KeyPacket, client)
	h = append(h, 1, byte(len(cookie)), framing.KeyCookie[0])
	return appendRaw(b, framing.TypeWelcome, append(h, cookie...), nil)
}

// A DatagramServer answers the HELLO of one client whose cookie was right. The zero
// value is ready to use.
type DatagramServer struct {
	Versions []uint64 // those it speaks; if empty, Version1

	state  state
	parts  assembly // of HELLO
	hello  DatagramParams
	result DatagramResult // complete but for what AppendWelcome knows
	answer [][]byte       // WELCOME or ERR
}

// Receive takes a HELLO of this client, or a part of it. The outcomes are [Done]
// once, when it is complete, and [Again] for a repetition after it was answered. An
// error is an [*Error] that is to be told with [DatagramServer.Refuse]. Nothing of h
// is kept.
func (s *DatagramServer) Receive(h *DatagramHello) (Outcome, error) {
	if s.state != stateStart {
		if s.answer != nil && h.WantsAnswer() {
			return Again, nil
		}
		return Ignored, nil
	}
	block := h.block
	if h.part.total > 0 {
		if !s.parts.add(h.part, h.payload) {
			return Taken, nil
		}
		block = s.parts.block()
	}
	s.state = stateFailed
	s.hello.SourceID = h.SourceID
	if h.Crypto {
		return Ignored, &Error{Code: framing.CodeTLS, Reason: "the client speaks TLS, the server does not"}
	}
	if err := s.receive(h.SourceID, block); err != nil {
		return Ignored, err
	}
	s.state = stateHalf
	return Done, nil
}

func (s *DatagramServer) receive(from ConnID, block framing.RawHeader) error {
	fs, err := scanDatagram(framing.TypeHello, block)
	if err != nil {
		return err
	}
	// The version comes first: one that is not ours may have other rules.
	versions, err := fs.versions()
	if err != nil {
		return err
	}
	known := s.Versions
	if len(known) == 0 {
		known = []uint64{Version1}
	}
	version, err := chooseVersion(versions, known)
	if err != nil {
		return err
	}
	p, err := fs.params()
	if err != nil {
		return err
	}
	if p.Header, err = userHeader(block); err != nil {
		return err
	}
	p.Versions, p.SourceID = versions, from
	s.hello = p
	s.result = DatagramResult{
		Result: Result{
			Version:        version,
			PeerMaxFrame:   p.MaxFrame,
			PeerMaxMessage: p.MaxMessage,
			Checksum:       p.Checksum,
			Idle:           p.Idle,
			PeerHeader:     p.Header,
		},
		PeerID: from,
		Peer:   p.limits(),
		Stream: p.Stream,
	}
	return nil
}

// Hello returns what the client offers, after [Done].
func (s *DatagramServer) Hello() *DatagramParams { return &s.hello }

// Welcome accepts the client: it makes the answer, see [DatagramServer.Answer], and
// returns what was agreed upon. The metadata is that of p, then extra. An error says
// that they cannot be sent; the client is to be refused then.
func (s *DatagramServer) Welcome(p DatagramParams, sessionID [16]byte, extra framing.Header) (DatagramResult, error) {
	if s.state != stateHalf {
		return DatagramResult{}, misuse("Welcome out of turn")
	}
	s.state = stateFailed
	if err := p.checkDatagram(); err != nil {
		return DatagramResult{}, err
	}
	r := s.result
	r.SessionID = sessionID
	r.Checksum = r.Checksum || p.Checksum
	r.Idle = minNonZero(p.Idle, r.Idle)
	p.Checksum = r.Checksum
	r.Moves = s.hello.Moves && p.Carriers.both()

	h := make(framing.Header, 0, maxDatagramOwn+len(p.Header)+len(extra))
	h = append(h, varintField(framing.KeyVersions, r.Version), framing.Field{Key: framing.KeySessionID, Value: string(sessionID[:])})
	h = appendDatagramLimits(h, &p)
	if s.hello.Moves {
		h = appendCarriers(h, p.Carriers)
	}
	if n := len(p.Token); n > 0 && n <= MaxToken {
		h = append(h, framing.Field{Key: framing.KeyToken, Value: string(p.Token)})
	}
	block, err := appendBlock(h, p.Header, extra)
	if err != nil {
		return DatagramResult{}, err
	}
	route := appendID(make([]byte, 0, 22), framing.KeyPacket, s.hello.SourceID)
	route = appendID(route, framing.KeySourceID, p.SourceID)
	s.answer = cut(nil, framing.TypeWelcome, route, block)
	s.state = stateDone
	return r, nil
}

// Refuse makes the answer an ERR, which must come in place of WELCOME. If metadata
// is too much for it, it is left out. PROTOCOL §7.4.
func (s *DatagramServer) Refuse(code framing.ErrorCode, reason string, header framing.Header) {
	if s.state == stateDone || s.state == stateStart {
		return
	}
	s.state = stateFailed
	b, err := AppendRefusal(nil, s.hello.SourceID, code, reason, header)
	if err != nil {
		code = min(code, framing.MaxVarint)
		if b, err = AppendRefusal(nil, s.hello.SourceID, code, reason, nil); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	s.answer = [][]byte{b}
}

// Answer returns the datagrams to send now, and again whenever Receive says so. They
// are not to be changed.
func (s *DatagramServer) Answer() [][]byte { return s.answer }
