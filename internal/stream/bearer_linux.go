package stream

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds how much of what is written waits in a socket, unsent, about.
// TCP_NODELAY is on anyway.
func limitUnsent(c *net.TCPConn, n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		// Old kernels have no such option, and do without.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
	})
}

// A rawReader reads from a socket into the buffer of a Bearer, which it takes only when
// there is something to read.
type rawReader struct {
	raw    syscall.RawConn // nil if the carrier is no plain socket
	bearer *Bearer
	n      int
	err    error
	f      func(fd uintptr) bool // made once: a closure for each call would be garbage
}

func (r *rawReader) init(raw syscall.RawConn) {
	r.raw = raw
	r.f = r.readFD
}

func (r *rawReader) ok() bool { return r.raw != nil }

// read reads once, and returns how much.
func (r *rawReader) read(b *Bearer) (int, error) {
	r.bearer, r.n, r.err = b, 0, nil
	err := r.raw.Read(r.f)
	switch {
	case err != nil:
		return 0, err
	case r.err != nil:
		return 0, &net.OpError{Op: "read", Net: b.LocalAddr().Network(), Source: b.LocalAddr(), Addr: b.RemoteAddr(),
			Err: os.NewSyscallError("read", r.err)}
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

// readFD is called with the socket ready, or not known to be; false waits.
func (r *rawReader) readFD(fd uintptr) bool {
	b := r.bearer
	if b.large == nil {
		b.borrow()
	}
	for {
		// Not that of package unix, which the race detector does not know to follow on a
		// write of package net: two ends in one process would look like a race.
		r.n, r.err = syscall.Read(int(fd), b.buf[b.w:b.limit()])
		switch r.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			if b.r == b.w {
				b.release()
			}
			return false
		}
		return true
	}
}
