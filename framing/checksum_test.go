package framing

import (
	"hash/crc32"
	"math/bits"
	"math/rand/v2"
	"strconv"
	"testing"
)

// TestChecksumLengths compares with hash/crc32, for all lengths and places that are
// treated differently.
func TestChecksumLengths(t *testing.T) {
	b := make([]byte, 5000)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(b)
	for n := range 2100 {
		at := n % 67
		p := b[at : at+n]
		state := rng.Uint64()
		if got, want := Checksum(uint32(state), p), crc32.Update(uint32(state), crc32.IEEETable, p); got != want {
			t.Fatalf("%d bytes: %08x, want %08x", n, got, want)
		}
	}
	cut := 0
	for range 200 { // the same in two pieces
		cut = int(rng.Uint64() % uint64(len(b)))
		if got, want := Checksum(Checksum(0, b[:cut]), b[cut:]), crc32.ChecksumIEEE(b); got != want {
			t.Fatalf("cut at %d: %08x, want %08x", cut, got, want)
		}
	}
}

func FuzzChecksum(f *testing.F) {
	f.Add(uint32(0), make([]byte, 300))
	f.Fuzz(func(t *testing.T, crc uint32, p []byte) {
		if got, want := Checksum(crc, p), crc32.Update(crc, crc32.IEEETable, p); got != want {
			t.Fatalf("%08x, want %08x", got, want)
		}
	})
}

// xTo returns x^n modulo the polynomial, with the bits in the order of the wire and a
// zero in front, as factors of a product that is shifted by one otherwise.
func xTo(n int) uint64 {
	r := uint32(1)
	for range n {
		carry := r >> 31
		r <<= 1
		if carry == 1 {
			r ^= 0x04c11db7
		}
	}
	return uint64(bits.Reverse32(r)) << 1
}

func BenchmarkChecksum(b *testing.B) {
	for _, n := range []int{64, 256, 1200, 4096, 16 << 10, 64 << 10} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				Checksum(0, p)
			}
		})
	}
}
