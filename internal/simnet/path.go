package simnet

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Path says what a path does to packets. The zero Path delivers everything at once.
// Probabilities are between 0 and 1 and independent of each other.
//
// A packet meets them in the order of the fields of Stats: it is filtered, too large or
// sent while the path is down; dropped because the queue is full; lost; and then it
// arrives, perhaps damaged, repeated or late. A lost packet has used its share of Rate.
type Path struct {
	// Delay is the time from leaving the queue to arriving. A change applies to
	// packets sent from then on; if it becomes less they overtake those before.
	Delay time.Duration

	// Jitter adds an equally distributed random time in [0, Jitter). It alone never
	// changes the order: who comes early waits for the packet before, unless
	// JitterReorders is set.
	Jitter         time.Duration
	JitterReorders bool

	// Loss is the probability that a packet is lost.
	Loss float64

	// Burst loses packets in bursts, in addition to Loss. It may be shared by paths;
	// each has a state of its own, which survives a Set.
	Burst *GilbertElliott

	// Reorder is the probability that a packet is held back until some of those
	// behind it have passed: one to ReorderDepth, or fewer after ReorderHold. If
	// zero, these are 3 packets and 10 ms.
	Reorder      float64
	ReorderDepth int
	ReorderHold  time.Duration

	// Duplicate is the probability that a packet arrives twice. The copy comes right
	// behind it, or at a random time in [0, DuplicateDelay) after it.
	Duplicate      float64
	DuplicateDelay time.Duration

	// Corrupt is the probability that one byte of a packet is changed.
	Corrupt float64

	// Rate is what the path carries, in bytes per second. If zero, it is unlimited.
	// A change applies to packets in the queue, too.
	Rate int64

	// Overhead is what each packet counts for Rate and Queue beside its payload: 28
	// for the headers of IPv4 and UDP.
	Overhead int

	// Queue is how many bytes wait in front of a path with a Rate, together with the
	// packet that is being sent; a packet for which there is no room is dropped. If
	// zero, it is unlimited.
	Queue int

	// Police drops at once what comes faster than Rate, beyond a burst of Queue bytes,
	// and delays nothing: a policer, where the above is a shaper.
	Police bool

	// MTU is the largest IP packet: the payload plus 28 bytes, or 48 with IPv6.
	// Larger ones vanish; or WriteTo fails with EMSGSIZE if MTUError is set. If zero,
	// it is unlimited.
	MTU      int
	MTUError bool

	// Down drops all that is sent. What is already on its way arrives.
	Down bool
}

// GilbertElliott is a channel with a good and a bad state; before each packet it may
// change from one to the other.
type GilbertElliott struct {
	ToBad, ToGood     float64 // probabilities to leave the good and the bad state
	LossGood, LossBad float64 // in the states; if LossBad is zero, it is 1
}

// Bursts returns a channel that loses the given share of packets, in bursts of the
// given mean length (at least 1).
func Bursts(loss, length float64) *GilbertElliott {
	// The share of time in the bad state is ToBad/(ToBad+ToGood).
	r := 1 / length
	return &GilbertElliott{ToBad: min(1, r*loss/(1-loss)), ToGood: r}
}

// Fate is what became of a packet when it was sent: none or several of the following.
type Fate uint8

const (
	Filtered   Fate = 1 << iota // dropped by the filter of the path
	TooLarge                    // dropped for Path.MTU
	Down                        // dropped for Path.Down
	QueueFull                   // dropped for Path.Queue
	Lost                        // by Path.Loss or Path.Burst
	Corrupted                   // one byte is changed
	Duplicated                  // arrives twice
	Held                        // arrives behind later packets, if such follow in time

	dropped = Filtered | TooLarge | Down | QueueFull | Lost
)

// Arrives reports whether the packet arrives, at least once.
func (f Fate) Arrives() bool { return f&dropped == 0 }

// String lists what happened, "ok" if nothing did.
func (f Fate) String() string {
	if f == 0 {
		return "ok"
	}
	var s []string
	for i, name := range []string{"filtered", "too large", "down", "queue full", "lost", "corrupted", "duplicated", "held"} {
		if f&(1<<i) != 0 {
			s = append(s, name)
		}
	}
	return strings.Join(s, ", ")
}

// Stats counts what a path did, in packets if nothing else is said.
type Stats struct {
	Sent, SentBytes uint64

	Filtered    uint64 // dropped by the filter
	TooLarge    uint64 // dropped for the MTU; those that failed with EMSGSIZE, too
	Down        uint64 // dropped in a blackout
	QueueFull   uint64 // dropped at the tail of the queue
	Lost        uint64 // lost at random
	Corrupted   uint64 // of those that arrive
	Duplicated  uint64 // of those that arrive
	Reordered   uint64 // overtaken because of Path.Reorder
	Arrived     uint64 // at the other host so far, copies counted
	ArrivedSize uint64 // the same in bytes

	Queue, MaxQueue int // bytes in the queue now, and at most
}

type linkKey struct{ from, to netip.Addr }

// Link is a path of a network: its parameters, state and counters. It is safe for
// concurrent use.
type Link struct {
	net  *Net
	name string // settles the order of packets due at the same time

	sendMu sync.Mutex // held from the filter to the arrival or take-off of a packet

	// All below are guarded by net.mu.
	path    Path
	rng     *rand.PCG
	count   int // packets sent
	filter  Filter
	bad     bool // state of Path.Burst
	queue   []queued
	queued  int   // bytes in queue
	busy    int64 // when the last packet of the queue leaves it
	rest    int64 // of the division by Rate, so that it does not add up
	lastDue int64 // of the last packet that is not held back
	flying  int   // packets in net.flying
	held    []*heldPacket
	stats   Stats
}

// queued is a packet in the queue.
type queued struct {
	leaves int64
	size   int
}

// heldPacket is a packet held back that waits for packets to pass.
type heldPacket struct {
	p      *packet
	left   int // that many more
	passed bool
}

// Filter chooses packets to drop by reporting true. n counts the packets of the path
// from 0; b may be changed in place, but not kept.
type Filter func(n int, b []byte) bool

// DropNth drops the packets with the given numbers, from 0.
func DropNth(numbers ...int) Filter {
	drop := make(map[int]bool)
	for _, n := range numbers {
		drop[n] = true
	}
	return func(n int, _ []byte) bool { return drop[n] }
}

// DropAbove drops packets with a payload of more than size bytes.
func DropAbove(size int) Filter {
	return func(_ int, b []byte) bool { return len(b) > size }
}

// DropBelow drops packets with a payload of less than size bytes: on the way back of a
// transfer these are mostly acknowledgements.
func DropBelow(size int) Filter {
	return func(_ int, b []byte) bool { return len(b) < size }
}

// Set changes the parameters of the path.
func (l *Link) Set(p Path) {
	l.Update(func(old *Path) { *old = p })
}

// Update has f change the parameters of the path. f must not use the network.
func (l *Link) Update(f func(*Path)) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	old := l.path
	f(&l.path)
	if l.path.Rate != old.Rate {
		l.changeRate(old.Rate)
	}
	if l.path.Delay != old.Delay {
		l.lastDue = 0
	}
}

// Params returns the parameters of the path.
func (l *Link) Params() Path {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	return l.path
}

// Filter has f choose packets to drop, in place of the filter before; nil drops none.
// Calls do not overlap. f may use all of the network but must not send on this path.
func (l *Link) Filter(f Filter) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.filter = f
}

// Stats returns the counters of the path.
func (l *Link) Stats() Stats {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.drain(l.net.now())
	s := l.stats
	s.Queue = l.queued
	return s
}

// ResetStats returns the counters and starts them again: at zero, and MaxQueue at what
// is in the queue now. Packets of before may still arrive and be counted.
func (l *Link) ResetStats() Stats {
	s := l.Stats()
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.stats = Stats{MaxQueue: s.Queue}
	return s
}
