package framing

import (
	"bytes"
	"testing"
)

// FuzzReader reads any bytes, in any pieces, by any calls, and compares with Parse.
func FuzzReader(f *testing.F) {
	scripts := [][]byte{
		nil,
		[]byte("\x01\x01\x01\x01\x01\x01\x01\x01"),
		bytes.Repeat([]byte{1, 6, 0, 3, 7, 4, 2}, 20),
		bytes.Repeat([]byte{7, 0, 5, 3, 1, 8, 2, 9, 4, 6}, 30),
	}
	add := func(b []byte) {
		for i := range 3 * len(scripts) {
			f.Add(b, scripts[i%len(scripts)], uint16(0), uint8(i))
		}
		f.Add(b, scripts[2], uint16(len(b)), uint8(0))
		f.Add(b, scripts[2], uint16(len(b)-1), uint8(4))
	}
	addFrames(f, add)
	for _, tr := range []Trailer{TrailerByFlag, TrailerAlways} {
		b := shortStream(f, tr)
		add(b)
		add(b[:len(b)-2])
		b = longStream(f, tr)
		add(b)
	}
	f.Fuzz(func(t *testing.T, b, script []byte, maxFrame uint16, mode uint8) {
		tr := Trailer(mode % 3)
		rt := newReaderTest(t, b, int(maxFrame), tr, mode/3%2 == 1, bytePicker(script))
		rt.maxCalls += len(script)
		rt.run()
	})
}
