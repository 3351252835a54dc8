package crate

import "time"

// A Retry is how often and when a message is sent again: after AckTimeout without an
// ACK a pause of Delay, doubled each time up to MaxDelay, then the next attempt, until
// there were 1 + MaxRetries of them. PROTOCOL §6.8.
type Retry struct {
	MaxRetries      int
	AckTimeout      time.Duration // if zero or less, that of DefaultRetry
	Delay, MaxDelay time.Duration // if zero or less, no pause; no bound but an hour
}

// DefaultRetry is that of the crate.
var DefaultRetry = Retry{MaxRetries: 3, AckTimeout: 2 * time.Second, Delay: 100 * time.Millisecond, MaxDelay: 5 * time.Second}

// pause returns the pause after attempt n, counted from 1.
func (r Retry) pause(n int) time.Duration {
	limit := r.MaxDelay
	if limit <= 0 || limit > maxPause {
		limit = maxPause
	}
	d := max(r.Delay, 0)
	for ; n > 1 && d < limit && d > 0; n-- {
		d *= 2
	}
	return min(d, limit)
}

const maxPause = 3600 * time.Second

// An Action is what a Pending wants done.
type Action uint8

// The actions.
const (
	Wait   Action = iota // nothing now
	Resend               // send all datagrams of the message again
	Fail                 // no ACK came in time: give up
)

// A Pending is a message whose ACK is still to come. It begins when the message has
// been sent for the first time. When Result.Acked reports its id, from its address, it
// is done with and can be forgotten, also during a pause.
type Pending struct {
	retry    Retry
	attempts int       // that have begun
	pausing  bool      // between two attempts
	deadline time.Time // of the attempt or the pause; zero when failed
}

// NewPending begins to wait for an ACK.
func NewPending(now time.Time, r Retry) *Pending {
	if r.AckTimeout <= 0 {
		r.AckTimeout = DefaultRetry.AckTimeout
	}
	return &Pending{retry: r, attempts: 1, deadline: now.Add(r.AckTimeout)}
}

// Timeout returns when Advance has to be called; zero after Fail.
func (p *Pending) Timeout() time.Time { return p.deadline }

// Advance returns what is to be done now. With Resend the next attempt begins.
func (p *Pending) Advance(now time.Time) Action {
	if p.deadline.IsZero() {
		return Fail
	}
	if now.Before(p.deadline) {
		return Wait
	}
	if !p.pausing {
		if p.attempts > p.retry.MaxRetries {
			p.deadline = time.Time{}
			return Fail
		}
		p.pausing = true
		p.deadline = p.deadline.Add(p.retry.pause(p.attempts))
		if now.Before(p.deadline) {
			return Wait
		}
	}
	p.pausing = false
	p.attempts++
	p.deadline = now.Add(p.retry.AckTimeout)
	return Resend
}
