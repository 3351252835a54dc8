package reliable

import "time"

// A ConnID names an association at one of its ends. The peer puts it into every
// packet that it sends there. It has 64 bits that nobody can guess.
type ConnID [8]byte

// A Controller is a congestion controller.
type Controller uint8

// The controllers.
const (
	BBR   Controller = iota // model-based; the default
	CUBIC                   // RFC 9438
)

// String returns the name.
func (c Controller) String() string {
	switch c {
	case BBR:
		return "bbr"
	case CUBIC:
		return "cubic"
	}
	return "unknown"
}

// Sizes and times of the protocol, and bounds on what a peer can make this package
// keep. PROTOCOL §7.
const (
	BaseMTU = 1200  // datagram payload that every path carries, RFC 8899 §5.1.2 BASE_PLPMTU
	MaxMTU  = 65507 // largest UDP payload

	DefaultAckDelay = 5 * time.Millisecond // longest delay of an acknowledgement

	maxAckDelay       = time.Second // what a peer may claim
	maxAckRanges      = 256         // of received packets that are remembered and acknowledged
	maxTrackedPackets = 1 << 17     // sent and not yet settled
	maxAckRecords     = 1 << 12     // of packets with an ACK alone, sent after one that is not settled
	minSendBuffer     = 256 << 10   // what a stream takes ahead of acknowledgements
	maxSendBuffer     = 32 << 20
	maxHeldBuffer     = 64 << 20            // while most of it was sent, and is held up by what was lost
	sendWindows       = 6                   // congestion windows that a stream takes ahead of acknowledgements
	maxPathResponses  = 4                   // that wait to be sent; more challenges are ignored
	pruneRanges       = 32                  // received ranges that make an ACK ask for one
	maxUnasked        = 1 << 14             // sealed packets after which an ACK asks for one
	maxOutOfOrder     = 4096                // gaps in one stream or message
	maxUnreadMessages = 4096                // unacknowledged messages that wait for the application
	maxUnreadBytes    = 4 << 20             // of those
	messageOverhead   = 256                 // counted for each message beside its body
	messageSlack      = 1 << 20             // credit beyond one message of the largest size
	maxPlaces         = 4 * maxOpenMessages // runs of cancelled places that wait in ordered channels
	maxMessageHead    = 128 << 10           // body bytes before the payload
	maxStreams        = 1 << 10             // streams the peer may have open, whatever Limits says
	defaultInitialRTT = 200 * time.Millisecond
	minPTO            = 2 * time.Millisecond
	timerGranularity  = time.Millisecond // RFC 9002 §6.1.2
	maxPTO            = 2 * time.Second  // backoff ends here: a path that comes back is noticed soon
)

// Limits is what one side grants the other in the handshake. PROTOCOL §7.3.
type Limits struct {
	MaxDatagram   int           // largest datagram it receives; at least BaseMTU
	MaxData       int64         // first credit for all streams together, in bytes
	MaxStreamData int64         // first credit for each stream
	MaxStreams    int64         // how many streams the other side may open; stream 0 is always there
	MaxMessages   int64         // first credit for messages; see MessageWindow
	MaxMessage    int64         // largest payload of a message
	AckDelay      time.Duration // longest delay of an acknowledgement
	Parity        bool          // it takes PARITY
}

// Retry says how long a message that wants an acknowledgement is tried: an attempt
// fails when none of it was acknowledged for AckTimeout; then everything
// unacknowledged is sent again after Delay, which doubles up to MaxDelay. After
// MaxRetries such attempts in a row the message has failed. While the peer grants
// no credit, no attempt runs: the message has failed when the peer answers nothing at
// all for as long as all attempts take.
type Retry struct {
	MaxRetries      int
	AckTimeout      time.Duration
	Delay, MaxDelay time.Duration
}

// Config is what an association is made of. All of it is settled: there are no
// defaults here but for zero values that are named.
type Config struct {
	Client  bool   // this side has dialed
	LocalID ConnID // in packets that come
	PeerID  ConnID // in packets that go

	MessagesOnly bool // there is no stream 0

	Checksum    bool   // packets end in a CRC; without Protection only
	Local, Peer Limits // granted by this side; granted by the peer

	// Protection seals packets, and opens what comes. It belongs to the association; the
	// caller may install keys in it. Nil is plaintext.
	Protection Protection

	// Early is for a client that has no answer yet and sends 0-RTT packets: PeerID means
	// nothing, Peer and IdleTimeout are those remembered from the session before.
	// Established ends it. PROTOCOL §8.9.
	Early bool

	// Moves lets the association have two carriers, of which packets take one at a time:
	// see Move. Carrier is the first one; it is attached. Protection is for datagrams only:
	// a byte stream has its own. PROTOCOL §7.14.
	Moves   bool
	Carrier Carrier

	MTU       int           // largest datagram to begin with; if zero, BaseMTU
	SearchMTU int           // the path is searched up to this size; if not larger than MTU, it is not
	RTT       time.Duration // a first guess; if zero, 200 ms

	Controller  Controller
	KeepAlive   time.Duration // PING after so long without a packet from the peer; 0 is never
	IdleTimeout time.Duration // ends the association after so long without a packet; 0 is never
	Retry       Retry

	// Redundancy is the most bytes of copies and parity for each byte of messages that
	// ask for them; 0 is none.
	Redundancy float64

	SendBuffer    int   // bytes that Write takes ahead of acknowledgements, per stream; if zero, grows with the path up to 64 MiB
	ReceiveWindow int64 // most credit a stream grows to; if zero, 64 MiB

	Seed uint64 // for choices that an attacker should not foresee
}
