package sealed

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestPieces(t *testing.T) {
	type add struct {
		offset uint64
		data   string
		fresh  bool
	}
	for _, c := range []struct {
		name string
		adds []add
		want string // what comes out in the end
		has  uint64
	}{
		{"in order", []add{{0, "ab", true}, {2, "cd", true}}, "abcd", 4},
		{"reversed", []add{{2, "cd", true}, {0, "ab", true}}, "abcd", 4},
		{"again", []add{{0, "ab", true}, {0, "ab", false}, {1, "b", false}}, "ab", 2},
		{"gap", []add{{0, "ab", true}, {3, "d", true}}, "ab", 2},
		{"overlap behind", []add{{0, "abc", true}, {2, "Xd", true}}, "abcd", 4},
		{"overlap in front", []add{{2, "cd", true}, {0, "abXX", true}}, "abcd", 4},
		{"over a piece", []add{{1, "b", true}, {0, "aXc", true}}, "abc", 3},
		{"over two", []add{{1, "b", true}, {3, "d", true}, {0, "aXcXe", true}}, "abcde", 5},
		{"within", []add{{0, "abcd", true}, {1, "XX", false}}, "abcd", 4},
		{"empty", []add{{0, "", false}, {5, "", false}}, "", 0},
		{"too far", []add{{maxAhead, "x", false}, {1 << 62, "x", false}, {1<<64 - 1, "x", false}}, "", 0},
		{"up to the end", []add{{maxAhead - 1, "xy", true}, {maxAhead - 1, "xy", false}}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p crypto
			for _, a := range c.adds {
				b := []byte(a.data)
				if fresh := p.add(a.offset, b); fresh != a.fresh {
					t.Errorf("%d %q: %v", a.offset, a.data, fresh)
				}
				clear(b) // a view of the datagram
			}
			if p.has() != c.has {
				t.Errorf("has %d", p.has())
			}
			var got []byte
			for b := p.next(); b != nil; b = p.next() {
				got = append(got, b...)
			}
			if string(got) != c.want || p.has() != c.has || p.taken != c.has {
				t.Errorf("%q, %d", got, p.has())
			}
		})
	}
}

// TestPiecesModel: against one that keeps single bytes. Of two bytes for one place, the
// first one counts, and what was taken never changes.
func TestPiecesModel(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		model := make([]int, 200) // -1: not there
		for i := range model {
			model[i] = -1
		}
		var p crypto
		taken := 0
		for range 100 {
			if rnd.IntN(5) == 0 {
				if b := p.next(); b != nil {
					for i, v := range b {
						if model[taken+i] != int(v) {
							t.Fatalf("seed %d: byte %d is %d, not %d", seed, taken+i, v, model[taken+i])
						}
					}
					taken += len(b)
				} else if taken < len(model) && model[taken] >= 0 {
					t.Fatalf("seed %d: byte %d is there", seed, taken)
				}
				continue
			}
			offset := rnd.IntN(len(model))
			b := make([]byte, rnd.IntN(min(20, len(model)-offset+1)))
			news := false
			for i := range b {
				b[i] = byte(rnd.Uint32())
				if offset+i >= taken && model[offset+i] < 0 {
					model[offset+i] = int(b[i])
					news = true
				}
			}
			if fresh := p.add(uint64(offset), b); fresh != news {
				t.Fatalf("seed %d: %v, but %v", seed, fresh, news)
			}
			has := taken
			for has < len(model) && model[has] >= 0 {
				has++
			}
			if p.has() != uint64(has) {
				t.Fatalf("seed %d: has %d, not %d", seed, p.has(), has)
			}
		}
	}
}

// TestPiecesBounded: whatever comes, no more than so much is kept. Trap S3.
func TestPiecesBounded(t *testing.T) {
	var p crypto
	kept := func() (n int) {
		for _, x := range p.pieces {
			n += cap(x.data)
		}
		return n
	}
	for i := range uint64(100000) {
		p.add(1+2*(i*7919%50000), []byte{1})
	}
	if len(p.pieces) != maxPieces {
		t.Error(len(p.pieces), "pieces")
	}
	p = crypto{}
	for i := range uint64(1000) {
		p.add(1+i*1000, make([]byte, 1000))
	}
	if n := kept(); n > maxAhead+maxAhead/8 {
		t.Error(n, "bytes")
	}
	// What comes next always has a place, or else nothing would ever go on.
	p = crypto{}
	for i := range uint64(2 * maxPieces) {
		p.add(10+2*i, []byte{1})
	}
	if !p.add(0, bytes.Repeat([]byte{2}, 10)) || len(p.next()) != 10 {
		t.Error("no room for what is needed")
	}
}
