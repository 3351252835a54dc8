package reliable

import "time"

const (
	pacerBurst = 10                   // full packets that may go at once
	pacerSlack = 2 * time.Millisecond // worth of the rate that may go at once: timers are late
	pacerTick  = time.Millisecond     // a timer is not set more closely, if the burst allows (trap D5)
)

// pacer is a token bucket that spreads packets over time. While the rate is 0 it
// holds nothing up.
type pacer struct {
	rate   float64 // bytes per second
	tokens float64 // bytes that may go at the time last; negative after a packet larger than the burst
	last   instant
	burst  float64 // most tokens
	until  instant // nothing goes before: what next has said last
}

func (p *pacer) init(now instant) {
	*p = pacer{last: now, burst: pacerBurst * BaseMTU, tokens: pacerBurst * BaseMTU}
}

// setRate sets the rate from now on. What was earned before is kept.
func (p *pacer) setRate(bytesPerSec float64) {
	if bytesPerSec >= 0 { // and no NaN
		p.rate = bytesPerSec
	}
}

// setBurst bounds what goes at once: by the rate and the size of a full packet from
// below, by half the window from above. It is called after setRate.
func (p *pacer) setBurst(mtu, window int) {
	b := max(float64(pacerBurst*mtu), p.rate*pacerSlack.Seconds())
	p.burst = max(min(b, float64(window)/2), float64(2*mtu))
}

// advance adds what was earned since last.
func (p *pacer) advance(now instant) {
	if now <= p.last {
		return // time does not go back
	}
	p.tokens = min(p.tokens+p.rate*now.sub(p.last).Seconds(), p.burst)
	p.last = now
}

// packetSent takes the packet's tokens. The debt stays within a burst, so that a
// change of the rate cannot stop everything.
func (p *pacer) packetSent(now instant, size int) {
	if p.rate == 0 {
		p.last = max(p.last, now)
		p.tokens = p.burst
		return
	}
	p.advance(now)
	p.tokens = max(p.tokens-float64(size), -p.burst)
}

// next returns when a packet of that size may go: 0 for now, or a time after now.
func (p *pacer) next(now instant, size int) instant {
	if p.rate == 0 {
		return 0
	}
	if now < p.until { // packets that may go meanwhile wait to go together
		return p.until
	}
	p.until = 0
	p.advance(now)
	need := min(float64(size), p.burst) - p.tokens
	if need <= 0 {
		return 0
	}
	if tick := p.rate * pacerTick.Seconds(); p.burst >= 2*tick {
		need = max(need, tick)
	}
	wait := need / p.rate * 1e9
	if !(wait < float64(time.Hour)) {
		wait = float64(time.Hour)
	}
	// The bucket may have been advanced beyond a clock that went back.
	at := max(p.last, now).add(time.Duration(wait) + 1)
	if wait < float64(pacerTick)*2 {
		p.until = at
	}
	return at
}
