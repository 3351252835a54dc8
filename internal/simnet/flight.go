package simnet

import (
	"net/netip"
	"sync"
	"time"
)

// packet is a packet on its way, or waiting for its reader.
type packet struct {
	buf      []byte
	src, dst netip.AddrPort
	vnet     *vnetConn // has vnet carry it; nil: no vnet
	link     *Link
	leaves   int64  // when it leaves the queue of the path, in ns since Net.start
	due      int64  // when it arrives
	seq      uint64 // the order of those due at the same time
	index    int    // in the heap
	held     bool   // in link.held
	twin     bool   // the copy of another one
}

var packets = sync.Pool{New: func() any { return &packet{buf: make([]byte, 0, 2048)} }}

// newPacket returns a packet with a copy of b.
func newPacket(b []byte) *packet {
	p := packets.Get().(*packet)
	p.buf = append(p.buf[:0], b...)
	return p
}

// recycle gives the packet back; nobody may have it any more.
func (p *packet) recycle() {
	const largest = 1 << 16
	if cap(p.buf) > largest {
		return
	}
	*p = packet{buf: p.buf[:0]}
	packets.Put(p)
}

// now returns the time since the start, in nanoseconds.
func (n *Net) now() int64 { return int64(time.Since(n.start)) }

// launch brings a packet on its way. Without any way to go and nothing in front of it,
// it arrives right now. n.mu is held.
func (n *Net) launch(now int64, p *packet) {
	l := p.link
	if p.due <= now && l.flying == 0 {
		n.land(p)
		return
	}
	n.seq++
	p.seq = n.seq
	l.flying++
	n.flying.push(p)
	if p.index == 0 {
		n.arm(now)
	}
}

// arm sets the timer for the next packet. n.mu is held.
func (n *Net) arm(now int64) {
	if len(n.flying) == 0 {
		return
	}
	if due := n.flying[0].due; due != n.armed {
		n.armed = due
		n.timer.Reset(time.Duration(due - now))
	}
}

// fire lets arrive what is due.
func (n *Net) fire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.armed = 0
	if n.closed {
		return
	}
	now := n.now()
	for len(n.flying) > 0 && n.flying[0].due <= now {
		p := n.flying.pop()
		p.link.flying--
		if p.held {
			p.link.landed(p)
		}
		n.land(p)
	}
	n.arm(now)
}

// land hands a packet to the other host, by way of vnet if that is used. n.mu is held.
func (n *Net) land(p *packet) {
	l := p.link
	l.stats.Arrived++
	l.stats.ArrivedSize += uint64(len(p.buf))
	if p.vnet != nil {
		p.vnet.send(p.buf, p.dst)
		p.recycle()
		return
	}
	n.arrive(p)
}

// arrive puts a packet into the socket it is for.
func (n *Net) arrive(p *packet) bool {
	n.tableMu.RLock()
	c := n.socks[p.dst]
	if c == nil && n.hosts[p.dst.Addr()] == nil {
		n.noHost.Add(1)
	} else if c == nil {
		n.noSocket.Add(1)
	}
	n.tableMu.RUnlock()
	if c == nil {
		p.recycle()
		return false
	}
	return c.push(p)
}

// packetHeap is a heap by due time; by name of the path and order of sending for those
// due at the same time, so that the order of paths does not depend on the scheduler.
type packetHeap []*packet

func (h packetHeap) less(a, b *packet) bool {
	switch {
	case a.due != b.due:
		return a.due < b.due
	case a.link != b.link:
		return a.link.name < b.link.name
	}
	return a.seq < b.seq
}

func (h *packetHeap) push(p *packet) {
	p.index = len(*h)
	*h = append(*h, p)
	h.up(p.index)
}

func (h *packetHeap) pop() *packet {
	old := *h
	p, last := old[0], len(old)-1
	old[0] = old[last]
	old[0].index = 0
	old[last] = nil
	*h = old[:last]
	if last > 0 {
		h.down(0)
	}
	return p
}

func (h packetHeap) fix(i int) {
	if !h.up(i) {
		h.down(i)
	}
}

func (h packetHeap) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

// up moves a packet towards the root and reports whether it moved.
func (h packetHeap) up(i int) bool {
	p, from := h[i], i
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(p, h[parent]) {
			break
		}
		h[i] = h[parent]
		h[i].index = i
		i = parent
	}
	h[i], p.index = p, i
	return i != from
}

func (h packetHeap) down(i int) {
	p := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h.less(h[child+1], h[child]) {
			child++
		}
		if !h.less(h[child], p) {
			break
		}
		h[i] = h[child]
		h[i].index = i
		i = child
	}
	h[i], p.index = p, i
}
