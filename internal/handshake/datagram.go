package handshake

import (
	"encoding/binary"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// A ConnID names an association at one of its ends. It has 64 bits that nobody can
// guess. PROTOCOL §7.2.
type ConnID = [8]byte

// Limits and defaults of the handshake in datagrams. PROTOCOL §7.3.
const (
	MaxHandshakeDatagram = 1200 // largest datagram of the handshake: every path carries it
	MinHello             = 96   // smallest HELLO without a cookie, so that no retry is larger
	MaxCookie            = 64   // bytes in KeyCookie

	MinMaxDatagram  = 1200  // smallest value of KeyMaxDatagram, and the one where it is absent
	MaxMaxDatagram  = 65507 // largest UDP payload; larger values count as this one
	DefaultAckDelay = 5 * time.Millisecond
	MaxAckDelay     = time.Second // largest value of KeyAckDelay

	maxRetries = 32 // cookies that a client takes before it ignores further ones
)

// A Credit is what one side may send before it is granted more. PROTOCOL §7.3.
type Credit struct {
	MaxData       int64 // bytes of all streams together
	MaxStreamData int64 // bytes of each stream
	MaxStreams    int64 // streams it may open
	MaxMessages   int64 // bytes of messages
}

// DatagramParams is what one side brings to the handshake in datagrams. A zero
// field means its default, a received one holds the defaults for keys that were
// absent. Params.MaxFrame and Params.Compression mean nothing here.
type DatagramParams struct {
	Params
	SourceID    ConnID        // what the other side puts into its packets
	MaxDatagram int           // largest datagram received; if zero, MinMaxDatagram
	Credit      Credit        // first credits
	AckDelay    time.Duration // in whole microseconds; if zero, DefaultAckDelay
	Parity      bool          // it takes PARITY
	Stream      bool          // client: asks for a byte stream too, not only for messages
	Moves       bool          // client: and would move between carriers; stands for Stream too
	Carriers    Carriers      // server: where it takes this session; sent to a client that would move
	Token       []byte        // server: for the client's next HELLO; nil if there is none
}

// DatagramLimits is what a peer grants.
type DatagramLimits struct {
	MaxDatagram int // at most MaxMaxDatagram
	Credit      Credit
	MaxMessage  int64
	AckDelay    time.Duration
	Parity      bool
}

// DatagramResult is what both sides know after the handshake in datagrams.
type DatagramResult struct {
	Result
	PeerID ConnID // goes into packets to the peer
	Peer   DatagramLimits
	Stream bool
	Moves  bool // the session moves between carriers

	// Token is for the next HELLO to the server, in place of a cookie; nil if it gave none.
	Token []byte
}

// An Outcome is what a datagram did to a machine.
type Outcome uint8

// The outcomes.
const (
	Ignored Outcome = iota // it means nothing here: junk, or a repetition
	Taken                  // a part of something larger; go on waiting
	Again                  // client: send HELLO again now; server: send the answer again
	Done                   // client: there is a result; server: HELLO is complete
)

var outcomeNames = [...]string{Ignored: "ignored", Taken: "taken", Again: "again", Done: "done"}

// String returns the name.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

// A Kind is what a datagram looks like from its first bytes.
type Kind uint8

// The kinds.
const (
	KindNone    Kind = iota // not a VSTP frame
	KindPacket              // packet of an association; its receiver's id, packet number
	KindHello               // HELLO of the negotiated profile; its sender's id
	KindWelcome             // WELCOME; its receiver's id
	KindErr                 // ERR; its receiver's id, or an id that is not known
	KindCrate               // any other frame: for the crate profile

	// Sealed packets that are no DATA. PROTOCOL §8.5, §8.9.
	KindSealedHello   // handshake packet of a client; its receiver's id, packet number
	KindSealedWelcome // handshake packet of a server; its receiver's id, packet number
	KindEarly         // 0-RTT packet; its sender's id, packet number
)

var kindNames = [...]string{
	KindNone: "none", KindPacket: "packet", KindHello: "HELLO", KindWelcome: "WELCOME", KindErr: "ERR", KindCrate: "crate",
	KindSealedHello: "sealed HELLO", KindSealedWelcome: "sealed WELCOME", KindEarly: "0-RTT packet",
}

// String returns the name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Where the first field of a datagram has its value.
const (
	idAt     = framing.FixedLen + 3
	idEnd    = idAt + len(ConnID{})
	packetAt = idEnd + 4 // chunks begin here
)

// RouteID classifies a datagram by its first bytes and returns the id by which it
// is routed, and for a packet the low 32 bits of its number, masked if it is sealed. It does not allocate,
// and does not check more than it needs: whoever gets the datagram parses it.
// PROTOCOL §7.1.
func RouteID(b []byte) (id ConnID, pn uint32, kind Kind) {
	if len(b) < framing.FixedLen || b[0] != framing.Magic0 || b[1] != framing.Magic1 || b[2] != framing.Version {
		return id, 0, KindNone
	}
	t := framing.Type(b[3])
	if !t.Valid() {
		return id, 0, KindNone
	}
	if len(b) < idEnd || b[framing.FixedLen] != 1 {
		return id, 0, KindCrate
	}
	headerLen := int(b[5]) | int(b[6])<<8
	size, key := b[framing.FixedLen+1], b[framing.FixedLen+2]
	if size == 12 && headerLen == packetAt-framing.FixedLen && len(b) >= packetAt {
		kind = packetKind(t, framing.Flags(b[4]), key)
		if kind != KindCrate {
			id, pn = ConnID(b[idAt:idEnd]), binary.BigEndian.Uint32(b[idEnd:])
		}
		return id, pn, kind
	}
	switch {
	case size != 8 || headerLen < idEnd-framing.FixedLen:
	case t == framing.TypeHello && key == framing.KeySourceID[0]:
		return ConnID(b[idAt:idEnd]), 0, KindHello
	case t == framing.TypeWelcome && key == framing.KeyPacket[0]:
		return ConnID(b[idAt:idEnd]), 0, KindWelcome
	case t == framing.TypeErr && key == framing.KeyPacket[0]:
		return ConnID(b[idAt:idEnd]), 0, KindErr
	}
	return id, 0, KindCrate
}

// packetKind classifies a frame whose only field has that key and 12 bytes. Only DATA
// may be plaintext; FlagPhase is masked in what is sealed, so it may be anything.
func packetKind(t framing.Type, flags framing.Flags, key byte) Kind {
	sealed := flags&^framing.FlagPhase == framing.FlagSealed
	switch {
	case t == framing.TypeData && key == framing.KeyPacket[0]:
		return KindPacket
	case t == framing.TypeHello && key == framing.KeyPacket[0] && sealed:
		return KindSealedHello
	case t == framing.TypeWelcome && key == framing.KeyPacket[0] && sealed:
		return KindSealedWelcome
	case t == framing.TypeHello && key == framing.KeySourceID[0] && sealed:
		return KindEarly
	}
	return KindCrate
}

// UnknownIDLen is the length of the frame that [AppendUnknownID] makes. Only a
// larger packet is answered with it.
const UnknownIDLen = framing.FixedLen + 11 + 4 + framing.TrailerLen

// AppendUnknownID appends the ERR that answers a packet with an id that is not
// known. PROTOCOL §7.4.
func AppendUnknownID(b []byte, id ConnID) []byte {
	h := appendID(make([]byte, 0, 15), framing.KeyPacket, id)
	h = append(h, 1, 1, framing.KeyCode[0], byte(framing.CodeUnknownID))
	return appendRaw(b, framing.TypeErr, h, nil)
}

// ParseUnknownID reports whether the datagram is what [AppendUnknownID] or
// [AppendReset] makes, and returns the id, which is that of the peer's end, and the
// reset token if there is one.
func ParseUnknownID(datagram []byte) (id ConnID, token [ResetTokenLen]byte, hasToken, ok bool) {
	f, ok := parseHandshake(datagram)
	if !ok || f.Type != framing.TypeErr {
		return id, token, false, false
	}
	id, rest, ok := cutID(f.Header, framing.KeyPacket)
	if !ok {
		return id, token, false, false
	}
	v, found := rest.Lookup(framing.KeyCode)
	code, whole := wholeVarint(v)
	if !found || !whole || framing.ErrorCode(code) != framing.CodeUnknownID {
		return id, token, false, false
	}
	if v, found = rest.Lookup(framing.KeyResetToken); found && len(v) == len(token) {
		token, hasToken = [ResetTokenLen]byte(v), true
	}
	return id, token, hasToken, true
}

// AppendRefusal appends the ERR that takes the place of WELCOME for the client of
// that id. Metadata must fit the datagram; the reason gets the room that is left.
// On error b is returned as it was. PROTOCOL §7.4.
func AppendRefusal(b []byte, client ConnID, code framing.ErrorCode, reason string, header framing.Header) ([]byte, error) {
	if code > framing.MaxVarint {
		return b, misuse("error code out of range")
	}
	own := framing.Header{{Key: framing.KeyPacket, Value: string(client[:])}}
	if code != 0 {
		own = append(own, varintField(framing.KeyCode, uint64(code)))
	}
	room := MaxHandshakeDatagram - framing.FixedLen - framing.TrailerLen - own.EncodedLen() - header.EncodedLen()
	if room < 0 {
		return b, misuse("too much metadata for a refusal")
	}
	return appendFrame(b, framing.TypeErr, own, cutText(reason, min(room, framing.MaxReasonLen)), header)
}

// cutText is cutReason for any length.
func cutText(s string, n int) string {
	s = cutReason(s)
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// parseHandshake decodes a datagram of the handshake, which always has the CRC flag
// and no other.
func parseHandshake(b []byte) (framing.Frame, bool) {
	f, _, err := framing.ParseDatagram(b)
	return f, err == nil && f.Flags == framing.FlagCRC
}

// cutID takes a field with that key and a connection id off the start of h.
func cutID(h framing.RawHeader, key string) (id ConnID, rest framing.RawHeader, ok bool) {
	k, v, rest, err := h.Next()
	if err != nil || string(k) != key || len(v) != len(id) {
		return id, h, false
	}
	return ConnID(v), rest, true
}

// cutField takes a field with that key off the start of h, if there is one.
func cutField(h framing.RawHeader, key string) (value []byte, rest framing.RawHeader, ok bool) {
	k, v, rest, err := h.Next()
	if err != nil || string(k) != key {
		return nil, h, false
	}
	return v, rest, true
}

func appendID(b []byte, key string, id ConnID) []byte {
	b = append(b, 1, byte(len(id)), key[0])
	return append(b, id[:]...)
}

// appendRaw appends a frame of the handshake whose parts are known to fit.
func appendRaw(b []byte, t framing.Type, header, payload []byte) []byte {
	b, err := framing.AppendFrame(b, framing.Frame{Type: t, Flags: framing.FlagCRC, Header: header, Payload: payload}, framing.TrailerByFlag)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}
