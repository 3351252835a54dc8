// Package vectors holds conformance vectors of PROTOCOL as JSON, and the tests that
// make them and check this module against them; README.md describes them.
//
//	go test ./docs/vectors ./reliable -run Vectors -update
//
// writes the files anew. There is no randomness in it.
package vectors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

var update = flag.Bool("update", false, "write the vectors")

// checkFile compares a file with what the code makes now, or writes it. The lists are
// written with one vector a line.
func checkFile(t *testing.T, name, about string, lists ...list) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"about\": %s", line(t, about))
	for _, l := range lists {
		fmt.Fprintf(&b, ",\n\"%s\": [", l.name)
		for i, v := range l.vectors {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteByte('\n')
			b.Write(line(t, v))
		}
		b.WriteString("\n]")
	}
	b.WriteString("\n}\n")
	if *update {
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		h, w := bytes.Split(have, []byte{'\n'}), bytes.Split(b.Bytes(), []byte{'\n'})
		for i := range min(len(h), len(w)) {
			if !bytes.Equal(h[i], w[i]) {
				t.Fatalf("%s:%d has\n%s\nthe code makes\n%s", name, i+1, h[i], w[i])
			}
		}
		t.Fatalf("%s has %d lines, the code makes %d", name, len(h), len(w))
	}
}

// A list is an array in a file.
type list struct {
	name    string
	vectors []any
}

func listOf[T any](name string, vs []T) list {
	l := list{name: name}
	for _, v := range vs {
		l.vectors = append(l.vectors, v)
	}
	return l
}

func line(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

// readFile decodes a file of vectors into v, which has a field for all that is in there.
func readFile(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// hexBytes is bytes in JSON: hex, or a list of hex and runs if there is a long run in it.
type hexBytes []byte

// A run is bytes of which each is Step more than the one before, modulo 256.
type run struct {
	First byte `json:"first"`
	Step  byte `json:"step"`
	Count int  `json:"count"`
}

const minRun = 64 // shorter ones are written as they are

func (h hexBytes) MarshalJSON() ([]byte, error) {
	var pieces []any
	start := 0
	for i := 0; i+1 < len(h); {
		n := 2
		for i+n < len(h) && h[i+n]-h[i+n-1] == h[i+1]-h[i] {
			n++
		}
		if n < minRun {
			i += n - 1
			continue
		}
		if i > start {
			pieces = append(pieces, hex.EncodeToString(h[start:i]))
		}
		pieces = append(pieces, run{h[i], h[i+1] - h[i], n})
		i += n
		start = i
	}
	if pieces == nil {
		return json.Marshal(hex.EncodeToString(h))
	}
	if start < len(h) {
		pieces = append(pieces, hex.EncodeToString(h[start:]))
	}
	return json.Marshal(pieces)
}

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		p, err := hex.DecodeString(s)
		*h = p
		return err
	}
	var pieces []json.RawMessage
	if err := json.Unmarshal(b, &pieces); err != nil {
		return err
	}
	*h = hexBytes{}
	for _, piece := range pieces {
		if piece[0] == '"' {
			var p hexBytes
			if err := p.UnmarshalJSON(piece); err != nil {
				return err
			}
			*h = append(*h, p...)
			continue
		}
		var r run
		if err := json.Unmarshal(piece, &r); err != nil {
			return err
		}
		for i := range r.Count {
			*h = append(*h, r.First+byte(i)*r.Step)
		}
	}
	return nil
}

// A header is metadata in JSON: pairs of hex.
type header [][2]hexBytes

func toJSON(h framing.Header) header {
	j := make(header, len(h))
	for i, f := range h {
		j[i] = [2]hexBytes{hexBytes(f.Key), hexBytes(f.Value)}
	}
	return j
}

func (j header) header() framing.Header {
	var h framing.Header
	for _, f := range j {
		h.Add(string(f[0]), string(f[1]))
	}
	return h
}

// same compares what was wanted with what came, as JSON.
func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if w, g := line(t, want), line(t, got); !bytes.Equal(w, g) {
		t.Errorf("%s: %s\nwant %s", what, g, w)
	}
}

// pattern is n bytes by which a piece that is missing, or at the wrong place, is seen.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(7*i + 3)
	}
	return b
}

// block encodes a header block, of which the keys may be reserved.
func block(t *testing.T, h framing.Header) []byte {
	t.Helper()
	b, err := framing.AppendHeader(nil, h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// raw makes a frame whose parts need not be right. Its trailer is there if crc is.
func raw(typ framing.Type, flags framing.Flags, block, payload []byte, crc bool) []byte {
	b := framing.AppendFixed(nil, typ, flags, len(block), int64(len(payload)))
	b = append(append(b, block...), payload...)
	if crc {
		b = framing.AppendTrailer(b, framing.Checksum(0, b))
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
