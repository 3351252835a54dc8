// Package udpio reads and writes UDP datagrams in batches.
//
// # Usage
//
// New wraps any net.PacketConn. One goroutine calls Read, any number call Write:
//
//	c := udpio.New(pc, udpio.Options{})
//	n, err := c.Read(packets)
//	err = c.Write(datagrams, segSize, packets[0].Addr, packets[0].Local)
//
// # The fast path
//
// On Linux a *net.UDPConn is read with recvmmsg and UDP_GRO and written with
// UDP_SEGMENT (GSO) or sendmmsg; it answers from the address that a packet came to.
// So is any other net.PacketConn that has the method SyscallConn and is a UDP socket
// underneath: a wrapper that wants to see, count or delay packets must not have that
// method (embed net.PacketConn, not *net.UDPConn), or Options.NoFastPath must be set.
// Everything else is read and written one datagram at a time with ReadFrom and
// WriteTo, with no system calls of its own, so that it works in a synctest bubble.
//
// The environment variable VSTP_UDP_OFFLOAD switches parts off for every Conn made
// after it was set. It is a list, separated by commas:
//
//	off     no fast path at all
//	nogso   no UDP_SEGMENT
//	nogro   no UDP_GRO
//	nommsg  recvmsg and sendmsg instead of recvmmsg and sendmmsg
//	nosteer no choice among sockets that share a port but the kernel's own
//
// # Guarantees
//
// Read survives every error that is not final: ICMP errors, oversized and truncated
// datagrams, lack of memory. Repeated errors are answered with growing pauses.
// An offload that the kernel or a device refuses at run time is given up, and what
// was to be sent with it is sent without it.
//
// # Limitations
//
// Write does not wait for room in the socket's buffer on the fast path; elsewhere it
// waits if the PacketConn does. Where a packet arrived is known on Linux only.
package udpio

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxPayload is the largest UDP payload over IPv4: 65,535 less 20 bytes of IPv4
	// header (RFC 791 section 3.1) and 8 of UDP header (RFC 768).
	maxPayload = 65507

	// bufferSize holds the largest datagram, and the largest that GRO coalesces.
	bufferSize = 1 << 16

	// maxSegments is UDP_MAX_SEGMENTS of the first kernels with UDP_SEGMENT.
	maxSegments = 64

	minDatagram     = 1200 // every path carries it, PROTOCOL 1
	genericDatagram = 1472 // an Ethernet frame less IPv4 and UDP headers

	socketBuffer = 7 << 20
)

// Errors of Write. Any other error except net.ErrClosed is of this one datagram and
// its destination; the Conn stays usable.
var (
	// ErrAgain says that the socket's send buffer is full. Nothing or a part was sent.
	ErrAgain = errors.New("udpio: send buffer is full")

	// ErrInterrupted is returned by Read after Interrupt.
	ErrInterrupted = errors.New("udpio: interrupted")

	// ErrTooLarge says that a datagram does not fit the path or UDP.
	ErrTooLarge = errors.New("udpio: datagram too large")
)

// Local is where a packet arrived: the zero value if that is not known. It is
// comparable.
type Local struct {
	Addr  netip.Addr // unmapped, without a zone
	Index int        // of the interface, 0 if unknown
}

// A Packet is what Read gets: one datagram or several of one sender.
type Packet struct {
	Data []byte // valid until the next Read

	// SegSize is zero for one datagram. Otherwise Data is datagrams of SegSize bytes
	// one after the other, of which the last may be shorter.
	SegSize int

	Addr  Addr
	Local Local
}

// Options of a Conn. The zero value is the default for each field.
type Options struct {
	// MaxDatagram is what Conn.MaxDatagram returns. If zero, it depends on the conn.
	MaxDatagram int

	// Buffer is the size in bytes asked of the system for the socket's receive and
	// send buffers. If zero, 7 MiB. If negative, they are left alone.
	Buffer int

	NoFastPath bool // as VSTP_UDP_OFFLOAD=off
	NoGSO      bool // as nogso
	NoGRO      bool // as nogro
	NoMMsg     bool // as nommsg

	// Logger gets rare warnings, at most a few a minute. If nil, there are none.
	Logger *slog.Logger
}

// Stats of a Conn.
type Stats struct {
	RecvBuffer, SendBuffer int // bytes granted, 0 if unknown

	FastPath       bool
	GSO, GRO, MMsg bool // what is in use now

	ReadErrors     uint64 // transient errors of Read, Refused ones excluded
	Refused        uint64 // ICMP "port unreachable" seen by Read or Write
	Truncated      uint64 // datagrams dropped because they were cut
	BadAddrs       uint64 // datagrams dropped because of the sender's address
	WriteErrors    uint64 // errors returned by Write, the two below excluded
	Again          uint64 // ErrAgain
	TooLarge       uint64 // ErrTooLarge
	Permission     uint64 // EPERM while sending, retried ones included
	GSOFallback    uint64 // times that segments had to be sent one by one
	MMsgFallback   uint64 // times that a batch call was missing (ENOSYS)
	SourceFallback uint64 // times that Local could not be used as source
}

// Add adds the counters of another Conn. Sizes and switches stay.
func (s *Stats) Add(o Stats) {
	s.ReadErrors += o.ReadErrors
	s.Refused += o.Refused
	s.Truncated += o.Truncated
	s.BadAddrs += o.BadAddrs
	s.WriteErrors += o.WriteErrors
	s.Again += o.Again
	s.TooLarge += o.TooLarge
	s.Permission += o.Permission
	s.GSOFallback += o.GSOFallback
	s.MMsgFallback += o.MMsgFallback
	s.SourceFallback += o.SourceFallback
}

// A Conn is a net.PacketConn read and written in batches.
type Conn struct {
	pc  net.PacketConn
	opt Options
	io  socketIO

	socket      socketInfo
	maxDatagram int

	raw   syscall.RawConn             // nil if there is none
	peer  *net.UDPAddr                // of a connected socket
	local atomic.Pointer[net.UDPAddr] // after Reconnect

	interrupted atomic.Bool // between Interrupt and Resume

	onRefused func() // nil, or see OnRefused

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error

	log      limiter
	counters counters
}

// socketIO is one of the two ways to reach the socket.
type socketIO interface {
	// read is called by one goroutine. It returns 0 packets and no error if there was
	// something, but nothing of use.
	read(ps []Packet) (int, error)
	write(b []byte, segSize int, to Addr, from Local) error
	maxSegments() int
	moved(local net.Addr) // the socket has another address
	state() (gso, gro, mmsg bool)
}

type counters struct {
	readErrors, refused, truncated, badAddrs, writeErrors, again, tooLarge,
	permission, gsoFallback, mmsgFallback, sourceFallback atomic.Uint64
}

// New returns a Conn that uses pc. It starts no goroutine. If pc is a UDP socket, its
// buffers are enlarged and fragmentation is forbidden where the system allows that.
func New(pc net.PacketConn, o Options) *Conn {
	o.applyEnv()
	c := &Conn{pc: pc, opt: o, closed: make(chan struct{}), log: limiter{logger: o.Logger}}
	target := o.Buffer
	if target == 0 {
		target = socketBuffer
	}
	raw := rawConn(pc)
	c.raw = raw
	if raw != nil {
		c.socket = tune(raw, target)
		c.checkBuffers(target)
	} else if target > 0 {
		askBuffers(pc, target)
	}
	if c.socket.isUDP {
		c.peer = peerOf(pc)
	}
	c.maxDatagram = c.chooseMaxDatagram()
	if c.socket.isUDP && !o.NoFastPath {
		c.io = newFast(c, raw)
	}
	if c.io == nil {
		c.io = newGeneric(c)
	}
	return c
}

func (c *Conn) checkBuffers(target int) {
	s := c.socket
	if s.isUDP && target > 0 && (s.recvBuffer < target || s.sendBuffer < target) {
		c.log.warn(logBuffers, "udp socket buffers are smaller than asked for",
			"asked", target, "receive", s.recvBuffer, "send", s.sendBuffer)
	}
}

func (c *Conn) chooseMaxDatagram() int {
	switch {
	case c.opt.MaxDatagram > 0:
		return min(c.opt.MaxDatagram, maxPayload)
	case c.socket.isUDP && c.socket.recvBuffer > 0:
		// A sixteenth, so that one sender's burst does not empty the buffer for all.
		return max(minDatagram, min(maxPayload, c.socket.recvBuffer/16))
	}
	return genericDatagram
}

// Read waits for datagrams and fills ps from the front. It must not be called from
// two goroutines at a time. Errors are final: net.ErrClosed, or what else ended the
// socket.
func (c *Conn) Read(ps []Packet) (int, error) {
	if len(ps) == 0 {
		return 0, nil
	}
	var pause time.Duration
	cheap := 0
	for {
		n, err := c.io.read(ps)
		if n > 0 {
			ioAcquire()
			return n, nil
		}
		if c.isClosed() {
			return 0, net.ErrClosed
		}
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && c.interrupted.Load() {
			return 0, ErrInterrupted
		}
		wait := time.Duration(0)
		switch kindOf(err) {
		case kindClosed:
			return 0, net.ErrClosed
		case kindFatal:
			return 0, err
		case kindRefused:
			c.refused()
			cheap++
		case kindTooLarge: // trap U3
			c.counters.truncated.Add(1)
			cheap++
		default:
			c.counters.readErrors.Add(1)
			c.log.warn(logRead, "udp read failed", "err", err)
			wait, pause = pause, min(max(2*pause, time.Millisecond), maxPause)
		}
		if cheap == maxCheap {
			cheap, wait = 0, time.Millisecond
		}
		if wait > 0 && !c.sleep(wait) {
			return 0, net.ErrClosed
		}
	}
}

// maxCheap is how many errors in a row are taken for what they say, one datagram gone
// wrong each, and so do not slow Read down: otherwise an unreachable peer would slow
// it for all others, trap S11. But a conn that does nothing else must not make us spin.
const maxCheap = 64

// maxPause bounds how long a packet waits after a row of read errors.
const maxPause = 250 * time.Millisecond

// sleep reports whether the Conn is still open after d.
func (c *Conn) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.closed:
		return false
	}
}

// Write sends b to an address: one datagram if segSize is zero or not less than
// len(b), otherwise datagrams of segSize, of which the last may be shorter. from is
// the Local of a packet to answer, or the zero value. b is not kept. Write is safe for
// concurrent use.
func (c *Conn) Write(b []byte, segSize int, to Addr, from Local) error {
	largest := segSize
	if segSize <= 0 || segSize >= len(b) {
		segSize, largest = 0, len(b)
	}
	err := ErrTooLarge
	if largest <= maxPayload {
		ioRelease()
		err = c.io.write(b, segSize, to, from)
	}
	if err == nil {
		return nil
	}
	return c.writeError(err)
}

func (c *Conn) writeError(err error) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	switch kindOf(err) {
	case kindClosed:
		return net.ErrClosed
	case kindAgain:
		c.counters.again.Add(1)
		return ErrAgain
	case kindTooLarge:
		c.counters.tooLarge.Add(1)
		return ErrTooLarge
	}
	c.counters.writeErrors.Add(1)
	return err
}

// OnRefused has f called whenever the peer of a connected socket, to which nobody else
// sends, is reported to have nobody who listens, by Read or Write, which call f. Of other
// sockets it is not known which peer that was, and f is never called. OnRefused comes
// before the first Read and Write.
func (c *Conn) OnRefused(f func()) {
	if u, ok := c.pc.(*net.UDPConn); ok && u.RemoteAddr() != nil {
		c.onRefused = f
	}
}

// refused counts an ICMP "port unreachable".
func (c *Conn) refused() {
	c.counters.refused.Add(1)
	if c.onRefused != nil {
		c.onRefused()
	}
}

// CanInterrupt reports whether Interrupt works: the conn is a socket of package net,
// of which the deadlines are known to.
func (c *Conn) CanInterrupt() bool {
	_, ok := c.pc.(*net.UDPConn)
	return ok
}

// Interrupt makes a blocked Read, and all later ones, return ErrInterrupted until
// Resume is called. Both may be called while Read is, but not at the same time.
func (c *Conn) Interrupt() {
	c.interrupted.Store(true)
	c.pc.SetReadDeadline(time.Unix(1, 0))
}

// Resume ends what Interrupt began.
func (c *Conn) Resume() {
	c.interrupted.Store(false)
	c.pc.SetReadDeadline(time.Time{})
}

// MaxSegments returns how many datagrams one Write should carry at most: 1 if they
// are not sent together.
func (c *Conn) MaxSegments() int { return c.io.maxSegments() }

// MaxDatagram returns the size of the largest datagram that is worth receiving.
func (c *Conn) MaxDatagram() int { return c.maxDatagram }

// LocalAddr returns the address of the socket.
func (c *Conn) LocalAddr() net.Addr {
	if a := c.local.Load(); a != nil {
		return a
	}
	return c.pc.LocalAddr()
}

// Close closes the net.PacketConn and ends a blocked Read.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		close(c.closed)
		c.closeErr = c.pc.Close()
	})
	return c.closeErr
}

func (c *Conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Stats returns the counters so far. It is safe for concurrent use.
func (c *Conn) Stats() Stats {
	n := &c.counters
	s := Stats{
		RecvBuffer:     c.socket.recvBuffer,
		SendBuffer:     c.socket.sendBuffer,
		ReadErrors:     n.readErrors.Load(),
		Refused:        n.refused.Load(),
		Truncated:      n.truncated.Load(),
		BadAddrs:       n.badAddrs.Load(),
		WriteErrors:    n.writeErrors.Load(),
		Again:          n.again.Load(),
		TooLarge:       n.tooLarge.Load(),
		Permission:     n.permission.Load(),
		GSOFallback:    n.gsoFallback.Load(),
		MMsgFallback:   n.mmsgFallback.Load(),
		SourceFallback: n.sourceFallback.Load(),
	}
	_, generic := c.io.(*generic)
	s.FastPath = !generic
	s.GSO, s.GRO, s.MMsg = c.io.state()
	return s
}
