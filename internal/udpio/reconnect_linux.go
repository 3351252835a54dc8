package udpio

import (
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const canReconnect = true

// reconnect dissolves the association of a socket and makes it anew: connect(2) alone
// would keep the address that the first one has chosen.
func reconnect(raw syscall.RawConn, peer *net.UDPAddr, v6 bool) (local *net.UDPAddr, err error) {
	to, err := sockaddr(peer, v6)
	if err != nil {
		return nil, err
	}
	var z zones
	broken := raw.Control(func(p uintptr) {
		fd := int(p)
		if errno := disconnect(fd); errno != 0 {
			err = os.NewSyscallError("connect", errno)
			return
		}
		if err = unix.Connect(fd, to); err != nil {
			err = os.NewSyscallError("connect", err)
			return
		}
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(fd); err == nil {
			local = net.UDPAddrFromAddrPort(fromSockaddr(sa, &z))
		}
	})
	if broken != nil {
		return nil, broken
	}
	return local, err
}

// disconnect is connect to an address of no family.
func disconnect(fd int) syscall.Errno {
	none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none))
	return errno
}

func sockaddr(a *net.UDPAddr, v6 bool) (unix.Sockaddr, error) {
	if !v6 {
		ip := a.IP.To4()
		if ip == nil {
			return nil, errFamily
		}
		return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}, nil
	}
	ip := a.IP.To16()
	if ip == nil {
		return nil, errFamily
	}
	sa := &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(ip)}
	if a.Zone != "" {
		var z zones
		sa.ZoneId = uint32(z.index(a.Zone))
	}
	return sa, nil
}
