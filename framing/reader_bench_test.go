package framing

import (
	"io"
	"testing"
)

var readerSizes = []struct {
	name string
	n    int
}{
	{"64B", 64},
	{"1KiB", 1 << 10},
	{"64KiB", 64 << 10},
}

// BenchmarkReader reads frames with Next and Read from memory, where a call costs
// nothing but the copying.
func BenchmarkReader(b *testing.B) {
	for _, s := range readerSizes {
		for _, flags := range []Flags{0, FlagCRC} {
			name := s.name
			if flags != 0 {
				name += "/CRC"
			}
			frame := mustFrame(b, nil, Frame{Type: TypeData, Flags: flags, Payload: make([]byte, s.n)}, TrailerByFlag)
			run := func(name string, newSource func() io.Reader) {
				b.Run(name, func(b *testing.B) {
					rd := NewReader(newSource(), 0, TrailerByFlag)
					p := make([]byte, s.n)
					b.SetBytes(int64(s.n))
					b.ReportAllocs()
					for b.Loop() {
						if err := readFrame(rd, p); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			run(name, func() io.Reader { return &loopSource{data: frame} })
			if s.n >= directRead {
				run(name+"/readv", func() io.Reader { return &loopVector{loopSource{data: frame}} })
			}
		}
	}
}
