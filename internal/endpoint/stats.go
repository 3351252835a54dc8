package endpoint

import "github.com/vstp-go/vstp/internal/udpio"

// Stats is a snapshot of an Endpoint's counters.
type Stats struct {
	Socket  udpio.Stats // the sums of all sockets
	Sockets int

	Associations int // that exist
	Handshakes   int // that are half-open

	DatagramsReceived uint64 // all of them
	BytesReceived     uint64
	DatagramsSent     uint64
	BytesSent         uint64
	SendErrors        uint64 // writes that the socket refused

	Malformed  uint64 // datagrams that are no frame, or not one that may come
	UnknownID  uint64 // packets for no association
	Resets     uint64 // answers to those that were sent
	Overloaded uint64 // HELLOs that found a limit reached
	Refused    uint64 // handshakes that were refused
	BadCookies uint64 // HELLOs with a cookie that is not ours or too old
	Dropped    uint64 // messages and packets that came, and for which there was no room
	Lost       uint64 // messages that nobody waits for and that could not be sent, or were to be repaired: the peer has gone

	PathChanges uint64 // addresses that have changed: of clients, and of this end towards a server
	Strays      uint64 // times that packets came on another socket than the kernel was told to choose
}
