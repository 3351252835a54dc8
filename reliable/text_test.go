package reliable

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAppendChunksText(t *testing.T) {
	var b []byte
	b = append(b, 0, 0, 0)
	b = append(b, byte(chunkPing))
	b = appendAck(b, []pnRange{{1, 2}, {4, 8}}, 25, 100)
	b = appendValues(b, chunkResetStream, 4, 7, 1000)
	b = append(append(b, cryptoChunk(7, "\x16\x03")...), byte(chunkHandshakeDone))
	b = append(appendStreamHead(b, 0, 300, 5, true, false), "hello"...)
	b = appendValues(b, chunkMaxStreamData, 0, 70000)
	b = appendCancel(b, 3, 99, true, 1, 2)
	b = appendClose(b, 256, "bye \x1b[2J")
	b = append(appendFragmentHead(b, 9, 5000, 1200, 40, true), bytes.Repeat([]byte{'x'}, 40)...)
	require.Equal(t, `  PADDING length=3
  PING
  ACK delay=25us 4-7 1
  RESET_STREAM stream=4 code=7 final-size=1000
  CRYPTO offset=7 length=2 1603
  HANDSHAKE_DONE
  STREAM stream=0 offset=300 fin length=5 "hello"
  MAX_STREAM_DATA stream=0 credit=70000
  CANCEL message=3 total=99 channel=1 sequence=2
  CLOSE code=256 length=8 627965201b5b324a
  FRAGMENT message=9 total=5000 offset=1200 length=40 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"...
`, string(AppendChunksText(nil, b)))
	require.Equal(t, "  PING\n  malformed chunk: ff01\n", string(AppendChunksText(nil, []byte{1, 0xff, 1})))
	require.Empty(t, AppendChunksText(nil, nil))

	many := AppendChunksText(nil, bytes.Repeat([]byte{1}, 1000))
	require.Equal(t, maxTextChunks+1, strings.Count(string(many), "\n"))
	require.True(t, strings.HasSuffix(string(many), "  ... and 744 bytes more\n"))

	var rs []pnRange
	for i := range packetNumber(100) {
		rs = append(rs, pnRange{3 * i, 3*i + 1})
	}
	b = appendAck(nil, rs[:50], 0, 1000)
	require.Contains(t, string(AppendChunksText(nil, b)), "ACK delay=0us 147 144 141 ")
	require.Contains(t, string(AppendChunksText(nil, b)), " 54 and 18 more\n")
}

// The text is bounded, printable ASCII, in whole lines, whatever the packet says.
func FuzzAppendChunksText(f *testing.F) {
	f.Add([]byte{0, 1, 2, 5, 0, 0, 5})
	f.Add(appendAck(nil, []pnRange{{1, 2}, {4, 8}}, 25, 100))
	f.Add(append(appendStreamHead(nil, 0, 300, 5, true, true), "hello\x1b"...))
	f.Add(appendClose(nil, 1, "\xff\x1b"))
	f.Fuzz(func(t *testing.T, p []byte) {
		text := AppendChunksText([]byte("before"), p)
		if !bytes.HasPrefix(text, []byte("before")) {
			t.Fatal("what was there before is gone")
		}
		text = text[len("before"):]
		if len(text) > (maxTextChunks+1)*(maxTextRanges*48+200) || (len(p) > 0) != (len(text) > 0) {
			t.Fatalf("%d bytes become %d", len(p), len(text))
		}
		for _, c := range text {
			if c != '\n' && (c < 0x20 || c >= 0x7f) {
				t.Fatalf("%q", text)
			}
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			t.Fatalf("no whole line: %q", text)
		}
	})
}
