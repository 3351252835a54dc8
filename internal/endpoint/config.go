package endpoint

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/udpio"
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
	MaxPerPrefix    int // of those and of half-open ones, from one prefix; if zero, 16384; negative: no bound
	MaxUnvalidated  int // handshakes with TLS begun without a cookie; if zero, 128; negative: none
	HandshakeRate   int // a second; if zero, 10000; negative: no bound

	// ServerTLS, if not nil, seals what peers begin: nothing else is accepted then.
	// ClientTLS, if not nil, gives the configuration for a dial. They are those of
	// tlsvstp.ServerConfig and ClientConfig.
	ServerTLS *tls.Config
	ClientTLS func(to udpio.Addr) *tls.Config
	EarlyData bool      // 0-RTT, in both roles
	ResetKey  *[32]byte // of stateless resets; if nil, random

	Retry      reliable.Retry
	Controller reliable.Controller

	RefuseMessages    bool        // of peers that begin: nobody would receive them
	ReliableMessages  bool        // every message is repaired until it has arrived
	RedundantMessages bool        // every message asks for redundancy
	Redundancy        float64     // reliable.Config.Redundancy
	NoFragments       bool        // messages that do not fit a datagram are refused
	ReceiveWindow     int64       // see reliable.Config
	SendBuffer        int         // see reliable.Config
	MaxDatagram       int         // largest datagram that is received and sent; if zero, what the socket is good for
	Legacy            bool        // messages go out in the crate profile
	Tokens            *Tokens     // of servers; if nil, they are kept by the endpoint
	Auto              *AutoConfig // sessions with a stream move between carriers; nil: they do not
	Logger            *slog.Logger
}

// A Hello is what Config.Verify is asked about.
type Hello struct {
	LocalAddr, RemoteAddr net.Addr
	Header                framing.Header
	Legacy                bool                 // the peer speaks the crate profile
	Stream                bool                 // it wants a byte stream
	TLS                   *tls.ConnectionState // nil without TLS
}

// Defaults, and bounds that are not for the configuration.
const (
	defaultMaxMessage      = handshake.DefaultMaxMessage
	defaultMaxHandshakes   = 1024
	defaultAcceptBacklog   = 128
	defaultMaxAssociations = 65536
	defaultMaxPerPrefix    = 16384
	defaultMaxUnvalidated  = 128
	defaultHandshakeRate   = 10000

	// What a peer may send before anything was read. It grows with the path.
	firstStreamCredit     = 1 << 20
	firstConnectionCredit = 3 << 19
)

func orDefault[T int | int64](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

func (c *Config) maxMessage() int64    { return orDefault(c.MaxMessage, defaultMaxMessage) }
func (c *Config) maxHandshakes() int   { return orDefault(c.MaxHandshakes, defaultMaxHandshakes) }
func (c *Config) acceptBacklog() int   { return orDefault(c.AcceptBacklog, defaultAcceptBacklog) }
func (c *Config) maxAssociations() int { return orDefault(c.MaxAssociations, defaultMaxAssociations) }

// limit is orDefault for what can be without a bound.
func limit(v, def, negative int) int {
	if v < 0 {
		return negative
	}
	return orDefault(v, def)
}

func (c *Config) maxPerPrefix() int   { return limit(c.MaxPerPrefix, defaultMaxPerPrefix, math.MaxInt) }
func (c *Config) maxUnvalidated() int { return limit(c.MaxUnvalidated, defaultMaxUnvalidated, 0) }

// sealsAll reports whether peers without TLS are refused.
func (c *Config) sealsAll() bool { return c.ServerTLS != nil || c.ClientTLS != nil }

func (c *Config) handshakeRate() int {
	return limit(c.HandshakeRate, defaultHandshakeRate, math.MaxInt)
}

func (c *Config) random(b []byte) {
	if c.Rand != nil {
		c.Rand(b)
		return
	}
	rand.Read(b)
}

func (c *Config) sessionID() (id [16]byte) {
	if c.NewSessionID != nil {
		return c.NewSessionID()
	}
	c.random(id[:])
	return id
}

// credit is what peers may send at first.
func (c *Config) credit() handshake.Credit {
	stream, all := int64(firstStreamCredit), int64(firstConnectionCredit)
	if w := c.ReceiveWindow; w > 0 {
		stream, all = min(stream, w), min(all, w)
	}
	return handshake.Credit{
		MaxData:       all,
		MaxStreamData: stream,
		MaxMessages:   reliable.MessageWindow(c.maxMessage()),
	}
}

// params is what this side brings to a handshake.
func (e *Endpoint) params(id reliable.ConnID, stream bool) handshake.DatagramParams {
	c := e.cfg
	p := handshake.DatagramParams{
		Params: handshake.Params{
			MaxMessage: c.maxMessage(),
			Checksum:   c.Checksum,
			Idle:       c.Idle,
			Header:     c.Header,
		},
		SourceID:    handshake.ConnID(id),
		MaxDatagram: e.maxDatagram,
		Credit:      c.credit(),
		AckDelay:    reliable.DefaultAckDelay,
		Parity:      true,
		Stream:      stream,
	}
	if c.Auto != nil && stream {
		p.Moves, p.Carriers = true, handshake.BothCarriers
	}
	return p
}

// engineConfig is what an association is made of after a handshake that gave r.
func (e *Endpoint) engineConfig(s *Session, r *handshake.DatagramResult, rtt time.Duration) *reliable.Config {
	c := e.cfg
	own := e.params(s.id, s.stream)
	var seed [8]byte
	c.random(seed[:])
	largest := min(e.maxDatagram, r.Peer.MaxDatagram)
	rc := &reliable.Config{
		Client:       s.client,
		MessagesOnly: !s.stream,
		LocalID:      s.id,
		PeerID:       reliable.ConnID(r.PeerID),
		Checksum:     r.Checksum,
		Local: reliable.Limits{
			MaxDatagram:   own.MaxDatagram,
			MaxData:       own.Credit.MaxData,
			MaxStreamData: own.Credit.MaxStreamData,
			MaxStreams:    own.Credit.MaxStreams,
			MaxMessages:   own.Credit.MaxMessages,
			MaxMessage:    own.MaxMessage,
			AckDelay:      own.AckDelay,
			Parity:        own.Parity,
		},
		Peer: reliable.Limits{
			MaxDatagram:   r.Peer.MaxDatagram,
			MaxData:       r.Peer.Credit.MaxData,
			MaxStreamData: r.Peer.Credit.MaxStreamData,
			MaxStreams:    r.Peer.Credit.MaxStreams,
			MaxMessages:   r.Peer.Credit.MaxMessages,
			MaxMessage:    r.Peer.MaxMessage,
			AckDelay:      r.Peer.AckDelay,
			Parity:        r.Peer.Parity,
		},
		SearchMTU:     largest,
		RTT:           rtt,
		Controller:    c.Controller,
		KeepAlive:     c.KeepAlive,
		IdleTimeout:   r.Idle,
		Retry:         c.Retry,
		Redundancy:    c.Redundancy,
		SendBuffer:    c.SendBuffer,
		ReceiveWindow: c.ReceiveWindow,
		Seed:          binary.NativeEndian.Uint64(seed[:]),
		Moves:         r.Moves && c.Auto != nil,
	}
	if r.Idle > 0 {
		rc.KeepAlive = min(rc.KeepAlive, r.Idle/2) // the peer may be the one that is impatient; PROTOCOL §7.9
	}
	if s.shared {
		rc.KeepAlive = 0 // it comes back when it is needed
	}
	if s.remote.Addr().IsLoopback() {
		rc.MTU = largest // there is no path to search; EMSGSIZE tells if that is wrong
	}
	return rc
}
