package udpio

import "syscall"

// ipDontFragment is IP_DONTFRAGMENT and IPV6_DONTFRAG, which have the same value.
const ipDontFragment = 14

const soType = 0x1008 // SO_TYPE

// tune enlarges the buffers of a UDP socket and has it forbid fragmentation.
func tune(raw syscall.RawConn, target int) socketInfo {
	var s socketInfo
	raw.Control(func(p uintptr) {
		fd := syscall.Handle(p)
		if kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, soType); err != nil || kind != syscall.SOCK_DGRAM {
			return
		}
		name, err := syscall.Getsockname(fd)
		if err != nil {
			return
		}
		switch name.(type) {
		case *syscall.SockaddrInet4:
		case *syscall.SockaddrInet6:
			s.v6 = true
		default:
			return
		}
		s.isUDP = true
		s.recvBuffer = growBuffer(fd, syscall.SO_RCVBUF, target)
		s.sendBuffer = growBuffer(fd, syscall.SO_SNDBUF, target)
		syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipDontFragment, 1)
		if s.v6 {
			syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, ipDontFragment, 1)
		}
	})
	return s
}

// growBuffer returns the size that the buffer has in the end, trap U6.
func growBuffer(fd syscall.Handle, opt, target int) int {
	n, _ := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, opt)
	if n < target {
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, opt, target)
		n, _ = syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, opt)
	}
	return n
}
