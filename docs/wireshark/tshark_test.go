package wireshark_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/reliable"
)

// A node is an element of PDML, tshark's output of what it has dissected.
type node struct {
	Name  string `xml:"name,attr"`
	Text  string `xml:"showname,attr"`
	Show  string `xml:"show,attr"`
	Value string `xml:"value,attr"`
	Nodes []node `xml:",any"`
}

// child returns the first child of that name, or an empty one.
func (n *node) child(name string) *node {
	for i := range n.Nodes {
		if n.Nodes[i].Name == name {
			return &n.Nodes[i]
		}
	}
	return &node{}
}

// all returns every node of that name in n, at any depth.
func (n *node) all(name string) []*node {
	var found []*node
	for i := range n.Nodes {
		if n.Nodes[i].Name == name {
			found = append(found, &n.Nodes[i])
		}
		found = append(found, n.Nodes[i].all(name)...)
	}
	return found
}

// shows returns what the nodes of that name show.
func (n *node) shows(name string) []string {
	var s []string
	for _, x := range n.all(name) {
		s = append(s, x.Show)
	}
	return s
}

// experts returns the expert information in n.
func (n *node) experts() []string { return n.shows("_ws.expert.message") }

// tshark runs it on a capture with the dissector, and returns its output, in which no Lua
// error may be.
func tshark(t *testing.T, file string, args ...string) []byte {
	t.Helper()
	args = append([]string{"-n", "-X", "lua_script:vstp.lua", "-r", file}, args...)
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	require.NoError(t, cmd.Run(), problems.String())
	for _, b := range [][]byte{out.Bytes(), problems.Bytes()} {
		low := bytes.ToLower(b)
		for _, bad := range []string{"lua error", "lua: error", "dissector bug"} {
			if at := bytes.Index(low, []byte(bad)); at >= 0 {
				t.Fatalf("%s", b[at:min(len(b), at+600)])
			}
		}
	}
	return out.Bytes()
}

// A packet is one of the capture, with the frames of VSTP that ended in it.
type packet struct {
	dir    int
	port   uint16 // the client's
	frames []*node
}

// dissect returns the packets of a capture with VSTP in it.
func dissect(t *testing.T, file string, args ...string) []packet {
	t.Helper()
	out := tshark(t, file, append([]string{"-T", "pdml"}, args...)...)
	var doc struct {
		Packets []node `xml:"packet"`
	}
	require.NoError(t, xml.Unmarshal(out, &doc))
	var ps []packet
	for i := range doc.Packets {
		var p packet
		for j := range doc.Packets[i].Nodes {
			n := &doc.Packets[i].Nodes[j]
			switch n.Name {
			case "ip":
				if n.child("ip.src").Show == "10.0.0.2" {
					p.dir = toClient
				}
			case "tcp", "udp":
				port := n.child(n.Name + ".srcport").Show
				if p.dir == toClient {
					port = n.child(n.Name + ".dstport").Show
				}
				v, err := strconv.ParseUint(port, 10, 16)
				require.NoError(t, err)
				p.port = uint16(v)
			case "vstp":
				if n.child("vstp.type").Show != "" || len(n.experts()) > 0 { // no trailer that came late
					p.frames = append(p.frames, n)
				}
			}
		}
		if len(p.frames) > 0 {
			ps = append(ps, p)
		}
	}
	return ps
}

// framesOf returns those of one direction of one recording.
func framesOf(ps []packet, port uint16, dir int) []*node {
	var all []*node
	for _, p := range ps {
		if p.port == port && p.dir == dir {
			all = append(all, p.frames...)
		}
	}
	return all
}

// bytesText stands for bytes in a comparison.
func bytesText(b []byte) string {
	if len(b) <= 32 {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256(b))
}

// shown says what the dissector has made of a frame, in the words of expected.
func shown(t *testing.T, n *node) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "type=%s flags=%s", n.child("vstp.type").Show, n.child("vstp.flags").Show)
	for _, h := range n.child("vstp.header").Nodes {
		if h.Name == "vstp.meta" || h.Name == "vstp.reserved" {
			fmt.Fprintf(&b, " [%s]", h.Text)
		}
	}
	for _, name := range []string{"vstp.payload", "vstp.payload.compressed", "vstp.part", "vstp.text", "vstp.sealed"} {
		if p := n.child(name); p.Value != "" {
			raw, err := hex.DecodeString(p.Value)
			require.NoError(t, err)
			fmt.Fprintf(&b, " payload=%s", bytesText(raw))
		}
	}
	crc := map[string]string{"0": "bad", "1": "good", "2": "unverified", "3": "none"}[n.child("vstp.crc.status").Show]
	fmt.Fprintf(&b, " crc=%s", crc)
	for _, c := range n.all("vstp.chunk") {
		fmt.Fprintf(&b, "\n  %s", shownChunk(c))
	}
	return b.String()
}

// shownChunk says it in the words of reliable.AppendChunksText, without data.
func shownChunk(c *node) string {
	s := c.child("vstp.chunk.name").Show
	add := func(name string, fields ...string) {
		for _, f := range fields {
			if x := c.child(f); x.Show != "" {
				s += " " + name + "=" + x.Show
				return
			}
		}
	}
	add("length", "vstp.padding.count")
	add("delay", "vstp.ack.delay")
	if rs := c.shows("vstp.ack.range"); len(rs) > 0 {
		s += "us " + strings.Join(rs, " ")
	}
	add("stream", "vstp.stream.id")
	add("message", "vstp.message.id")
	add("code", "vstp.code")
	add("final-size", "vstp.stream.final_size")
	add("credit", "vstp.max_data", "vstp.max_stream_data", "vstp.max_streams", "vstp.max_messages", "vstp.data_blocked",
		"vstp.stream_blocked", "vstp.messages_blocked")
	add("total", "vstp.message.total")
	add("offset", "vstp.stream.offset", "vstp.message.offset")
	if !strings.Contains(s, "offset") && strings.HasPrefix(s, "STREAM ") {
		s += " offset=0"
	}
	if strings.HasPrefix(s, "CANCEL") {
		add("channel", "vstp.message.channel")
		add("sequence", "vstp.message.sequence")
	}
	add("shards", "vstp.parity.shards")
	add("block", "vstp.parity.block")
	add("index", "vstp.parity.index")
	if strings.HasPrefix(s, "MOVE") {
		add("sequence", "vstp.move.sequence")
		s += " carrier=" + map[string]string{"0": "udp", "1": "tcp"}[c.child("vstp.move.carrier").Show]
	}
	if c.child("vstp.stream.fin").Show == "1" {
		s += " fin"
	}
	if strings.HasPrefix(s, "STREAM ") || strings.HasPrefix(s, "FRAGMENT ") {
		data := c.child("vstp.stream.data").Value + c.child("vstp.message.data").Value
		s += " length=" + strconv.Itoa(len(data)/2)
	}
	return s
}

// expected says what a frame is. datagram and crate say where it comes from, trailer
// whether it has one.
func expected(f framing.Frame, trailer, datagram, crate bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "type=%d flags=0x%02x", f.Type, uint8(f.Flags))
	isPacket := false
	first := true
	for k, v := range f.Header.All() {
		if crate || len(k) == 0 || k[0] >= framing.ReservedKeys {
			fmt.Fprintf(&b, " [%s = %s]", k, v)
		} else {
			fmt.Fprintf(&b, " [%s]", reservedText(f, k[0], v))
			isPacket = isPacket || first && f.Type == framing.TypeData && k[0] == 1 && datagram && !f.Flags.Has(framing.FlagSealed)
		}
		first = false
	}
	if len(f.Payload) > 0 {
		fmt.Fprintf(&b, " payload=%s", bytesText(f.Payload))
	}
	crc := "none"
	if trailer {
		crc = "good"
	}
	fmt.Fprintf(&b, " crc=%s", crc)
	if isPacket {
		for line := range strings.Lines(string(reliable.AppendChunksText(nil, f.Payload))) {
			line = strings.TrimSpace(line)
			// Without the data, and for CLOSE, MESSAGE and path chunks without its length.
			if head, rest, ok := strings.Cut(line, " length="); ok {
				line = head
				if name, _, _ := strings.Cut(head, " "); name == "STREAM" || name == "FRAGMENT" || name == "PADDING" {
					n, _, _ := strings.Cut(rest, " ")
					line += " length=" + n
				}
			}
			fmt.Fprintf(&b, "\n  %s", line)
		}
	}
	return b.String()
}

var reservedNames = map[byte]string{
	0x07: "reset token", 0x09: "carriers", 0x0a: "attach", 0x0b: "parity", 0x0c: "token", 0x1f: "crypto",
	0x01: "packet", 0x02: "message", 0x03: "cancel", 0x04: "code", 0x05: "close", 0x06: "ping",
	0x10: "versions", 0x11: "session id", 0x12: "max frame", 0x13: "max message", 0x14: "checksum",
	0x15: "compress", 0x16: "idle", 0x17: "cookie", 0x18: "source id", 0x19: "part", 0x1a: "max datagram",
	0x1b: "credit", 0x1c: "ack delay", 0x1d: "service", 0x1e: "padding",
}

func reservedText(f framing.Frame, key byte, v []byte) string {
	s := ""
	if len(v) == 12 && f.Flags.Has(framing.FlagSealed) {
		return fmt.Sprintf("%s = %x masked %x", reservedNames[key], v[:8], v[8:])
	}
	switch key {
	case 0x01:
		s = hex.EncodeToString(v[:8])
		if len(v) == 12 {
			s += fmt.Sprintf(" %d", uint32(v[8])<<24|uint32(v[9])<<16|uint32(v[10])<<8|uint32(v[11]))
		}
	case 0x05:
	case 0x06, 0x07, 0x0c, 0x11, 0x17, 0x18:
		s = hex.EncodeToString(v)
	case 0x14:
		s = []string{"off", "on"}[v[0]]
	case 0x15:
		s = "zstd"
	case 0x1d:
		s = []string{"messages only", "byte stream", "byte stream, moves"}[v[0]]
	case 0x09:
		var names []string
		for _, c := range v {
			names = append(names, []string{"datagrams", "byte stream"}[c])
		}
		s = strings.Join(names, ", ")
	case 0x0a:
		s = hex.EncodeToString(v)
		if f.Type == framing.TypeHello {
			s = fmt.Sprintf("%x n=%d", v[:8], binary.BigEndian.Uint64(v[8:]))
		}
	case 0x1e:
		s = fmt.Sprintf("%d bytes", len(v))
	default:
		var ns []string
		for len(v) > 0 {
			n, l := framing.ConsumeVarint(v)
			if l <= 0 {
				break
			}
			ns = append(ns, strconv.FormatUint(n, 10))
			v = v[l:]
		}
		s = strings.Join(ns, " ")
	}
	if s == "" {
		return reservedNames[key]
	}
	return reservedNames[key] + " = " + s
}

// expectedStream returns what is in a direction of a stream.
func expectedStream(t *testing.T, b []byte, rule framing.Trailer, crate bool) []string {
	t.Helper()
	var all []string
	for len(b) > 0 {
		f, n, err := framing.Parse(b, 64<<20, rule)
		require.NoError(t, err)
		trailer := rule == framing.TrailerAlways || f.Flags&framing.FlagCRC != 0
		all = append(all, expected(f, trailer, false, crate))
		b = b[n:]
	}
	return all
}

// expectedDatagrams returns what is in the datagrams of a direction.
func expectedDatagrams(t *testing.T, ds [][]byte) []string {
	t.Helper()
	var all []string
	for _, d := range ds {
		f, trailer, err := framing.ParseDatagram(d)
		require.NoError(t, err)
		all = append(all, expected(f, trailer, true, !negotiated(f)))
	}
	return all
}

// negotiated says whether a datagram is of the datagram profile. PROTOCOL §7.1
func negotiated(f framing.Frame) bool {
	sealed := f.Flags&^framing.FlagPhase == framing.FlagSealed && len(f.Header) == 15
	for k, v := range f.Header.All() {
		switch string(k) {
		case framing.KeyPacket:
			return f.Type == framing.TypeData && len(v) == 12 ||
				(f.Type == framing.TypeHello || f.Type == framing.TypeWelcome) && len(v) == 12 && sealed ||
				(f.Type == framing.TypeWelcome || f.Type == framing.TypeErr) && len(v) == 8
		case framing.KeySourceID:
			return f.Type == framing.TypeHello && (len(v) == 8 || len(v) == 12 && sealed)
		}
		return false
	}
	return false
}

// compare checks what tshark makes of recordings in one capture.
func compare(t *testing.T, ps []packet, r *recording, port uint16, rule framing.Trailer, crate bool) {
	t.Helper()
	for dir := range 2 {
		sent := r.sent(dir)
		var want []string
		switch {
		case r.udp:
			want = expectedDatagrams(t, sent)
		case len(sent) > 0:
			want = expectedStream(t, sent[0], rule, crate)
		}
		var got []string
		for _, n := range framesOf(ps, port, dir) {
			got = append(got, shown(t, n))
		}
		require.Len(t, got, len(want), "frames of direction %d", dir)
		for i := range want {
			require.Equal(t, want[i], got[i], "frame %d of direction %d", i, dir)
		}
	}
}
