package reliable

import "time"

// Path MTU discovery by probing, RFC 8899. PROTOCOL §7.11.
const (
	mtuProbes        = 3  // MAX_PROBES, RFC 8899 §5.1.2
	mtuFullPackets   = 10 // that must have gone out before a larger size is worth a probe
	mtuResolution    = 32 // the search ends when it knows the size this well
	mtuBlackHoleLoss = 8  // large packets lost in a row while small ones pass
	mtuBlackHolePTOs = 3  // for at least as long
	mtuBaseLoss      = 4  // packets that every path should carry, lost in a row while small ones pass
	smallDatagram    = 512
	mtuFirstRaise    = 5 * time.Second
	mtuRaise         = 10 * time.Minute // PMTU_RAISE_TIMER
)

// mtuLadder is the sizes of datagrams that are tried, as long as they pass: payloads
// for tunnels, Ethernet over IPv6 and IPv4, jumbo frames, and loopback interfaces.
var mtuLadder = [...]int{BaseMTU, 1392, 1452, 1472, 8952, 16384, 32768, MaxMTU}

type mtuState struct {
	current int     // size of a full datagram
	limit   int     // search no further
	failed  int     // smallest size known not to pass; 0 is none
	probing int     // size of the probe under way, 0 is none
	tries   int     // probes of the next size that were lost
	full    int     // full packets since the last change
	bigLost int     // packets above BaseMTU lost since one was acknowledged
	passed  instant // when one was acknowledged last

	// Of those that are not small, for CarrierStats.LargeLost.
	anyLost   int
	anyPassed instant

	raiseAt instant // when failed is forgotten
	raise   time.Duration
}

func (m *mtuState) init(a *Assoc) {
	m.current = BaseMTU
	if a.c.MTU > 0 {
		m.current = a.c.MTU
	}
	m.bound(a)
	m.raise = mtuFirstRaise
}

// bound takes the largest datagram that the peer receives.
func (m *mtuState) bound(a *Assoc) {
	m.limit = min(a.c.SearchMTU, MaxMTU)
	if d := a.c.Peer.MaxDatagram; d > 0 {
		m.limit, m.current = min(m.limit, d), min(m.current, max(d, BaseMTU))
	}
}

// next returns the size to be tried next, or 0.
func (m *mtuState) next() int {
	top := m.limit
	if m.failed > 0 {
		top = min(top, m.failed-1)
		if top-m.current < mtuResolution {
			return 0
		}
	}
	for _, size := range mtuLadder {
		if size > m.current {
			if size <= top {
				return size
			}
			break
		}
	}
	if m.failed > 0 {
		return (m.current + m.failed) / 2
	}
	if top > m.current {
		return top
	}
	return 0
}

// want returns the size of a probe that should be sent now, or 0.
func (m *mtuState) want(t instant) int {
	if m.raiseAt != 0 && t >= m.raiseAt {
		m.raiseAt, m.failed, m.tries = 0, 0, 0
	}
	if m.probing != 0 || m.full < mtuFullPackets {
		return 0
	}
	return m.next()
}

// set changes the size.
func (m *mtuState) set(a *Assoc, size int) {
	m.current = size
	m.full, m.bigLost = 0, 0
	a.cc.mtuChanged(size)
}

func (m *mtuState) probeAcked(a *Assoc, t instant, size int) {
	if m.probing == size {
		m.probing, m.tries = 0, 0
	}
	if size > m.current && (m.failed == 0 || size < m.failed) {
		if a.moves != nil {
			a.moves.largeLost = false
			m.anyLost, m.anyPassed = 0, t
		}
		m.set(a, size)
		m.full = mtuFullPackets // go on at once
	}
}

func (m *mtuState) probeLost(_ *Assoc, t instant, size int) {
	if m.probing != size {
		return
	}
	m.probing = 0
	m.tries++
	if m.tries >= mtuProbes {
		m.fail(t, size)
	}
}

// fail notes that size does not pass.
func (m *mtuState) fail(t instant, size int) {
	m.tries = 0
	if m.failed == 0 || size < m.failed {
		m.failed = size
	}
	m.raiseAt = t.add(mtuRaise)
}

// acked is called for each packet that has arrived.
func (m *mtuState) acked(t instant, size int) {
	if size > smallDatagram {
		m.anyLost, m.anyPassed = 0, t
	}
	if size > BaseMTU {
		m.bigLost, m.passed = 0, t
	}
}

// lost is called for each packet that was lost. Many large ones in a row, of which
// none has arrived, have met a black hole, RFC 8899 §4.3.
func (m *mtuState) lost(a *Assoc, t instant, size int) {
	if a.moves != nil && a.on == Datagrams && size > smallDatagram {
		m.anyLost++
		if m.anyLost >= mtuBaseLoss && m.current <= BaseMTU && t.sub(m.anyPassed) > mtuBlackHolePTOs*a.rtt.pto(a.c.Peer.AckDelay) {
			a.moves.largeLost = true
		}
	}
	if size <= BaseMTU || m.current <= BaseMTU {
		return
	}
	m.bigLost++
	// A queue that overflows loses as many in a row, but not for long.
	if m.bigLost >= mtuBlackHoleLoss && t.sub(m.passed) > mtuBlackHolePTOs*a.rtt.pto(a.c.Peer.AckDelay) {
		m.blackHole(a, t)
	}
}

// timeout is called for each probe timeout.
func (m *mtuState) timeout(a *Assoc, t instant) {
	if a.loss.ptoCount >= 2 && m.current > BaseMTU && m.bigInFlight(a) {
		m.blackHole(a, t)
	}
}

// bigInFlight reports whether the oldest packet in flight is a large one.
func (m *mtuState) bigInFlight(a *Assoc) bool {
	p := a.loss.sent.get(a.loss.sent.head)
	return p != nil && p.size > BaseMTU
}

// blackHole goes back to the size that every path carries. The search begins anew
// soon: it may have been something else.
func (m *mtuState) blackHole(a *Assoc, t instant) {
	if a.on == ByteStream {
		return
	}
	m.failed = m.current
	m.probing, m.tries = 0, 0
	m.raiseAt = t.add(m.raise)
	m.raise = min(2*m.raise, mtuRaise)
	a.stats.BlackHoles++
	m.set(a, BaseMTU)
}

// DatagramTooLarge says that the carrier has refused a datagram of that size
// (EMSGSIZE).
func (a *Assoc) DatagramTooLarge(now time.Time, size int) {
	t := a.tick(now)
	m := a.datagramMTU()
	if size > m.current {
		m.probing = 0
		m.fail(t, size)
		return
	}
	if size > BaseMTU {
		m.fail(t, size)
		if m == &a.mtu {
			m.set(a, BaseMTU)
			return
		}
		m.current, m.full, m.bigLost = BaseMTU, 0, 0
		if cc := a.moves.uses[Datagrams].cc; cc != nil {
			cc.mtuChanged(BaseMTU)
		}
	}
}
