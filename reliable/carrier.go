package reliable

import "time"

// A Carrier is what takes packets to the peer.
type Carrier uint8

// The carriers. Their numbers are those in MOVE.
const (
	Datagrams  Carrier = iota // UDP
	ByteStream                // TCP: in order, and nothing is lost while it lasts
	carriers
)

// String returns the name of the usual protocol.
func (c Carrier) String() string {
	switch c {
	case Datagrams:
		return "udp"
	case ByteStream:
		return "tcp"
	}
	return "unknown"
}

// MaxFrame is the largest packet on the byte stream, all of it.
// It is a little more than 64 KiB, so that a Write of so much is one frame.
const MaxFrame = 64<<10 + 1<<10

// On the byte stream, congestion control and repair are not this package's. What is in
// flight is bounded all the same: it is kept, and sent again after a move.
const (
	minStreamWindow = 1 << 20
	maxStreamWindow = 16 << 20
	streamBDPs      = 4 // that may be in flight beyond the smallest window
)

// A frame is read as a whole: on a slow stream a large one holds up all that is in it, and
// what is more urgent and comes behind it.
const (
	minFrame   = 4 << 10
	firstFrame = 16 << 10
	frameTime  = 5 * time.Millisecond // that a frame takes at most
)

// A streamControl is the controller of the byte stream. It holds nothing up but by a
// window that is wide for how fast the stream has proved to be.
type streamControl struct {
	size int
	rate float64
}

func (c *streamControl) packetSent(instant, *ratePacket, int, int) {}
func (c *streamControl) acked(*ackSample)                          {}
func (c *streamControl) lost(*ackSample)                           {}
func (c *streamControl) persistentCongestion(instant)              {}
func (c *streamControl) spurious(instant, int)                     {}
func (c *streamControl) appLimited(int)                            {}
func (c *streamControl) mtuChanged(int)                            {}
func (c *streamControl) window() int                               { return c.size }
func (c *streamControl) pacingRate() float64                       { return 0 }
func (c *streamControl) state() string                             { return "stream" }
func (c *streamControl) bandwidth() float64                        { return c.rate }

// delivers takes what the stream delivers at present, in bytes per second.
func (c *streamControl) delivers(rate float64, rtt time.Duration) {
	c.rate = rate
	bdp := min(rate*rtt.Seconds(), maxStreamWindow)
	c.size = min(minStreamWindow+streamBDPs*int(bdp), maxStreamWindow)
}

// frames is the size of frames for that rate.
func (c *streamControl) frames() mtuState {
	size := firstFrame
	if c.rate > 0 {
		size = max(minFrame, int(min(c.rate*frameTime.Seconds(), MaxFrame)))
	}
	return mtuState{current: size, limit: size} // it is not searched for
}

// A meter tells how much was delivered lately.
type meter struct {
	rate  float64
	since instant // begin of what is being measured
	bytes int
}

// meterTime is how long one measurement takes at least.
const meterTime = 20 * time.Millisecond

// begin leaves out the time in which nothing was to be delivered.
func (m *meter) begin(t instant) { m.since, m.bytes = t, 0 }

// add counts n bytes, and reports whether there is a new rate.
func (m *meter) add(t instant, n int, rtt time.Duration) bool {
	m.bytes += n
	d := t.sub(m.since)
	if d < max(rtt, meterTime) {
		return false
	}
	sample := float64(m.bytes) / d.Seconds()
	if m.rate == 0 {
		m.rate = sample
	}
	m.rate = (m.rate + sample) / 2
	m.begin(t)
	return true
}

// now returns the rate, which is less than what was measured if little came since.
func (m *meter) now(t instant, rtt time.Duration) float64 {
	if d := t.sub(m.since); d > 4*max(rtt, meterTime) {
		return min(m.rate, float64(m.bytes)/d.Seconds())
	}
	return m.rate
}

// CarrierStats says how a carrier does. Unheard, Silence, PTO and Limited are 0 for the
// one that is not active.
type CarrierStats struct {
	RTT, MinRTT       time.Duration // 0 is not known
	Sent, Acked, Lost uint64        // packets that want an acknowledgement; what moves drop is not lost
	Rate              float64       // bytes per second that were delivered lately
	Limited           bool          // there is more to send than it takes
	Unheard           int           // probe timeouts in a row without any packet from the peer on it
	Silence           time.Duration // how long an answer is owed
	PTO               time.Duration // probe timeout without its backoff
	LargeLost         bool          // the path MTU fell back, because only large packets vanish
	Received          time.Time     // when the last packet came on it; zero is never
}

// CarrierStats returns how c does.
func (a *Assoc) CarrierStats(now time.Time, c Carrier) CarrierStats {
	t := a.tick(now)
	var s CarrierStats
	if c >= carriers {
		return s
	}
	rtt := &a.rtt
	if m := a.moves; m != nil {
		use := &m.uses[c]
		s.Sent, s.Acked, s.Lost = use.sent, use.acked, use.lost
		if c != a.on {
			rtt = &use.rtt
		}
		s.Rate = use.meter.now(t, rtt.smoothed)
		s.LargeLost = c == Datagrams && m.largeLost && a.datagramMTU().anyLost > 0
		if use.received != 0 {
			s.Received = a.epoch.Add(time.Duration(use.received))
		}
	} else if c == a.on {
		s.Sent, s.Lost, s.Rate = a.stats.PacketsSent, a.stats.PacketsLost, a.cc.bandwidth()
		if a.acks.next > 0 {
			s.Received = a.epoch.Add(time.Duration(a.lastReceived))
		}
	}
	if rtt.sampled && (c == a.on || a.moves != nil) {
		s.RTT, s.MinRTT = rtt.smoothed, rtt.min
	}
	if c == a.on && a.life == stateOpen {
		s.Unheard, s.Silence = a.unheard, a.carrierSilence(t)
		s.PTO = a.rtt.pto(a.c.Peer.AckDelay)
		s.Limited = a.limited()
	}
	return s
}

// carrierSilence is how long the peer has owed an answer on the active carrier.
func (a *Assoc) carrierSilence(t instant) time.Duration {
	if a.moves == nil {
		return a.silence(t)
	}
	if a.eliciting == 0 {
		return 0
	}
	return t.sub(max(a.owedSince, a.moves.uses[a.on].received, a.moves.progress))
}

// limited reports whether there is more to send than the active carrier takes.
func (a *Assoc) limited() bool {
	if !a.ready.empty() {
		return true
	}
	for _, s := range a.streams {
		if s.wantRoom && s.next < s.credit {
			return true
		}
	}
	return false
}

// AppendFrame is AppendDatagram for the byte stream: it appends the next packet for it,
// of up to MaxFrame bytes. It is not sealed.
func (a *Assoc) AppendFrame(now time.Time, b []byte) []byte {
	t := a.tick(now)
	if a.moves == nil {
		return b
	}
	return a.appendMoving(t, b, ByteStream)
}

// appendMoving is AppendDatagram and AppendFrame for an association with two carriers.
// On the one that is not active go but answers to challenges, and CLOSE.
func (a *Assoc) appendMoving(t instant, b []byte, c Carrier) []byte {
	m := a.moves
	was := a.on
	switch {
	case a.life == stateDone:
		return b
	case a.life != stateOpen:
		if to, ok := a.closeCarrier(); !ok || to != c || c == Datagrams && !a.checkKeys(t) {
			return b
		}
		a.turn(c)
		b = a.appendClosePacket(t, b)
		a.turn(was)
		return b
	case c == a.on:
		if a.shutting {
			a.checkShutdown(t)
		}
		if a.life != stateOpen {
			return a.appendMoving(t, b, c)
		}
		if !m.attached[c] {
			a.nextSend = 0
			return b
		}
		if c == Datagrams && !a.checkKeys(t) {
			return b
		}
		return a.appendPacket(t, b)
	case len(m.elsewhere) > 0:
		a.turn(c)
		b = a.appendPathResponses(t, b)
		a.turn(was)
	}
	return b
}

// turn has the next packet made for c.
func (a *Assoc) turn(c Carrier) {
	if a.on != c {
		a.on = c
		a.makeHeader()
		a.pathResponses, a.moves.elsewhere = a.moves.elsewhere, a.pathResponses
	}
}

// sealed reports whether Protection seals the packets that are made at present.
func (a *Assoc) sealed() bool { return a.c.Protection != nil && a.on == Datagrams }

// ReceiveFrame is Receive for a packet from the byte stream. If it is not Opened, it is
// none of this association, and neither can what follows be. A packet that has come
// before, or of which the acknowledgement does not matter any more, is not Taken.
func (a *Assoc) ReceiveFrame(now time.Time, frame []byte) Received {
	t := a.tick(now)
	a.stats.PacketsReceived++
	a.stats.BytesReceived += uint64(len(frame))
	if a.moves == nil || len(frame) > MaxFrame || a.c.Early {
		a.stats.PacketsDropped++
		return Received{}
	}
	pn, chunks, ok := a.openPlain(frame)
	if !ok {
		a.stats.PacketsDropped++
		return Received{}
	}
	a.via = ByteStream
	got := a.packetIn(t, pn, chunks, false, len(frame))
	got.Opened = true
	return got
}

// AppendFrameChallenge is AppendChallenge for the byte stream.
func (a *Assoc) AppendFrameChallenge(now time.Time, b []byte, data [8]byte) []byte {
	t := a.tick(now)
	m := a.moves
	if m == nil || a.life != stateOpen || a.c.Early {
		return b
	}
	m.challenges.add(data)
	m.asked(t, data)
	was := a.on
	a.turn(ByteStream)
	b = a.appendPathPacket(t, b, chunkPathChallenge, [][8]byte{data}, 0)
	a.turn(was)
	return b
}
