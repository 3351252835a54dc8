package udpio

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	errNotUDP = errors.New("udpio: destination is no UDP address")
	errFamily = errors.New("udpio: destination is of another address family")
)

// fast reads and writes a UDP socket with batches and offloads.
type fast struct {
	c     *Conn
	raw   syscall.RawConn
	v6    bool
	peer  netip.AddrPort        // of a connected socket
	bound atomic.Pointer[Local] // where all packets arrive, if the socket is not wildcard-bound
	zones zones

	gso, gro, mmsg atomic.Bool
	noGSO          addrSet // destinations whose device refuses it

	recv receiver
	// calls makes system calls; tests put others in its place.
	calls calls
}

func newFast(c *Conn, raw syscall.RawConn) socketIO {
	f := &fast{c: c, raw: raw, v6: c.socket.v6, calls: kernel{}}
	f.moved(c.pc.LocalAddr())
	f.mmsg.Store(!c.opt.NoMMsg)
	err := raw.Control(func(p uintptr) { f.setUp(int(p)) })
	if err != nil {
		return nil
	}
	f.recv.init(f)
	return f
}

func (f *fast) setUp(fd int) {
	if !f.bound.Load().Addr.IsValid() {
		// Errors cost the knowledge of where packets arrive, no more.
		if f.v6 {
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	}
	if sa, err := unix.Getpeername(fd); err == nil {
		f.peer = fromSockaddr(sa, &f.zones)
	}
	release := kernelRelease()
	if !f.c.opt.NoGSO && gsoWorks(release) {
		_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		f.gso.Store(err == nil)
	}
	if !f.c.opt.NoGRO && groWorks(release) {
		f.gro.Store(unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil)
	}
}

// moved notes the address of the socket.
func (f *fast) moved(local net.Addr) { f.bound.Store(&Local{Addr: boundTo(local)}) }

// boundTo returns the one address that a socket receives at, the zero Addr if it
// receives at all of them.
func boundTo(a net.Addr) netip.Addr {
	local, err := AddrOf(a)
	if err != nil || local.Other != nil || local.Addr().IsUnspecified() {
		return netip.Addr{}
	}
	return local.Addr().WithZone("")
}

func kernelRelease() version {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return version{}
	}
	return parseVersion(unix.ByteSliceToString(u.Release[:]))
}

func (f *fast) maxSegments() int {
	if f.gso.Load() {
		return maxSegments
	}
	return 1
}

func (f *fast) state() (gso, gro, mmsg bool) { return f.gso.Load(), f.gro.Load(), f.mmsg.Load() }

// useGSO reports whether several datagrams to ip go out in one.
func (f *fast) useGSO(ip netip.Addr) bool { return f.gso.Load() && !f.noGSO.has(ip) }

func (f *fast) read(ps []Packet) (int, error) { return f.recv.read(ps) }

// An addrSet is a small set of addresses that is empty almost always.
type addrSet struct {
	n  atomic.Int32
	mu sync.Mutex
	m  map[netip.Addr]struct{}
}

// maxAddrSet bounds the set. Beyond it everything is forgotten and learned anew.
const maxAddrSet = 1024

func (s *addrSet) has(ip netip.Addr) bool {
	if s.n.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.m[ip]
	return ok
}

func (s *addrSet) add(ip netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil || len(s.m) >= maxAddrSet {
		s.m = make(map[netip.Addr]struct{})
	}
	s.m[ip] = struct{}{}
	s.n.Store(int32(len(s.m)))
}

func fromSockaddr(sa unix.Sockaddr, z *zones) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return z.addrPort(netip.AddrFrom16(sa.Addr), int(sa.ZoneId), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// calls are the system calls on the packet path.
type calls interface {
	recvmmsg(fd int, h []unix.Mmsghdr) (int, syscall.Errno)
	recvmsg(fd int, h *unix.Msghdr) (int, syscall.Errno)
	sendmmsg(fd int, h []unix.Mmsghdr) (int, syscall.Errno)
	sendmsg(fd int, h *unix.Msghdr) syscall.Errno
}
