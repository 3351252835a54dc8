package vectors

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/tlsvstp"
)

// A packetVector is a packet before and after protection.
type packetVector struct {
	Name    string   `json:"name"`
	Section string   `json:"section,omitempty"`
	Suite   string   `json:"suite"`
	Secret  hexBytes `json:"secret"`
	Updates int      `json:"updates,omitempty"` // of keys since that secret
	Number  uint64   `json:"number"`
	Next    uint64   `json:"next"` // one more than the largest that was received
	Header  hexBytes `json:"header"`
	Chunks  hexBytes `json:"chunks"`
	Packet  hexBytes `json:"packet"`
}

// A brokenVector is a packet that does not open with the keys of a packetVector.
type brokenVector struct {
	Name   string   `json:"name"`
	Of     string   `json:"of"` // name of the packetVector
	Packet hexBytes `json:"packet"`
}

var suites = []struct {
	id     uint16
	name   string
	secret int // bytes
}{
	{tls.TLS_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", 32},
	{tls.TLS_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", 48},
	{tls.TLS_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", 32},
}

func secretOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(0x80 + i)
	}
	return b
}

// packetHeader is that of a packet of §8.4, not masked.
func packetHeader(typ framing.Type, key string, id [8]byte, number uint64, chunks int, phase bool) []byte {
	flags := framing.FlagSealed
	if phase {
		flags |= framing.FlagPhase
	}
	b := framing.AppendFixed(nil, typ, flags, 15, int64(chunks+16))
	b = append(append(b, 1, 12, key[0]), id[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(number))
}

func packetVectors(t *testing.T) (vs []packetVector) {
	id := [8]byte{0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7}
	ping := append([]byte{1}, make([]byte, 7)...)
	stream := append([]byte{0x08, 0x00}, "hello, world"...)
	for _, s := range suites {
		for _, p := range []struct {
			name, section string
			typ           framing.Type
			key           string
			number, next  uint64
			updates       int
			chunks        []byte
		}{
			{"packet", "8.4", framing.TypeData, framing.KeyPacket, 0, 0, 0, ping},
			{"packet with data", "8.4", framing.TypeData, framing.KeyPacket, 654360564, 654360564, 0, stream},
			{"one chunk of one byte", "8.4", framing.TypeData, framing.KeyPacket, 7, 8, 0, []byte{1}},
			{"a number of more than 32 bits", "7.2", framing.TypeData, framing.KeyPacket, 1<<40 + 5, 1<<40 - 3, 0, ping},
			{"after a key update", "8.7", framing.TypeData, framing.KeyPacket, 1000, 1000, 1, ping},
			{"after two key updates", "8.7", framing.TypeData, framing.KeyPacket, 2000, 1999, 2, stream},
			{"handshake packet of a client", "8.5", framing.TypeHello, framing.KeyPacket, 1, 0, 0, []byte{0x07, 0x40, 0x64, 0x06, 0x00, 0x03, 20, 0, 0}},
			{"handshake packet of a server", "8.5", framing.TypeWelcome, framing.KeyPacket, 0, 0, 0, []byte{0x07, 0x00, 0x06, 0x05, 0x02, 8, 9}},
			{"0-RTT packet", "8.9", framing.TypeHello, framing.KeySourceID, 0, 0, 0, stream},
		} {
			k, err := tlsvstp.NewKeys(s.id, secretOf(s.secret))
			if err != nil {
				t.Fatal(err)
			}
			for range p.updates {
				k = k.Next()
			}
			h := packetHeader(p.typ, p.key, id, p.number, len(p.chunks), p.updates%2 == 1)
			b := k.SealPacket(append(bytes.Clone(h), p.chunks...), 0, p.number)
			vs = append(vs, packetVector{p.name + ", " + s.name, p.section, s.name, secretOf(s.secret), p.updates, p.number, p.next, h, p.chunks, b})
		}
	}
	return vs
}

// TestProtectionVectors: protection.json is what the code makes, and all of it opens, or
// does not.
func TestProtectionVectors(t *testing.T) {
	vs := packetVectors(t)
	var broken []brokenVector
	for i, v := range vs {
		suite := suites[i/(len(vs)/len(suites))]
		k, err := tlsvstp.NewKeys(suite.id, v.Secret)
		if err != nil {
			t.Fatal(err)
		}
		for range v.Updates {
			k = k.Next()
		}
		number, chunks, err := openVector(k, v.Packet, v.Next, v.Updates%2 == 1)
		if err != nil || number != v.Number || !bytes.Equal(chunks, v.Chunks) {
			t.Errorf("%s: %d, %x, %v", v.Name, number, chunks, err)
		}
		if v.Number != 0 {
			continue
		}
		change := func(name string, f func(b []byte) []byte) {
			b := f(bytes.Clone(v.Packet))
			if _, _, err := openVector(k, b, v.Next, false); err == nil {
				t.Errorf("%s opens: %s", v.Name, name)
			}
			broken = append(broken, brokenVector{name, v.Name, b})
		}
		flip := func(at int, bit byte) func([]byte) []byte {
			return func(b []byte) []byte { b[at] ^= bit; return b }
		}
		last := len(v.Packet) - 1
		change("the tag is another one", flip(last, 1))
		change("the first chunk is another one", flip(26, 0x80))
		change("another connection id", flip(14, 1))
		change("another number", flip(25, 1))
		change("a flag is set", flip(4, 0x02))
		change("a byte is missing", func(b []byte) []byte { return b[:last] })
		change("a byte too many", func(b []byte) []byte { return append(b, 0) })
	}
	checkFile(t, "protection.json", "sealed packets, PROTOCOL §8.4, §8.7", listOf("vectors", vs), listOf("dropped", broken))
}

// openVector opens a packet whatever its phase is.
func openVector(k *tlsvstp.Keys, packet []byte, next uint64, phase bool) (uint64, []byte, error) {
	b := bytes.Clone(packet)
	if len(b) < 26+16 || binary.BigEndian.Uint32(b[7:]) != uint32(len(b)-26) {
		return 0, nil, tlsvstp.ErrOpen
	}
	if !phase {
		return k.OpenPacket(b, next)
	}
	m := k.Mask(b[26:42])
	b[4] ^= m[0] & 0x80
	for i := range 4 {
		b[22+i] ^= m[1+i]
	}
	number := next&^(1<<32-1) | uint64(binary.BigEndian.Uint32(b[22:]))
	chunks, err := k.Open(nil, b[:26], b[26:], number)
	return number, chunks, err
}

// TestProtectionGolden: Appendix A of PROTOCOL has some of them.
func TestProtectionGolden(t *testing.T) {
	text, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]packetVector)
	for _, v := range packetVectors(t) {
		byName[v.Name] = v
	}
	found := 0
	for _, m := range regexp.MustCompile("(?s)### A\\.\\d+ Sealed: (.*?)\n.*?```hex\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		var have strings.Builder
		for line := range strings.Lines(m[2]) {
			line, _, _ = strings.Cut(line, ";")
			have.WriteString(strings.Join(strings.Fields(line), ""))
		}
		v, ok := byName[m[1]]
		if want := hex.EncodeToString(v.Packet); !ok || have.String() != want {
			t.Errorf("%s: PROTOCOL has %s, the code makes %s", m[1], have.String(), want)
		}
		found++
	}
	if found != 5 {
		t.Errorf("%d found", found)
	}
}
