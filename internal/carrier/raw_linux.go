package carrier

import (
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxRaw is the size up to which a socket is read or written without telling the
// scheduler. MSG_DONTWAIT keeps the call from blocking, even where somebody has made the socket
// a blocking one by os.File.Fd, and one of that size takes some
// microseconds, like a piece of computing. To tell the scheduler costs more than the work of a small
// frame: where the process was idle before, the monitor thread is woken for each call.
const maxRaw = 8 << 10

func readRaw(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func writeRaw(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// A smallWriter writes pieces of at most maxRaw bytes to a socket.
type smallWriter struct {
	raw syscall.RawConn
	p   []byte // not yet written
	err error
	f   func(fd uintptr) bool // made once: a closure for each call would be garbage
}

// newSmallWriter returns nil for a conn that is no socket.
func newSmallWriter(conn net.Conn) *smallWriter {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	w := &smallWriter{raw: raw}
	w.f = w.writeFD
	return w
}

// writeFD is called with room in the socket, or where that is not known; false waits.
func (w *smallWriter) writeFD(fd uintptr) bool {
	syncWrite(int(fd))
	for len(w.p) > 0 {
		n, err := writeRaw(int(fd), w.p)
		switch err {
		case nil:
			w.p = w.p[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			w.err = err
			return true
		}
	}
	return true
}

// write writes p, which is not longer than maxRaw, as conn.Write does.
func (w *smallWriter) write(conn net.Conn, p []byte) (int, error) {
	w.p, w.err = p, nil
	err := w.raw.Write(w.f)
	n := len(p) - len(w.p)
	w.p = nil
	if err == nil && w.err != nil {
		local := conn.LocalAddr()
		err = &net.OpError{Op: "write", Net: local.Network(), Source: local, Addr: conn.RemoteAddr(),
			Err: os.NewSyscallError("write", w.err)}
	}
	return n, err
}
