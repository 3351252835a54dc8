//go:build !linux

package carrier

import (
	"net"
	"syscall"
)

// A vectorReader is what Linux has for reading into two slices at once.
type vectorReader struct{}

func newVectorReader(net.Conn) *vectorReader { return nil }

func (*vectorReader) readv(a, b []byte) (int, error) { panic("BUG: readv without a vectorReader") }

func (*vectorReader) readSmall(p []byte) (int, error) {
	panic("BUG: readSmall without a vectorReader")
}

func (*vectorReader) rawConn() syscall.RawConn { panic("BUG: a socket without a vectorReader") }
