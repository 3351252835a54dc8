package framing

import "encoding/binary"

// MaxVarint is the largest number that a varint can hold.
const MaxVarint = 1<<62 - 1

// MaxVarintLen is the length of the longest varint in bytes.
const MaxVarintLen = 8

// AppendVarint appends v in the shortest form of
// https://www.rfc-editor.org/rfc/rfc9000#section-16. It panics if v is above
// [MaxVarint]: such a number is a mistake of the caller's.
func AppendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return binary.BigEndian.AppendUint16(b, uint16(v)|1<<14)
	case v < 1<<30:
		return binary.BigEndian.AppendUint32(b, uint32(v)|2<<30)
	case v <= MaxVarint:
		return binary.BigEndian.AppendUint64(b, v|3<<62)
	}
	panic("BUG: varint too large")
}

// ConsumeVarint returns the varint at the start of b and its length in bytes. The
// length is -1 if b ends inside it, or is empty. Longer forms than needed are
// accepted, as the RFC has it.
func ConsumeVarint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, -1
	}
	n = 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, -1
	}
	switch n {
	case 1:
		return uint64(b[0]), 1
	case 2:
		return uint64(binary.BigEndian.Uint16(b) & (1<<14 - 1)), 2
	case 4:
		return uint64(binary.BigEndian.Uint32(b) & (1<<30 - 1)), 4
	}
	return binary.BigEndian.Uint64(b) & MaxVarint, 8
}

// VarintLen returns the length of what [AppendVarint] appends for v, and panics as
// that does.
func VarintLen(v uint64) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<30:
		return 4
	case v <= MaxVarint:
		return 8
	}
	panic("BUG: varint too large")
}
