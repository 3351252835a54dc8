package vstp

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
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

// A Config holds the options of a connection, a Dialer or a listener. A nil
// *Config is valid and means the defaults, as does the zero value of each field.
// A Config must not be changed after it was passed to a function of this package;
// it may be used by any number of connections and listeners. This package never
// writes to it.
type Config struct {
	// TLS, if not nil, puts TLS 1.3 around everything. The ALPN protocol
	// "vstp/1" is added where it is missing, and a MinVersion below 1.3 is
	// raised. A client whose Config has no ServerName takes the host it dials. A
	// server needs a certificate, as in crypto/tls.
	TLS *tls.Config

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
	// HelloInfo.Legacy set.
	VerifyHello func(ctx context.Context, hello *HelloInfo) (Header, error)

	// Legacy makes a client begin as the original Rust crate does: no HELLO, no
	// WELCOME, only what the crate understands. For dialing servers of the crate;
	// a server recognises clients of the crate without it.
	Legacy bool

	// Checksum and Compression say what this side asks for; see the types. The
	// checksum is on if either side asks for it, compression if both do.
	Checksum    Checksum
	Compression Compression

	// MaxFrameSize is the largest whole frame accepted from the peer, in bytes.
	// If zero, 8 MiB. At least 64 KiB plus the largest header block.
	MaxFrameSize int

	// MaxMessageSize is the largest message accepted from the peer, in bytes of
	// payload. If zero, 100 MiB. The peer learns it in the handshake.
	MaxMessageSize int

	// HandshakeTimeout bounds the time from the connected carrier to the
	// finished handshake, TLS included. If zero, 10 s; if negative, none.
	HandshakeTimeout time.Duration

	// KeepAlive is how long nothing may come from the peer before a PING asks
	// for a sign of life. If zero or negative, none is sent. Keep-alive needs a
	// timer, and no goroutine.
	KeepAlive time.Duration

	// IdleTimeout ends the connection, with ErrIdleTimeout, when nothing came
	// from the peer for so long. If zero or negative, never. The smaller of both
	// sides' values counts. It does not run while received data waits for this
	// side's application, nor while a Write waits for the peer's although its host
	// still answers (as far as the operating system tells).
	IdleTimeout time.Duration

	// Linger bounds how long Close waits for the carrier to take what Write
	// accepted, and how long the peer's last bytes are drained in the background.
	// If zero, 5 s. If negative, Close waits for nothing.
	Linger time.Duration

	// AckTimeout bounds the wait for the ACK of a message sent with RequireAck
	// where the context has no deadline. If zero, 10 s; if negative, none.
	AckTimeout time.Duration

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

	// TLS is the state of the finished TLS handshake, nil in plaintext.
	TLS *tls.ConnectionState

	// Legacy says that the peer negotiated nothing: a client of the crate.
	Legacy bool
}

// positive returns d, or 0 if it is negative, or def if it is zero.
func positive(d, def time.Duration) time.Duration {
	return max(0, cmp.Or(d, def))
}

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

// verifier adapts a VerifyHello hook.
func verifier(hook func(context.Context, *HelloInfo) (Header, error)) func(context.Context, *stream.Session, *handshake.Hello) (Header, error) {
	return func(ctx context.Context, s *stream.Session, h *handshake.Hello) (Header, error) {
		info := &HelloInfo{
			LocalAddr:  s.LocalAddr(),
			RemoteAddr: s.RemoteAddr(),
			Header:     h.Header,
			Legacy:     h.Legacy,
			TLS:        s.TLSState(),
		}
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
}

// newSessionID returns 128 random bits.
func newSessionID() (id [16]byte) {
	rand.Read(id[:]) // never fails
	return id
}
