package auto

import "strconv"

// A Reason says why a session moves.
type Reason uint8

// The reasons.
const (
	ReasonNone       Reason = iota
	ReasonSilence           // nothing comes from the peer though it owes an answer
	ReasonReset             // the connection is gone
	ReasonLoss              // too many packets are lost
	ReasonRoundTrip         // the other carrier is faster there and back
	ReasonRate              // the carrier takes less than it should
	ReasonLargeLost         // only small datagrams pass
	ReasonSendErrors        // the system does not send
	ReasonStalled           // silence of a byte stream
	ReasonPreferred         // the preferred carrier works again
	ReasonPinned            // Config.Pin or SetPin
	ReasonForced            // asked for by the application
	ReasonPeer              // the peer moved
)

var reasonNames = [...]string{
	"none", "silence", "reset", "loss", "round trip", "rate", "large datagrams lost",
	"send errors", "stalled", "preferred again", "pinned", "forced", "peer",
}

// String returns a short English name.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return strconv.Itoa(int(r))
}
