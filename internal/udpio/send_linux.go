package udpio

import (
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A sender is the state of one Write.
type sender struct {
	f       *fast
	b       []byte
	segSize int
	to      netip.Addr
	err     error
	runFn   func(fd uintptr) bool // made once

	hdrs    [maxSegments]unix.Mmsghdr
	iovs    [maxSegments]unix.Iovec
	name4   unix.RawSockaddrInet4
	name6   unix.RawSockaddrInet6
	name    *byte // one of the two, nil on a connected socket
	nameLen uint32
	control [controlSpace]byte
	source  int // bytes of control that choose the source address

	sourceLost bool // the source had to be left out
}

var senders = sync.Pool{New: func() any {
	s := new(sender)
	s.runFn = s.run
	return s
}}

func (f *fast) write(b []byte, segSize int, to Addr, from Local) error {
	if to.Other != nil {
		return errNotUDP
	}
	if !to.IsValid() {
		return errAddr
	}
	s := senders.Get().(*sender)
	s.f, s.b, s.segSize, s.to, s.err, s.sourceLost = f, b, segSize, to.Addr(), nil, false
	err := s.setName(to.AddrPort)
	if err == nil {
		s.setSource(from)
		if err = f.raw.Write(s.runFn); err == nil {
			err = s.err
		}
	}
	s.recycle()
	return err
}

// recycle lets go of the caller's memory.
func (s *sender) recycle() {
	s.f, s.b, s.err = nil, nil, nil
	for i := range s.iovs {
		if s.iovs[i].Base == nil {
			break
		}
		s.iovs[i].Base = nil
	}
	senders.Put(s)
}

func (s *sender) setName(to netip.AddrPort) error {
	ip, port := to.Addr(), networkOrder(to.Port())
	switch {
	case s.f.peer.IsValid() && s.f.peer == to:
		s.name, s.nameLen = nil, 0 // the kernel knows it, and the route
	case !s.f.v6:
		if !ip.Unmap().Is4() {
			return errFamily
		}
		s.name4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: ip.Unmap().As4()}
		s.name, s.nameLen = (*byte)(unsafe.Pointer(&s.name4)), uint32(unsafe.Sizeof(s.name4))
	default:
		s.name6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: ip.As16()}
		if zone := ip.Zone(); zone != "" {
			s.name6.Scope_id = uint32(s.f.zones.index(zone))
		}
		s.name, s.nameLen = (*byte)(unsafe.Pointer(&s.name6)), uint32(unsafe.Sizeof(s.name6))
	}
	return nil
}

// setSource chooses the address that a wildcard-bound socket sends from, trap U7.
func (s *sender) setSource(from Local) {
	s.source = 0
	wildcard := !s.f.bound.Load().Addr.IsValid()
	if wildcard && from.Addr.IsValid() && from.Addr.Is4() == s.to.Unmap().Is4() && !from.Addr.IsMulticast() {
		s.source = len(appendSource(s.control[:0], from))
	}
}

// run is called with the socket open. It never waits.
func (s *sender) run(fd uintptr) bool {
	s.err = s.sendAll(int(fd))
	return true
}

func (s *sender) sendAll(fd int) error {
	for {
		var batch []byte
		if s.segSize == 0 || !s.f.useGSO(s.to) {
			return s.sendSingly(fd, s.b)
		}
		batch, s.b = firstBatch(s.b, s.segSize)
		if err := s.sendBatch(fd, batch); err != nil {
			return err
		}
		if len(s.b) == 0 {
			return nil
		}
	}
}

// sendBatch sends with UDP_SEGMENT, and one by one if that is refused.
func (s *sender) sendBatch(fd int, batch []byte) error {
	if len(batch) <= s.segSize {
		return s.sendSingly(fd, batch)
	}
	errno := s.sendOne(fd, batch, s.segSize)
	switch errno {
	case 0:
		return nil
	case unix.EIO, unix.EINVAL, unix.EMSGSIZE:
	default:
		return errno
	}
	c := s.f.c
	c.counters.gsoFallback.Add(1)
	hadSource := !s.sourceLost
	if err := s.sendSingly(fd, batch); err != nil {
		// Without UDP_SEGMENT it is no better, so that was not to blame. EMSGSIZE most
		// often: the segments are larger than the route allows, trap U2.
		return err
	}
	switch {
	case errno == unix.EINVAL && hadSource && s.sourceLost:
	case errno == unix.EINVAL:
		s.f.gso.Store(false)
		c.log.warn(logGSO, "udp segmentation offload refused, given up", "err", errno)
	default:
		// EIO: the device there cannot compute checksums, trap U4.
		s.f.noGSO.add(s.to)
		c.log.warn(logGSO, "udp segmentation offload refused for one destination", "to", s.to, "err", errno)
	}
	return nil
}

// sendSingly sends b as datagrams of segSize, several with one call.
func (s *sender) sendSingly(fd int, b []byte) error {
	if s.segSize == 0 || len(b) <= s.segSize {
		return nilOr(s.sendOne(fd, b, 0))
	}
	for s.f.mmsg.Load() {
		rest, errno := s.sendMany(fd, b)
		if errno == unix.ENOSYS {
			if s.f.mmsg.CompareAndSwap(true, false) {
				s.f.c.mmsgMissing()
			}
			break
		}
		if errno != 0 || len(rest) == 0 {
			return nilOr(errno)
		}
		b = rest
	}
	for len(b) > 0 {
		var segment []byte
		segment, b = firstSegment(b, s.segSize)
		if errno := s.sendOne(fd, segment, 0); errno != 0 {
			return errno
		}
	}
	return nil
}

func nilOr(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// sendMany sends the first datagrams of b with sendmmsg and returns what is left.
func (s *sender) sendMany(fd int, b []byte) (rest []byte, _ syscall.Errno) {
	n := 0
	for rest = b; n < maxSegments && len(rest) > 0; n++ {
		var segment []byte
		segment, rest = firstSegment(rest, s.segSize)
		s.setHeader(n, segment, 0)
	}
	var retried retries
	for sent := 0; sent < n; {
		m, errno := s.f.calls.sendmmsg(fd, s.hdrs[sent:n])
		switch {
		case errno == 0 && m > 0: // a part, as a rule all: trap U5
			sent += m
			retried = retries{}
		case errno == 0:
			return rest, unix.EAGAIN
		case !s.retry(errno, &retried):
			return rest, errno
		case retried.source:
			for i := sent; i < n; i++ {
				s.setControl(&s.hdrs[i].Hdr, 0)
			}
		}
	}
	return rest, 0
}

// sendOne sends b with one sendmsg. segSize 0 sends it as one datagram.
func (s *sender) sendOne(fd int, b []byte, segSize int) syscall.Errno {
	s.setHeader(0, b, segSize)
	var retried retries
	for {
		errno := s.f.calls.sendmsg(fd, &s.hdrs[0].Hdr)
		if errno == 0 || segSize > 0 && errno == unix.EINVAL || !s.retry(errno, &retried) {
			return errno
		}
		if retried.source {
			s.setControl(&s.hdrs[0].Hdr, segSize)
		}
	}
}

// retries says what was tried again for one system call.
type retries struct{ refused, permission, source bool }

// retry reports whether a call that failed may succeed when it is repeated.
func (s *sender) retry(errno syscall.Errno, done *retries) bool {
	c := s.f.c
	switch errno {
	case unix.EINTR:
		return true
	case unix.ECONNREFUSED:
		// ICMP has answered an earlier datagram, this one did not go out, trap U1.
		c.refused()
		first := !done.refused
		done.refused = true
		return first
	case unix.EPERM: // trap U5
		c.counters.permission.Add(1)
		first := !done.permission
		done.permission = true
		return first
	case unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENODEV, unix.ENETUNREACH:
		// The address that the packet came to may be gone, by a change of network.
		if s.source == 0 {
			return false
		}
		s.source, s.sourceLost, done.source = 0, true, true
		c.counters.sourceFallback.Add(1)
		c.log.warn(logSource, "cannot send from the address that a packet came to", "err", errno)
		return true
	}
	return false
}

func (s *sender) setHeader(i int, b []byte, segSize int) {
	h := &s.hdrs[i].Hdr
	s.hdrs[i].Len = 0
	s.iovs[i].Base = nil
	if len(b) > 0 {
		s.iovs[i].Base = &b[0]
	}
	s.iovs[i].SetLen(len(b))
	h.Name, h.Namelen = s.name, s.nameLen
	h.Iov = &s.iovs[i]
	h.SetIovlen(1)
	h.Flags = 0
	s.setControl(h, segSize)
}

// setControl has all headers share one control buffer: segSize is set only for the
// only header.
func (s *sender) setControl(h *unix.Msghdr, segSize int) {
	n := s.source
	if segSize > 0 {
		n = len(appendSegmentSize(s.control[:n], segSize))
	}
	h.Control = nil
	if n > 0 {
		h.Control = &s.control[0]
	}
	h.SetControllen(n)
}
