package reliable

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A goldenPacket is a packet of Appendix A: what is in it, and what makes that.
type goldenPacket struct {
	name     string
	checksum bool
	pn       packetNumber
	chunks   []byte
	want     []chunkType
}

var goldenPackets = []goldenPacket{
	{"Packet: PING", true, 0, appendValues(nil, chunkPing), []chunkType{chunkPing}},
	{"Packet: ACK and STREAM", false, 7, streamChunk(0, 0, "hello", false, true), []chunkType{chunkAck, chunkStream}},
	{"Packet: credits, STREAM with FIN", true, 1<<32 + 258, joined(
		appendValues(nil, chunkMaxData, 1<<21),
		appendValues(nil, chunkMaxStreamData, 0, 1<<20),
		streamChunk(0, 70000, "bye", true, false),
		[]byte{0, 0, 0}), []chunkType{chunkMaxData, chunkMaxStreamData, chunkStream, chunkPadding}},
	{"Packet: MESSAGE", true, 8, appendMessage(nil, true, []byte("\x04\x08\x04\x02kind"), []byte("a1"), []byte("hi")),
		[]chunkType{chunkMessage}},
	{"Packet: FRAGMENT", true, 9, joined(
		fragmentChunk(0, 70005, 0, "\x03\x02\x05abcd", false),
		fragmentChunk(0, 70005, 69999, "uvwxyz", true)), []chunkType{chunkFragment, chunkFragment}},
	{"Packet: CANCEL", true, 10, joined(appendCancel(nil, 0, 70005, true, 2, 5), appendCancel(nil, 1, 300, false, 0, 0)),
		[]chunkType{chunkCancel, chunkCancel}},
	{"Packet: PARITY", true, 13, appendedParity(1, "\x00parity", 3, 3, 0, 1), []chunkType{chunkParity}},
	{"Packet: MOVE", true, 12, appendValues(nil, chunkMove, 3, 1), []chunkType{chunkMove}},
	{"Packet: CLOSE", true, 11, appendClose(nil, 0x100+4, "größer"), []chunkType{chunkClose}},
}

func joined(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

// goldenAssocs are both ends of the association in the examples.
func goldenAssocs(checksum bool) (client, server *Assoc) {
	c := Config{
		Client: true, Checksum: checksum,
		LocalID: ConnID{0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7},
		PeerID:  ConnID{0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7},
	}
	s := c
	s.Client, s.LocalID, s.PeerID = false, c.PeerID, c.LocalID
	now := time.Unix(1_800_000_000, 0)
	return New(now, &c), New(now, &s)
}

// TestGoldenPackets compares each packet of Appendix A with what the code makes,
// and has the other end take it apart.
func TestGoldenPackets(t *testing.T) {
	blocks := packetBlocks(t)
	for _, g := range goldenPackets {
		t.Run(g.name, func(t *testing.T) {
			client, server := goldenAssocs(g.checksum)
			chunks := g.chunks
			if g.want[0] == chunkAck {
				chunks = append(appendAck(nil, []pnRange{{0, 3}, {4, 6}}, 400, 100), chunks...)
			}
			got := client.seal(append(client.appendHeader(nil, g.pn), chunks...), 0, g.pn)
			want, ok := blocks[g.name]
			delete(blocks, g.name)
			if !ok {
				t.Fatalf("no block %q in PROTOCOL.md; its bytes are\n%x", g.name, got)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("the code makes\n%x\nPROTOCOL.md has\n%x", got, want)
			}
			server.acks.next = max(0, g.pn-1000) // it decides the upper bits
			pn, b, ok := server.open(want)
			if !ok || pn != g.pn {
				t.Fatalf("packet %d, %v", pn, ok)
			}
			var types []chunkType
			for len(b) > 0 {
				var c chunk
				n, err := parseChunk(b, &c)
				if err != nil {
					t.Fatal(err)
				}
				types = append(types, c.typ)
				b = b[n:]
			}
			if len(types) != len(g.want) {
				t.Fatalf("%v, want %v", types, g.want)
			}
			for i := range types {
				if types[i] != g.want[i] {
					t.Fatalf("%v, want %v", types, g.want)
				}
			}
			// A packet is for one end, and whole.
			if _, _, ok := client.open(want); ok {
				t.Fatal("its sender takes it")
			}
			for i := range want {
				damaged := bytes.Clone(want)
				damaged[i] ^= 0x20
				if _, _, ok := server.open(damaged); ok && (g.checksum || i < 22) {
					t.Fatalf("byte %d changed", i)
				}
				if _, _, ok := server.open(want[:i]); ok {
					t.Fatalf("cut off at %d", i)
				}
			}
		})
	}
	for name := range blocks {
		t.Errorf("PROTOCOL.md has a packet %q that no code makes", name)
	}
}

// packetBlocks returns the hex blocks of Appendix A whose headings begin with
// "Packet: ". In a block, a semicolon begins a comment.
func packetBlocks(t *testing.T) map[string][]byte {
	t.Helper()
	doc, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, appendix, ok := strings.Cut(string(doc), "\n## Appendix A")
	if !ok {
		t.Fatal("no Appendix A")
	}
	appendix, _, _ = strings.Cut(appendix, "\n## ")
	comment := regexp.MustCompile(`(?m);.*$|\s+`)
	blocks := make(map[string][]byte)
	for _, section := range strings.Split(appendix, "\n### ")[1:] {
		title, rest, _ := strings.Cut(section, "\n")
		_, name, _ := strings.Cut(title, " ")
		if !strings.HasPrefix(name, "Packet: ") {
			continue
		}
		_, rest, _ = strings.Cut(rest, "```hex\n")
		text, _, ok := strings.Cut(rest, "```")
		b, err := hex.DecodeString(comment.ReplaceAllString(text, ""))
		if !ok || err != nil || blocks[name] != nil {
			t.Fatalf("%q: %v, %v", title, ok, err)
		}
		blocks[name] = b
	}
	return blocks
}
