package framing

// Header keys of one byte below ReservedKeys belong to the protocol, and no user
// key may begin with such a byte. PROTOCOL §3.
const ReservedKeys = 0x20

// The reserved keys. Integers in their values are varints (RFC 9000 §16).
const (
	KeyPacket     = "\x01" // datagrams: connection id of the receiver, and in packets their number
	KeyMessage    = "\x02" // DATA: id of a message; with FRAG also total and offset; ACK: the id
	KeyCancel     = "\x03" // DATA: the message of this id ends unfinished
	KeyCode       = "\x04" // ERR: the ErrorCode
	KeyClose      = "\x05" // BYE: the sender will not read any more either
	KeyPing       = "\x06" // PING: up to 16 bytes, which PONG repeats
	KeyResetToken = "\x07" // datagrams: ERR, transport parameters: proof that an association is lost
	KeyConfirm    = "\x08" // transport parameters: 01: the client waits for WELCOME
	KeyCarriers   = "\x09" // WELCOME, transport parameters: where the server takes this session, a byte each
	KeyAttach     = "\x0a" // HELLO, WELCOME: brings a byte stream to a session that is there
	KeyParity     = "\x0b" // HELLO, WELCOME in datagrams: 01: the sender takes parity of messages
	KeyToken      = "\x0c" // WELCOME in datagrams: takes the place of a cookie the next time
	KeyVersions   = "\x10" // HELLO: versions, best first; WELCOME: the chosen one
	KeySessionID  = "\x11" // WELCOME: 16 bytes
	KeyMaxFrame   = "\x12" // HELLO, WELCOME: largest frame accepted
	KeyMaxMessage = "\x13" // HELLO, WELCOME: largest message accepted
	KeyChecksum   = "\x14" // HELLO: 01 asks for the CRC; WELCOME: whether it is on
	KeyCompress   = "\x15" // HELLO: a byte for each algorithm known; WELCOME: the chosen one
	KeyIdle       = "\x16" // HELLO, WELCOME: idle timeout in milliseconds

	// Those of HELLO and WELCOME in datagrams.
	KeyCookie      = "\x17" // WELCOME: asks for another HELLO; HELLO: repeats it
	KeySourceID    = "\x18" // the sender's own connection id
	KeyPart        = "\x19" // total and offset of a part of the header block
	KeyMaxDatagram = "\x1a" // largest datagram accepted
	KeyCredit      = "\x1b" // first credits: data, data of a stream, streams, messages
	KeyAckDelay    = "\x1c" // longest delay of an acknowledgement in microseconds
	KeyService     = "\x1d" // HELLO: 00 messages only, 01 a byte stream too, 02 and moves between carriers
	KeyPadding     = "\x1e" // HELLO: zeros that make the frame as large as its answer
	KeyCrypto      = "\x1f" // where TLS bytes belong: offset, length, and in HELLO what has come
)

// The header keys of the original crate, with decimal text as values. PROTOCOL §6.
const (
	LegacyKeyMsgID     = "msg-id"
	LegacyKeyFragID    = "frag-id"
	LegacyKeyFragIndex = "frag-index"
	LegacyKeyFragTotal = "frag-total"
)
