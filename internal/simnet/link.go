package simnet

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

const (
	defaultReorderDepth = 3
	defaultReorderHold  = 10 * time.Millisecond
)

// dice are the random values of one packet. Always all of them are drawn.
type dice struct {
	loss, burst, burstLoss, corrupt, damage, dup, dupDelay, reorder, depth, jitter uint64
}

func (l *Link) roll() dice {
	r := l.rng
	return dice{
		r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(),
		r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(),
	}
}

// hits reports whether an event of probability p happens.
func hits(die uint64, p float64) bool {
	return p > 0 && float64(die>>11)/(1<<53) < p
}

// share returns a value in [0, d).
func share(die uint64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(float64(die>>11) / (1 << 53) * float64(d))
}

// send takes a packet from a socket and brings it on its way.
func (l *Link) send(src, dst netip.AddrPort, vnet *vnetConn, b []byte) error {
	n := l.net
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	p := newPacket(b)
	p.link, p.src, p.dst, p.vnet = l, src, dst, vnet

	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		p.recycle()
		return nil // as if it was lost
	}
	filtered := false
	if f := l.filter; f != nil {
		n.mu.Unlock()
		filtered = f(l.count, p.buf) // l.sendMu keeps l.count
		n.mu.Lock()
	}
	now, d := n.now(), l.roll()
	fate := l.decide(now, p, filtered, &d)
	if n.trace != nil {
		n.trace.add(now, p, l.count, fate)
	}
	if f := n.onSend; f != nil {
		ev := Event{At: time.Duration(now), From: src, To: dst, N: l.count, Data: p.buf, Fate: fate}
		n.mu.Unlock()
		f(ev)
		n.mu.Lock()
	}
	l.count++
	if fate.Arrives() && !n.closed {
		l.depart(now, p, fate, &d)
	} else {
		p.recycle()
	}
	if fate&TooLarge != 0 && l.path.MTUError {
		return errTooLarge
	}
	return nil
}

// decide finds out what becomes of a packet and counts it, and sets its due time. The
// lock of the network is held.
func (l *Link) decide(now int64, p *packet, filtered bool, d *dice) Fate {
	size := len(p.buf)
	l.stats.Sent++
	l.stats.SentBytes += uint64(size)
	lost := l.loses(d)
	switch headers := headerSize(p.dst.Addr()); {
	case filtered:
		l.stats.Filtered++
		return Filtered
	case l.path.MTU > 0 && size+headers > l.path.MTU:
		l.stats.TooLarge++
		return TooLarge
	case l.path.Down:
		l.stats.Down++
		return Down
	case !l.enqueue(now, size+l.path.Overhead):
		l.stats.QueueFull++
		return QueueFull
	case lost:
		l.stats.Lost++
		return Lost
	}
	if p.leaves = max(now, l.busy); l.path.Police {
		p.leaves = now
	}
	p.due = p.leaves + int64(l.path.Delay) + share(d.jitter, l.path.Jitter)
	if !l.path.JitterReorders {
		p.due = max(p.due, l.lastDue)
	}
	var fate Fate
	if hits(d.corrupt, l.path.Corrupt) && size > 0 {
		l.stats.Corrupted++
		fate |= Corrupted
	}
	if hits(d.dup, l.path.Duplicate) {
		l.stats.Duplicated++
		fate |= Duplicated
	}
	if hits(d.reorder, l.path.Reorder) {
		fate |= Held
	} else {
		l.lastDue = p.due
	}
	return fate
}

// headerSize returns what UDP and IP add to a payload.
func headerSize(a netip.Addr) int {
	if a.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// loses reports whether the packet is lost, and moves the state of bursts. Every packet
// does that, what ever becomes of it.
func (l *Link) loses(d *dice) bool {
	lost := hits(d.loss, l.path.Loss)
	if g := l.path.Burst; g != nil {
		if l.bad {
			l.bad = !hits(d.burst, g.ToGood)
		} else {
			l.bad = hits(d.burst, g.ToBad)
		}
		switch {
		case !l.bad:
			lost = lost || hits(d.burstLoss, g.LossGood)
		case g.LossBad == 0:
			lost = true
		default:
			lost = lost || hits(d.burstLoss, g.LossBad)
		}
	}
	return lost
}

// enqueue puts size bytes into the queue and reports whether there was room.
func (l *Link) enqueue(now int64, size int) bool {
	if l.path.Rate <= 0 {
		return true
	}
	l.drain(now)
	if l.path.Queue > 0 && l.queued+size > l.path.Queue {
		return false
	}
	if l.busy <= now {
		l.busy, l.rest = now, 0
	}
	l.busy += l.sendTime(size)
	l.queue = append(l.queue, queued{leaves: l.busy, size: size})
	l.queued += size
	l.stats.MaxQueue = max(l.stats.MaxQueue, l.queued)
	return true
}

// sendTime returns how long the path with a rate is busy with size bytes.
func (l *Link) sendTime(size int) int64 {
	t := int64(size)*int64(time.Second) + l.rest
	l.rest = t % l.path.Rate
	return t / l.path.Rate
}

// drain forgets what has left the queue.
func (l *Link) drain(now int64) {
	i := 0
	for ; i < len(l.queue) && l.queue[i].leaves <= now; i++ {
		l.queued -= l.queue[i].size
	}
	l.queue = l.queue[i:]
}

// changeRate moves the packets in the queue to where the new rate puts them.
func (l *Link) changeRate(old int64) {
	n := l.net
	now := n.now()
	l.drain(now)
	l.rest = 0
	busy := now
	moved := make(map[int64]int64, len(l.queue))
	for i := range l.queue {
		q := &l.queue[i]
		size := q.size
		if i == 0 { // partly sent
			size = min(size, int(float64(q.leaves-now)*float64(old)/float64(time.Second)+0.5))
		}
		if l.path.Rate > 0 {
			busy += l.sendTime(size)
		}
		moved[q.leaves] = busy - q.leaves
		q.leaves = busy
	}
	if len(moved) == 0 {
		return
	}
	l.busy = busy
	l.drain(now)
	var mine []*packet
	for _, p := range n.flying {
		if p.link == l {
			mine = append(mine, p)
		}
	}
	slices.SortFunc(mine, func(a, b *packet) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.seq, b.seq))
	})
	l.lastDue = 0
	for _, p := range mine {
		shift := moved[p.leaves] // 0 for those that have left
		p.leaves += shift
		p.due += shift
		if !p.held && !p.twin && !l.path.JitterReorders { // as Jitter has it, in order
			p.due = max(p.due, l.lastDue)
			l.lastDue = p.due
		}
	}
	n.flying.init()
	n.arm(now)
}

// depart sends a packet that will arrive off, and its copy.
func (l *Link) depart(now int64, p *packet, fate Fate, d *dice) {
	if fate&Corrupted != 0 {
		p.buf[int(d.damage>>8)%len(p.buf)] ^= 1 + byte(d.damage)%255
	}
	var twin *packet
	if fate&Duplicated != 0 {
		twin = newPacket(p.buf)
		twin.link, twin.src, twin.dst, twin.vnet, twin.leaves = l, p.src, p.dst, p.vnet, p.leaves
		twin.twin = true
		twin.due = p.due + share(d.dupDelay, l.path.DuplicateDelay)
	}
	due := p.due
	if fate&Held != 0 {
		hold, depth := l.path.ReorderHold, l.path.ReorderDepth
		if hold <= 0 {
			hold = defaultReorderHold
		}
		if depth <= 0 {
			depth = defaultReorderDepth
		}
		p.due += int64(hold)
		l.held = append(l.held, &heldPacket{p: p, left: 1 + int(d.depth%uint64(depth))})
		p.held = true
	}
	l.net.launch(now, p)
	if fate&Held == 0 {
		l.passHeld(due)
	}
	if twin != nil {
		l.net.launch(now, twin)
	}
}

// passHeld tells the packets held back that another one arrives at due, and lets go
// those for which it is the last they wait for: these arrive right behind it.
func (l *Link) passHeld(due int64) {
	if len(l.held) == 0 {
		return
	}
	n, kept := l.net, l.held[:0]
	for _, h := range l.held {
		if h.p.due <= due { // arrives before, its time is up
			h.p.held = false
			continue
		}
		if !h.passed {
			h.passed = true
			l.stats.Reordered++
		}
		if h.left--; h.left > 0 {
			kept = append(kept, h)
			continue
		}
		h.p.held = false
		h.p.due = due
		n.seq++
		h.p.seq = n.seq
		n.flying.fix(h.p.index)
	}
	l.held = kept
	n.arm(n.now())
}

// landed forgets a packet held back whose time was up.
func (l *Link) landed(p *packet) {
	for i, h := range l.held {
		if h.p == p {
			l.held = append(l.held[:i], l.held[i+1:]...)
			return
		}
	}
}
