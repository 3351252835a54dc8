package reliable

import "time"

// rttState estimates the round-trip time. RFC 9002 §5.
type rttState struct {
	smoothed, variance, latest time.Duration
	min                        time.Duration // of the whole association; 0 before the first sample
	sampled                    bool
}

// init sets a first guess.
func (r *rttState) init(guess time.Duration) {
	r.smoothed, r.variance = guess, guess/2
}

// sample takes a round trip of which the peer says that it delayed its answer by delay.
func (r *rttState) sample(d, delay time.Duration) {
	d = max(d, time.Microsecond)
	r.latest = d
	if !r.sampled {
		r.sampled = true
		r.min, r.smoothed, r.variance = d, d, d/2
		return
	}
	r.min = min(r.min, d)
	if d-delay >= r.min {
		d -= delay // "MUST NOT subtract ... if the resulting value is smaller than the min_rtt", §5.3
	}
	r.variance = (3*r.variance + (r.smoothed - d).Abs()) / 4
	r.smoothed = (7*r.smoothed + d) / 8
}

// known returns the smoothed RTT, 0 if it is a guess.
func (r *rttState) known() time.Duration {
	if !r.sampled {
		return 0
	}
	return r.smoothed
}

// pto is the probe timeout without backoff. RFC 9002 §6.2.1.
func (r *rttState) pto(delay time.Duration) time.Duration {
	return max(minPTO, r.smoothed+max(4*r.variance, timerGranularity)+delay)
}
