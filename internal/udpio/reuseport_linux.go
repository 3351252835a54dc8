package udpio

import (
	"net"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// CanSteer reports whether Steer works on this system.
func CanSteer() bool { return true }

// SharesPort reports whether others may bind the port of a socket.
func SharesPort(raw syscall.RawConn) bool {
	shared := 0
	raw.Control(func(fd uintptr) {
		shared, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT)
	})
	return shared != 0
}

// SharePort has more than one socket have a port: all of them, but for the first, before
// they are bound. If the first one does not before it has the port, there is nobody else's
// socket with it, and it is the first by which the kernel counts.
func SharePort(raw syscall.RawConn) error { return setSharePort(raw, 1) }

// KeepPort takes SharePort back, for a socket that has remained the only one.
func KeepPort(raw syscall.RawConn) error { return setSharePort(raw, 0) }

func setSharePort(raw syscall.RawConn, to int) (err error) {
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, to)
	}); cerr != nil {
		return cerr
	}
	return err
}

// Steer has the kernel run a program for each datagram that comes for the sockets with which
// pc shares its port. Its result is the index of one of them, in the order in which they were
// bound; where there is no such index the kernel's own hash of both addresses decides, as
// without a program. It sees the payload of UDP, beginning at offset 0.
func Steer(pc net.PacketConn, program []bpf.RawInstruction) error {
	raw := rawConn(pc)
	if raw == nil || len(program) == 0 || steeringOff() {
		return errNoSteering
	}
	filter := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	var err error
	cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
	if cerr != nil {
		return cerr
	}
	return err
}
