package auto

import (
	"time"

	"github.com/vstp-go/vstp/reliable"
)

// CarrierInput is what is known about one carrier.
type CarrierInput struct {
	Attached bool          // it can be moved to
	Gone     bool          // its connection was reset or closed: it cannot be used
	Alive    time.Time     // last packet of the peer on it
	RTT      time.Duration // smoothed, of the session's own packets; 0 unknown
	Sent     uint64        // packets, cumulative
	Lost     uint64        // packets, cumulative
	Rate     float64       // delivered bytes per second lately
	Received uint64        // bytes, cumulative; of the active carrier
	Limited  bool          // the session had more to send than the carrier took
	Timeouts int           // probe timeouts in a row without anything from the peer
	Silence  time.Duration // how long an answer is owed
	PTO      time.Duration // probe timeout without backoff; 0 unknown

	LargeLost  bool          // only large datagrams vanish
	SendErrors uint64        // cumulative
	ProbesLost int           // standby probes in a row without answer
	ProbeRTT   time.Duration // of the last standby probe that was answered; 0 unknown
}

// Input is what a [Decider] decides on.
type Input struct {
	Now      time.Time
	Active   reliable.Carrier
	Carriers [2]CarrierInput // by reliable.Carrier
}

// Decision is what is to be done.
type Decision struct {
	// Move says that the session is to move to To. The caller does so and calls
	// [Decider.Moved].
	Move   bool
	To     reliable.Carrier
	Reason Reason

	// Renew says that the byte stream is stalled and nothing else answers: a new one is to
	// be attached in its place.
	Renew bool

	// Probe asks for a probe of the standby now. One that is not attached is to be
	// attached, if that can be.
	Probe bool

	// Next is when to decide again at the latest, always later than Input.Now. Zero
	// means that only an event can change anything: the first packet sent that asks
	// for an answer, a probe timeout, a standby probe answered or lost, a carrier
	// attached or gone, an error of sending.
	Next time.Time
}
