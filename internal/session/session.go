package session

import (
	"time"

	"github.com/vstp-go/vstp/framing"
)

// A Message is what SendMessage takes and ReceiveMessage returns. What of it an
// association does, and a byte stream does not, is said at the root's Message.
type Message struct {
	Header    framing.Header
	Payload   []byte
	ReqAck    bool // SendMessage returns when the peer has it; received: the sender waits
	Repair    bool // repaired until it is there, also when it fits a datagram
	Ordered   bool // delivered after the earlier ones of its Channel; implies Repair
	Channel   uint64
	Redundant bool          // copies or parity go with it, so that a loss costs no round trip; implies Repair
	Priority  int8          // larger goes first
	Lifetime  time.Duration // given up after; 0 is never
}

// fieldCost is what a decoded header field takes beside its bytes: two strings.
const fieldCost = 32

// Cost returns the memory that m takes while it is queued. A header of many empty
// fields is many times larger decoded than on the wire.
func (m *Message) Cost() int {
	return len(m.Payload) + m.Header.EncodedLen() + fieldCost*len(m.Header)
}

// Stats is a snapshot of a session's counters. What is below RTT is zero on streams.
type Stats struct {
	BytesSent, BytesReceived       uint64
	WireSent, WireReceived         uint64
	FramesSent, FramesReceived     uint64
	MessagesSent, MessagesReceived uint64
	RTT                            time.Duration // streams: of the last PING; datagrams: smoothed

	PacketsSent, PacketsReceived uint64
	PacketsLost                  uint64 // declared lost; some may have come late
	PacketsRetransmitted         uint64 // with something in them that was sent before
	PacketsDropped               uint64 // received, and malformed or a duplicate
	BytesRetransmitted           uint64 // of streams and messages
	RedundantSent                uint64 // bytes of copies and parity
	RedundantRepaired            uint64 // losses of packets that cost nothing, thanks to those

	MinRTT, RTTVar   time.Duration
	CongestionWindow int     // bytes
	BytesInFlight    int     // bytes
	PacingRate       float64 // bytes per second
	Bandwidth        float64 // estimated, bytes per second
	MTU              int     // size of a full datagram
	PathChanges      uint64  // how often the peer's address, or the own one, has changed
	Controller       string  // name and state of the congestion controller

	Moves       uint64 // between carriers
	RecentMoves []Move // the last ones, oldest first
}

// A Move is a change of the carrier that a session sends on: "udp" or "tcp".
type Move struct {
	Time     time.Time
	From, To string
	Reason   string
	ByPeer   bool          // the peer has moved, and this side has followed
	Gap      time.Duration // from the last packet of the peer before to the first one after; 0 if there is none yet
	Resent   uint64        // bytes of streams and messages that were sent again because of it, so far
}
