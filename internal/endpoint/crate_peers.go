package endpoint

import (
	"container/list"
	"net/netip"
	"time"
)

const (
	// cratePeerLife is how long an address counts for what it was heard to speak.
	cratePeerLife = 10 * time.Minute

	// maxCratePeers bounds each of the two sets of addresses in cratePeers.
	maxCratePeers = 4096
)

// cratePeers are the addresses that are known to speak the crate profile. Anyone can
// write an address on a datagram of it, so what has negotiated is not among them,
// whatever else comes from there.
type cratePeers struct{ crate, negotiated recent }

// heard notes a good datagram of the crate profile.
func (c *cratePeers) heard(now time.Time, addr netip.AddrPort) {
	if !c.negotiated.has(now, addr) {
		c.crate.add(now, addr)
	}
}

// met notes a handshake.
func (c *cratePeers) met(now time.Time, addr netip.AddrPort) {
	c.negotiated.add(now, addr)
	c.crate.drop(addr)
}

// recent is a set of addresses that forgets those that were not added for long.
type recent struct {
	all   map[netip.AddrPort]*list.Element
	order list.List // of *seenAddr, the one added last at the end
}

type seenAddr struct {
	addr netip.AddrPort
	at   time.Time
}

func (r *recent) has(now time.Time, addr netip.AddrPort) bool {
	el := r.all[addr]
	return el != nil && now.Sub(el.Value.(*seenAddr).at) < cratePeerLife
}

func (r *recent) add(now time.Time, addr netip.AddrPort) {
	if el := r.all[addr]; el != nil {
		el.Value.(*seenAddr).at = now
		r.order.MoveToBack(el)
		return
	}
	for el := r.order.Front(); el != nil; el = r.order.Front() {
		if s := el.Value.(*seenAddr); len(r.all) < maxCratePeers && now.Sub(s.at) < cratePeerLife {
			break
		} else {
			r.drop(s.addr)
		}
	}
	if r.all == nil {
		r.all = make(map[netip.AddrPort]*list.Element)
	}
	r.all[addr] = r.order.PushBack(&seenAddr{addr, now})
}

func (r *recent) drop(addr netip.AddrPort) {
	if el := r.all[addr]; el != nil {
		r.order.Remove(el)
		delete(r.all, addr)
	}
}
