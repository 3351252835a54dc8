package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// An impairment is what one direction of a link does to packets.
type impairment struct {
	Rate  float64       // bytes of IP packets per second; 0 for no limit
	Delay time.Duration // one way
	Loss  float64       // probability for each packet
	Queue int           // bytes that may wait for the transmitter

	// Burst is how many packets in a row are lost on average; 0 if each is lost or not
	// whatever happened to the one before.
	Burst float64

	// Reorder is the share of packets that take longer by reorderMin to reorderMax and are
	// overtaken by those behind them.
	Reorder float64

	// Jitter is by how much the delay grows at most, and shrinks again. Unordered says that
	// it is another for each packet, so that they overtake each other.
	Jitter    time.Duration
	Unordered bool
}

const (
	reorderMin = 1 * time.Millisecond
	reorderMax = 10 * time.Millisecond
)

// A shaper decides when the packets of one direction arrive, if they do. Lost packets
// take neither room in the queue nor time on the link, as with netem. It keeps the
// order, but of strays. It knows no clock: times are nanoseconds since the link began.
type shaper struct {
	impairment
	random *rand.Rand // two numbers for each packet: its loss, and whether it strays
	extra  *rand.Rand // a number for each packet that may stray
	bad    bool       // a burst of losses goes on
	wander wander
	free   int64 // when the transmitter will be done with all that waits
	at     int64 // of the last packet in
	last   int64 // when the last packet arrives that keeps the order
	counts linkCounts

	waited   float64 // integral of the waiting time over time, in ns²
	from, to int64   // from the first to the last packet in
}

// linkCounts is what happened in one direction.
type linkCounts struct {
	Packets, Bytes     uint64 // in, with those that were lost
	Lost, Dropped      uint64 // by chance; as the queue was full
	Strays             uint64 // that may have been overtaken
	MaxQueue           int    // bytes
	MaxWait, MeanWait  time.Duration
	Delivered, Late    uint64 // packets; late by more than a millisecond
	Overruns           uint64 // lost by the emulator: it was too slow
	DeliveredBytes     uint64
	LateMax, LateTotal time.Duration
}

// newShaper returns a shaper of which the n-th packet has the same fate with the same
// seed.
func newShaper(imp impairment, seed, direction uint64) *shaper {
	source := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, direction+2*n)) }
	return &shaper{
		impairment: imp, random: source(0), extra: source(1),
		wander: wander{random: source(2), span: int64(imp.Jitter)},
	}
}

// enter takes a packet of n bytes and returns when it arrives, or false. Packets arrive in
// the order in which they entered, but for strays.
func (s *shaper) enter(now int64, n int) (due int64, stray, ok bool) {
	if s.counts.Packets == 0 {
		s.from, s.at = now, now
	}
	s.integrate(now)
	s.counts.Packets++
	s.counts.Bytes += uint64(n)
	lost, late := s.loses(s.random.Float64()), s.random.Float64() < s.Reorder
	if lost {
		s.counts.Lost++
		return 0, false, false
	}
	due = now
	if s.Rate > 0 {
		wait := max(0, s.free-now)
		queued := int(math.Round(float64(wait) * s.Rate / 1e9))
		// A queue of any size takes a packet when it is empty.
		if queued > 0 && queued+n > s.Queue {
			s.counts.Dropped++
			return 0, false, false
		}
		s.free = now + wait + int64(float64(n)*1e9/s.Rate)
		s.counts.MaxQueue = max(s.counts.MaxQueue, queued+n)
		s.counts.MaxWait = max(s.counts.MaxWait, time.Duration(wait))
		due = s.free
	}
	due, stray = s.travel(due, late)
	return due, stray, true
}

// travel returns when a packet arrives that leaves the transmitter now, and whether others
// may overtake it.
func (s *shaper) travel(now int64, late bool) (due int64, stray bool) {
	due = now + int64(s.Delay)
	if s.Jitter > 0 && !s.Unordered {
		due += s.wander.delay(now)
	}
	if late || s.Unordered {
		// Nobody has to wait for this one.
		s.counts.Strays++
		if late {
			due += int64(reorderMin) + s.extra.Int64N(int64(reorderMax-reorderMin))
		}
		if s.Unordered {
			due += s.extra.Int64N(int64(s.Jitter) + 1)
		}
		return due, true
	}
	s.last = max(s.last, due)
	return s.last, false
}

// loses tells whether a packet is lost that drew this number from [0, 1). Bursts are those
// of Gilbert and Elliott: in the good state nothing is lost, in the bad one everything.
func (s *shaper) loses(x float64) bool {
	switch {
	case s.Burst == 0:
		return x < s.Loss
	case s.bad:
		s.bad = x >= 1/s.Burst
	default:
		s.bad = x < s.Loss/(1-s.Loss)/s.Burst
	}
	return s.bad
}

// A wander is a delay that goes in straight lines from one random value to the next, each
// after as much time as the largest of them: when it shrinks the fastest, packets of that
// time arrive all at once.
type wander struct {
	random   *rand.Rand
	span     int64 // the largest delay, and the time from one value to the next
	piece    int64 // how many lines are behind it
	from, to int64
	begun    bool
}

func (w *wander) delay(now int64) int64 {
	draw := func() int64 { return w.random.Int64N(w.span + 1) }
	if !w.begun {
		w.begun, w.from, w.to = true, draw(), draw()
	}
	for ; w.piece < now/w.span; w.piece++ {
		w.from, w.to = w.to, draw()
	}
	part := float64(now-w.piece*w.span) / float64(w.span)
	return w.from + int64(part*float64(w.to-w.from))
}

// integrate adds the time that a packet would have waited, from the last packet to now:
// what waits drains at the speed of the clock.
func (s *shaper) integrate(now int64) {
	wait, dt := float64(max(0, s.free-s.at)), float64(now-s.at)
	busy := min(wait, dt)
	s.waited += busy * (wait - busy/2)
	s.at, s.to = now, now
}

// stats returns the counts so far.
func (s *shaper) stats() linkCounts {
	c := s.counts
	if span := float64(s.to - s.from); span > 0 {
		c.MeanWait = time.Duration(s.waited / span)
	}
	return c
}
