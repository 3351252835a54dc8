package udpio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernel makes the calls that package unix lacks. The headers and all they point to
// are on the heap, where nothing moves.
type kernel struct{}

func (kernel) recvmmsg(fd int, h []unix.Mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&h[0])), uintptr(len(h)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func (kernel) recvmsg(fd int, h *unix.Msghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
	return int(n), errno
}

func (kernel) sendmmsg(fd int, h []unix.Mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&h[0])), uintptr(len(h)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func (kernel) sendmsg(fd int, h *unix.Msghdr) syscall.Errno {
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
	return errno
}
