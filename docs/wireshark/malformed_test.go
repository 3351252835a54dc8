package wireshark_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/framing"
)

// A golden is a block of PROTOCOL's appendices.
type golden struct {
	title string
	bytes []byte
}

// kind is what stands before the name of one, if anything does.
func (g golden) kind() string {
	_, name, _ := strings.Cut(g.title, " ")
	kind, _, ok := strings.Cut(name, ": ")
	if !ok {
		return ""
	}
	return kind
}

// datagram says whether it is one, and no frame of a stream.
func (g golden) datagram() bool {
	return strings.HasPrefix(g.title, "C.") || g.kind() == "Datagram" || g.kind() == "Packet" || g.kind() == "Sealed"
}

// goldens reads the appendices, without what no capture shows: the content of TLS.
func goldens(t *testing.T) []golden {
	t.Helper()
	doc, err := os.ReadFile("../PROTOCOL.md")
	require.NoError(t, err)
	var all []golden
	var title string
	inside := false
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "### "):
			title = strings.TrimPrefix(line, "### ")
		case line == "```hex":
			inside = true
			all = append(all, golden{title: title})
		case line == "```":
			inside = false
		case inside:
			text, _, _ := strings.Cut(line, ";")
			text, times, repeated := strings.Cut(text, " * ")
			b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), " ", ""))
			require.NoError(t, err)
			if repeated {
				n, err := strconv.Atoi(strings.TrimSpace(times))
				require.NoError(t, err)
				b = bytes.Repeat(b, n)
			}
			g := &all[len(all)-1]
			g.bytes = append(g.bytes, b...)
		}
	}
	require.Greater(t, len(all), 40)
	return slices.DeleteFunc(all, func(g golden) bool { return g.kind() == "Parameters" || g.kind() == "Control" })
}

// Every example of PROTOCOL's appendices: the dissector says what the codec says.
func TestGoldens(t *testing.T) {
	needTshark(t)
	c := newCapture()
	type one struct {
		golden
		port uint16
	}
	var ones []one
	welcome := goldens(t)[0]
	for _, g := range goldens(t) {
		rec := &recording{udp: g.datagram(), serverPort: defaultPort, cuts: []int{4, 9, 3, 50}}
		if !g.datagram() && !strings.Contains(g.title, "Crate") && !strings.Contains(g.title, "HELLO") {
			rec.add(toClient, welcome.bytes) // so that the profile is known: HELLO with versions
		}
		rec.add(toServer, g.bytes)
		ones = append(ones, one{g, c.add(rec)})
	}
	ps := dissect(t, c.write(t))
	for _, o := range ones {
		crate := strings.Contains(o.title, "Crate")
		var want []string
		switch {
		case o.datagram():
			want = expectedDatagrams(t, [][]byte{o.bytes})
		case crate:
			want = expectedStream(t, o.bytes, framing.TrailerAlways, true)
		default:
			want = expectedStream(t, o.bytes, framing.TrailerByFlag, false)
		}
		var got []string
		for _, n := range framesOf(ps, o.port, toServer) {
			got = append(got, shown(t, n))
			for _, x := range n.experts() {
				require.Regexp(t, `^ERR with code|^The association ends with code`, x, o.title)
			}
		}
		require.Equal(t, want, got, o.title)
	}
}

// withCRC makes a packet of an association with those chunks.
func withCRC(t *testing.T, chunks ...byte) []byte {
	t.Helper()
	return numbered(t, 7, chunks...)
}

// numbered makes one with that packet number.
func numbered(t *testing.T, number uint32, chunks ...byte) []byte {
	t.Helper()
	head := framing.RawHeader("\x01\x0c\x01\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7")
	head = binary.BigEndian.AppendUint32(head, number)
	b, err := framing.AppendFrame(nil, framing.Frame{Type: framing.TypeData, Flags: framing.FlagCRC, Header: head, Payload: chunks}, framing.TrailerByFlag)
	require.NoError(t, err)
	return b
}

// Packet numbers go on above 32 bits, for each receiver by itself; §7.2.
func TestPacketNumbers(t *testing.T) {
	needTshark(t)
	rec := &recording{udp: true, serverPort: defaultPort}
	for _, n := range []uint32{0xfffffffd, 0xffffffff, 1, 0xfffffffe, 0x7fffffff, 0xfffffff0, 3} {
		rec.add(toServer, numbered(t, n, 1))
	}
	rec.add(toClient, numbered(t, 5, 1))
	c := newCapture()
	port := c.add(rec)
	for _, args := range [][]string{nil, {"-2"}} {
		ps := dissect(t, c.write(t), args...)
		want := []string{"4294967293", "4294967295", "4294967297", "4294967294", "6442450943", "8589934576", "8589934595"}
		require.Equal(t, want, framesText(framesOf(ps, port, toServer), "3", "vstp.packet_number"))
		require.Equal(t, []string{"5"}, framesText(framesOf(ps, port, toClient), "3", "vstp.packet_number"))
	}
}

// What is wrong is said, at the place where it is.
func TestExperts(t *testing.T) {
	needTshark(t)
	frame := func(typ framing.Type, flags framing.Flags, head, payload string) []byte {
		b := framing.AppendFixed(nil, typ, flags, len(head), int64(len(payload)))
		b = append(append(b, head...), payload...)
		if flags&framing.FlagCRC != 0 {
			b = framing.AppendTrailer(b, framing.Checksum(0, b))
		}
		return b
	}
	damaged := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
		return b
	}
	const hello = "\x01\x01\x10\x01"
	cases := []struct {
		name string
		udp  bool
		data []byte
		want string
	}{
		{"CRC of a frame", false, damaged(frame(framing.TypeHello, framing.FlagCRC, hello, "")), "CRC is wrong"},
		{"CRC of a packet", true, damaged(withCRC(t, 0x01)), "CRC is wrong"},
		{"header block", false, frame(framing.TypeHello, framing.FlagCRC, hello+"\x05\x01ab", ""), "does not add up"},
		{"value", false, frame(framing.TypeHello, framing.FlagCRC, hello+"\x01\x02\x13\x01\x01", ""), "Value of max message"},
		{"key twice", false, frame(framing.TypeHello, framing.FlagCRC, hello+"\x01\x01\x13\x01\x01\x01\x13\x01", ""), "occurs twice"},
		{"unknown flags", false, frame(framing.TypeHello, framing.FlagCRC|0x40, hello, ""), "Unknown flags"},
		{"not a frame", false, append(frame(framing.TypeHello, framing.FlagCRC, hello, ""), "GET / HTTP/1.1"...), "Not the beginning"},
		{"type", false, append(frame(framing.TypeHello, framing.FlagCRC, hello, ""), frame(9, framing.FlagCRC, "", "")...), "Unknown type 9"},
		{"type of a datagram", true, frame(200, framing.FlagCRC, "", ""), "Unknown type (§2.2)"},
		{"version", false, append(frame(framing.TypeHello, framing.FlagCRC, hello, ""), "VT\x02\x01....."...), "Unknown version 2"},
		{"version of a datagram", true, []byte("VT\x02\x01........."), "Unknown version 2"},
		{"too large", false, framing.AppendFixed(nil, framing.TypeData, 0, 0, 1<<32-1), "larger than the preference"},
		{"flags without a message", false, append(frame(framing.TypeHello, framing.FlagCRC, hello, ""), frame(framing.TypeData, framing.FlagFrag, "", "x")...), "FRAG or REQ_ACK without"},
		{"fragment too long", false, append(frame(framing.TypeHello, framing.FlagCRC, hello, ""), frame(framing.TypeData, framing.FlagFrag, "\x01\x03\x02\x00\x05\x04", "xx")...), "beyond the total"},
		{"length of a datagram", true, append(withCRC(t, 0x01), 0), "The datagram has"},
		{"no chunk", true, withCRC(t), "without a chunk"},
		{"unknown chunk", true, withCRC(t, 0x01, 0x7f), "Unknown chunk type 0x7f"},
		{"ACK below 0", true, withCRC(t, 0x02, 0x05, 0x00, 0x01, 0x01, 0x03, 0x01), "below 0"},
		{"ACK, first range", true, withCRC(t, 0x02, 0x05, 0x00, 0x00, 0x06), "below 0"},
		{"ACK, far ranges", true, withCRC(t, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x01, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), "below 0"},
		{"ACK cut", true, withCRC(t, 0x02, 0x05, 0x00, 0x10, 0x00), "ACK does not decode"},
		{"STREAM too long", true, withCRC(t, 0x0a, 0x00, 0x09, 'x'), "STREAM does not decode"},
		{"STREAM too far", true, withCRC(t, 0x0c, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'x'), "beyond 2^62 - 1"},
		{"FRAGMENT empty", true, withCRC(t, 0x25, 0x00, 0x05, 0x00, 0x00), "an empty fragment"},
		{"FRAGMENT too far", true, withCRC(t, 0x24, 0x00, 0x02, 0x01, 'x', 'y'), "beyond the total"},
		{"channel", true, withCRC(t, 0x29, 0x00, 0x05, 0x44, 0x00, 0x00), "a channel of 1,024"},
		{"attributes", true, withCRC(t, 0x20, 0x08, 'x'), "unknown attributes"},
		{"MESSAGE in order", true, withCRC(t, 0x20, 0x01, 0x00, 0x00, 'x'), "cannot be ordered"},
		{"header of a message", true, withCRC(t, 0x20, 0x04, 0x03, 0x05, 0x05, 'x', 'y'), "does not add up"},
		{"body cut", true, withCRC(t, 0x20, 0x04, 0x09, 'x'), "header block is longer"},
		{"CRYPTO", true, withCRC(t, 0x06, 0x00, 0x02, 'x', 'y'), "CRYPTO: it is for sealed packets"},
		{"CRYPTO cut", true, withCRC(t, 0x06, 0x00, 0x03, 'x', 'y'), "CRYPTO does not decode"},
		{"HAVE", true, withCRC(t, 0x07, 0x44, 0xb0), "HAVE: it is for sealed packets"},
		{"HANDSHAKE_DONE", true, withCRC(t, 0x1e), "HANDSHAKE_DONE: it is for sealed packets"},
		{"path", true, withCRC(t, 0x1a, 1, 2, 3), "PATH_CHALLENGE does not decode"},
		{"crate, index", true, frame(framing.TypeData, framing.FlagFrag|framing.FlagCRC, "\x07\x01frag-id5\x0a\x01frag-index2\x0a\x01frag-total2", "x"), "frag-index is not below"},
		{"crate, number", true, frame(framing.TypeData, framing.FlagFrag|framing.FlagCRC, "\x07\x03frag-id256", "x"), "no number from 0 to 255"},
	}
	c := newCapture()
	ports := make([]uint16, len(cases))
	for i, x := range cases {
		rec := &recording{udp: x.udp, serverPort: defaultPort}
		rec.add(toServer, x.data)
		ports[i] = c.add(rec)
	}
	ps := dissect(t, c.write(t))
	for i, x := range cases {
		var all []string
		for _, n := range framesOf(ps, ports[i], toServer) {
			all = append(all, n.experts()...)
		}
		require.Contains(t, strings.Join(all, "\n"), x.want, x.name)
	}
}

// A capture that begins in the middle of a connection, and one that lacks a segment: what
// cannot be read is said, and it goes on where a segment begins with a frame.
func TestMidway(t *testing.T) {
	ctx := needTshark(t)
	rec := streamTraffic(ctx, t, nil)
	require.Greater(t, len(rec.pieces), 8)

	bye, err := framing.AppendFrame(nil, framing.Frame{Type: framing.TypeBye, Flags: framing.FlagCRC}, framing.TrailerByFlag)
	require.NoError(t, err)
	rec.pieces = rec.pieces[5:]
	rec.add(toServer, []byte("the end of something"))
	rec.add(toServer, bye)
	c := newCapture()
	port := c.add(rec)
	ps := dissect(t, c.write(t))
	sent := framesOf(ps, port, toServer)
	require.Equal(t, "type=6 flags=0x02 crc=good", shown(t, sent[len(sent)-1]))
	require.Contains(t, strings.Join(sent[len(sent)-2].experts(), "\n"), "Not the beginning of a frame")
}

// mutated returns b with a few bytes changed, removed or doubled. The trailer is made right
// again at times, so that what is behind the check of the CRC sees it too.
func mutated(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + r.IntN(4) {
		if len(b) == 0 {
			return b
		}
		at := r.IntN(len(b))
		switch r.IntN(5) {
		case 0:
			b = append(b[:at], b[min(len(b), at+1+r.IntN(8)):]...)
		case 1:
			b = append(b, b[at:min(len(b), at+r.IntN(20))]...)
		case 2:
			b[at] = []byte{0, 0xff, 0x80, 0x40, 0xc0}[r.IntN(5)]
		default:
			b[at] = byte(r.Uint32())
		}
	}
	if len(b) > 15 && r.IntN(3) > 0 {
		b = framing.AppendTrailer(b[:len(b)-4], framing.Checksum(0, b[:len(b)-4]))
	}
	return b
}

// Whatever the bytes are, there is no Lua error, in one pass, in two, and in a capture that
// has only the beginning of each packet. tshark fails the test if there is one.
func TestMalformed(t *testing.T) {
	needTshark(t)
	all := goldens(t)
	r := rand.New(rand.NewPCG(2, 3))
	build := func(snap int) *capture {
		c := newCapture()
		c.snap = snap
		for i := range 1500 {
			g := all[r.IntN(len(all))]
			b := mutated(r, g.bytes)
			if i%10 == 0 {
				b = someBytes(1 + r.IntN(300))
				copy(b, "VT\x01")
			}
			if i%10 == 1 { // any chunks, behind a CRC that is right
				b = withCRC(t, someBytes(i%60)...)
			}
			if i%10 == 2 {
				chunks := someBytes(1 + i%40)
				chunks[0] %= 0x2a
				b = withCRC(t, chunks...)
			}
			if i%10 == 3 {
				typ := []framing.Type{framing.TypeHello, framing.TypeWelcome, framing.TypeData}[i/10%3]
				key := []string{framing.KeyPacket, framing.KeySourceID}[i/30%2]
				b = sealedPacket(typ, key, framing.FlagSealed|framing.FlagPhase, i%50)
				if i%20 == 3 {
					b = mutated(r, b)
				}
			}
			c.datagram(toServer, uint16(20000+i), defaultPort, b)
			c.datagram(toClient, uint16(20000+i), defaultPort, g.bytes)
		}
		for range 300 {
			rec := &recording{serverPort: defaultPort}
			if r.IntN(2) == 0 {
				rec.cuts = []int{1 + r.IntN(9), 1 + r.IntN(40), 1 + r.IntN(5), 1460}
			}
			for range 1 + r.IntN(6) {
				b := all[r.IntN(len(all))].bytes
				if r.IntN(3) == 0 {
					b = mutated(r, b)
				}
				rec.add(r.IntN(2), b)
			}
			c.add(rec)
		}
		return c
	}
	file := build(0).write(t)
	for _, args := range [][]string{{"-V"}, {"-2", "-V"}, nil} {
		out := tshark(t, file, args...)
		require.Contains(t, string(out), "VSTP")
	}
	for _, snap := range []int{33, 41, 50, 60, 80} {
		tshark(t, build(snap).write(t), "-V")
	}
}
