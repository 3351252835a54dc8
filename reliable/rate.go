package reliable

import "time"

// rateState estimates how fast the path delivers (draft-ietf-ccwg-bbr §4.1), and
// counts round trips by packets. Controllers share it.
type rateState struct {
	delivered     int64   // bytes acknowledged in all
	lost          int64   // bytes lost in all
	deliveredTime instant // of the last acknowledgement
	firstSent     instant // when the packet acknowledged last was sent
	limitedUntil  int64   // delivered up to here is a sample of the application; 0 if not
	roundEnd      int64   // the round is over when a packet sent at this much delivered is acknowledged
	rounds        int64   // that have begun
}

// A rateSample is what one acknowledgement says about the path.
type rateSample struct {
	rate       float64       // bytes per second; 0 if it says nothing
	interval   time.Duration // that the rate was measured over
	delivered  int64         // bytes delivered in the interval
	lost       int64         // bytes lost in it
	prior      int64         // bytes delivered before it
	inflight   int           // when the packet was sent, with it
	appLimited bool          // the application had nothing to send, the path may be faster
	round      bool          // a round trip begins
}

// packetSent fills in p. inflight is what is in flight without p.
func (r *rateState) packetSent(now instant, p *ratePacket, size, inflight int) {
	if inflight <= 0 || r.firstSent == 0 {
		r.firstSent = now
		r.deliveredTime = now
	}
	*p = ratePacket{
		delivered:     r.delivered,
		deliveredTime: r.deliveredTime,
		firstSent:     r.firstSent,
		sent:          now,
		lost:          r.lost,
		inflight:      inflight + size,
		appLimited:    r.limitedUntil != 0,
	}
}

// appLimited marks what is sent from now until all of inflight is delivered.
func (r *rateState) appLimited(inflight int) {
	r.limitedUntil = max(r.delivered+int64(inflight), 1)
}

// acked takes an ACK, with its losses, and returns its sample. It does not look at
// an ACK that only tells of losses further than to count them.
func (r *rateState) acked(s *ackSample) (rs rateSample) {
	r.lost += int64(s.lostLen)
	var newest *ackedPacket
	for i := range s.acked {
		p := &s.acked[i]
		r.delivered += int64(p.size)
		if p.sent == 0 {
			continue // sent before there was a controller
		}
		if newest == nil || p.delivered > newest.delivered ||
			p.delivered == newest.delivered && p.sent >= newest.sent {
			newest = p
		}
	}
	if r.limitedUntil != 0 && r.delivered > r.limitedUntil {
		r.limitedUntil = 0
	}
	if len(s.acked) > 0 {
		r.deliveredTime = s.now
	}
	if newest == nil {
		return rs
	}
	r.firstSent = max(r.firstSent, newest.sent)
	if newest.delivered >= r.roundEnd {
		r.roundEnd = r.delivered
		r.rounds++
		rs.round = true
	}
	rs.prior = newest.delivered
	rs.delivered = r.delivered - newest.delivered
	rs.lost = r.lost - newest.lost
	rs.inflight = newest.inflight
	rs.appLimited = newest.appLimited

	// The slower of sending and acknowledging: neither a burst of packets nor one of
	// ACKs makes the path faster than it is.
	rs.interval = max(newest.sent.sub(newest.firstSent), s.now.sub(newest.deliveredTime))
	if rs.interval <= 0 || s.minRTT > 0 && rs.interval < s.minRTT {
		// "The effective sampling interval is shorter than min_rtt": ACKs out of order, or reneging.
		rs.interval = 0
		return rs
	}
	rs.rate = float64(rs.delivered) / rs.interval.Seconds()
	return rs
}
