package reliable

import "time"

// An instant is a time as nanoseconds since shortly before the association began.
// Zero is no time.
type instant int64

func (t instant) add(d time.Duration) instant { return t + instant(d) }
func (t instant) sub(u instant) time.Duration { return time.Duration(t - u) }

// A controller decides how much may be in flight and how fast it goes out. It is
// told of every packet that counts (RFC 9002 §2: in-flight packets), and of what
// every acknowledgement brought. All sizes are bytes of whole datagrams.
type controller interface {
	// packetSent is called for each packet, with the bytes in flight before it. The
	// controller fills in what it wants to know when the packet is acknowledged.
	packetSent(now instant, p *ratePacket, size, inflight int)

	// acked is called once for each ACK that acknowledged something new, and
	// lossDetected's result is in it: after all of the ACK has been worked through.
	acked(s *ackSample)

	// lost is called for packets declared lost without an ACK (a timer).
	lost(s *ackSample)

	// persistentCongestion is called when nothing arrived for a long time although
	// probes were sent (RFC 9002 §7.6).
	persistentCongestion(now instant)

	// spurious is called when n bytes that were declared lost have arrived after all.
	spurious(now instant, n int)

	// appLimited is called when there is room in the window and nothing to send.
	appLimited(inflight int)

	// mtuChanged gives the size of a full packet. It is called first of all.
	mtuChanged(mtu int)

	window() int         // bytes that may be in flight
	pacingRate() float64 // bytes per second; 0 while nothing is known
	state() string       // for Stats
	bandwidth() float64  // estimate in bytes per second, 0 if none
}

// ratePacket is what the delivery-rate estimator keeps with each packet in flight
// (draft-ietf-ccwg-bbr §4.1).
type ratePacket struct {
	delivered     int64   // bytes delivered when it was sent
	deliveredTime instant // when that was
	firstSent     instant // start of the send interval
	sent          instant // when it was sent
	lost          int64   // bytes lost in all when it was sent
	inflight      int     // after it
	appLimited    bool
}

// ackedPacket is one newly acknowledged or lost packet.
type ackedPacket struct {
	ratePacket
	size int
}

// An ackSample is what one ACK brought. The slices are valid for the call.
type ackSample struct {
	now      instant
	acked    []ackedPacket // newly acknowledged, in the order they were sent
	lost     []ackedPacket // newly declared lost
	ackedLen int           // bytes of acked
	lostLen  int           // bytes of lost
	prior    int           // bytes in flight before
	inflight int           // bytes in flight now
	rtt      time.Duration // a sample of this ACK without the peer's delay, 0 if it gave none
	srtt     time.Duration
	minRTT   time.Duration // of the whole connection (rttState.min)
}
