//go:build !linux

package stream

import (
	"net"
	"syscall"
)

func limitUnsent(*net.TCPConn, int) {}

// A rawReader is what Linux has for waiting without a buffer.
type rawReader struct{}

func (rawReader) init(syscall.RawConn) {}

func (rawReader) ok() bool { return false }

func (rawReader) read(*Bearer) (int, error) { panic("BUG: no rawReader") }
