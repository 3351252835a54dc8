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
// A failure is one probe timeout (PTO) of silence on the active carrier while an answer is
// owed, or an error of sending. After the first one the standby is probed, once in each of
// its round trips. The carrier is dead
//
//   - when it is gone, that is reset or closed;
//   - when the silence has lasted for threshold PTOs, without backoff, and threshold
//     packets had a PTO's time for their answers and got none. Where packets are lost
//     anyway more are needed: as many as all get lost by chance once in 100,000 times,
//     at most 8;
//   - after threshold probe timeouts in a row;
//   - after threshold errors of sending in a row, in one PTO or longer;
//   - when only its small datagrams pass.
//
// Threshold is ConsecutiveFailuresThreshold. A round trip of 40 ms makes a PTO of about
// 55 ms: with two packets sent at each PTO the verdict comes after 165 ms.
//
// TCP recovers from loss by waiting. So a byte stream is not dead before 1 s of silence, or
// 500 ms if the standby has answered ProbeAttempts times since the first failure.
//
// A session leaves a dead carrier for a standby that has answered since the silence began,
// or within the larger of three of its round trips and ProbeTimeout, and has lost no probe
// since. The score and the time on the carrier do not matter then, but SwitchCooldown does.
// If the path of both paused, both come back at once, so after the first answer of the
// standby the active carrier has another half of a round trip, at most 50 ms. When no
// standby answers, the session stays where it is and both are watched. A standby that is
// not attached is asked for by probes too, after the second PTO or error.
//
// A carrier that is gone is left at once, cooldown or not, for any attached standby; if that
// has lost its last probe, it gets ProbeTimeout to answer first. It is moved to then even
// if it does not.
//
// # Scores
//
// Among living carriers the smaller score is better. It is in milliseconds, the sum of
//
//   - the round trip: 4/5 of the average so far and 1/5 of each sample, 50 while unknown;
//     an average older than 5 s counts half. Samples are the RTT of the active carrier, one in a round trip but up to ten a
//     second, and the answered probes of the standby;
//   - AckTimeoutPenalty for each timeout: the second and later ones in a row on the
//     active carrier (the first is what the loss of a last packet looks like), and each
//     lost probe of the standby. The number halves every 4 s;
//   - IOErrorPenalty for each error of sending. The number halves every 8 s;
//   - 4 for each percent of lost packets above 10. The share is the smaller one of two
//     windows, with half-lives of 2 s and 4 s, each taken lower by two standard
//     deviations: (lost - 2*sqrt(lost+1)) / sent. So neither a burst nor bad luck counts,
//     and 5 % never do. What 40 % adds, about 100, is about what each such loss costs a
//     TCP connection; where both carriers lose, the probes of TCP are slower by that. On
//     a standby, and until 20 packets were sent, it is what it was, halving every 15 s;
//   - 100 for each lost comparison of rates, see below, halving every 30 s.
//
// Counts fade, so that a carrier can be as good again as it was.
//
// A session that sends all it can fills queues, and finds its own packets there; so does one
// that receives 6,000 bytes in a round trip, or more. While it does, and for 5 s after, the
// round trip is at most what it is without two floors and 200 ms, but not below the floor:
// the least round trip of the carrier meanwhile, and of the probes of the standby. When the
// active carrier has been quiet for a second, its floor stands for its round trip.
//
// A session moves when the score of the standby has been better by more than MinScoreMargin
// and a quarter of the active one's for 1 s, and the standby has answered ProbeAttempts
// probes in a row in that time. Timeouts and errors count for this from threshold on. It
// moves after MinDwellTime on a carrier and SwitchCooldown after the last move. Without a
// standby one is asked for every 5 s while loss, timeouts, errors or rate are reasons to go.
//
// # Rates
//
// A carrier may be throttled. A session that has had more to send for most of the time
// lately makes a trial of the other carrier
//
//   - when it has delivered, for 2 s, less than a quarter of its best rate, which halves
//     every minute;
//   - when it has delivered, for 5 s, less than 256 KiB/s, and 8 % is lost or the round
//     trip is more than 20 ms and twice that of the standby.
//
// When it has had enough to send for MinDwellTime there, the rates are compared. Below 4/5
// of the old rate the session goes back. Above 5/4 the old carrier has failed. Either way
// the slower one gets 100 on its score. A trial that did not help is followed by none for
// 30 s, then 60 s, and so on to 10 minutes, unless the other carrier is known to have been
// twice as fast in the last 10 minutes.
//
// # Returning
//
// The preferred carrier is returned to when it has answered ProbeAttempts probes in a row
// and its score is not worse than the other one's by more than MinScoreMargin and a tenth.
// For this the round trip of the other one counts with its queue, as that may be the same.
// A round trip of the preferred one that is older than 5 s does not keep a session that is in
// use away: it is probed to get another.
//
// A carrier that was left because it failed is not moved to without need for 5 s, the next
// time 10 s, and so on to 5 minutes. 5 minutes on it without failure end this. A carrier
// that the peer moved away from counts as failed, too.
//
// A move that the application asked for is left alone for ten times MinDwellTime, unless
// the carrier is dead.
//
// # Servers and pins
//
// A follower leaves a carrier only when that is dead. A pinned session moves to its pin as
// soon as that answers, and stays: when the pin dies, it waits for it.
//
// # Guarantees
//
// A Decider has no clock, goroutine, lock or randomness: the same inputs have the same
// outputs. Decide does not allocate. A clock that goes backwards is taken to stand still.
// There are never two moves within SwitchCooldown, but from a carrier that is gone, to a
// new pin, and when the application or the peer moves.
package auto

import "time"

// Numbers of the package comment.
const (
	unknownRTT = 50 // ms

	rttWeight      = 0.2
	rttOutdated    = 5 * time.Second
	outdatedWeight = 0.5
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

	absentEvery    = 5 * time.Second // a standby that is not there is asked for
	maxGrace       = 50 * time.Millisecond
	enoughPackets  = 20
	tolerableLoss  = 0.10
	lossScore      = 400.0 // ms for a loss of 1
	ratePenalty    = 100.0 // ms
	ownQueue       = 200.0 // ms, or as long as ownPackets take
	ownPackets     = 24000 // bytes
	leaveShare     = 0.25
	returnShare    = 0.10
	badLuck        = 1e-5
	maxUnanswered  = 8
	sustain        = time.Second
	busyHalfLife   = 250 * time.Millisecond
	maxRate        = 1e15 // bytes/s; more is a mistake
	ownInflow      = 6000 // bytes in a round trip
	limitedLatch   = 5 * time.Second
	stalledSilence = time.Second
	minSilence     = 200 * time.Millisecond // of datagrams too: a busy machine is silent for longer than three PTOs of a short path
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
