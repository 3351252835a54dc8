package vstp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
	"github.com/vstp-go/vstp/tlsvstp"
)

// errLegacyTLS refuses to speak plaintext to the crate where TLS was asked for.
var errLegacyTLS = errors.New("vstp: there is no TLS with the crate: Config.TLS and Config.Legacy exclude each other on datagrams")

// An endpointRole says what a socket is for.
type endpointRole int

const (
	dialing   endpointRole = iota // one peer
	listening                     // byte streams that peers begin
	meeting                       // messages and streams that either side begins
	serving                       // messages and streams that peers begin
)

// accepts reports whether r is for nothing but what peers begin.
func (r endpointRole) accepts() bool { return r == listening || r == serving }

// never is a timeout that does not come.
const never = 10 * 365 * 24 * time.Hour

// endpoint resolves c for a socket and its associations. serverName is the host that is
// dialed, if known.
func (c *Config) endpoint(role endpointRole, serverName string) (*endpoint.Config, error) {
	if c == nil {
		c = &Config{}
	}
	if c.TLS != nil && c.Legacy {
		return nil, errLegacyTLS
	}
	if err := c.check(!role.accepts()); err != nil {
		return nil, err
	}
	ec := &endpoint.Config{
		MaxMessage:       int64(cmp.Or(max(c.MaxMessageSize, 0), DefaultMaxMessageSize)),
		Checksum:         c.Checksum != ChecksumOff,
		Header:           c.Header,
		Idle:             positive(c.IdleTimeout, DefaultIdleTimeout),
		KeepAlive:        positive(c.KeepAlive, DefaultKeepAlive),
		HandshakeTimeout: positive(c.HandshakeTimeout, DefaultHandshakeTimeout),
		Linger:           positive(c.Linger, DefaultLinger),
		NewSessionID:     newSessionID,
		MaxHandshakes:    c.maxHandshakes(),
		AcceptBacklog:    c.acceptBacklog(),
		MaxAssociations:  cmp.Or(max(c.MaxAssociations, 0), DefaultMaxAssociations),
		Retry: reliable.Retry{
			MaxRetries: positive(c.MaxRetries, DefaultMaxRetries),
			AckTimeout: positive(c.AckTimeout, DefaultDatagramAckTimeout),
			Delay:      positive(c.RetryDelay, DefaultRetryDelay),
			MaxDelay:   positive(c.MaxRetryDelay, DefaultMaxRetryDelay),
		},
		MaxPerPrefix:      c.MaxAssociationsPerPrefix,
		MaxUnvalidated:    c.MaxUnvalidatedHandshakes,
		HandshakeRate:     c.HandshakeRate,
		EarlyData:         c.EarlyData,
		ResetKey:          c.StatelessResetKey,
		RefuseMessages:    role != meeting && role != serving,
		ReliableMessages:  c.Reliable,
		RedundantMessages: c.RedundantMessages,
		Redundancy:        c.redundancy(),
		NoFragments:       c.NoFragmentation,
		ReceiveWindow:     int64(max(c.ReceiveWindow, 0)),
		SendBuffer:        max(c.SendBuffer, 0),
		MaxDatagram:       c.maxDatagram(),
		Legacy:            c.Legacy,
		Logger:            c.Logger,
	}
	if c.TLS != nil {
		c.endpointTLS(ec, role, serverName)
	}
	if ec.Retry.AckTimeout == 0 {
		ec.Retry.AckTimeout = never
	}
	if ec.Retry.MaxDelay == 0 {
		ec.Retry.MaxDelay = never
	}
	if c.CongestionControl == CUBIC {
		ec.Controller = reliable.CUBIC
	}
	if c.VerifyHello != nil {
		hook := c.VerifyHello
		ec.Verify = func(ctx context.Context, h *endpoint.Hello) (Header, error) {
			return verify(ctx, hook, &HelloInfo{
				LocalAddr:    h.LocalAddr,
				RemoteAddr:   h.RemoteAddr,
				Header:       h.Header,
				TLS:          h.TLS,
				Legacy:       h.Legacy,
				MessagesOnly: !h.Stream,
			})
		}
	}
	return ec, nil
}

// endpointTLS resolves c.TLS.
func (c *Config) endpointTLS(ec *endpoint.Config, role endpointRole, serverName string) {
	if role != listening {
		ec.ClientTLS = func(to udpio.Addr) *tls.Config {
			name := serverName
			if name == "" {
				name = to.Addr().String()
			}
			return tlsvstp.ClientConfig(c.TLS, name)
		}
	}
	if role != dialing && tlsvstp.CheckConfig(c.TLS, true) == nil {
		ec.ServerTLS = tlsvstp.ServerConfig(c.TLS)
	}
	if ec.ResetKey == nil {
		ec.ResetKey = tlsvstp.ResetKey(c.TLS)
	}
}

// redundancy returns Redundancy as a finite number.
func (c *Config) redundancy() float64 {
	if !(c.Redundancy >= 0) { // nor NaN
		return 0
	}
	return min(cmp.Or(c.Redundancy, DefaultRedundancy), 64)
}

// maxDatagram returns MaxDatagramSize within its bounds, 0 for what is best.
func (c *Config) maxDatagram() int {
	if c == nil || c.MaxDatagramSize <= 0 {
		return 0
	}
	return min(max(c.MaxDatagramSize, reliable.BaseMTU), reliable.MaxMTU)
}
