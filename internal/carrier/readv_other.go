//go:build !linux

package carrier

import "net"

// A vectorReader is what Linux has for reading into two slices at once.
type vectorReader struct{}

func newVectorReader(net.Conn) *vectorReader { return nil }

func (*vectorReader) readv(a, b []byte) (int, error) { panic("BUG: readv without a vectorReader") }
