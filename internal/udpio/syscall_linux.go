package udpio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernel makes the calls that package unix lacks. The headers and all they point to
// are on the heap, where nothing moves.
//
// None of them blocks, so most are made without telling the scheduler, like a piece of
// computing: telling it wakes its monitor thread whenever the process was idle before,
// and the timer interrupts of that one make a short exchange half as long again. What
// may take longer than tens of microseconds, a write of many datagrams, tells it.
type kernel struct{}

// longWrite is how many bytes that is.
const longWrite = 8 << 10

func (kernel) recvmmsg(fd int, h []unix.Mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&h[0])), uintptr(len(h)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func (kernel) recvmsg(fd int, h *unix.Msghdr) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
	return int(n), errno
}

func (kernel) sendmmsg(fd int, h []unix.Mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&h[0])), uintptr(len(h)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func (kernel) sendmsg(fd int, h *unix.Msghdr) (errno syscall.Errno) {
	if h.Iov.Len < longWrite {
		_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
	} else {
		_, _, errno = unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
	}
	return errno
}
