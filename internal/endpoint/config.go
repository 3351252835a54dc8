package endpoint

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/reliable"
)

// A Config is what an Endpoint is made with. It is never written. Where a zero value
// is not said to mean something, it means zero.
type Config struct {
	MaxMessage int64 // largest message that is received; if zero, 100 MiB
	Checksum   bool  // asks for a CRC in every packet
	Header     framing.Header

	Idle             time.Duration // offered; 0: none
	KeepAlive        time.Duration // 0: off
	HandshakeTimeout time.Duration // 0: none
	Linger           time.Duration // 0: Close waits for nothing

	// Verify, if not nil, is asked before a client is welcomed, in a goroutine of its
	// own. A *session.Refusal chooses what the client learns.
	Verify func(ctx context.Context, h *Hello) (framing.Header, error)

	// NewSessionID returns 128 random bits; Rand fills a slice with random bytes. If
	// nil, crypto/rand is used.
	NewSessionID func() [16]byte
	Rand         func([]byte)

	MaxHandshakes   int // half-open ones; if zero, 1024
	AcceptBacklog   int // streams that wait for Accept; if zero, 128
	MaxAssociations int // if zero, 65536

	Retry      reliable.Retry
	Controller reliable.Controller

	ReliableMessages bool  // every message is repaired until it has arrived
	NoFragments      bool  // messages that do not fit a datagram are refused
	ReceiveWindow    int64 // see reliable.Config
	SendBuffer       int   // see reliable.Config
	MaxDatagram      int   // largest datagram that is received and sent; if zero, what the socket is good for
	Legacy           bool  // messages go out in the crate profile
	Logger           *slog.Logger
}

// A Hello is what Config.Verify is asked about.
type Hello struct {
	LocalAddr, RemoteAddr net.Addr
	Header                framing.Header
	Legacy                bool // the peer speaks the crate profile
	Stream                bool // it wants a byte stream
}
