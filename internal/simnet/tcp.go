package simnet

import (
	"container/heap"
	"context"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// TCPPath says what a path does to TCP, apart from what it does to packets. The zero
// TCPPath delivers everything at once. Nothing of a connection is ever lost for good:
// what a fault swallows is sent again, by the timers of RFC 6298, when it has ended.
//
// There is no congestion control: a connection sends what the path's Rate and the
// window of the other end permit, and what waits for its turn waits in the buffer of
// its sender. Connections share the Rate fairly.
type TCPPath struct {
	// Delay is the time from one end to the other. Connecting takes it twice.
	Delay time.Duration

	// Rate is what all connections on the path carry, in bytes of payload per second.
	// If zero, it is unlimited. It is not shared with packets.
	Rate int64

	// Loss is the probability that a segment of 1448 bytes is lost, and comes, with
	// all behind it, a round trip or a timeout later.
	Loss float64

	// Blocked has nothing pass, and nobody told: connections hang, and connecting too.
	Blocked bool

	// Stalled has nothing of established connections pass; connecting works.
	Stalled bool

	// Refused has those who connect in this direction refused, as by a firewall.
	Refused bool
}

// TCPStats counts what a path did.
type TCPStats struct {
	Segments, Bytes uint64 // sent, repeated ones too; Bytes of payload
	Acks            uint64 // segments without payload that acknowledge or open the window
	Dropped         uint64 // of all that was sent, by Blocked or Stalled
	Late            uint64 // by Loss
	Connects        uint64 // attempts to connect in this direction, repeated ones not
}

// Defaults and constants of TCP.
const (
	defaultTCPBuffer = 256 << 10
	tcpBacklog       = 128
	maxSegment       = 16 << 10 // as with segmentation offload
	wireSegment      = 1448     // what of it is one packet, for Loss
	minRTO           = 200 * time.Millisecond
	maxRTO           = 60 * time.Second
	firstSynTimeout  = time.Second
	synTimeout       = 127 * time.Second
	sendTimeout      = 15 * time.Minute // without an acknowledgement
)

// Errors of the operating system.
var (
	errRefused = os.NewSyscallError("connect", syscall.ECONNREFUSED)
	errReset   = os.NewSyscallError("read", syscall.ECONNRESET)
	errTimeout = os.NewSyscallError("read", syscall.ETIMEDOUT)
)

// tcpNet is all of TCP in a network.
type tcpNet struct {
	net *Net

	// One lock for all, below none of the others. Nobody waits with it but in a cond.
	mu        sync.Mutex
	closed    bool
	links     map[linkKey]*TCPLink
	listeners map[netip.AddrPort]*TCPListener
	conns     map[*TCPConn]struct{} // all that can still send or be reset
	ports     map[netip.Addr]uint16 // the last ephemeral one given out
	events    tcpEvents
	seq       uint64
	timer     *time.Timer
}

func newTCPNet(n *Net) *tcpNet {
	t := &tcpNet{
		net:       n,
		links:     make(map[linkKey]*TCPLink),
		listeners: make(map[netip.AddrPort]*TCPListener),
		conns:     make(map[*TCPConn]struct{}),
		ports:     make(map[netip.Addr]uint16),
	}
	t.timer = time.AfterFunc(time.Hour, t.fire)
	t.timer.Stop()
	return t
}

// tcpEvent is something that happens later.
type tcpEvent struct {
	due int64
	seq uint64
	f   func() // called with the lock
}

type tcpEvents []tcpEvent

func (h tcpEvents) Len() int { return len(h) }
func (h tcpEvents) Less(i, j int) bool {
	return h[i].due < h[j].due || h[i].due == h[j].due && h[i].seq < h[j].seq
}
func (h tcpEvents) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *tcpEvents) Push(x any)   { *h = append(*h, x.(tcpEvent)) }
func (h *tcpEvents) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = tcpEvent{}
	*h = old[:len(old)-1]
	return e
}

// at has f called at that time, after all that was to be called at the same time.
func (t *tcpNet) at(due int64, f func()) {
	if t.closed {
		return
	}
	t.seq++
	heap.Push(&t.events, tcpEvent{due, t.seq, f})
	if t.events[0].seq == t.seq {
		t.timer.Reset(time.Duration(due - t.net.now()))
	}
}

func (t *tcpNet) fire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.closed && len(t.events) > 0 && t.events[0].due <= t.net.now() {
		heap.Pop(&t.events).(tcpEvent).f()
	}
	if !t.closed && len(t.events) > 0 {
		t.timer.Reset(time.Duration(t.events[0].due - t.net.now()))
	}
}

func (t *tcpNet) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.timer.Stop()
	t.events = nil
	for _, l := range t.listeners {
		l.stop()
	}
	for c := range t.conns {
		c.abort(net.ErrClosed)
	}
}

// TCPLink is a path of TCP in one direction. It is safe for concurrent use.
type TCPLink struct {
	nw   *tcpNet
	path TCPPath
	rng  *rand.PCG

	busy    int64 // until then a segment is being sent
	waiting []*TCPConn
	armed   bool // an event will call pump
	stats   TCPStats
}

// TCP returns the path of TCP from one node to another.
func (n *Net) TCP(from, to Node) *TCPLink {
	n.tcp.mu.Lock()
	defer n.tcp.mu.Unlock()
	return n.tcp.link(from.Addr(), to.Addr())
}

// BothTCP sets the parameters of the paths of two nodes to each other.
func (n *Net) BothTCP(a, b Node, p TCPPath) {
	n.TCP(a, b).Set(p)
	n.TCP(b, a).Set(p)
}

// link finds or makes a path.
func (t *tcpNet) link(from, to netip.Addr) *TCPLink {
	key := linkKey{from, to}
	l := t.links[key]
	if l == nil {
		h := fnv.New64a()
		h.Write([]byte("tcp " + from.String() + ">" + to.String()))
		l = &TCPLink{nw: t, path: t.net.opts.TCP, rng: rand.NewPCG(t.net.opts.Seed, h.Sum64())}
		t.links[key] = l
	}
	return l
}

// Set changes the parameters of the path.
func (l *TCPLink) Set(p TCPPath) { l.Update(func(old *TCPPath) { *old = p }) }

// Update has f change the parameters of the path. f must not use the network. What is
// on its way arrives as it would have, also where the path is now Blocked or Stalled.
func (l *TCPLink) Update(f func(*TCPPath)) {
	l.nw.mu.Lock()
	defer l.nw.mu.Unlock()
	f(&l.path)
	if l.path.Rate == 0 {
		l.busy = 0
	}
	l.pump()
}

// Params returns the parameters of the path.
func (l *TCPLink) Params() TCPPath {
	l.nw.mu.Lock()
	defer l.nw.mu.Unlock()
	return l.path
}

// Stats returns the counters of the path.
func (l *TCPLink) Stats() TCPStats {
	l.nw.mu.Lock()
	defer l.nw.mu.Unlock()
	return l.stats
}

// pump has the connections that wait send, each a segment in turn.
func (l *TCPLink) pump() {
	now := l.nw.net.now()
	for len(l.waiting) > 0 && l.busy <= now {
		c := l.waiting[0]
		l.waiting = l.waiting[1:]
		c.queued = false
		n := c.transmit(now)
		if l.path.Rate > 0 {
			l.busy = now + int64(n)*int64(time.Second)/l.path.Rate
		}
		c.push()
	}
	if len(l.waiting) > 0 && !l.armed {
		l.armed = true
		l.nw.at(l.busy, func() {
			l.armed = false
			l.pump()
		})
	}
}

// segment is the largest that a connection sends at a time: little enough that a slow
// path is shared, and follows changes of its Rate.
func (l *TCPLink) segment() int64 {
	if l.path.Rate == 0 {
		return maxSegment
	}
	return min(max(l.path.Rate/100, wireSegment), maxSegment)
}

// lateness returns how much later than it could a segment comes, for Loss. last says
// that none follows that would show the other end the gap.
func (l *TCPLink) lateness(n int64, rtt time.Duration, last bool) time.Duration {
	if l.path.Loss <= 0 {
		return 0
	}
	lost := false
	for ; n > 0; n -= wireSegment {
		lost = hits(l.rng.Uint64(), l.path.Loss) || lost
	}
	if !lost {
		return 0
	}
	l.stats.Late++
	rto := max(minRTO, 2*rtt)
	late := rtt
	if last {
		late = rto
	}
	for hits(l.rng.Uint64(), l.path.Loss) && rto < maxRTO {
		late += rto
		rto *= 2
	}
	return late
}

// ResetTCP resets all connections between two nodes, as something in the middle does:
// both ends have ECONNRESET. It returns how many there were.
func (n *Net) ResetTCP(a, b Node) (count int) {
	n.tcp.mu.Lock()
	defer n.tcp.mu.Unlock()
	for c := range n.tcp.conns {
		if c.established && c.local.Addr() == a.Addr() && c.remote.Addr() == b.Addr() {
			count++
			c.abort(errReset)
			c.peer.abort(errReset)
		}
	}
	return count
}

// ForgetTCP has nothing pass any more on the connections that two nodes have now, as when
// a NAT has forgotten them; later ones work. It returns how many there were.
func (n *Net) ForgetTCP(a, b Node) (count int) {
	n.tcp.mu.Lock()
	defer n.tcp.mu.Unlock()
	for c := range n.tcp.conns {
		if c.established && c.local.Addr() == a.Addr() && c.remote.Addr() == b.Addr() {
			count++
			c.forgotten, c.peer.forgotten = true, true
		}
	}
	return count
}

// Crash has the host forget all its sockets, without a word to anybody: to those that
// have them they are closed. Later segments are answered with a reset.
func (h *Host) Crash() {
	n := h.net
	var open []*Conn
	n.tableMu.Lock()
	for a, c := range n.socks {
		if a.Addr() == h.addr {
			open = append(open, c)
		}
	}
	n.tableMu.Unlock()
	for _, c := range open {
		c.Close()
	}
	n.tcp.mu.Lock()
	defer n.tcp.mu.Unlock()
	for _, l := range n.tcp.listeners {
		if l.addr.Addr() == h.addr {
			l.stop()
		}
	}
	for c := range n.tcp.conns {
		if c.local.Addr() == h.addr {
			c.abort(net.ErrClosed)
		}
	}
}

// TCPListener is a listening socket.
type TCPListener struct {
	nw       *tcpNet
	addr     netip.AddrPort
	arrived  sync.Cond
	queue    []*TCPConn
	closed   bool
	deadline tcpDeadline
}

var _ net.Listener = (*TCPListener)(nil)

// ListenTCP opens a listening socket. Port 0 stands for a free one.
func (h *Host) ListenTCP(port int) (*TCPListener, error) {
	t := h.net.tcp
	t.mu.Lock()
	defer t.mu.Unlock()
	local := netip.AddrPortFrom(h.addr, uint16(port))
	if port == 0 {
		local = t.freePort(h.addr)
	}
	l := &TCPListener{nw: t, addr: local}
	l.arrived.L = &t.mu
	var err error
	switch {
	case t.closed:
		err = net.ErrClosed
	case t.listeners[local] != nil:
		err = errInUse
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: l.Addr(), Err: err}
	}
	t.listeners[local] = l
	return l, nil
}

// freePort returns an address with a port that was not used lately.
func (t *tcpNet) freePort(a netip.Addr) netip.AddrPort {
	p := max(t.ports[a]+1, firstEphemeral)
	t.ports[a] = p
	return netip.AddrPortFrom(a, p)
}

// Accept waits for a connection.
func (l *TCPListener) Accept() (net.Conn, error) {
	l.nw.mu.Lock()
	defer l.nw.mu.Unlock()
	for {
		switch {
		case l.closed:
			return nil, l.opError("accept", net.ErrClosed)
		case l.deadline.passed():
			return nil, l.opError("accept", os.ErrDeadlineExceeded)
		case len(l.queue) > 0:
			c := l.queue[0]
			l.queue = l.queue[1:]
			return c, nil
		}
		l.arrived.Wait()
	}
}

// Close ends listening; connections nobody has accepted are reset.
func (l *TCPListener) Close() error {
	l.nw.mu.Lock()
	defer l.nw.mu.Unlock()
	if l.closed {
		return l.opError("close", net.ErrClosed)
	}
	l.stop()
	for _, c := range l.queue {
		c.reset()
	}
	l.queue = nil
	return nil
}

func (l *TCPListener) stop() {
	l.closed = true
	delete(l.nw.listeners, l.addr)
	l.deadline.set(&l.arrived, time.Time{})
}

// SetDeadline makes Accept fail after t.
func (l *TCPListener) SetDeadline(t time.Time) error {
	l.nw.mu.Lock()
	defer l.nw.mu.Unlock()
	if l.closed {
		return l.opError("set", net.ErrClosed)
	}
	l.deadline.set(&l.arrived, t)
	return nil
}

// Addr returns a *net.TCPAddr.
func (l *TCPListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

func (l *TCPListener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: l.Addr(), Err: err}
}

// DialTCP connects. Without an answer it waits for ctx, or for two minutes, as Linux.
func (h *Host) DialTCP(ctx context.Context, to netip.AddrPort) (*TCPConn, error) {
	t := h.net.tcp
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.newConn(t.freePort(h.addr), to)
	fail := func(err error) (*TCPConn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	}
	if t.closed {
		return fail(net.ErrClosed)
	}
	defer context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		c.ready.Broadcast()
	})()
	t.conns[c] = struct{}{}
	c.out.stats.Connects++
	c.connect(firstSynTimeout)
	start := time.Now()
	for !c.established && c.err == nil {
		if err := ctx.Err(); err != nil {
			c.abort(err)
		} else if time.Since(start) >= synTimeout {
			c.abort(os.NewSyscallError("connect", syscall.ETIMEDOUT))
		} else {
			c.ready.Wait()
		}
	}
	if c.err != nil {
		return fail(c.err)
	}
	return c, nil
}
