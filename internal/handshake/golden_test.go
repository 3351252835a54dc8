package handshake

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// TestGolden compares each example of Appendix A with what the code makes, both
// ways: every block has its maker here, and every maker its block.
func TestGolden(t *testing.T) {
	blocks := goldenBlocks(t)
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			want, ok := blocks[g.name]
			if !ok {
				t.Fatalf("no block %q in PROTOCOL.md; its bytes are\n%x", g.name, g.make(t))
			}
			delete(blocks, g.name)
			got := g.make(t)
			if !bytes.Equal(got, want) {
				t.Fatalf("the code makes\n%x\nPROTOCOL.md has\n%x", got, want)
			}
			if g.typ == 0 {
				return // transport parameters are no frame
			}
			f, n, err := framing.Parse(want, 0, g.trailer)
			if err != nil || n != len(want) {
				t.Fatalf("Parse = %d of %d bytes, %v", n, len(want), err)
			}
			if f.Type != g.typ || f.Flags != g.flags {
				t.Fatalf("%v %v, want %v %v", f.Type, f.Flags, g.typ, g.flags)
			}
		})
	}
	for name := range blocks {
		if strings.HasPrefix(name, "Packet: ") || strings.HasPrefix(name, "Sealed: ") {
			continue // the packages that make these check them
		}
		t.Errorf("PROTOCOL.md has a block %q that no code makes", name)
	}
}

// goldenBlocks returns the hex blocks of Appendix A by their headings. In a block,
// a semicolon begins a comment, and "00 * 5" is a byte five times.
func goldenBlocks(t *testing.T) map[string][]byte {
	t.Helper()
	doc, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, appendix, ok := strings.Cut(string(doc), "\n## Appendix A")
	if !ok {
		t.Fatal("no Appendix A")
	}
	appendix, _, _ = strings.Cut(appendix, "\n## ")
	comment := regexp.MustCompile(`(?m);.*$|\s+`)
	many := regexp.MustCompile(`([0-9a-f]{2}) \* ([0-9]+)`)
	expand := func(s string) string {
		m := many.FindStringSubmatch(s)
		n, err := strconv.Atoi(m[2])
		if err != nil || n > 1200 {
			t.Fatalf("%q", s)
		}
		return strings.Repeat(m[1], n)
	}
	blocks := make(map[string][]byte)
	for _, section := range strings.Split(appendix, "\n### ")[1:] {
		title, rest, _ := strings.Cut(section, "\n")
		_, name, _ := strings.Cut(title, " ")
		_, rest, ok := strings.Cut(rest, "```hex\n")
		if !ok {
			t.Fatalf("%q has no hex block", title)
		}
		text, after, ok := strings.Cut(rest, "```")
		if !ok || strings.Contains(after, "```") {
			t.Fatalf("%q has not exactly one block", title)
		}
		b, err := hex.DecodeString(comment.ReplaceAllString(many.ReplaceAllStringFunc(text, expand), ""))
		if err != nil {
			t.Fatalf("%q: %v", title, err)
		}
		if blocks[name] != nil {
			t.Fatalf("%q is there twice", name)
		}
		blocks[name] = b
	}
	return blocks
}

// The parameters of the examples that use every key.
var (
	fullClient = Params{
		MaxFrame:    1 << 20,
		MaxMessage:  16 << 20,
		Compression: []byte{CompressZstd},
		Idle:        30 * time.Second,
		Header:      framing.Header{{Key: "authorization", Value: "Bearer t0ken"}, {Key: "route", Value: "eu-1"}},
	}
	fullServer = Params{
		MaxFrame:    4 << 20,
		MaxMessage:  1 << 30,
		Compression: []byte{CompressZstd},
		Idle:        20 * time.Second,
		Header:      framing.Header{{Key: "node", Value: "a7"}},
	}
	goldenID = [16]byte{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}
)

type golden struct {
	name    string
	typ     framing.Type
	flags   framing.Flags
	trailer framing.Trailer
	make    func(t testing.TB) []byte
}

const crc = framing.FlagCRC

// zstdHello is "hello" as a zstd frame with one raw block.
const zstdHello = "\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"

var goldens = []golden{
	{"HELLO, minimal", framing.TypeHello, crc, 0, func(t testing.TB) []byte {
		return hello(t, Params{Checksum: true})
	}},
	{"HELLO, every key and metadata", framing.TypeHello, crc, 0, func(t testing.TB) []byte {
		return hello(t, fullClient)
	}},
	{"WELCOME, minimal", framing.TypeWelcome, crc, 0, func(t testing.TB) []byte {
		return welcome(t, Params{Checksum: true}, Params{Checksum: true})
	}},
	{"WELCOME, every key and metadata", framing.TypeWelcome, crc, 0, func(t testing.TB) []byte {
		return welcome(t, fullClient, fullServer)
	}},
	{"ERR, a refusal", framing.TypeErr, crc, 0, errMaker(framing.CodeRefused, "unknown token",
		framing.Header{{Key: "retry-after", Value: "30"}})},
	{"ERR, no common version", framing.TypeErr, crc, 0, errMaker(framing.CodeVersion, "", nil)},
	{"ERR, a code of the application", framing.TypeErr, crc, 0, errMaker(framing.CodeApplication+4, "größer", nil)},
	{"DATA, byte stream", framing.TypeData, 0, 0, frame(framing.TypeData, 0, nil, "hello")},
	{"DATA, byte stream with CRC", framing.TypeData, crc, 0, frame(framing.TypeData, crc, nil, "hello")},
	{"DATA, compressed", framing.TypeData, framing.FlagComp, 0, frame(framing.TypeData, framing.FlagComp, nil, zstdHello)},
	{"DATA, a message with metadata", framing.TypeData, framing.FlagReqAck, 0, frame(framing.TypeData, framing.FlagReqAck,
		framing.Header{varints(framing.KeyMessage, 0), {Key: "content-type", Value: "application/json"}}, "{}")},
	{"DATA, first fragment", framing.TypeData, framing.FlagFrag | framing.FlagReqAck, 0, frame(framing.TypeData,
		framing.FlagFrag|framing.FlagReqAck, framing.Header{varints(framing.KeyMessage, 100, 70000, 0), {Key: "name", Value: "x"}}, "abcd")},
	{"DATA, later fragment", framing.TypeData, framing.FlagFrag, 0, frame(framing.TypeData, framing.FlagFrag,
		framing.Header{varints(framing.KeyMessage, 100, 70000, 4)}, "efgh")},
	{"DATA, cancel", framing.TypeData, 0, 0, frame(framing.TypeData, 0, framing.Header{varints(framing.KeyCancel, 100)}, "")},
	{"ACK", framing.TypeAck, 0, 0, frame(framing.TypeAck, 0, framing.Header{varints(framing.KeyMessage, 0)}, "")},
	{"PING", framing.TypePing, 0, 0, frame(framing.TypePing, 0, framing.Header{{Key: framing.KeyPing, Value: "\x00\x00\x00\x01"}}, "")},
	{"PONG", framing.TypePong, 0, 0, frame(framing.TypePong, 0, framing.Header{{Key: framing.KeyPing, Value: "\x00\x00\x00\x01"}}, "")},
	{"BYE", framing.TypeBye, 0, 0, frame(framing.TypeBye, 0, nil, "")},
	{"BYE, with close", framing.TypeBye, crc, 0, frame(framing.TypeBye, crc, framing.Header{{Key: framing.KeyClose}}, "")},
	{"Crate: HELLO", framing.TypeHello, 0, framing.TrailerAlways, crate(framing.TypeHello, 0, nil, "")},
	{"Crate: DATA", framing.TypeData, 0, framing.TrailerAlways, crate(framing.TypeData, 0, nil, "hello")},
	{"Crate: DATA that asks for an ACK", framing.TypeData, framing.FlagReqAck, framing.TrailerAlways,
		crate(framing.TypeData, framing.FlagReqAck, framing.Header{{Key: framing.LegacyKeyMsgID, Value: "1"}}, "hi")},
	{"Crate: ACK", framing.TypeAck, 0, framing.TrailerAlways,
		crate(framing.TypeAck, 0, framing.Header{{Key: framing.LegacyKeyMsgID, Value: "1"}}, "")},
}

func hello(t testing.TB, p Params) []byte {
	t.Helper()
	b, err := NewClient(p).AppendHello(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func welcome(t testing.TB, client, server Params) []byte {
	t.Helper()
	s := NewServer(server)
	if _, err := s.Receive(parse(t, hello(t, client))); err != nil {
		t.Fatal(err)
	}
	b, _, err := s.AppendWelcome(nil, goldenID, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func errMaker(code framing.ErrorCode, reason string, h framing.Header) func(testing.TB) []byte {
	return func(t testing.TB) []byte {
		t.Helper()
		b, err := AppendErr(nil, code, reason, h)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func frame(typ framing.Type, flags framing.Flags, h framing.Header, payload string) func(testing.TB) []byte {
	return encode(typ, flags, h, payload, framing.TrailerByFlag)
}

func crate(typ framing.Type, flags framing.Flags, h framing.Header, payload string) func(testing.TB) []byte {
	return encode(typ, flags, h, payload, framing.TrailerAlways)
}

func encode(typ framing.Type, flags framing.Flags, h framing.Header, payload string, tr framing.Trailer) func(testing.TB) []byte {
	return func(t testing.TB) []byte {
		t.Helper()
		b, err := framing.AppendFrame(nil, framing.Frame{Type: typ, Flags: flags, Header: block(t, h), Payload: []byte(payload)}, tr)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func block(t testing.TB, h framing.Header) framing.RawHeader {
	t.Helper()
	b, err := framing.AppendHeader(nil, h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// varints is a field with a list of varints as its value.
func varints(key string, list ...uint64) framing.Field {
	var b []byte
	for _, v := range list {
		b = framing.AppendVarint(b, v)
	}
	return framing.Field{Key: key, Value: string(b)}
}
