package auto

import (
	"time"

	"github.com/vstp-go/vstp/reliable"
)

// Config says how a [Decider] decides. Zero fields stand for their defaults, those of
// AutoSwitchConfig of the Rust crate.
type Config struct {
	// ProbeAttempts is the number of answers in a row that a standby gives before a
	// session moves to it without need. If zero, it is 2.
	ProbeAttempts int

	// ProbeTimeout is the time that a standby has to answer. If zero, it is 600 ms.
	ProbeTimeout time.Duration

	// SwitchCooldown is the least time between two moves that nobody asked for. If
	// zero, it is 3 s.
	SwitchCooldown time.Duration

	// MinDwellTime is the least time on a carrier that lives. If zero, it is 2 s.
	MinDwellTime time.Duration

	// ConsecutiveFailuresThreshold is the number of failures in a row that makes a
	// carrier dead. If zero, it is 3.
	ConsecutiveFailuresThreshold int

	// MinScoreMargin is what the score of the standby has to be better by, in
	// addition to a quarter of the active one's score. If zero, it is 5 ms.
	MinScoreMargin time.Duration

	// AckTimeoutPenalty is the part of a score that one timeout makes. If zero, it is 25 ms.
	AckTimeoutPenalty time.Duration

	// IOErrorPenalty is the part of a score that one error of sending makes. If zero,
	// it is 35 ms.
	IOErrorPenalty time.Duration

	// PeerPreferenceTTL is how long the carrier that worked for a peer is remembered,
	// see [Memory]. If zero, it is 120 s.
	PeerPreferenceTTL time.Duration

	// Prefer is the carrier to be on when both do.
	Prefer reliable.Carrier

	// Pinned says that a session is to be on Pin and nowhere else. It moves there when
	// Pin is seen to live, and then stays, even when Pin dies: it waits for it.
	Pinned bool
	Pin    reliable.Carrier

	// Follower is set at a server: it leaves a carrier only when that is of no use any more.
	Follower bool
}

// WithDefaults returns c with its zero and negative fields replaced.
func (c Config) WithDefaults() Config {
	c.ProbeAttempts = orDefault(c.ProbeAttempts, 2)
	c.ProbeTimeout = orDefault(c.ProbeTimeout, 600*time.Millisecond)
	c.SwitchCooldown = orDefault(c.SwitchCooldown, 3*time.Second)
	c.MinDwellTime = orDefault(c.MinDwellTime, 2*time.Second)
	c.ConsecutiveFailuresThreshold = orDefault(c.ConsecutiveFailuresThreshold, 3)
	c.MinScoreMargin = orDefault(c.MinScoreMargin, 5*time.Millisecond)
	c.AckTimeoutPenalty = orDefault(c.AckTimeoutPenalty, 25*time.Millisecond)
	c.IOErrorPenalty = orDefault(c.IOErrorPenalty, 35*time.Millisecond)
	c.PeerPreferenceTTL = orDefault(c.PeerPreferenceTTL, 120*time.Second)
	return c
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}
