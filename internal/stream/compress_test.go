package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// rleZstd makes a zstd frame that says it holds claim bytes (none if negative) and
// holds n, in a few bytes for each 128 KiB. RFC 8878 §3.1.1.
func rleZstd(claim int64, n int) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd}
	if claim >= 0 {
		b = append(b, 0xe0) // single segment, eight bytes of content size
		b = binary.LittleEndian.AppendUint64(b, uint64(claim))
	} else {
		b = append(b, 0x00, 0x58) // no size; window of 2 MiB
	}
	for {
		k := min(n, 128<<10)
		n -= k
		block := uint32(k)<<3 | 1<<1 // RLE
		if n == 0 {
			block |= 1
		}
		b = append(b, byte(block), byte(block>>8), byte(block>>16), 'z')
		if n == 0 {
			return b
		}
	}
}

func zstdConfig(client bool) *Config {
	cfg := testConfig(client)
	cfg.Params.Compression = []byte{handshake.CompressZstd}
	return cfg
}

var zstdParams = handshake.Params{Compression: []byte{handshake.CompressZstd}}

// TestDecompress has good payloads of every kind come out.
func TestDecompress(t *testing.T) {
	enc, _ := zstd.NewWriter(nil)
	text := bytes.Repeat([]byte("some text, "), 100_000)
	for name, c := range map[string]struct{ z, want []byte }{
		"text":                 {enc.EncodeAll(text, nil), text},
		"nothing":              {enc.EncodeAll(nil, nil), nil},
		"empty payload":        {nil, nil},
		"RLE, size given":      {rleZstd(1<<20, 1<<20), bytes.Repeat([]byte("z"), 1<<20)},
		"RLE, size not given":  {rleZstd(-1, 8<<20), bytes.Repeat([]byte("z"), 8<<20)},
		"RLE, all of MaxFrame": {rleZstd(8<<20, 8<<20), bytes.Repeat([]byte("z"), 8<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, p := open(t, zstdConfig(true), zstdParams, 0)
				defer s.Close()
				go func() {
					p.send(frame(framing.TypeData, comp, nil, c.z),
						frame(framing.TypeData, comp, nums(framing.KeyMessage, 0), c.z),
						frame(framing.TypeBye, 0, nil, nil))
				}()
				got, err := io.ReadAll(readerOf{s})
				if err != nil || !bytes.Equal(got, c.want) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				m, err := s.ReceiveMessage(context.Background())
				if err != nil || !bytes.Equal(m.Payload, c.want) {
					t.Errorf("message: %v", err)
				}
			})
		})
	}
}

// TestBadCompression has payloads that claim too much, give too much or give nothing:
// "A receiver MUST bound what it allocates while it decompresses, and MUST NOT trust a
// size that the compressed data claims." S4.
func TestBadCompression(t *testing.T) {
	enc, _ := zstd.NewWriter(nil)
	text := enc.EncodeAll(bytes.Repeat([]byte("some text, "), 10_000), nil)
	dict := []byte{0x28, 0xb5, 0x2f, 0xfd, 1, 0x58, 7, 0x0b, 0, 0, 'z'} // made with dictionary 7
	noise := make([]byte, 100)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	for _, c := range []struct {
		name  string
		code  framing.ErrorCode
		alloc int // at most
		z     []byte
	}{
		{"8 MiB claimed in 20 bytes", framing.CodeCompression, 1 << 20, rleZstd(8<<20, 1)},
		{"a bit more than MaxFrame claimed", framing.CodeTooLarge, 1 << 20, rleZstd(8<<20+1, 1)},
		{"2^63-1 claimed", framing.CodeTooLarge, 1 << 20, rleZstd(1<<63-1, 1)},
		{"1 GiB, claimed", framing.CodeTooLarge, 1 << 20, rleZstd(1<<30, 1<<30)},
		{"1 GiB, not claimed", framing.CodeTooLarge, 40 << 20, rleZstd(-1, 1<<30)},
		{"less than claimed", framing.CodeCompression, 1 << 20, rleZstd(100, 99)},
		{"more than claimed", framing.CodeCompression, 1 << 20, rleZstd(100, 101)},
		{"window of 16 MiB", framing.CodeTooLarge, 1 << 20, append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 14 << 3}, 1, 0, 0)},
		{"window of 2 TiB", framing.CodeTooLarge, 1 << 20, append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xf8}, 1, 0, 0)},
		{"cut off", framing.CodeCompression, 2 << 20, text[:len(text)-1]},
		{"cut off in the header", framing.CodeCompression, 1 << 20, text[:5]},
		{"magic", framing.CodeCompression, 1 << 20, damage(text, 0)},
		{"damaged", framing.CodeCompression, 2 << 20, damage(text, len(text)-1)},
		{"noise", framing.CodeCompression, 1 << 20, noise},
		{"something behind it", framing.CodeCompression, 2 << 20, append(bytes.Clone(text), 'x')},
		{"dictionary", framing.CodeCompression, 2 << 20, dict},
		{"one byte", framing.CodeCompression, 1 << 20, []byte{0x28}},
	} {
		for _, kind := range []string{"stream", "message", "fragment"} {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					s, p := open(t, zstdConfig(false), zstdParams, 1<<20)
					defer s.Close()
					var h []byte
					flags := comp
					switch kind {
					case "message":
						h = nums(framing.KeyMessage, 0)
					case "fragment":
						h = nums(framing.KeyMessage, 0, 100<<20, 0)
						flags |= frag
					}
					p.send(frame(framing.TypeData, flags, h, c.z))
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					_, err := s.Read(make([]byte, 1))
					runtime.ReadMemStats(&after)
					wantLocal(t, "Read", err, c.code)
					if got := after.TotalAlloc - before.TotalAlloc; got > uint64(c.alloc) {
						t.Errorf("%d bytes allocated for %d", got, len(c.z))
					}
					p.wantErr(c.code)
				})
			})
		}
	}
}
