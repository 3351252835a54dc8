package framing

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// reseal makes the last bytes of b the CRC of the others.
func reseal(b []byte) []byte {
	n := len(b) - TrailerLen
	return AppendTrailer(b[:n:n], Checksum(0, b[:n]))
}

// TRAPS S5: a frame cut at every byte.
func TestParseCut(t *testing.T) {
	for _, flags := range []Flags{0, FlagCRC} {
		for _, tr := range []Trailer{TrailerByFlag, TrailerAlways, TrailerSniff} {
			b, err := AppendFrame(nil, testFrame(t, 20, flags), tr)
			require.NoError(t, err)
			for i := range b {
				f, n, err := Parse(b[:i], 0, tr)
				require.Equal(t, ErrIncomplete, err, "cut at %d", i)
				require.Zero(t, n)
				require.Zero(t, f)
				_, _, err = ParseDatagram(b[:i])
				switch missing := len(b) - i; {
				case tr == TrailerAlways && flags == 0 && missing == TrailerLen:
					require.NoError(t, err, "a whole frame without a trailer")
				case tr == TrailerAlways && flags == 0 && missing < TrailerLen:
					require.Equal(t, ErrTrailing, err, "cut at %d", i)
				default:
					require.Equal(t, ErrIncomplete, err, "cut at %d", i)
				}
			}
		}
	}
}

// TRAPS I2: what is accepted, and the one error that everything else gives.
func TestParseErrors(t *testing.T) {
	const good = "VT\x01\x03\x00\x04\x00\x00\x00\x00\x05\x01\x01kvhello"
	with := func(at int, c ...byte) []byte {
		b := []byte(good)
		copy(b[at:], c)
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"good", with(0), nil},
		{"nothing", nil, ErrIncomplete},
		{"magic", with(0, 'v'), ErrMagic},
		{"second magic", with(1, 'L'), ErrMagic},
		{"version", with(2, 2), ErrVersion},
		{"type 0", with(3, 0), ErrType},
		{"type 9", with(3, 9), ErrType},
		{"type before size", with(3, 9, 0, 255, 255, 255, 255, 255, 255), ErrType},
		{"size before completeness", with(7, 0, 0x80, 0, 0), ErrFrameTooLarge},
		{"payload missing", with(7, 0, 0, 0, 6), ErrIncomplete},
		{"value runs into the payload", with(12, 4), ErrHeader},
		{"value runs past the frame", with(12, 200), ErrHeader},
		{"key runs past the block", with(11, 3), ErrHeader},
		{"block of one byte", with(5, 1, 0, 0, 0, 0, 8), ErrHeader},
		{"block a byte short", with(5, 3, 0, 0, 0, 0, 6), ErrHeader},
		{"block a byte long", with(5, 5, 0, 0, 0, 0, 4), ErrHeader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := func(b []byte, tr Trailer, want error) {
				f, n, err := Parse(b, 0, tr)
				require.Equal(t, want, err, tr)
				if err != nil {
					require.Zero(t, n)
					require.Zero(t, f)
				}
				f, trailer, err := ParseDatagram(b)
				if want == ErrFrameTooLarge {
					want = ErrIncomplete
				}
				require.Equal(t, want, err)
				if err != nil {
					require.False(t, trailer)
					require.Zero(t, f)
				}
			}
			check(tt.b, TrailerByFlag, tt.want)
			if tt.want == ErrIncomplete {
				return
			}
			sealed := AppendTrailer(tt.b, Checksum(0, tt.b))
			check(sealed, TrailerAlways, tt.want)
			check(sealed, TrailerSniff, tt.want)

			// The CRC is looked at before the header block, after the rest.
			want := tt.want
			if want == nil || want == ErrHeader {
				want = ErrChecksum
			}
			sealed[len(sealed)-1] ^= 1
			check(sealed, TrailerAlways, want)
			check(sealed, TrailerSniff, want)
		})
	}
}

// A frame of exactly maxFrame bytes is accepted, its trailer included.
func TestParseMaxFrame(t *testing.T) {
	for _, tt := range []struct {
		flags Flags
		tr    Trailer
	}{{0, TrailerByFlag}, {FlagCRC, TrailerByFlag}, {0, TrailerAlways}, {FlagCRC, TrailerSniff}} {
		b, err := AppendFrame(nil, testFrame(t, 100, tt.flags), tt.tr)
		require.NoError(t, err)
		_, n, err := Parse(b, len(b), tt.tr)
		require.NoError(t, err)
		require.Len(t, b, n)
		for i := range len(b) + 1 {
			want := ErrFrameTooLarge
			if i < FixedLen {
				want = ErrIncomplete
			}
			_, _, err = Parse(b[:i], len(b)-1, tt.tr)
			require.Equal(t, want, err, "with %d bytes there", i)
		}
	}

	// Sniffed, a trailer counts once it is seen.
	b, err := AppendFrame(nil, testFrame(t, 100, 0), TrailerAlways)
	require.NoError(t, err)
	_, _, err = Parse(b, len(b), TrailerSniff)
	require.NoError(t, err)
	_, _, err = Parse(b, len(b)-1, TrailerSniff)
	require.Equal(t, ErrFrameTooLarge, err)

	for _, tt := range []struct {
		max  int
		size int64
		want error
	}{
		{0, DefaultMaxFrame, ErrIncomplete},
		{0, DefaultMaxFrame + 1, ErrFrameTooLarge},
		{-1, DefaultMaxFrame, ErrIncomplete},
		{-1, DefaultMaxFrame + 1, ErrFrameTooLarge},
		{FixedLen, FixedLen + 1, ErrFrameTooLarge},
		{1, FixedLen, ErrFrameTooLarge},
		{math.MaxInt32, math.MaxInt32, ErrIncomplete},
		{math.MaxInt32, math.MaxInt32 + 1, ErrFrameTooLarge},
		{math.MaxInt32, MaxPayloadLen + FixedLen, ErrFrameTooLarge},
	} {
		b := AppendFixed(nil, TypeData, 0, 0, tt.size-FixedLen)
		_, _, err := Parse(b, tt.max, TrailerByFlag)
		require.Equal(t, tt.want, err, "%d of %d", tt.size, tt.max)
	}
}

// "With TrailerSniff and FlagCRC unset, what follows the payload decides."
func TestParseSniff(t *testing.T) {
	plain, err := AppendFrame(nil, testFrame(t, 10, FlagReqAck), TrailerByFlag)
	require.NoError(t, err)
	crc := AppendTrailer(nil, Checksum(0, plain))
	for _, tt := range []struct {
		name  string
		after string
		extra int // bytes of the frame after plain
		want  error
	}{
		{"nothing yet", "", 0, ErrIncomplete},
		{"start of a CRC", string(crc[:1]), 0, ErrIncomplete},
		{"most of a CRC", string(crc[:3]), 0, ErrIncomplete},
		{"CRC", string(crc), 4, nil},
		{"CRC and more", string(crc) + "VT\x01", 4, nil},
		{"CRC and garbage", string(crc) + "garbage", 4, nil},
		{"start of a frame", "V", 0, nil},
		{"magic", "VT", 0, nil},
		{"version", "VT\x01", 0, nil},
		{"frame", "VT\x01\x03", 0, nil},
		{"next frame", string(plain), 0, nil},
		{"garbage", "G", 0, ErrChecksum},
		{"no magic", "VA", 0, ErrChecksum},
		{"no version", "VT\x02", 0, ErrChecksum},
		{"no type", "VT\x01\x09", 0, ErrChecksum},
		{"damaged CRC", string(crc[:3]) + string([]byte{crc[3] ^ 1}), 0, ErrChecksum},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := append(bytes.Clone(plain), tt.after...)
			f, n, err := Parse(b, 0, TrailerSniff)
			require.Equal(t, tt.want, err)
			if err != nil {
				require.Zero(t, n)
				return
			}
			require.Equal(t, len(plain)+tt.extra, n)
			require.Equal(t, FlagReqAck, f.Flags)
		})
	}
	require.NotEqual(t, byte('V'), crc[0], "the cases above tell them apart by the first byte")
}

func TestParseDatagram(t *testing.T) {
	plain, err := AppendFrame(nil, testFrame(t, 10, 0), TrailerByFlag)
	require.NoError(t, err)
	crate, err := AppendFrame(nil, testFrame(t, 10, 0), TrailerAlways)
	require.NoError(t, err)
	ours, err := AppendFrame(nil, testFrame(t, 10, FlagCRC), TrailerByFlag)
	require.NoError(t, err)
	with := func(b []byte, tail string) []byte { return append(bytes.Clone(b), tail...) }
	for _, tt := range []struct {
		name    string
		b       []byte
		trailer bool
		want    error
	}{
		{"without a trailer", plain, false, nil},
		{"as the crate sends it", crate, true, nil},
		{"with the flag", ours, true, nil},
		{"empty", nil, false, ErrIncomplete},
		{"flag without a trailer", ours[:len(ours)-4], false, ErrIncomplete},
		{"one byte more", with(plain, "x"), false, ErrTrailing},
		{"three bytes more", with(plain, "xyz"), false, ErrTrailing},
		{"four bytes that are no CRC", with(plain, "wxyz"), false, ErrChecksum},
		{"five bytes more", with(crate, "x"), false, ErrTrailing},
		{"a second frame", with(plain, string(plain)), false, ErrTrailing},
		{"a byte after the trailer", with(ours, "x"), false, ErrTrailing},
		{"a second trailer", with(ours, string(crate[len(crate)-4:])), false, ErrTrailing},
		{"only a fixed part", AppendFixed(nil, TypeBye, 0, 0, 0), false, nil},
		{"longest claim", AppendFixed(nil, TypeData, FlagCRC, MaxHeaderLen, MaxPayloadLen), false, ErrIncomplete},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, trailer, err := ParseDatagram(tt.b)
			require.Equal(t, tt.want, err)
			require.Equal(t, tt.trailer, trailer)
			if err != nil {
				require.Zero(t, f)
			}
		})
	}
}

// No bit of a frame with a trailer can flip unseen, not even the flag that announces
// the trailer, save one: where only the length of a datagram shows the trailer, a
// PAY_LEN of four more hides it.
func TestDamage(t *testing.T) {
	for _, flags := range []Flags{0, FlagCRC} {
		good, err := AppendFrame(nil, testFrame(t, 40, flags), TrailerAlways)
		require.NoError(t, err)
		b := bytes.Clone(good)
		for i := range 8 * len(b) {
			b[i/8] ^= 1 << (i % 8)
			_, trailer, err := ParseDatagram(b)
			if flags == 0 && binary.BigEndian.Uint32(b[7:]) == 40+TrailerLen {
				// A datagram whose lengths take in the trailer says that it has none.
				require.NoError(t, err)
				require.False(t, trailer)
			} else {
				require.Error(t, err, "bit %d", i)
			}
			_, _, err = Parse(b, 0, TrailerAlways)
			require.Error(t, err, "bit %d", i)
			_, _, err = Parse(b, 0, TrailerSniff)
			require.Error(t, err, "bit %d", i)
			if i >= 8*FixedLen || flags == 0 && i/8 == 4 && b[4] != byte(FlagCRC) {
				_, _, err = ParseDatagram(b)
				require.Equal(t, ErrChecksum, err, "bit %d", i)
			}
			b[i/8] ^= 1 << (i % 8)
		}
		require.Equal(t, good, b)
	}
}

// An intact frame with a malformed block is the sender's fault and not the line's.
func TestIntactButMalformed(t *testing.T) {
	b, err := AppendFrame(nil, testFrame(t, 10, FlagCRC), TrailerByFlag)
	require.NoError(t, err)
	b[FixedLen]++ // KEY_LEN of the first field
	_, _, err = ParseDatagram(b)
	require.Equal(t, ErrChecksum, err)
	_, _, err = ParseDatagram(reseal(b))
	require.Equal(t, ErrHeader, err)
	_, _, err = Parse(reseal(b), 0, TrailerByFlag)
	require.Equal(t, ErrHeader, err)
}

// Views end where their part ends.
func TestParseViews(t *testing.T) {
	b, err := AppendFrame(nil, testFrame(t, 10, FlagCRC), TrailerByFlag)
	require.NoError(t, err)
	f, _, err := Parse(b, 0, TrailerByFlag)
	require.NoError(t, err)
	requireViews(t, b, f)
	before := bytes.Clone(b)
	_ = append(f.Header, "xxxx"...)
	_ = append(f.Payload, "xxxx"...)
	require.Equal(t, before, b)
}

// requireViews checks that the parts of f lie in b where the lengths say.
func requireViews(t testing.TB, b []byte, f Frame) {
	t.Helper()
	require.Equal(t, cap(f.Header), len(f.Header))
	require.Equal(t, cap(f.Payload), len(f.Payload))
	require.Len(t, f.Header, int(binary.LittleEndian.Uint16(b[5:])))
	require.Len(t, f.Payload, int(binary.BigEndian.Uint32(b[7:])))
	if len(f.Header) > 0 {
		require.Same(t, &b[FixedLen], &f.Header[0])
	}
	if len(f.Payload) > 0 {
		require.Same(t, &b[FixedLen+len(f.Header)], &f.Payload[0])
	}
}
