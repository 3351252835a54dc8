package framing

import "strconv"

// Sizes and limits of the wire, in bytes. PROTOCOL §2.
const (
	Version = 1 // VER, the third byte of every frame

	FixedLen   = 11 // magic, version, type, flags and the two lengths
	TrailerLen = 4  // the CRC32 trailer, where there is one

	MaxHeaderLen  = 1<<16 - 1 // HDR_LEN is a uint16
	MaxKeyLen     = 1<<8 - 1  // KEY_LEN is a uint8
	MaxValueLen   = 1<<8 - 1  // VAL_LEN is a uint8
	MaxPayloadLen = 1<<32 - 1 // PAY_LEN is a uint32

	// DefaultMaxFrame is the largest whole frame accepted where nothing else is
	// said: that of the original crate, in every one of its stream codecs.
	DefaultMaxFrame = 8 << 20
)

// The two magic bytes at the start of every frame.
const (
	Magic0 = 'V'
	Magic1 = 'T'
)

// A Type is the fourth byte of a frame. PROTOCOL §2.2.
type Type uint8

// The frame types.
const (
	TypeHello   Type = 1
	TypeWelcome Type = 2
	TypeData    Type = 3
	TypePing    Type = 4
	TypePong    Type = 5
	TypeBye     Type = 6
	TypeAck     Type = 7
	TypeErr     Type = 8
)

var typeNames = [...]string{
	TypeHello:   "HELLO",
	TypeWelcome: "WELCOME",
	TypeData:    "DATA",
	TypePing:    "PING",
	TypePong:    "PONG",
	TypeBye:     "BYE",
	TypeAck:     "ACK",
	TypeErr:     "ERR",
}

// Valid reports whether t is a type of this version of the protocol.
func (t Type) Valid() bool { return t >= TypeHello && t <= TypeErr }

// String returns the name of the specification, or the number of an unknown type.
func (t Type) String() string {
	if t.Valid() {
		return typeNames[t]
	}
	return "Type(" + strconv.Itoa(int(t)) + ")"
}

// Flags is the fifth byte of a frame. PROTOCOL §2.3.
type Flags uint8

// The flags.
const (
	FlagReqAck Flags = 0x01 // the sender wants an ACK
	FlagCRC    Flags = 0x02 // a CRC32 trailer follows the payload
	FlagFrag   Flags = 0x10 // the payload is a part of a message
	FlagComp   Flags = 0x20 // the payload is compressed

	// Those of sealed packets, in datagrams only. PROTOCOL §8.4.
	FlagSealed Flags = 0x40 // the payload is encrypted
	FlagPhase  Flags = 0x80 // which keys; masked on the wire
)

// KnownFlags are the flags of frames that are not sealed; one with others must not be
// sent on a stream, and to the crate it has none at all.
const KnownFlags = FlagReqAck | FlagCRC | FlagFrag | FlagComp

// Has reports whether all of f are set.
func (f Flags) Has(g Flags) bool { return f&g == g }

// String lists the names of the flags, joined by "|"; unknown bits follow as one
// hexadecimal number, and no flag at all is "0".
func (f Flags) String() string {
	if f == 0 {
		return "0"
	}
	var s []byte
	add := func(name string) {
		if len(s) > 0 {
			s = append(s, '|')
		}
		s = append(s, name...)
	}
	for _, n := range [...]struct {
		f    Flags
		name string
	}{{FlagReqAck, "REQ_ACK"}, {FlagCRC, "CRC"}, {FlagFrag, "FRAG"}, {FlagComp, "COMP"}, {FlagSealed, "SEALED"}, {FlagPhase, "PHASE"}} {
		if f.Has(n.f) {
			add(n.name)
		}
	}
	if u := f &^ (KnownFlags | FlagSealed | FlagPhase); u != 0 {
		add("0x" + strconv.FormatUint(uint64(u), 16))
	}
	return string(s)
}
