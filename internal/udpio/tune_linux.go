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
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return
		}
		proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil || proto != unix.IPPROTO_UDP || domain != unix.AF_INET && domain != unix.AF_INET6 {
			return
		}
		s.isUDP = true
		s.v6 = domain == unix.AF_INET6
		s.recvBuffer = growBuffer(fd, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, target)
		s.sendBuffer = growBuffer(fd, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, target)

		// PROBE sets DF and believes no ICMP message about the MTU, trap U2. An IPv6
		// socket has the IPv4 option too, for what it sends to mapped addresses.
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		if s.v6 {
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		}
	})
	return s
}

// growBuffer returns the size in bytes that the buffer has in the end, trap U6. It
// never makes it smaller.
func growBuffer(fd, opt, force, target int) int {
	size := bufferOf(fd, opt)
	if size < target {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, target)
		size = bufferOf(fd, opt)
	}
	if size < target && unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, target) == nil {
		size = bufferOf(fd, opt)
	}
	return size
}

// bufferOf halves what the kernel says: it doubles what is asked for, to have room
// for its own bookkeeping (socket(7)).
func bufferOf(fd, opt int) int {
	n, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt)
	return n / 2
}
