//go:build darwin || freebsd

package udpio

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// tune enlarges the buffers of a UDP socket and has it forbid fragmentation.
func tune(raw syscall.RawConn, target int) socketInfo {
	var s socketInfo
	raw.Control(func(p uintptr) {
		fd := int(p)
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_DGRAM {
			return
		}
		name, err := unix.Getsockname(fd)
		if err != nil {
			return
		}
		switch name.(type) {
		case *unix.SockaddrInet4:
		case *unix.SockaddrInet6:
			s.v6 = true
		default:
			return
		}
		s.isUDP = true
		s.recvBuffer = growBuffer(fd, unix.SO_RCVBUF, target)
		s.sendBuffer = growBuffer(fd, unix.SO_SNDBUF, target)
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_DONTFRAG, 1)
		if s.v6 {
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
		}
	})
	return s
}

// growBuffer returns the size that the buffer has in the end, trap U6. The system
// refuses too much instead of granting less, so that smaller sizes are tried.
func growBuffer(fd, opt, target int) int {
	for size := target; size >= 1<<17; size /= 2 {
		if n, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt); n >= size {
			break
		}
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, size) == nil {
			break
		}
	}
	n, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt)
	return n
}
