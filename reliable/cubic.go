package reliable

import (
	"math"
	"time"
)

// Constants of RFC 9438 §4.1, §4.6 and RFC 9406 §4.3.
const (
	cubicC    = 0.4
	cubicBeta = 0.7
	// α of the Reno-friendly region, §4.3: what a Reno flow of that β would have.
	cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)

	hystartMinThresh = 4 * time.Millisecond
	hystartMaxThresh = 16 * time.Millisecond
	hystartSamples   = 8
	hystartDivisor   = 4 // growth in conservative slow start
	hystartRounds    = 5 // of it

	cubicMinWindow = 2 // packets, RFC 9002 §7.2
)

// cubic is RFC 9438 with HyStart++, paced.
type cubic struct {
	cubicWindow
	undo cubicWindow // before the last congestion event

	rate   rateState
	mtu    int
	srtt   time.Duration
	bw     float64 // of the last sample, for Stats
	active instant // when a packet was sent or acknowledged last

	recovery     instant // packets sent until then belong to the last congestion event
	eventLost    int64   // bytes that it lost
	eventArrived int64   // of these, arrived after all

	hystart hystart
}

// cubicWindow is what a congestion event changes, in bytes and seconds.
type cubicWindow struct {
	cwnd, ssthresh float64
	wMax           float64 // window before the last reduction
	k              float64 // seconds until the curve is at wMax again
	origin         float64 // window where the curve has its plateau
	wEst           float64 // window of a Reno flow
	epoch          instant // when the curve began; 0 if it has not
}

// hystart finds the end of slow start by delay (RFC 9406).
type hystart struct {
	last, cur, baseline time.Duration // smallest RTT of the last round, of this one, and when CSS began
	samples             int
	css                 int // rounds in conservative slow start, 0 if not in it
}

func newCUBIC() controller { return &cubic{} }

func initialWindow(mtu int) int { return min(10*mtu, max(2*mtu, 14720)) } // RFC 9002 §7.2

func (c *cubic) mtuChanged(mtu int) {
	if c.mtu == 0 {
		c.cwnd = float64(initialWindow(mtu))
		c.ssthresh = math.Inf(1)
	}
	c.mtu = mtu
	c.cwnd = max(c.cwnd, float64(cubicMinWindow*mtu))
}

func (c *cubic) packetSent(now instant, p *ratePacket, size, inflight int) {
	if inflight == 0 && c.epoch != 0 && now > c.active {
		// "the time period during which the congestion window has not been updated ...
		// MUST NOT be counted": the curve stands still while nothing is sent, §4.2.
		c.epoch = min(c.epoch.add(now.sub(c.active)), now)
	}
	c.active = max(c.active, now)
	c.rate.packetSent(now, p, size, inflight)
}

func (c *cubic) appLimited(inflight int) { c.rate.appLimited(inflight) }

func (c *cubic) acked(s *ackSample) {
	if s.srtt > 0 {
		c.srtt = s.srtt
	}
	c.active = max(c.active, s.now)
	rs := c.rate.acked(s)
	if rs.rate > 0 {
		c.bw = rs.rate
	}
	c.lostPackets(s)
	if c.cwnd < c.ssthresh {
		c.hystartAcked(s, rs.round)
	}
	grow := 0
	for i := range s.acked {
		p := &s.acked[i]
		if p.sent > c.recovery && !p.appLimited {
			grow += p.size
		}
	}
	// A window that was not used says nothing about the path, §5.8.
	if grow == 0 || s.prior < int(c.cwnd/2) {
		return
	}
	if c.cwnd < c.ssthresh {
		c.slowStart(float64(grow))
		return
	}
	c.avoid(s.now, float64(grow))
}

func (c *cubic) slowStart(n float64) {
	if c.hystart.css > 0 {
		n /= hystartDivisor
	}
	c.cwnd = min(c.cwnd+n, max(c.ssthresh, c.cwnd))
}

// hystartAcked is RFC 9406 §4.2.
func (c *cubic) hystartAcked(s *ackSample, round bool) {
	h := &c.hystart
	if round {
		if h.css > 0 {
			if h.css++; h.css > hystartRounds {
				c.ssthresh = c.cwnd
				return
			}
		}
		h.last, h.cur, h.samples = h.cur, 0, 0
	}
	if s.rtt <= 0 {
		return
	}
	h.samples++
	if h.cur == 0 || s.rtt < h.cur {
		h.cur = s.rtt
	}
	if h.samples < hystartSamples || h.last == 0 {
		return
	}
	switch {
	case h.css == 0 && h.cur >= h.last+min(max(h.last/8, hystartMinThresh), hystartMaxThresh):
		h.css, h.baseline = 1, h.cur
	case h.css > 0 && h.cur < h.baseline:
		h.css, h.baseline = 0, 0 // the delay was no queue
	}
}

// avoid is congestion avoidance, RFC 9438 §4.2-4.5, for n acknowledged bytes.
func (c *cubic) avoid(now instant, n float64) {
	mtu := float64(c.mtu)
	if c.epoch == 0 {
		c.epoch = now
		c.wEst = c.cwnd
		c.origin = max(c.wMax, c.cwnd)
		c.k = math.Cbrt((c.origin - c.cwnd) / mtu / cubicC)
	}
	t := now.sub(c.epoch).Seconds()
	at := func(t float64) float64 { d := t - c.k; return c.origin + cubicC*d*d*d*mtu }

	alpha := cubicAlpha
	if c.wEst >= c.wMax {
		alpha = 1
	}
	c.wEst += alpha * n / c.cwnd * mtu
	if at(t) < c.wEst {
		c.cwnd = max(c.cwnd, c.wEst)
		return
	}
	target := min(max(at(t+c.srtt.Seconds()), c.cwnd), 1.5*c.cwnd)
	c.cwnd += (target - c.cwnd) * min(n/c.cwnd, 1)
}

func (c *cubic) lost(s *ackSample) {
	c.rate.acked(s)
	c.lostPackets(s)
}

// lostPackets begins a congestion event if one of the packets was sent after the last began.
func (c *cubic) lostPackets(s *ackSample) {
	for i := range s.lost {
		p := &s.lost[i]
		if p.sent > c.recovery {
			c.reduce(s)
		}
		c.eventLost += int64(p.size)
	}
}

func (c *cubic) reduce(s *ackSample) {
	c.undo = c.cubicWindow
	c.recovery = s.now
	c.eventLost, c.eventArrived = 0, 0
	c.epoch = 0
	c.hystart = hystart{}
	if c.cwnd < c.wMax { // fast convergence, §4.7
		c.wMax = c.cwnd * (1 + cubicBeta) / 2
	} else {
		c.wMax = c.cwnd
	}
	// Not below what is needed, but from what was in use: a window that was never
	// filled is no measure, §4.6.
	from := c.cwnd
	if prior := float64(s.prior); s.prior > 0 && prior < from/2 {
		from = max(prior, from/2)
	}
	c.ssthresh = max(from*cubicBeta, float64(cubicMinWindow*c.mtu))
	c.cwnd = c.ssthresh
}

// spurious undoes the last congestion event if all that it lost has arrived, §4.9.
func (c *cubic) spurious(_ instant, n int) {
	c.eventArrived += int64(n)
	if c.eventLost == 0 || c.eventArrived < c.eventLost {
		return
	}
	c.eventLost, c.eventArrived = 0, 0
	if c.undo.cwnd > c.cwnd {
		c.cubicWindow = c.undo
	}
}

func (c *cubic) persistentCongestion(now instant) {
	c.undo = c.cubicWindow
	c.ssthresh = max(c.cwnd*cubicBeta, c.ssthresh*cubicBeta, float64(cubicMinWindow*c.mtu))
	if math.IsInf(c.ssthresh, 1) {
		c.ssthresh = c.cwnd * cubicBeta
	}
	c.cwnd = float64(cubicMinWindow * c.mtu)
	c.epoch = 0
	c.recovery = now
	c.hystart = hystart{}
}

func (c *cubic) window() int { return int(min(c.cwnd, maxWindow)) }

// pacingRate leaves room above what the window needs, as RFC 9002 §7.7 advises.
func (c *cubic) pacingRate() float64 {
	if c.srtt <= 0 {
		return 0
	}
	gain := 1.25
	if c.cwnd < c.ssthresh {
		gain = 2
	}
	return gain * c.cwnd / c.srtt.Seconds()
}

func (c *cubic) bandwidth() float64 { return c.bw }

func (c *cubic) state() string {
	switch {
	case c.cwnd >= c.ssthresh:
		return "avoidance"
	case c.hystart.css > 0:
		return "conservative slow start"
	}
	return "slow start"
}
