package framing

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strconv"
)

// A Frame is one frame, without its trailer. [Parse] fills it with views of its
// input; [AppendFrame] encodes it.
//
// Flags are kept as they came, unknown bits too; see [Flags.Legacy]. Whether a frame
// of this type and with these headers may come at all is not for this package to say.
type Frame struct {
	Type    Type
	Flags   Flags
	Header  RawHeader
	Payload []byte
}

// Fixed is the fixed part of a frame: its first FixedLen bytes.
type Fixed struct {
	Type       Type
	Flags      Flags
	HeaderLen  int   // at most MaxHeaderLen
	PayloadLen int64 // at most MaxPayloadLen; claimed by the peer, so no size to allocate by
}

// A Trailer says when a frame ends in a CRC. PROTOCOL §2.5.
type Trailer uint8

// The trailer rules.
const (
	// TrailerByFlag: the CRC is there when FlagCRC is set.
	TrailerByFlag Trailer = iota

	// TrailerAlways: the CRC is there whatever the flags say, as with crate peers.
	TrailerAlways

	// TrailerSniff is for decoders, towards a peer of unknown kind: the CRC is there
	// when FlagCRC is set or when the bytes after the payload are the CRC. Encoders
	// take it for TrailerByFlag.
	TrailerSniff
)

var trailerNames = [...]string{
	TrailerByFlag: "by flag",
	TrailerAlways: "always",
	TrailerSniff:  "sniff",
}

// String returns a short English name.
func (t Trailer) String() string {
	if int(t) < len(trailerNames) {
		return trailerNames[t]
	}
	return "Trailer(" + strconv.Itoa(int(t)) + ")"
}

// has reports whether the rule alone decides that a frame with flags f has a CRC.
func (t Trailer) has(f Flags) bool { return t == TrailerAlways || f.Has(FlagCRC) }

// Legacy returns the flags as a crate peer sees them: it takes all of them for unset
// when there is one that it does not know.
func (f Flags) Legacy() Flags {
	if f&^KnownFlags != 0 {
		return 0
	}
	return f
}

// Checksum continues a CRC32 (IEEE), begun with 0, over p. The trailer of a frame is
// the checksum of all bytes before it.
func Checksum(crc uint32, p []byte) uint32 { return crc32.Update(crc, crc32.IEEETable, p) }

// AppendTrailer appends the trailer with that checksum to b.
func AppendTrailer(b []byte, crc uint32) []byte { return binary.BigEndian.AppendUint32(b, crc) }

// AppendFixed appends the fixed part of a frame, FixedLen bytes, to b. It checks
// nothing: headerLen must lie within 0 and MaxHeaderLen, payloadLen within 0 and
// MaxPayloadLen, or they are cut off.
func AppendFixed(b []byte, t Type, f Flags, headerLen int, payloadLen int64) []byte {
	b = append(b, Magic0, Magic1, Version, byte(t), byte(f))
	b = binary.LittleEndian.AppendUint16(b, uint16(headerLen))
	return binary.BigEndian.AppendUint32(b, uint32(payloadLen))
}

// ParseFixed decodes the fixed part at the start of b. What is wrong with it is found
// as soon as the byte is there: [ErrMagic], [ErrVersion] and [ErrType] come before
// [ErrIncomplete], which says that b is shorter than FixedLen.
func ParseFixed(b []byte) (Fixed, error) {
	if len(b) < FixedLen {
		return Fixed{}, parseShort(b)
	}
	_ = b[FixedLen-1]
	t := Type(b[3])
	if b[0] != Magic0 || b[1] != Magic1 || b[2] != Version || !t.Valid() {
		return Fixed{}, parseShort(b)
	}
	return Fixed{
		Type:       t,
		Flags:      Flags(b[4]),
		HeaderLen:  int(binary.LittleEndian.Uint16(b[5:])),
		PayloadLen: int64(binary.BigEndian.Uint32(b[7:])),
	}, nil
}

// parseShort returns what is wrong with a fixed part that is short or bad.
func parseShort(b []byte) error {
	switch {
	case len(b) > 0 && b[0] != Magic0, len(b) > 1 && b[1] != Magic1:
		return ErrMagic
	case len(b) > 2 && b[2] != Version:
		return ErrVersion
	case len(b) > 3 && !Type(b[3]).Valid():
		return ErrType
	}
	return ErrIncomplete
}

// WireLen returns the length of the whole frame, with or without a trailer.
func (f Fixed) WireLen(trailer bool) int64 {
	n := FixedLen + int64(f.HeaderLen) + f.PayloadLen
	if trailer {
		n += TrailerLen
	}
	return n
}

// AppendFrame appends f to b, with a trailer if FlagCRC is set or t is TrailerAlways,
// which leaves the flags as they are. It does not keep f.Header or f.Payload, and
// does not allocate if b has room.
//
// The errors are [ErrType], [ErrHeaderTooLarge], [ErrHeader] and [ErrFrameTooLarge];
// b is then returned as it was. What limit the peer has set is the caller's affair.
func AppendFrame(b []byte, f Frame, t Trailer) ([]byte, error) {
	if !f.Type.Valid() {
		return b, ErrType
	}
	if err := checkLens(len(f.Header), int64(len(f.Payload))); err != nil {
		return b, err
	}
	if err := f.Header.Validate(); err != nil {
		return b, err
	}
	start := len(b)
	b = slices.Grow(b, FixedLen+len(f.Header)+len(f.Payload)+TrailerLen)
	b = AppendFixed(b, f.Type, f.Flags, len(f.Header), int64(len(f.Payload)))
	b = append(b, f.Header...)
	b = append(b, f.Payload...)
	if t.has(f.Flags) {
		b = AppendTrailer(b, Checksum(0, b[start:]))
	}
	return b, nil
}

// checkLens reports whether the length fields can hold these lengths.
func checkLens(headerLen int, payloadLen int64) error {
	if headerLen > MaxHeaderLen {
		return ErrHeaderTooLarge
	}
	if payloadLen > MaxPayloadLen {
		return ErrFrameTooLarge
	}
	return nil
}
