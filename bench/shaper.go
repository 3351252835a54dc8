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
}

// A shaper decides when the packets of one direction arrive, if they do. Lost packets
// take neither room in the queue nor time on the link, as with netem. It keeps the
// order. It knows no clock: times are nanoseconds since the link began.
type shaper struct {
	impairment
	random *rand.Rand
	free   int64 // when the transmitter will be done with all that waits
	at     int64 // of the last packet in
	counts linkCounts

	waited   float64 // integral of the waiting time over time, in ns²
	from, to int64   // from the first to the last packet in
}

// linkCounts is what happened in one direction.
type linkCounts struct {
	Packets, Bytes     uint64 // in, with those that were lost
	Lost, Dropped      uint64 // by chance; as the queue was full
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
	return &shaper{impairment: imp, random: rand.New(rand.NewPCG(seed, direction))}
}

// enter takes a packet of n bytes and returns when it arrives, or false.
func (s *shaper) enter(now int64, n int) (due int64, ok bool) {
	if s.counts.Packets == 0 {
		s.from, s.at = now, now
	}
	s.integrate(now)
	s.counts.Packets++
	s.counts.Bytes += uint64(n)
	if s.random.Float64() < s.Loss {
		s.counts.Lost++
		return 0, false
	}
	due = now
	if s.Rate > 0 {
		wait := max(0, s.free-now)
		queued := int(math.Round(float64(wait) * s.Rate / 1e9))
		// A queue of any size takes a packet when it is empty.
		if queued > 0 && queued+n > s.Queue {
			s.counts.Dropped++
			return 0, false
		}
		s.free = now + wait + int64(float64(n)*1e9/s.Rate)
		s.counts.MaxQueue = max(s.counts.MaxQueue, queued+n)
		s.counts.MaxWait = max(s.counts.MaxWait, time.Duration(wait))
		due = s.free
	}
	return due + int64(s.Delay), true
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
