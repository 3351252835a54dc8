package udpio

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxBatch is how many buffers one recvmmsg fills.
const maxBatch = 16

// A recvBatch is what recvmmsg writes to. The headers point to the other fields, once
// and for all.
type recvBatch struct {
	hdrs    [maxBatch]unix.Mmsghdr
	iovs    [maxBatch]unix.Iovec
	names   [maxBatch]unix.RawSockaddrInet6 // the larger of both families
	control [maxBatch][controlSpace]byte
	bufs    [maxBatch][]byte // made when first used, see prepare
}

// recvBatches holds the batches of all sockets: only sockets that have just been
// readable have one.
var recvBatches = sync.Pool{New: func() any { return newRecvBatch() }}

func newRecvBatch() *recvBatch {
	b := new(recvBatch)
	for i := range b.hdrs {
		h := &b.hdrs[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Control = &b.control[i][0]
	}
	return b
}

// prepare makes n headers ready, with buffers of size bytes. The kernel has written to
// all these fields since they were last used.
func (b *recvBatch) prepare(n, size int) {
	for i := range n {
		if b.bufs[i] == nil {
			b.bufs[i] = make([]byte, bufferSize)
			b.iovs[i].Base = &b.bufs[i][0]
		}
		b.iovs[i].SetLen(size)
		h := &b.hdrs[i].Hdr
		h.Namelen = uint32(unsafe.Sizeof(b.names[i]))
		h.SetControllen(controlSpace)
		h.Flags = 0
		b.hdrs[i].Len = 0
	}
}

// A receiver is owned by the goroutine in Read.
type receiver struct {
	f       *fast
	size    int // of a buffer; smaller in tests
	batch   *recvBatch
	readyFn func(fd uintptr) bool // made once: a closure for each call would be garbage
	depth   int                   // packets to ask for
	lone    int                   // how many reads in a row have waited and got one packet

	// One call of readyFn:
	want  int // in: packets
	n     int // out: packets
	errno syscall.Errno
	dry   bool // out: there was nothing at first
}

func (r *receiver) init(f *fast) {
	r.f = f
	r.size = bufferSize
	r.readyFn = r.ready
	r.depth = minDepth
}

// minDepth is how many packets a socket is asked for that has had few: what is asked
// for needs memory and time, also when it does not come.
const minDepth = 2

// loneReads is after how many lone packets the socket is asked for no more than one: to
// look for a second one in vain costs as much as to find it.
const loneReads = 4

// ask sets how many packets to ask for.
func (r *receiver) ask(most int) {
	r.want = min(most, r.depth)
	if r.lone == loneReads {
		r.want = 1
	}
}

// adapt follows how many packets the socket has at a time.
func (r *receiver) adapt() {
	if !r.dry || r.n > 1 {
		r.lone = 0
	} else if r.lone < loneReads {
		r.lone++
	}
	if r.want < minDepth {
		return
	}
	switch {
	case r.n == r.want:
		r.depth = min(2*r.want, maxBatch)
	case r.n <= r.depth/4:
		r.depth = max(r.depth/2, minDepth)
	}
}

func (r *receiver) read(ps []Packet) (int, error) {
	r.ask(len(ps))
	if poison && r.batch != nil {
		for i := range r.n {
			overwrite(r.batch.bufs[i][:min(int(r.batch.hdrs[i].Len), r.size)])
		}
	}
	r.n, r.errno, r.dry = 0, 0, false
	if err := r.f.raw.Read(r.readyFn); err != nil {
		r.giveBack()
		return 0, err
	}
	if r.errno != 0 {
		return 0, r.errno
	}
	r.adapt()
	n := 0
	for i := range r.n {
		if r.packet(i, &ps[n]) {
			n++
		}
	}
	return n, nil
}

// ready is called with the socket ready or not known to be; false waits until it is.
// While it waits, the socket holds no buffers.
func (r *receiver) ready(fd uintptr) bool {
	if r.batch == nil {
		r.batch = recvBatches.Get().(*recvBatch)
	}
	r.batch.prepare(r.want, r.size)
	for {
		r.n, r.errno = r.call(int(fd))
		switch r.errno {
		case 0:
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			r.dry = true
			r.giveBack()
			return false
		case unix.ENOSYS, unix.EPERM: // an old kernel, a sandbox
			if r.f.mmsg.CompareAndSwap(true, false) {
				r.f.c.mmsgMissing()
				continue
			}
		}
		return true
	}
}

func (c *Conn) mmsgMissing() {
	c.counters.mmsgFallback.Add(1)
	c.log.warn(logMMsg, "no recvmmsg or sendmmsg, reading and writing datagrams one by one")
}

func (r *receiver) call(fd int) (int, syscall.Errno) {
	b := r.batch
	if r.f.mmsg.Load() {
		return r.f.calls.recvmmsg(fd, b.hdrs[:r.want])
	}
	n, errno := r.f.calls.recvmsg(fd, &b.hdrs[0].Hdr)
	if errno != 0 {
		return 0, errno
	}
	b.hdrs[0].Len = uint32(n)
	return 1, 0
}

func (r *receiver) giveBack() {
	if r.batch != nil {
		recvBatches.Put(r.batch)
		r.batch = nil
	}
}

// packet reports whether the i-th packet of the batch is of use.
func (r *receiver) packet(i int, p *Packet) bool {
	b, c := r.batch, r.f.c
	h := &b.hdrs[i]
	n := int(h.Len)
	if h.Hdr.Flags&unix.MSG_TRUNC != 0 || n > r.size {
		c.counters.truncated.Add(1) // trap U10
		return false
	}
	from, ok := r.source(&b.names[i])
	if !ok {
		c.counters.badAddrs.Add(1)
		return false
	}
	local, segSize := parseControl(b.control[i][:h.Hdr.Controllen])
	if h.Hdr.Flags&unix.MSG_CTRUNC != 0 && segSize == 0 && r.f.gro.Load() {
		// Whether these are several datagrams was in what got lost.
		c.counters.truncated.Add(1)
		return false
	}
	if segSize < 0 || segSize >= n {
		segSize = 0
	}
	if at := r.f.bound.Load(); at.Addr.IsValid() {
		local = *at
	}
	*p = Packet{Data: b.bufs[i][:n:n], SegSize: segSize, Addr: Addr{AddrPort: from}, Local: local}
	return true
}

// source reads the address that the kernel has written. Its family is in the machine's
// byte order, the port in the network's.
func (r *receiver) source(name *unix.RawSockaddrInet6) (netip.AddrPort, bool) {
	switch name.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), networkOrder(v4.Port)), true
	case unix.AF_INET6:
		return r.f.zones.addrPort(netip.AddrFrom16(name.Addr), int(name.Scope_id), networkOrder(name.Port)), true
	}
	return netip.AddrPort{}, false
}

// networkOrder swaps the bytes of n on machines that need it.
func networkOrder(n uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], n)
	return binary.BigEndian.Uint16(b[:])
}
