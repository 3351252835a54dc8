package carrier

import (
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxIovecs is how many pieces one system call takes.
const maxIovecs = 64

// A tryWriter writes to a socket without waiting for it.
type tryWriter struct {
	raw  syscall.RawConn
	bufs [][]byte
	iovs []unix.Iovec // for them
	n    int
	err  error
	f    func(fd uintptr) bool // made once: a closure for each call would be garbage
}

// newTryWriter returns nil for a conn that is no socket.
func newTryWriter(conn net.Conn) *tryWriter {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	w := &tryWriter{raw: raw}
	w.f = w.writeFD
	return w
}

func (w *tryWriter) writeFD(fd uintptr) bool {
	syncWrite(int(fd))
	for {
		w.n, w.err = w.writev(int(fd))
		if w.err != unix.EINTR {
			return true
		}
	}
}

// writev is unix.Writev, which has garbage for more than eight pieces.
func (w *tryWriter) writev(fd int) (int, error) {
	w.iovs = w.iovs[:0]
	for _, b := range w.bufs {
		if len(b) == 0 {
			continue
		}
		v := unix.Iovec{Base: &b[0]}
		v.SetLen(len(b))
		w.iovs = append(w.iovs, v)
	}
	if len(w.iovs) == 0 {
		return 0, nil
	}
	n, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&w.iovs[0])), uintptr(len(w.iovs)))
	clear(w.iovs) // not ours to keep
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// write takes what it has sent from the front of bufs, and reports whether the socket is
// full: there may be more then.
func (w *tryWriter) write(bufs *net.Buffers) (full bool, err error) {
	for len(*bufs) > 0 {
		asked := 0
		w.bufs = (*bufs)[:min(len(*bufs), maxIovecs)]
		for _, b := range w.bufs {
			asked += len(b)
		}
		err := w.raw.Write(w.f)
		w.bufs = nil
		switch {
		case err != nil:
			return false, err
		case w.err == unix.EAGAIN:
			return true, nil
		case w.err != nil:
			return false, &net.OpError{Op: "write", Err: os.NewSyscallError("writev", w.err)}
		}
		consume(bufs, w.n)
		if w.n < asked {
			return true, nil // the poller knows that it has no room
		}
	}
	return false, nil
}

// consume takes n bytes from the front of bufs.
func consume(bufs *net.Buffers, n int) {
	for n > 0 {
		b := (*bufs)[0]
		if n < len(b) {
			(*bufs)[0] = b[n:]
			return
		}
		n -= len(b)
		(*bufs)[0] = nil
		*bufs = (*bufs)[1:]
	}
}
