// Package auto decides on which of two carriers a session sends: datagrams or a byte
// stream. It says when to ask the standby whether it lives and when to move.
//
// # Usage
//
//	d := auto.New(auto.Config{})
//	dec := d.Decide(input) // after every event that Decision.Next lists, and at Next
//	if dec.Probe {
//		probeStandby()
//	}
//	if dec.Move {
//		move(dec.To)
//		d.Moved(now, dec.To, false)
//	}
//
// Moved is also told of moves of the peer, and of those the application asked for.
//
// # Dead carriers
//
// A failure is one probe timeout (PTO) of silence on the active carrier while an answer
// is owed. After the first one the standby is probed, once in each of its round trips. The carrier is dead
//
//   - when it is gone, that is reset or closed;
//   - when the silence has lasted for threshold PTOs, without backoff, and threshold
//     packets that had a PTO's time for their answers have none; where packets are lost
//     anyway more are needed: as many as all get lost by chance once in 100,000
//     times, at most 8;
//   - after threshold probe timeouts in a row;
//   - after threshold errors of sending in a row, for one PTO or longer;
//   - when only its small datagrams pass.
//
// TCP recovers from loss by waiting. So a byte stream is not dead before 1 s of
// silence, or 500 ms if the standby has answered ProbeAttempts times meanwhile.
//
// A session leaves a dead carrier for a standby that answered since the silence began, or
// within the larger of three of its round trips and ProbeTimeout. Nothing else is
// waited for, but there are never two moves within SwitchCooldown. When no standby
// answers, the session stays where it is and both are watched. A carrier that is gone is the exception: it
// is left at once, cooldown or not, for any attached standby; if the last
// probe of that was lost, it gets ProbeTimeout to answer first.
//
// # Scores
//
// Among living carriers the smaller score is better. It is in milliseconds, the sum of
//
//   - the round trip: 4/5 of the average so far and 1/5 of each sample, 50 while unknown. The samples are the RTT of the
//     active carrier, one in each round trip but up to ten a second, and the round trips of probes of the standby;
//   - AckTimeoutPenalty for each timeout: the second and later ones in a row of the
//     active carrier (the first is what the loss of a last packet looks like), and each
//     lost probe of the standby. The number halves every 4 s;
//   - IOErrorPenalty for each error of sending. The number halves every 8 s;
//   - 4 for each percent of lost packets above 10. The share is the smaller one of two
//     windows with half-lives of 2 s and 4 s, each taken lower by two standard
//     deviations: lost - 2*sqrt(lost+1) of sent. So neither a burst nor bad luck counts,
//     and 5 % never do. What 40 % adds, about 100, is about what each such loss
//     costs a TCP connection, whose probes then are slow by that. On a carrier that is
//     not used it halves every 15 s;
//   - 100 for each lost comparison of rates, see below, halving every 30 s.
//
// Counts fade, so that a carrier can be as good again as it was.
//
// A session that sends all it can fills queues, and finds its own packets there. So
// while it does, and 5 s after, the round trip counts in the score only from 200 ms and two floors
// above the floor on; the floor is its least value, or that of the standby's probes. When the active carrier
// has been quiet for a second its floor stands for its round trip.
//
// A session moves when the score of the standby is better by more than MinScoreMargin
// and a quarter of the active one's, for 1 s, and the standby has answered
// ProbeAttempts times in that time. Timeouts and errors count for this from threshold
// on. It moves after MinDwellTime on a carrier and SwitchCooldown since the last move.
//
// # Rates
//
// A carrier may be throttled. A session that had more to send for most of the last second makes a trial of
// the other carrier
//
//   - when for 2 s it delivers less than a quarter of the best rate so far, which halves every minute;
//   - when for 5 s it delivers less than 256 KiB/s, and 8 % of it is lost or the round trip is more than
//     twice that of the standby and 20 ms.
//
// When it has had enough to send for MinDwellTime there, the rates are compared. Below 4/5 of the old
// rate the session goes back. Above 5/4 the old carrier has failed. Either way the slower one gets 100 on its score. A trial
// that did not help is followed by none for 30 s, then 60 s, and so on to 10 minutes, if the
// other carrier is not known to be twice as fast.
//
// # Returning
//
// The preferred carrier is returned to when ProbeAttempts probes in a row were answered
// there and its score is not worse than the other one's by more than MinScoreMargin and
// a tenth. But a carrier that failed is not moved to without need for 5 s, then 10 s, and so on to 5 minutes.
// 5 minutes on it without failure end this.
//
// A move that the application asked for is left alone for ten times MinDwellTime, unless the carrier is dead.
//
// # Servers and pins
//
// A follower leaves a carrier only when that is dead. A pinned session moves to its pin
// as soon as that answers, and stays: when the pin dies it waits for it.
//
// # Guarantees
//
// The Decider has no clock, goroutine, lock or randomness: the same inputs have the
// same outputs. Decide does not allocate. A clock that goes backwards is taken to stand still.
package auto

import "time"

// Numbers of the package comment.
const (
	unknownRTT = 50 // ms

	rttWeight      = 0.2
	rttSampleEvery = 100 * time.Millisecond
	minInterval    = 10 * time.Millisecond // between samples, and between probes
	unknownPTO     = time.Second           // RFC 9002 §6.2.2: 333 ms of RTT make a PTO of 999 ms
	quiet          = time.Second           // without a packet: RTT and candidates are out of date

	timeoutHalfLife  = 4 * time.Second
	errorHalfLife    = 8 * time.Second
	fastLossHalfLife = 2 * time.Second
	slowLossHalfLife = 4 * time.Second
	idleLossHalfLife = 15 * time.Second
	penaltyHalfLife  = 30 * time.Second
	bestHalfLife     = 60 * time.Second

	enoughPackets  = 20
	tolerableLoss  = 0.10
	lossScore      = 400.0 // ms for a loss of 1
	ratePenalty    = 100.0 // ms
	ownQueue       = 200.0 // ms
	leaveShare     = 0.25
	returnShare    = 0.10
	badLuck        = 1e-5
	maxUnanswered  = 8
	sustain        = time.Second
	busyHalfLife   = 250 * time.Millisecond
	maxRate        = 1e15 // bytes/s; more is a mistake
	limitedLatch   = 5 * time.Second
	stalledSilence = time.Second
	stalledProven  = 500 * time.Millisecond // with a standby that answers

	slowShare     = 0.25
	slowFor       = 2 * time.Second
	throttledRate = 256 << 10 // bytes/s
	throttledLoss = 0.08
	throttledFor  = 5 * time.Second
	trialWorse    = 0.8
	trialBetter   = 1.25
	trialEnd      = 30 * time.Second
	trialWait     = 30 * time.Second
	maxTrialWait  = 600 * time.Second
	knownFaster   = 2
	rateKnownFor  = 600 * time.Second

	failedWait    = 5 * time.Second
	maxFailedWait = 300 * time.Second
	healthyAfter  = 300 * time.Second
	forcedDwells  = 10
)
