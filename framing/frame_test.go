package framing

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// testFrame has n bytes of payload and three header fields.
func testFrame(t testing.TB, n int, flags Flags) Frame {
	t.Helper()
	raw, err := AppendHeader(nil, testHeader)
	require.NoError(t, err)
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7)
	}
	return Frame{TypeData, flags, raw, p}
}

var testHeader = Header{
	{KeyMessage, "\x40\x41"},
	{"content-type", "application/octet-stream"},
	{"trace", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
}

func TestAppendFrame(t *testing.T) {
	hdr := RawHeader("\x01\x01kv")
	for _, tt := range []struct {
		name                  string
		f                     Frame
		byFlag, always, sniff string
	}{
		{
			"bare", Frame{Type: TypeHello},
			"5654010100000000000000",
			"565401010000000000000090a29464",
			"5654010100000000000000",
		},
		{
			"payload", Frame{Type: TypeData, Payload: []byte("hello")},
			"565401030000000000000568656c6c6f",
			"565401030000000000000568656c6c6ff3ac2614",
			"565401030000000000000568656c6c6f",
		},
		{
			"CRC flag", Frame{TypeData, FlagCRC, nil, []byte("hello")},
			"565401030200000000000568656c6c6f1f97b88b",
			"565401030200000000000568656c6c6f1f97b88b",
			"565401030200000000000568656c6c6f1f97b88b",
		},
		{
			"header and payload", Frame{TypeData, 0, hdr, []byte("hello")},
			"565401030004000000000501016b7668656c6c6f",
			"565401030004000000000501016b7668656c6c6f465e276c",
			"565401030004000000000501016b7668656c6c6f",
		},
		{
			"unknown flags are kept", Frame{TypeData, 0x05, hdr, []byte("hello")},
			"565401030504000000000501016b7668656c6c6f",
			"565401030504000000000501016b7668656c6c6f3c07fa7a",
			"565401030504000000000501016b7668656c6c6f",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for tr, want := range map[Trailer]string{
				TrailerByFlag: tt.byFlag, TrailerAlways: tt.always, TrailerSniff: tt.sniff,
			} {
				b, err := AppendFrame([]byte("prefix"), tt.f, tr)
				require.NoError(t, err)
				require.Equal(t, "prefix", string(b[:6]))
				require.Equal(t, want, hex.EncodeToString(b[6:]), tr)
			}
		})
	}
}

// The lengths lie in different byte orders: HDR_LEN is little-endian, PAY_LEN is
// big-endian. PROTOCOL §2.
func TestFixedBytes(t *testing.T) {
	b := AppendFixed([]byte{0xaa}, TypeErr, 0x83, 0x1234, 0x89abcdef)
	require.Equal(t, "aa"+"56540108833412"+"89abcdef", hex.EncodeToString(b))
	f, err := ParseFixed(b[1:])
	require.NoError(t, err)
	require.Equal(t, Fixed{TypeErr, 0x83, 0x1234, 0x89abcdef}, f)
	require.Equal(t, int64(11+0x1234+0x89abcdef), f.WireLen(false))
	require.Equal(t, int64(11+0x1234+0x89abcdef+4), f.WireLen(true))

	b = AppendFixed(nil, TypeData, 0, MaxHeaderLen, MaxPayloadLen)
	f, err = ParseFixed(b)
	require.NoError(t, err)
	require.Equal(t, Fixed{TypeData, 0, MaxHeaderLen, MaxPayloadLen}, f)
	require.Equal(t, int64(1<<32+1<<16+13), f.WireLen(true))
}

func TestParseFixed(t *testing.T) {
	good := AppendFixed(nil, TypeData, 0, 4, 5)
	for i := range good {
		_, err := ParseFixed(good[:i])
		require.Equal(t, ErrIncomplete, err, "cut at %d", i)
	}
	for at, tt := range map[int]struct {
		b    []byte
		want error
	}{
		0: {[]byte{'W', 'v', 0, 0xff}, ErrMagic},
		1: {[]byte{'V', 't', 'U'}, ErrMagic},
		2: {[]byte{1, 0}, ErrVersion},
		3: {[]byte{8, 0, 9, 255}, ErrType},
	} {
		for _, c := range tt.b {
			b := bytes.Clone(good)
			b[at] = c
			for n := range len(b) + 1 {
				want := tt.want
				switch {
				case c == good[at] || Type(c).Valid() && at == 3:
					continue
				case n <= at:
					want = ErrIncomplete
				}
				_, err := ParseFixed(b[:n])
				require.Equal(t, want, err, "byte %d is %x, %d bytes", at, c, n)
			}
		}
	}
	// The first thing wrong is the one that is told.
	_, err := ParseFixed([]byte("XX\x02\xff"))
	require.Equal(t, ErrMagic, err)
	_, err = ParseFixed([]byte("VT\x02\xff"))
	require.Equal(t, ErrVersion, err)
}

func TestAppendFrameErrors(t *testing.T) {
	require.NoError(t, checkLens(MaxHeaderLen, MaxPayloadLen))
	require.Equal(t, ErrHeaderTooLarge, checkLens(MaxHeaderLen+1, 0))
	require.Equal(t, ErrFrameTooLarge, checkLens(0, MaxPayloadLen+1))

	for _, tt := range []struct {
		name string
		f    Frame
		want error
	}{
		{"type 0", Frame{}, ErrType},
		{"type 9", Frame{Type: 9}, ErrType},
		{"block too large", Frame{Type: TypeData, Header: make(RawHeader, MaxHeaderLen+1)}, ErrHeaderTooLarge},
		{"block malformed", Frame{Type: TypeData, Header: RawHeader("\x01\x01k")}, ErrHeader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := make([]byte, 3, 20)
			got, err := AppendFrame(b, tt.f, TrailerAlways)
			require.Equal(t, tt.want, err)
			require.Equal(t, b, got)
			require.Equal(t, make([]byte, 20), b[:20], "nothing is written behind b")
		})
	}

	// The largest block: 32767 empty fields, and a byte in one of them.
	h := fields(32767)
	h[7].Value = "x"
	raw, err := AppendHeader(nil, h)
	require.NoError(t, err)
	require.Len(t, raw, MaxHeaderLen)
	b, err := AppendFrame(nil, Frame{Type: TypeData, Header: raw}, TrailerAlways)
	require.NoError(t, err)
	f, n, err := Parse(b, 0, TrailerAlways)
	require.NoError(t, err)
	require.Len(t, b, n)
	require.Equal(t, raw, []byte(f.Header))
}

// Every frame that can be encoded comes back as it was, with what follows it untouched.
func TestRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	text := func(limit int) string {
		b := make([]byte, rnd.IntN(limit+1))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return string(b)
	}
	var b []byte
	for range 2000 {
		var h Header
		for range rnd.IntN(5) {
			h.Add(text(MaxKeyLen), text(MaxValueLen))
		}
		raw, err := AppendHeader(nil, h)
		require.NoError(t, err)
		in := Frame{TypeHello + Type(rnd.IntN(8)), Flags(rnd.Uint32()), raw, []byte(text(3000))}
		tr := Trailer(rnd.IntN(2))

		b, err = AppendFrame(b[:0], in, tr)
		require.NoError(t, err)
		size := len(b)
		b = append(b, "VT\x01\x03"...)
		f, n, err := Parse(b, 0, tr)
		require.NoError(t, err)
		require.Equal(t, size, n)
		requireFrame(t, in, f)

		_, n, err = Parse(b, 0, TrailerSniff)
		require.NoError(t, err)
		require.Equal(t, size, n, "sniffed")

		f, trailer, err := ParseDatagram(b[:size])
		require.NoError(t, err)
		require.Equal(t, tr.has(in.Flags), trailer)
		requireFrame(t, in, f)

		got, err := f.Header.AppendTo(nil)
		require.NoError(t, err)
		require.Equal(t, h, got)
		user, err := f.Header.AppendUser(nil)
		require.NoError(t, err)
		require.False(t, user.HasReserved())
	}
}

func TestChecksum(t *testing.T) {
	// The check value of CRC-32/IEEE.
	require.Equal(t, uint32(0xcbf43926), Checksum(0, []byte("123456789")))
	require.Equal(t, uint32(0xcbf43926), Checksum(Checksum(0, []byte("1234")), []byte("56789")))
	require.Equal(t, "pcbf43926", "p"+hex.EncodeToString(AppendTrailer(nil, 0xcbf43926)))
}

// A frame from its parts, with the payload left where it lies, is the same frame.
func TestAppendParts(t *testing.T) {
	f := testFrame(t, 1000, FlagCRC)
	want, err := AppendFrame(nil, f, TrailerByFlag)
	require.NoError(t, err)
	head := AppendFixed(nil, f.Type, f.Flags, len(f.Header), int64(len(f.Payload)))
	head = append(head, f.Header...)
	tail := AppendTrailer(nil, Checksum(Checksum(0, head), f.Payload))
	require.Equal(t, want, bytes.Join([][]byte{head, f.Payload, tail}, nil))
}
