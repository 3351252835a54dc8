package framing

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// cases of TestAllocs and the benchmarks.
var sizes = []struct {
	name  string
	n     int
	flags Flags
}{
	{"1KiB", 1 << 10, 0},
	{"1KiB/CRC", 1 << 10, FlagCRC},
	{"64KiB", 64 << 10, 0},
	{"64KiB/CRC", 64 << 10, FlagCRC},
}

// encodeInto encodes a frame the way a sender does: header block, then frame.
func encodeInto(buf, hdr, payload []byte, flags Flags) ([]byte, []byte, error) {
	hdr, err := AppendHeader(hdr[:0], testHeader)
	if err != nil {
		return buf, hdr, err
	}
	buf, err = AppendFrame(buf[:0], Frame{TypeData, flags, hdr, payload}, TrailerByFlag)
	return buf, hdr, err
}

// decodeAll decodes a frame and looks at all of it.
func decodeAll(b []byte) (n int, err error) {
	f, _, err := Parse(b, 0, TrailerByFlag)
	if err != nil {
		return 0, err
	}
	for k, v := range f.Header.All() {
		n += len(k) + len(v)
	}
	if v, ok := f.Header.Lookup("trace"); ok {
		n += len(v)
	}
	return n + len(f.Payload), nil
}

func TestAllocs(t *testing.T) {
	for _, s := range sizes {
		payload := make([]byte, s.n)
		buf, hdr, err := encodeInto(nil, nil, payload, s.flags)
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			buf, hdr, err = encodeInto(buf, hdr, payload, s.flags)
		}), "encode %s", s.name)
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			_, err = decodeAll(buf)
		}), "decode %s", s.name)
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			_, _, err = ParseDatagram(buf)
		}), "datagram %s", s.name)
		require.NoError(t, err)
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			payload := make([]byte, s.n)
			buf, hdr, err := encodeInto(nil, nil, payload, s.flags)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if buf, hdr, err = encodeInto(buf, hdr, payload, s.flags); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			buf, _, err := encodeInto(nil, nil, make([]byte, s.n), s.flags)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeAll(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
