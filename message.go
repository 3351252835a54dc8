package vstp

import (
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
)

// A Header is the metadata of a message or of a connection: an ordered list of
// binary key/value pairs, in which a key may occur more than once. Keys and
// values have up to 255 bytes each, all of them together up to 65,535 with two
// bytes of length for each pair. A key of which the first byte is below 0x20 is
// reserved to the protocol: sending one is an error, ErrReservedKey.
type Header = framing.Header

// A Field is one key/value pair of a Header.
type Field = framing.Field

// A Message is a unit of application data with metadata. It arrives whole,
// verified, or not at all.
//
// On streams ("tcp", "unix") every message arrives, and one whose SendMessage has
// returned arrives before one that is sent after that. On datagrams ("udp", "rudp"),
// a message that fits one datagram and has none of the options below is sent once,
// and may be lost; a larger one is repaired until it is whole; none waits for another.
// On a Conn of "rudp" all messages are repaired.
type Message struct {
	// Header travels with the message, in order, duplicates kept. May be nil.
	Header Header

	// Payload is the content; it may be empty. SendMessage only borrows it for
	// the call. The Payload of a received message belongs to the receiver.
	Payload []byte

	// RequireAck makes SendMessage wait until the peer's vstp has the message
	// whole, verified and queued for its application, and nowhere twice. On a
	// received message it tells that the sender asked for that; the answer is sent
	// by this package.
	RequireAck bool

	// What follows is for sending, and zero in a received message.

	// Repair has the message repeated until it has arrived, without SendMessage
	// waiting for that. On streams this is always so. When the peer of a PacketConn
	// is restarted meanwhile, the new one gets what the old one has not acknowledged;
	// that may have had it too. When the peer has gone for good the message is lost,
	// and counted in PacketStats.Lost; RequireAck tells for each.
	Repair bool

	// Ordered delivers the message after all earlier ones with the same Channel
	// that were Ordered; it implies Repair. Messages of different channels do not
	// wait for each other. Those of datagrams are 0 to 1023; SendMessage refuses
	// others. On streams, where messages are in order anyway, neither has an effect.
	Ordered bool
	Channel uint64

	// Redundant has the message sent so that a loss costs no round trip: on datagrams,
	// a small one is sent again a little later in other packets, and a larger one
	// followed by parity from which the peer rebuilds what is missing. How much that is
	// follows the losses of the path, within Config.Redundancy. It implies Repair, for
	// what is lost all the same. For what is urgent and rare: positions in a game, keys
	// that were pressed, requests. On streams it has no effect.
	Redundant bool

	// Priority has messages with a larger one go first when several wait to be
	// sent to a peer. Streams send in turns, whatever the Priority.
	Priority int8

	// Lifetime, if positive, is how long the message is of use. On datagrams it is
	// given up then, wherever it is: not sent, not repaired any more, and dropped
	// by the receiver if it is not whole; with RequireAck, SendMessage returns
	// ErrExpired. On streams, it bounds the time until the carrier has taken all
	// of the message: SendMessage returns ErrExpired, and the peer drops what it
	// has; what the carrier has taken arrives.
	Lifetime time.Duration
}

// lower returns m as sessions take it. They only borrow it.
func (m *Message) lower() *session.Message {
	return &session.Message{
		Header:    m.Header,
		Payload:   m.Payload,
		ReqAck:    m.RequireAck,
		Repair:    m.Repair,
		Ordered:   m.Ordered,
		Channel:   m.Channel,
		Redundant: m.Redundant,
		Priority:  m.Priority,
		Lifetime:  max(0, m.Lifetime),
	}
}

// liftMessage returns a received message.
func liftMessage(m *session.Message) *Message {
	return &Message{Header: m.Header, Payload: m.Payload, RequireAck: m.ReqAck}
}
