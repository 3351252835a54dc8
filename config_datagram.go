package vstp

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/reliable"
)

// errNoDatagramTLS refuses a Config.TLS on datagrams, which would otherwise be
// plaintext without anybody noticing.
var errNoDatagramTLS = errors.New("vstp: Config.TLS is not supported on datagram networks")

// never is a timeout that does not come.
const never = 10 * 365 * 24 * time.Hour

// endpoint resolves c for a socket and its associations. server says that peers may
// begin.
func (c *Config) endpoint(server bool) (*endpoint.Config, error) {
	if c == nil {
		c = &Config{}
	}
	if c.TLS != nil {
		return nil, errNoDatagramTLS
	}
	if err := c.check(!server); err != nil {
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
		RefuseMessages:   !server,
		ReliableMessages: c.Reliable,
		NoFragments:      c.NoFragmentation,
		ReceiveWindow:    int64(max(c.ReceiveWindow, 0)),
		SendBuffer:       max(c.SendBuffer, 0),
		MaxDatagram:      c.maxDatagram(),
		Legacy:           c.Legacy,
		Logger:           c.Logger,
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
				Legacy:       h.Legacy,
				MessagesOnly: !h.Stream,
			})
		}
	}
	return ec, nil
}

// maxDatagram returns MaxDatagramSize within its bounds, 0 for what is best.
func (c *Config) maxDatagram() int {
	if c == nil || c.MaxDatagramSize <= 0 {
		return 0
	}
	return min(max(c.MaxDatagramSize, reliable.BaseMTU), reliable.MaxMTU)
}
