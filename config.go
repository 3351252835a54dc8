package vstp

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/stream"
	"github.com/vstp-go/vstp/tlsvstp"
)

// Defaults and bounds of a Config. A value beyond a bound is taken as the bound.
const (
	DefaultPort = "6969" // used where an address names no port

	DefaultHandshakeTimeout = 10 * time.Second
	DefaultLinger           = 5 * time.Second
	DefaultAckTimeout       = 10 * time.Second

	DefaultMaxFrameSize   = framing.DefaultMaxFrame // 8 MiB
	DefaultMaxMessageSize = 100 << 20               // 100 MiB

	DefaultMaxHandshakes = 1024
	DefaultAcceptBacklog = 128

	// On datagrams ("udp", "rudp" and their relatives).
	DefaultDatagramAckTimeout = 2 * time.Second
	DefaultMaxRetries         = 3
	DefaultRetryDelay         = 100 * time.Millisecond
	DefaultMaxRetryDelay      = 5 * time.Second
	DefaultKeepAlive          = 15 * time.Second
	DefaultIdleTimeout        = 60 * time.Second
	DefaultMaxAssociations    = 65536
	DefaultRedundancy         = 3.0
)

// A Checksum says whether frames carry a CRC32.
type Checksum uint8

const (
	// ChecksumAuto is on in plaintext and off inside TLS, whose AEAD is stronger.
	ChecksumAuto Checksum = iota
	ChecksumOn
	// ChecksumOff leaves the CRC out if the peer does not want it either.
	ChecksumOff
)

// A Compression says whether payloads may be compressed.
type Compression uint8

const (
	CompressionNone Compression = iota
	// CompressionZstd compresses payloads with zstd where that makes them
	// smaller, if the peer's Config says the same. It costs memory, about 1 MiB a
	// connection that is in use, and makes sizes depend on content: do not
	// compress secrets beside data an attacker chooses (CRIME).
	CompressionZstd
)

// A CongestionControl decides how fast datagrams are sent.
type CongestionControl uint8

const (
	// BBR models the path: its bandwidth and its shortest round trip. Random loss
	// alone does not slow it down, and it does not fill queues.
	BBR CongestionControl = iota
	// CUBIC takes each loss for congestion, as most TCPs do. RFC 9438.
	CUBIC
)

// String returns the name in lower case.
func (c CongestionControl) String() string {
	switch c {
	case BBR:
		return "bbr"
	case CUBIC:
		return "cubic"
	}
	return "CongestionControl(" + strconv.Itoa(int(c)) + ")"
}

// A Config holds the options of a connection, a Dialer or a listener. A nil
// *Config is valid and means the defaults, as does the zero value of each field.
// A Config must not be changed after it was passed to a function of this package;
// it may be used by any number of connections and listeners. This package never
// writes to it.
type Config struct {
	// TLS, if not nil, protects everything with TLS 1.3, on every network: streams
	// run inside it, and datagrams are sealed with its keys, as those of QUIC are
	// (PROTOCOL §8). Peers without TLS are refused, those of the crate too. The ALPN
	// protocol "vstp/1" is added where it is missing, and a MinVersion below 1.3 is
	// raised. A client whose Config has no ServerName takes the host it dials. A
	// server needs a certificate, as in crypto/tls; a PacketConn without one can only
	// begin.
	TLS *tls.Config

	// EarlyData permits 0-RTT on datagrams with TLS, if both sides say so: a client
	// that has a session from before (TLS.ClientSessionCache) is connected at once, and
	// what it writes reaches the server without a round trip. Such data can be
	// recorded and SENT AGAIN BY ANYONE. Servers of this module accept no 0-RTT twice: a
	// socket does so only with tickets that it has made itself, for ten minutes, and
	// remembers all that has begun so; whoever comes later, or to another socket, needs a
	// round trip. But what one socket has refused, and got after that round trip, another
	// may accept when it is sent again. So what a client writes before Conn.Handshake
	// returns should do no harm when it comes twice. A server can tell by
	// ConnectionState.EarlyData. See docs/SECURITY.md. A dial of "auto" does without, as
	// it could not know whether UDP works, unless Auto.Pin is CarrierUDP.
	EarlyData bool

	// StatelessResetKey is a secret with which a socket proves, after the process was
	// started anew, that it does not know an association with TLS any more, so that
	// the peer ends it at once and not after its IdleTimeout. If nil, it is derived
	// from the private key of the first of TLS.Certificates, or random where there
	// is none.
	StatelessResetKey *[32]byte

	// Header is the metadata sent to the peer in HELLO, or in WELCOME: an
	// authorisation token, a route, a trace context. The peer finds it in
	// ConnectionState.PeerHeader.
	Header Header

	// VerifyHello, if not nil, is called by a server for each HELLO, before the
	// connection is accepted. The Header it returns is sent in WELCOME after that
	// of Config.Header. An error refuses the client: a *RefusedError is passed on
	// to it as it is, of any other error it learns nothing. A client gets the
	// refusal as a *RefusedError from Dial. The context ends with the handshake
	// timeout. Peers that send no HELLO (the crate) are shown too, with
	// HelloInfo.Legacy set; but not on datagrams, where there is nothing to accept.
	VerifyHello func(ctx context.Context, hello *HelloInfo) (Header, error)

	// Legacy makes a client begin as the original Rust crate does: no HELLO, no
	// WELCOME, only what the crate understands. For dialing servers of the crate;
	// a server recognises clients of the crate without it. A PacketConn sends in
	// this way to all peers that have not negotiated with it. There is no "rudp"
	// with the crate.
	Legacy bool

	// Auto holds the options of "auto".
	Auto AutoConfig

	// Checksum and Compression say what this side asks for; see the types. The
	// checksum is on if either side asks for it, compression if both do. On
	// datagrams there is no compression, nor for clients of "auto".
	Checksum    Checksum
	Compression Compression

	// MaxFrameSize is the largest whole frame accepted from the peer, in bytes.
	// If zero, 8 MiB. At least 64 KiB plus the largest header block. Streams only.
	MaxFrameSize int

	// MaxMessageSize is the largest message accepted from the peer, in bytes of
	// payload. If zero, 100 MiB. The peer learns it in the handshake.
	MaxMessageSize int

	// HandshakeTimeout bounds the time from the connected carrier to the
	// finished handshake, TLS included; a client of "auto" bounds connecting by TCP with
	// it too. If zero, 10 s; if negative, none.
	HandshakeTimeout time.Duration

	// KeepAlive is how long nothing may come from the peer before a PING asks
	// for a sign of life. If negative, none is sent. If zero, none on streams; on
	// datagrams and "auto" 15 s for what Dial and Accept return, and none for the peers of
	// a PacketConn. Keep-alive needs a timer, and no goroutine.
	KeepAlive time.Duration

	// IdleTimeout ends the connection, with ErrIdleTimeout, when nothing came
	// from the peer for so long. If negative, never. If zero, never on streams,
	// whose carrier notices by itself; on datagrams and "auto" after 60 s. The smaller of both
	// sides' values counts. On streams it does not run while received data waits
	// for this side's application, nor while a Write waits for the peer's although
	// its host still answers (as far as the operating system tells). A PacketConn
	// forgets a peer after it, and finds it again with the next message.
	IdleTimeout time.Duration

	// Linger bounds how long Close waits for the carrier to take what Write
	// accepted, and how long the peer's last bytes are drained in the background.
	// If zero, 5 s. If negative, Close waits for nothing.
	Linger time.Duration

	// AckTimeout bounds the wait for the ACK of a message sent with RequireAck.
	// On streams: where the context has no deadline; if zero, 10 s; if negative,
	// none. On datagrams it bounds one attempt: an attempt has failed when nothing
	// of the message was acknowledged for so long; if zero, 2 s; if negative, no
	// attempt fails. What is lost is sent again long before, as round trips tell.
	AckTimeout time.Duration

	// MaxRetries is how many attempts more a message with RequireAck gets on
	// datagrams after the first one failed. Before each, it waits for RetryDelay,
	// which doubles from time to time up to MaxRetryDelay. After the last one
	// SendMessage returns ErrAckTimeout. If zero, 3, 100 ms and 5 s; if negative,
	// no retries, no delay, no limit. These and AckTimeout mean what they mean in
	// the crate's UdpConfig.
	MaxRetries    int
	RetryDelay    time.Duration
	MaxRetryDelay time.Duration

	// Reliable makes every message on datagrams be sent as with Message.Repair,
	// those of Write and WriteTo too: it is repeated until it has arrived.
	// RequireAck tells in addition that it has.
	Reliable bool

	// RedundantMessages makes every message on datagrams be sent as with
	// Message.Redundant, those of Write and WriteTo too.
	RedundantMessages bool

	// Redundancy bounds what Message.Redundant costs: the most redundant bytes, over
	// time, for each byte of such messages. If zero, 3; if negative, there are none. On
	// most paths it is not used up. Where no loss is known, a small message has one copy, as
	// the first loss comes unannounced, and a larger one a packet of parity in 32; with the
	// losses that are measured it becomes more, and where they come in bursts, copies
	// go on until there is an answer. Redundancy takes at most a quarter of the congestion
	// window, a sixteenth while no loss is known, and a sixty-fourth of
	// what is sent while something else waits. What exceeds that is given up, as is all
	// of it that congestion control holds up.
	Redundancy float64

	// NoFragmentation refuses to send, with ErrMessageTooLarge, messages that do
	// not fit one datagram. Larger ones can still be received.
	NoFragmentation bool

	// CongestionControl chooses the congestion controller on datagrams. If zero,
	// BBR.
	CongestionControl CongestionControl

	// ReceiveWindow bounds, in bytes, what a peer on datagrams may have sent of a
	// byte stream that the application has not read; it begins smaller and grows
	// with use. If zero, 64 MiB.
	ReceiveWindow int

	// SendBuffer bounds, in bytes, how much of a byte stream Write takes ahead of
	// the peer's acknowledgements on datagrams. If zero, it grows with the path up
	// to 64 MiB.
	SendBuffer int

	// MaxDatagramSize bounds the datagrams that are sent and received, in bytes of
	// UDP payload. If zero, as large as the path and the socket carry. At least
	// 1200, at most 65507.
	MaxDatagramSize int

	// MaxAssociations is how many peers a socket knows at a time; further ones are
	// refused with CodeOverload. If zero, 65536.
	MaxAssociations int

	// MaxAssociationsPerPrefix is how many of them, unfinished handshakes included,
	// may be of one source: an IPv4 /24 or an IPv6 /56. Further ones get no answer,
	// until there is room. If zero, 16384; if negative, there is no bound.
	MaxAssociationsPerPrefix int

	// HandshakeRate is how many handshakes a socket begins in a second. Further ones
	// wait: a client repeats its HELLO. If zero, 10000; if negative, there is no bound.
	HandshakeRate int

	// MaxUnvalidatedHandshakes is how many handshakes with TLS a socket carries on at
	// a time whose client has not shown that it receives at its address. Beyond
	// that, clients are asked for a cookie, which costs them a round trip and the
	// server nothing. If zero, 128; if negative, every client is asked. Without TLS
	// every client is.
	MaxUnvalidatedHandshakes int

	// MaxHandshakes is how many unfinished handshakes a listener carries at a
	// time. Beyond that, the oldest is given up. If zero, 1024.
	MaxHandshakes int

	// AcceptBacklog is how many finished connections wait for Accept. If zero,
	// 128. Beyond that, handshakes wait to be handed over.
	AcceptBacklog int

	// Logger gets what happens to single connections of a listener, and nothing
	// a caller gets as an error anyway. If nil, nothing is logged.
	Logger *slog.Logger
}

// HelloInfo is what a server knows of a client before it accepts it.
type HelloInfo struct {
	LocalAddr, RemoteAddr net.Addr

	// Header is the client's metadata. It belongs to the receiver.
	Header Header

	// TLS is the state of the TLS handshake, nil in plaintext. It is finished, but with
	// 0-RTT (Config.EarlyData): then HandshakeComplete is false, and what is here may be a
	// replay.
	TLS *tls.ConnectionState

	// Legacy says that the peer negotiated nothing: a client of the crate.
	Legacy bool

	// MessagesOnly says that the peer wants to exchange messages only, as those
	// of "udp" do. It is false on streams and for "rudp".
	MessagesOnly bool
}

// positive returns v, or 0 if it is negative, or def if it is zero.
func positive[T int | time.Duration](v, def T) T { return max(0, cmp.Or(v, def)) }

// maxHandshakes returns the limit of unfinished handshakes of a listener.
func (c *Config) maxHandshakes() int {
	if c == nil || c.MaxHandshakes <= 0 {
		return DefaultMaxHandshakes
	}
	return c.MaxHandshakes
}

// acceptBacklog returns how many connections wait for Accept.
func (c *Config) acceptBacklog() int {
	if c == nil || c.AcceptBacklog <= 0 {
		return DefaultAcceptBacklog
	}
	return c.AcceptBacklog
}

// logger returns a logger, which may be one that drops everything.
func (c *Config) logger() *slog.Logger {
	if c == nil || c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// session resolves c for one side of stream sessions. serverName is the host that
// a client dials, if known.
func (c *Config) session(client bool, serverName string) (*stream.Config, error) {
	if c == nil {
		c = &Config{}
	}
	sc := &stream.Config{
		Client: client,
		Legacy: client && c.Legacy,
		Params: handshake.Params{
			MaxFrame:   int64(min(max(cmp.Or(max(c.MaxFrameSize, 0), DefaultMaxFrameSize), handshake.MinMaxFrame), maxMaxFrame)),
			MaxMessage: int64(cmp.Or(max(c.MaxMessageSize, 0), DefaultMaxMessageSize)),
			Checksum:   c.Checksum == ChecksumOn || c.Checksum == ChecksumAuto && c.TLS == nil,
			Idle:       max(0, c.IdleTimeout),
			Header:     c.Header,
		},
		NewSessionID:     newSessionID,
		HandshakeTimeout: positive(c.HandshakeTimeout, DefaultHandshakeTimeout),
		KeepAlive:        max(0, c.KeepAlive),
		Linger:           positive(c.Linger, DefaultLinger),
		AckTimeout:       positive(c.AckTimeout, DefaultAckTimeout),
	}
	if c.Compression == CompressionZstd {
		sc.Params.Compression = []byte{handshake.CompressZstd}
	}
	if c.VerifyHello != nil && !client {
		sc.Verify = verifier(c.VerifyHello)
	}
	if err := c.check(client); err != nil {
		sc.Err = err
		return sc, err
	}
	switch {
	case c.TLS == nil:
	case client:
		sc.TLS = tlsvstp.ClientConfig(c.TLS, serverName)
	default:
		sc.TLS = tlsvstp.ServerConfig(c.TLS)
	}
	return sc, nil
}

// maxMaxFrame is the largest MaxFrameSize: what a frame can have, and an int hold everywhere.
const maxMaxFrame = 1<<31 - 1

// check finds what can never work in c.
func (c *Config) check(client bool) error {
	if c.Header.HasReserved() {
		return ErrReservedKey
	}
	if err := c.Header.Validate(); err != nil {
		return err
	}
	if c.TLS != nil {
		return tlsvstp.CheckConfig(c.TLS, !client)
	}
	return nil
}

// verifier adapts a VerifyHello hook for streams.
func verifier(hook func(context.Context, *HelloInfo) (Header, error)) func(context.Context, *stream.Session, *handshake.Hello) (Header, error) {
	return func(ctx context.Context, s *stream.Session, h *handshake.Hello) (Header, error) {
		return verify(ctx, hook, &HelloInfo{
			LocalAddr:  s.LocalAddr(),
			RemoteAddr: s.RemoteAddr(),
			Header:     h.Header,
			Legacy:     h.Legacy,
			TLS:        s.TLSState(),
		})
	}
}

// verify asks hook and makes its refusal one of the packages below.
func verify(ctx context.Context, hook func(context.Context, *HelloInfo) (Header, error), info *HelloInfo) (Header, error) {
	extra, err := hook(ctx, info)
	if err == nil && extra.HasReserved() {
		err = ErrReservedKey
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		return nil, &session.Refusal{Reason: refused.Reason, Header: refused.Header}
	}
	return extra, err
}

// newSessionID returns 128 random bits.
func newSessionID() (id [16]byte) {
	rand.Read(id[:]) // never fails
	return id
}
