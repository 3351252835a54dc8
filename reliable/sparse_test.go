package reliable

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// TestSparse: a peer that sends single bytes, far from each other, makes nobody keep a
// thousand times as much for them. PROTOCOL §9, "Lengths are claims".
func TestSparse(t *testing.T) {
	const most = 100 << 20
	limits := func(c *Config) {
		c.Local.MaxData, c.Local.MaxStreamData = 16<<20, 16<<20
		c.Local.MaxMessage, c.Local.MaxMessages = most, MessageWindow(most)
		c.Protection = new(nullProtection)
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	far := func(n, step int, chunk func(off uint64) []byte) (packets [][]byte) {
		var b []byte
		for i := n; i > 0; i-- {
			b = append(b, chunk(uint64(i*step))...)
			if len(b) > 1100 || i == 1 {
				packets = append(packets, b)
				b = nil
			}
		}
		return packets
	}
	for _, tt := range []struct {
		name    string
		packets [][]byte
		most    int64
	}{
		{"stream", far(500, 32<<10, func(off uint64) []byte { return append(appendStreamHead(nil, 0, off, 1, false, false), 'x') }), 128 << 10},
		{"message", far(4000, 16<<10, func(off uint64) []byte { return append(appendFragmentHead(nil, 0, most, off, 1, false), 'x') }), 2 << 20},
		{"messages", far(4000, 1, func(id uint64) []byte { return append(appendFragmentHead(nil, id, 16<<10, 0, 1, false), 'x') }), 3 << 20},
		{"messages from their end", far(4000, 1, func(id uint64) []byte { return append(appendFragmentHead(nil, id, 16<<10, 16<<10-1, 1, false), 'x') }), 3 << 20},
		{"control stream", [][]byte{cryptoChunk(maxControl-1, "x")}, 8 << 10},
	} {
		s := newRig(t, 1, wire{}, limits)
		a := s.ends[1]
		before := heap()
		in := 0
		for i, b := range tt.packets {
			in += len(b)
			a.Receive(s.now, forgeSealed(a, framing.TypeData, packetNumber(1000+i), b))
		}
		if a.Err() != nil {
			t.Fatalf("%s: %v", tt.name, a.Err())
		}
		if n := heap() - before; n > tt.most {
			t.Errorf("%s: %d bytes kept of %d", tt.name, n, in)
		}
		runtime.KeepAlive(a)
	}
}

// TestFlatBuffer: pieces in any order and of any cut are the stream, and leave nothing.
func TestFlatBuffer(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		want := messageBody(seed, 1+rnd.IntN(5000))
		var f flatBuffer
		var got []byte
		for len(got) < len(want) {
			off := rnd.IntN(len(want))
			if rnd.IntN(3) == 0 {
				off = int(f.next())
			}
			f.write(int64(off), want[off:min(len(want), off+1+rnd.IntN(600))])
			if r := f.ready(); int64(len(r)) != f.have.ready(f.base) {
				t.Fatalf("seed %d: %d ready of %v from %d", seed, len(r), f.have, f.base)
			}
			n := rnd.IntN(len(f.ready()) + 1)
			got = append(got, f.ready()[:n]...)
			f.consume(n)
		}
		if !bytes.Equal(got, want) || len(f.have) != 0 || len(f.b) != 0 || len(f.ahead) != 0 || f.cost != 0 {
			t.Fatalf("seed %d: %d bytes, %+v", seed, len(got), f)
		}
	}
}

// ready returns how much there is from base on.
func (s spanSet[T]) ready(base T) T {
	if len(s) == 0 || s[0].start > base {
		return 0
	}
	return s[0].end - base
}
