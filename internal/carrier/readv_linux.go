package carrier

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A vectorReader reads into two slices with one system call, so that a payload
// lands in the caller's slice and the header of the next frame beside it. It also reads
// into one, see readRaw.
type vectorReader struct {
	raw  syscall.RawConn
	bufs [2][]byte
	n    int
	err  error
	read func(fd uintptr) bool // made once: a closure for each call would be garbage
}

// newVectorReader returns nil for a conn that is no socket.
func newVectorReader(conn net.Conn) *vectorReader {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil // a wrapper may look at what is read, do not go round it
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	v := &vectorReader{raw: raw}
	v.read = v.readFD
	return v
}

// readFD is called with the socket ready, or not known to be; false waits.
func (v *vectorReader) readFD(fd uintptr) bool {
	for {
		if v.bufs[1] == nil {
			v.n, v.err = readRaw(int(fd), v.bufs[0])
		} else {
			v.n, v.err = unix.Readv(int(fd), v.bufs[:])
		}
		switch v.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		syncRead(int(fd))
		return true
	}
}

// readSmall reads into p, which is not empty and not longer than maxRaw.
func (v *vectorReader) readSmall(p []byte) (int, error) { return v.readv(p, nil) }

// readv reads into a, and what there is more into b unless that is nil.
func (v *vectorReader) readv(a, b []byte) (int, error) {
	v.bufs = [2][]byte{a, b}
	err := v.raw.Read(v.read)
	v.bufs = [2][]byte{}
	switch {
	case err != nil:
		return 0, err
	case v.err != nil:
		return 0, &net.OpError{Op: "read", Err: os.NewSyscallError("read", v.err)}
	case v.n == 0 && len(a)+len(b) > 0:
		return 0, io.EOF
	}
	return v.n, nil
}

func (v *vectorReader) rawConn() syscall.RawConn { return v.raw }
