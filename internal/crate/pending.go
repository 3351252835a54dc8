package crate

import "time"

// An Action is what a Pending wants done.
type Action uint8

// The actions.
const (
	Wait   Action = iota // nothing now
	Resend               // send all datagrams of the message again
	Fail                 // no ACK came in time: give up
)

// A Pending is a message of which the ACK is still to come. It begins when the message
// has been sent for the first time; when Result.Acked reports its id from its address,
// it is done with and can be forgotten.
type Pending struct {
	retry    Retry
	attempts int // that have begun
	pausing  bool
	deadline time.Time
	failed   bool
}

// NewPending begins to wait for an ACK, at now.
func NewPending(now time.Time, r Retry) *Pending {
	return &Pending{retry: r}
}

// Timeout returns when Advance has to be called; zero after Fail.
func (p *Pending) Timeout() time.Time { return p.deadline }

// Advance returns what is to be done at now. After Resend the attempt counts as begun.
func (p *Pending) Advance(now time.Time) Action { return Wait }
