package vstp

import "github.com/vstp-go/vstp/framing"

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
type Message struct {
	// Header travels with the message, in order, duplicates kept. May be nil.
	Header Header

	// Payload is the content; it may be empty. SendMessage only borrows it for
	// the call. The Payload of a received message belongs to the receiver.
	Payload []byte

	// RequireAck makes SendMessage wait until the peer's vstp has the message
	// whole, verified and queued for its application. On a received message it
	// tells that the sender asked for that; the answer is sent by this package.
	RequireAck bool
}
