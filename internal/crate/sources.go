package crate

import (
	"net/netip"
	"slices"
	"time"
)

// Bounds on what is kept of a source, and for how long.
const (
	maxIDs      = 1024 // of messages, against delivering one twice
	maxPartials = 64   // messages under way; one that 64 others have overtaken is given up

	// The crate sends again after at most 7 s: AckTimeout and the longest pause.
	idLife = 15 * time.Second

	// As long as the crate keeps them, and how long one may stand still.
	partialLife     = 30 * time.Second
	partialProgress = 5 * time.Second

	// sweepEvery bounds the work of expiry: what has expired is forgotten this much
	// later at most.
	sweepEvery = time.Second

	// What things cost, about: they are counted so that empty ones are not free.
	sourceCost  = 384
	idCost      = 80
	partialCost = 256
	pieceCost   = 64
)

// A source is what is kept of an address.
type source struct {
	addr       netip.AddrPort
	list       *sourceList
	prev, next *source

	bytes    int // counted for it, its own cost too
	complete int // messages that were kept track of and have come whole
	begun    int // partials
	partials map[uint8]*partial
	ids      []seenID
}

// A seenID is a message that was delivered. A client that begins anew counts from 1
// again, so the id is not enough.
type seenID struct {
	id  uint64
	sum uint32
	at  time.Time // last seen
}

// sources are all that a Receiver keeps. Addresses can be forged, so they are in two
// lists, each by last use: a source is known when two messages of it have come whole,
// and what one is not known cannot push it out. Known ones have half of everything.
type sources struct {
	max, maxBytes int
	bytes         int
	byAddr        map[netip.AddrPort]*source
	fresh, known  sourceList
	next          time.Time // when expire has to be called; zero for never
	lastSweep     time.Time
}

func (s *sources) init(maxSources, maxBytes int) {
	s.max, s.maxBytes = maxSources, maxBytes
	s.byAddr = make(map[netip.AddrPort]*source)
}

// get returns the source of an address, and makes one if there is none. It is nil if
// there is no memory left.
func (s *sources) get(now time.Time, addr netip.AddrPort) *source {
	if src := s.byAddr[addr]; src != nil {
		l := src.list
		l.remove(src)
		l.push(src)
		return src
	}
	for len(s.byAddr) >= s.max || s.bytes+sourceCost > s.maxBytes {
		if !s.evict(nil) {
			return nil
		}
	}
	src := &source{addr: addr}
	s.byAddr[addr] = src
	s.fresh.push(src)
	s.charge(src, sourceCost)
	s.due(now.Add(partialProgress)) // also if there will be no memory for anything of it
	return src
}

// evict forgets the source that was not used for longest, a known one only if there is
// no other. It reports whether there was one beside keep.
func (s *sources) evict(keep *source) bool {
	for _, l := range []*sourceList{&s.fresh, &s.known} {
		victim := l.oldest
		if victim != nil && victim == keep {
			victim = victim.next
		}
		if victim != nil {
			s.drop(victim)
			return true
		}
	}
	return false
}

func (s *sources) drop(src *source) {
	src.list.remove(src)
	delete(s.byAddr, src.addr)
	s.bytes -= src.bytes
	src.bytes = 0
}

// charge counts n bytes more, or fewer if it is negative.
func (s *sources) charge(src *source, n int) {
	src.bytes += n
	src.list.bytes += n
	s.bytes += n
	if n > 0 {
		s.balance()
	}
}

// room makes sure that src may have n bytes more, at the cost of what it has itself
// under way, but for keep, or at that of others. It reports whether it may.
func (s *sources) room(src *source, n int, keep *partial) bool {
	for src.bytes+n > s.maxBytes/8 {
		if !s.dropOldestPartial(src, keep) {
			return false
		}
	}
	for s.bytes+n > s.maxBytes {
		if !s.evict(src) {
			return false
		}
	}
	return true
}

// completed counts a message of src that has come whole.
func (s *sources) completed(src *source) {
	src.complete++
	if src.complete != 2 {
		return
	}
	s.move(src, &s.known)
	s.balance()
}

// balance keeps the known sources to their half: one that was not used for longest has
// to make itself known again.
func (s *sources) balance() {
	for s.known.n > s.max/2 || s.known.bytes > s.maxBytes/2 {
		src := s.known.oldest
		src.complete = 0
		s.move(src, &s.fresh)
	}
}

func (s *sources) move(src *source, l *sourceList) {
	src.list.remove(src)
	l.push(src)
}

// due brings the next sweep forward to t, but not nearer than sweepEvery to the last.
func (s *sources) due(t time.Time) {
	if first := s.lastSweep.Add(sweepEvery); t.Before(first) {
		t = first
	}
	if s.next.IsZero() || t.Before(s.next) {
		s.next = t
	}
}

// expire forgets everything whose time is over.
func (s *sources) expire(now time.Time) {
	s.next, s.lastSweep = time.Time{}, now
	for _, src := range s.byAddr {
		before := len(src.ids)
		src.ids = slices.DeleteFunc(src.ids, func(d seenID) bool { return now.Sub(d.at) >= idLife })
		s.charge(src, (len(src.ids)-before)*idCost)
		if len(src.ids) == 0 {
			src.ids = nil
		}
		for _, d := range src.ids {
			s.due(d.at.Add(idLife))
		}
		for id, p := range src.partials {
			if end := p.end(); now.Before(end) {
				s.due(end)
			} else {
				s.dropPartial(src, id)
			}
		}
		if len(src.ids) == 0 && len(src.partials) == 0 {
			s.drop(src)
		}
	}
}

// seen reports whether a message with that id and sum was delivered lately.
func (s *sources) seen(now time.Time, addr netip.AddrPort, id uint64, sum uint32) bool {
	src := s.byAddr[addr]
	if src == nil {
		return false
	}
	for i := range src.ids {
		d := &src.ids[i]
		if d.id == id && d.sum == sum && now.Sub(d.at) < idLife {
			d.at = now
			return true
		}
	}
	return false
}

// remember notes a message as delivered.
func (s *sources) remember(now time.Time, addr netip.AddrPort, id uint64, sum uint32) {
	src := s.get(now, addr)
	if src == nil {
		return
	}
	d := seenID{id, sum, now}
	switch {
	case len(src.ids) < maxIDs && s.room(src, idCost, nil):
		s.charge(src, idCost)
		src.ids = append(src.ids, d)
	case len(src.ids) > 0:
		oldest := 0
		for i := range src.ids {
			if src.ids[i].at.Before(src.ids[oldest].at) {
				oldest = i
			}
		}
		src.ids[oldest] = d
	default:
		return
	}
	s.due(now.Add(idLife))
	s.completed(src)
}

// A sourceList is a list of sources, the one that was used last at its end.
type sourceList struct {
	oldest, newest *source
	n              int
	bytes          int
}

func (l *sourceList) push(src *source) {
	src.list, src.prev, src.next = l, l.newest, nil
	if l.newest == nil {
		l.oldest = src
	} else {
		l.newest.next = src
	}
	l.newest = src
	l.n++
	l.bytes += src.bytes
}

func (l *sourceList) remove(src *source) {
	if src.prev == nil {
		l.oldest = src.next
	} else {
		src.prev.next = src.next
	}
	if src.next == nil {
		l.newest = src.prev
	} else {
		src.next.prev = src.prev
	}
	src.prev, src.next, src.list = nil, nil, nil
	l.n--
	l.bytes -= src.bytes
}
