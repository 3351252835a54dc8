package reliable

import "time"

// A Carrier is what takes packets to the peer.
type Carrier uint8

// The carriers. Their numbers are those of MOVE.
const (
	Datagrams  Carrier = iota // UDP
	ByteStream                // TCP: ordered, and nothing is lost while it lasts
	carriers
)

// String returns the name of the usual protocol.
func (c Carrier) String() string {
	switch c {
	case Datagrams:
		return "udp"
	case ByteStream:
		return "tcp"
	}
	return "unknown"
}

// MaxFrame is the largest packet on the byte stream, all of it.
const MaxFrame = 64 << 10

// CarrierStats says how a carrier does. Silence and PTO are 0 for the one that is not
// active.
type CarrierStats struct {
	RTT, MinRTT       time.Duration // 0 is not known
	Sent, Acked, Lost uint64        // packets that want an acknowledgement; moves lose none
	Rate              float64       // bytes per second that were delivered lately
	Limited           bool          // there is more to send than it takes
	Unheard           int           // probe timeouts in a row without any packet from the peer on it
	Silence           time.Duration // how long an answer is owed
	PTO               time.Duration // probe timeout without its backoff
	LargeLost         bool          // the path MTU fell back, because only large packets vanish
	Received          time.Time     // when the last packet came on it; zero is never
}

// Active returns the carrier that packets take.
func (a *Assoc) Active() Carrier { return a.on }

// SetAttached says whether a carrier is there.
func (a *Assoc) SetAttached(now time.Time, c Carrier, up bool) { a.tick(now) }

// Move has packets take another carrier from now on.
func (a *Assoc) Move(now time.Time, to Carrier) { a.tick(now) }

// AppendFrame is AppendDatagram for the byte stream.
func (a *Assoc) AppendFrame(now time.Time, b []byte) []byte { a.tick(now); return b }

// ReceiveFrame is Receive for a packet from the byte stream.
func (a *Assoc) ReceiveFrame(now time.Time, frame []byte) Received { a.tick(now); return Received{} }

// AppendFrameChallenge is AppendChallenge for the byte stream.
func (a *Assoc) AppendFrameChallenge(now time.Time, b []byte, data [8]byte) []byte {
	a.tick(now)
	return b
}

// CarrierStats returns how c does.
func (a *Assoc) CarrierStats(now time.Time, c Carrier) CarrierStats { a.tick(now); return CarrierStats{} }
