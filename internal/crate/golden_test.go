package crate

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// goldens are the examples of Appendix C: what this package makes, or, where in is set,
// what it answers.
var goldens = []struct {
	name string
	make func(t testing.TB) []byte
	in   string // name of the example that is answered
}{
	{"Message that asks for an ACK", func(t testing.TB) []byte {
		var s Sender
		p, err := s.Encode(framing.Header{{Key: "x", Value: "y"}}, []byte("hi"), true)
		if err != nil {
			t.Fatal(err)
		}
		return p.Datagrams[0]
	}, ""},
	{"ACK", nil, "Message that asks for an ACK"},
	{"First fragment of two", func(t testing.TB) []byte { return goldenFragment(t, 0) }, ""},
	{"Second fragment of two", func(t testing.TB) []byte { return goldenFragment(t, 1) }, ""},
	{"ACK for both fragments", nil, "Second fragment of two"},
	{"Probe", func(t testing.TB) []byte {
		h := append(msgID("9"), framing.Field{Key: "x-auto-probe", Value: "1"})
		return datagram(t, framing.TypePing, framing.FlagReqAck, h, nil)
	}, ""},
	{"ACK for the probe", nil, "Probe"},
	{"PING", func(t testing.TB) []byte { return datagram(t, framing.TypePing, 0, nil, nil) }, ""},
	{"PONG", nil, "PING"},
}

// goldenFragment is one of the crate's own record; fragments are this short in examples
// only.
func goldenFragment(t testing.TB, i int) []byte {
	parts := []string{"aaaa", "bbbb"}
	f := framing.Frame{Type: framing.TypeData, Flags: framing.FlagReqAck, Payload: []byte(parts[0] + parts[1])}
	block, err := framing.AppendHeader(make([]byte, 0, 100), msgID("77"))
	if err != nil {
		t.Fatal(err)
	}
	f.Header = block
	ds, err := fragments(f, 5, len(parts[0]))
	if err != nil || len(ds) != len(parts) {
		t.Fatalf("%d fragments, %v", len(ds), err)
	}
	return ds[i]
}

// TestGolden compares each example of Appendix C with what the code makes, both ways.
func TestGolden(t *testing.T) {
	blocks := goldenBlocks(t)
	s := newScript(t, Config{})
	replies := make(map[string][]byte)
	seen := 0
	for _, g := range goldens {
		want, ok := blocks[g.name]
		var got []byte
		if g.in != "" {
			got = replies[g.in]
		} else {
			got = g.make(t)
			replies[g.name] = bytes.Clone(s.receive(got).Reply)
		}
		if !ok {
			t.Errorf("no block %q in PROTOCOL.md; its bytes are\n%x", g.name, got)
			continue
		}
		seen++
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the code makes\n%x\nPROTOCOL.md has\n%x", g.name, got, want)
		}
	}
	if seen != len(blocks) {
		t.Errorf("PROTOCOL.md has %d blocks, %d are made here", len(blocks), seen)
	}
}

// goldenBlocks returns the hex blocks of Appendix C by their headings. In a block, a
// semicolon begins a comment.
func goldenBlocks(t *testing.T) map[string][]byte {
	t.Helper()
	doc, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, appendix, _ := strings.Cut(string(doc), "\n## Appendix C")
	appendix, _, _ = strings.Cut(appendix, "\n## ")
	comment := regexp.MustCompile(`(?m);.*$|\s+`)
	blocks := make(map[string][]byte)
	for _, section := range strings.Split(appendix, "\n### ")[1:] {
		title, rest, _ := strings.Cut(section, "\n")
		_, name, _ := strings.Cut(title, " ")
		_, rest, _ = strings.Cut(rest, "```hex\n")
		text, _, ok := strings.Cut(rest, "```")
		b, err := hex.DecodeString(comment.ReplaceAllString(text, ""))
		if !ok || err != nil || blocks[name] != nil {
			t.Fatalf("%q: %v", title, err)
		}
		blocks[name] = b
	}
	return blocks
}
