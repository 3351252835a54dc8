package sealed

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// testPackets is who seals and opens with one and the same key.
func testPackets() *packets {
	k := testKeys()
	return &packets{write: k, read: k, typ: framing.TypeHello, peer: serverID}
}

// seal makes a packet of chunks.
func sealChunks(p *packets, chunks ...byte) []byte {
	return p.seal(append(p.begin(nil), chunks...))
}

func TestPackets(t *testing.T) {
	p := testPackets()
	for _, n := range []int{0, 1, 2, 100, 1126, 1127, 1128, 1129, 1130, 1140, 1150, 5000, 60000} {
		out := make([]byte, n)
		rnd := rand.New(rand.NewPCG(uint64(n), 1))
		for i := range out {
			out[i] = byte(rnd.Uint32())
		}
		for _, offset := range []uint64{0, 1, uint64(n) / 2, uint64(n)} {
			var got crypto
			got.taken = min(offset, uint64(n))
			all := p.append(nil, out, offset, 12345)
			if len(all) == 0 {
				t.Fatal("nothing")
			}
			for i, b := range all {
				if len(b) > maxDatagram || i < len(all)-1 && len(b) < maxDatagram-4 {
					t.Errorf("a packet of %d bytes", len(b))
				}
				if id, _, kind := handshake.RouteID(b); id != serverID || kind != handshake.KindSealedHello {
					t.Error(id, kind)
				}
				c, ok := p.open(b, framing.TypeHello)
				if !ok || !c.hasHave || c.have != 12345 || c.closed {
					t.Fatalf("%+v, %v", c, ok)
				}
				for _, x := range c.pieces {
					got.add(x.offset, x.data)
				}
			}
			var b []byte
			for x := got.next(); x != nil; x = got.next() {
				b = append(b, x...)
			}
			if !bytes.Equal(b, out[min(offset, uint64(n)):]) {
				t.Errorf("%d from %d: other bytes", n, offset)
			}
		}
	}
}

func TestPacketClose(t *testing.T) {
	p := testPackets()
	c, ok := p.open(p.appendClose(nil, framing.CodeAlert, "bad day")[0], framing.TypeHello)
	if !ok || !c.closed || c.code != framing.CodeAlert || c.reason != "bad day" {
		t.Errorf("%+v, %v", c, ok)
	}
	p.write = nil
	if len(p.appendClose(nil, 1, "")) > 0 {
		t.Error("a packet without keys")
	}
}

// TestPacketsDamaged: a packet that is not whole, or that one bit of is another one, or
// that is of another type or for other keys, is none.
func TestPacketsDamaged(t *testing.T) {
	p := testPackets()
	whole := p.append(nil, []byte("some bytes of TLS"), 0, 7)[0]
	for n := range whole {
		if _, ok := p.open(bytes.Clone(whole[:n]), framing.TypeHello); ok {
			t.Errorf("%d bytes open", n)
		}
	}
	for i := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		if _, ok := p.open(b, framing.TypeHello); ok {
			t.Errorf("bit %d does not matter", i)
		}
	}
	if _, ok := p.open(append(bytes.Clone(whole), 0), framing.TypeHello); ok {
		t.Error("with a byte behind it")
	}
	if _, ok := p.open(bytes.Clone(whole), framing.TypeWelcome); ok {
		t.Error("of another type")
	}
	if _, ok := (&packets{}).open(bytes.Clone(whole), framing.TypeHello); ok {
		t.Error("without keys")
	}
	if c, ok := p.open(whole, framing.TypeHello); !ok || c.have != 7 {
		t.Error("the packet itself:", ok)
	}
}

// TestPacketChunks: "a packet with another chunk is dropped", PROTOCOL §8.5.
func TestPacketChunks(t *testing.T) {
	p := testPackets()
	for _, c := range []struct {
		name   string
		chunks []byte
		ok     bool
	}{
		{"padding", []byte{0, 0, 0}, true},
		{"have", []byte{chunkHave, 5}, true},
		{"have, cut off", []byte{chunkHave}, false},
		{"have, large", []byte{chunkHave, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true},
		{"crypto", []byte{chunkCrypto, 0, 1, 'a'}, true},
		{"crypto, empty", []byte{chunkCrypto, 0, 0}, true},
		{"two cryptos", []byte{chunkCrypto, 0, 1, 'a', chunkCrypto, 9, 1, 'b', 0}, true},
		{"crypto, cut off", []byte{chunkCrypto, 0, 2, 'a'}, false},
		{"crypto without length", []byte{chunkCrypto, 0}, false},
		{"crypto, longer than all", append([]byte{chunkCrypto, 0}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), false},
		{"close", []byte{chunkClose, 15, 1, 'x'}, true},
		{"close, cut off", []byte{chunkClose, 15, 2, 'x'}, false},
		{"ping", []byte{1}, false},
		{"ack", []byte{2, 0, 0, 0, 0}, false},
		{"crypto, and then ping", []byte{chunkCrypto, 0, 1, 'a', 1}, false},
		{"handshake done", []byte{0x1e}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := p.open(sealChunks(p, c.chunks...), framing.TypeHello); ok != c.ok {
				t.Errorf("%v: %+v", ok, got)
			}
		})
	}
	// One that is dropped leaves nothing behind.
	e := end{packets: *p}
	if ok, news := e.take(sealChunks(&e.packets, chunkCrypto, 0, 1, 'a', 1), framing.TypeHello); ok || news || e.hs.has() > 0 {
		t.Error("something of it was taken")
	}
}

// TestPacketNumbers: at most 65,536 of each direction.
func TestPacketNumbers(t *testing.T) {
	p := testPackets()
	p.pn = maxPackets - 2
	all := p.append(nil, make([]byte, 5000), 0, 0)
	if len(all) != 2 || p.pn != maxPackets {
		t.Error(len(all), p.pn)
	}
	for _, b := range all {
		if _, ok := p.open(b, framing.TypeHello); !ok {
			t.Error("the last ones do not open")
		}
	}
	if len(p.append(nil, nil, 0, 0)) > 0 || len(p.appendClose(nil, 1, "")) > 0 {
		t.Error("one more")
	}
}
