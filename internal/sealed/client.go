package sealed

import (
	"bytes"
	"context"
	"crypto/tls"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/tlsvstp"
)

const (
	maxRetries = 32 // cookies that a client follows
	maxEarly   = 8  // handshake packets that are kept before their keys are there
)

// A Client is the side that sends HELLO.
type Client struct {
	end
	own    handshake.SealedParams
	server handshake.ConnID
	known  bool // server is
	cookie []byte
	retry  int
	early  [][]byte
	hint   error

	said, heard int  // bytes: of the last flight, and of what was news
	shown       bool // by a handshake packet: that the client is where it seems to be

	result handshake.DatagramResult
	peer   handshake.SealedParams

	remembered   *handshake.SealedParams // of the server, for 0-RTT
	wantsTickets bool
}

// NewClient begins a handshake. TLS is a configuration of [tlsvstp.ClientConfig]. With
// early, 0-RTT is offered where the session cache has what that takes.
func NewClient(ctx context.Context, config *tls.Config, own handshake.SealedParams, early bool) (*Client, error) {
	params, err := handshake.AppendClientParams(nil, &own)
	if err != nil {
		return nil, err
	}
	c := &Client{own: own, wantsTickets: config.ClientSessionCache != nil}
	c.packets.typ = framing.TypeHello
	c.onParams = c.parameters
	c.tls, err = tlsvstp.NewClientHandshake(ctx, tlsvstp.HandshakeConfig{TLS: config, Params: params, EarlyData: early})
	if err != nil {
		return nil, err
	}
	c.pump()
	if c.err != nil {
		c.tls.Close()
		return nil, c.err
	}
	return c, nil
}

// SetToken has the first HELLO begin with a token, as that of a handshake.DatagramClient.
func (c *Client) SetToken(token []byte) {
	if len(token) > 0 && len(token) <= handshake.MaxToken {
		c.cookie = bytes.Clone(token)
	}
}

// parameters takes those of the server, which TLS has found authentic, or will.
func (c *Client) parameters(b []byte) error {
	p, err := handshake.ParseServerParams(b)
	if err != nil {
		return err
	}
	if !c.known || p.SourceID != c.server || p.ClientID != c.own.SourceID {
		return errIDs
	}
	c.peer = *p
	c.result, err = handshake.Negotiate(&c.own, p, true)
	return err
}

// Receive takes a datagram that claims to be for this client, and may change it.
// Nothing of it is kept. It reports whether the server has said anything new in it.
func (c *Client) Receive(b []byte) bool {
	if c.err != nil {
		return false
	}
	_, _, kind := handshake.RouteID(b)
	if c.done { // the server may still find that it does not want the client's certificate
		if kind == handshake.KindSealedWelcome {
			c.take(b, framing.TypeWelcome)
		}
		return false
	}
	news := false
	size := len(b)
	switch kind {
	case handshake.KindWelcome:
		news = c.welcome(b)
	case handshake.KindSealedWelcome:
		news = c.packet(b)
	case handshake.KindErr:
		c.refusal(b)
	}
	if news {
		c.heard += size
		// The server may not be allowed to say more before it knows that somebody hears it.
		if c.packets.write != nil && !c.done && !c.shown && c.heard+maxDatagram > amplification*c.said {
			c.fresh = true
		}
	}
	return news
}

// welcome takes a retry, or a part of the Initial level.
func (c *Client) welcome(b []byte) bool {
	if cookie, ok := handshake.ParseRetry(b, c.own.SourceID); ok {
		if c.known || c.retry == maxRetries || bytes.Equal(cookie, c.cookie) {
			return false
		}
		c.retry++
		c.cookie = bytes.Clone(cookie)
		c.fresh = true
		return true
	}
	f, ok := handshake.ParseCryptoWelcome(b)
	if !ok || f.ClientID != c.own.SourceID || c.known && f.SourceID != c.server {
		return false
	}
	news := !c.known
	c.known, c.server = true, f.SourceID
	c.packets.peer = f.SourceID
	if !c.handshakeKeys {
		news = c.initial.add(f.Offset, f.Data) || news
	}
	c.feed()
	if c.packets.read != nil && len(c.early) > 0 {
		for _, b := range c.early {
			size := len(b)
			if ok, _ := c.take(b, framing.TypeWelcome); ok {
				c.heard += size
			}
		}
		c.early = nil
		c.feed()
	}
	return news
}

func (c *Client) packet(b []byte) bool {
	if c.packets.read == nil {
		if len(c.early) < maxEarly {
			c.early = append(c.early, bytes.Clone(b))
		}
		return false
	}
	_, news := c.take(b, framing.TypeWelcome)
	c.feed()
	return news
}

// refusal takes an ERR. Anybody on the path can have sent it, so it ends nothing.
func (c *Client) refusal(b []byte) {
	if err, ok := handshake.ParseRefusal(b, c.own.SourceID); ok && c.hint == nil && c.packets.read == nil {
		c.hint = err
	}
}

// Hint returns what an ERR said that came before there were keys, until there are.
// Whoever calls reports it when nothing better has come for a moment.
func (c *Client) Hint() error {
	if c.packets.read != nil {
		return nil
	}
	return c.hint
}

// Fresh reports whether there is something to send that was not sent yet, once.
func (c *Client) Fresh() bool {
	f := c.fresh
	c.fresh = false
	return f
}

// AppendFlight appends the datagrams to send now, and again until the server has
// answered all that it has to.
func (c *Client) AppendFlight(to [][]byte) [][]byte {
	start := len(to)
	to = c.appendFlight(to)
	c.said = 0
	for _, b := range to[start:] {
		c.said += len(b)
	}
	return to
}

func (c *Client) appendFlight(to [][]byte) [][]byte {
	switch {
	case c.err != nil && !remote(c.err):
		code, reason := closing(c.err)
		return c.packets.appendClose(to, code, reason)
	case c.err != nil:
		return to
	case c.done:
		return c.packets.append(to, c.hs.out, c.hs.peerHas, c.hs.has())
	case c.packets.write != nil: // so the server has the keys too
		c.shown = true
		return c.packets.append(to, nil, 0, c.hs.has())
	}
	for offset := 0; offset < len(c.initial.out); {
		n := min(handshake.CryptoRoom(len(c.cookie)), len(c.initial.out)-offset)
		to = c.appendHello(to, c.initial.out[offset:offset+n], offset)
		offset += n
	}
	return to
}

func (c *Client) appendHello(to [][]byte, data []byte, offset int) [][]byte {
	return append(to, handshake.AppendCryptoHello(nil, &handshake.CryptoFrame{
		SourceID:      c.own.SourceID,
		Cookie:        c.cookie,
		Offset:        uint64(offset),
		Data:          data,
		HasHave:       c.known,
		InitialHave:   c.initial.has(),
		HandshakeHave: c.hs.has(),
	}))
}

// Result returns what was agreed upon, after Done; and with it the server's
// parameters.
func (c *Client) Result() (handshake.DatagramResult, *handshake.SealedParams) {
	return c.result, &c.peer
}

// EarlyRejected reports that 0-RTT was offered, and refused. It is known after Done.
func (c *Client) EarlyRejected() bool { return c.earlyRejected }

// Remembered returns the server's parameters of an earlier session, if 0-RTT can
// begin with them now.
func (c *Client) Remembered() *handshake.SealedParams {
	if !c.earlyKeys || c.remembered != nil {
		return c.remembered
	}
	if p, err := handshake.ParseServerParams(c.resumed); err == nil {
		c.remembered = p
	}
	return c.remembered
}

// WantsTickets reports whether a session ticket would be of use.
func (c *Client) WantsTickets() bool { return c.wantsTickets }

// Ticket takes TLS bytes of the control stream.
func (c *Client) Ticket(b []byte) error {
	if err := c.tls.Receive(tlsvstp.LevelApplication, b); err != nil {
		return err
	}
	c.wantsTickets = false // servers of this kind make one
	c.pump()
	return c.err
}
