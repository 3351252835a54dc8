package handshake

import (
	"slices"

	"github.com/vstp-go/vstp/framing"
)

// A state is how far a machine has come.
type state uint8

const (
	stateStart    state = iota // nothing sent or received yet
	stateHalf                  // HELLO sent, or received
	stateDone                  // WELCOME received, or sent
	stateFailed                // an error was returned
	stateLegacy                // server: the first frame was not a negotiating HELLO
	stateLegacyOn              // server: and the caller goes on in the crate profile
)

// A Client is the side that sends HELLO. Its zero value is not usable.
type Client struct {
	p     Params
	state state

	offer *DatagramParams // of a client that would move, or nil
	auto  *DatagramResult // what came of it, or nil
}

// NewClient returns a client that will offer p. The slices in p are borrowed until
// the handshake is over.
func NewClient(p Params) *Client { return &Client{p: p} }

// Offer makes the client one that would move between carriers. Of d the Params mean
// nothing: those of NewClient count. It is called before AppendHello. PROTOCOL §7.14.
func (c *Client) Offer(d DatagramParams) { c.offer = &d }

// Auto returns what was agreed upon beyond the Result, or nil if the server does not know
// of carriers, or does not want to.
func (c *Client) Auto() *DatagramResult { return c.auto }

// Offered returns what the client has sent of Offer, with its defaults.
func (c *Client) Offered() DatagramParams { return *c.offer }

// AppendHello appends the HELLO frame to b. It is called once, first of all. An
// error says that the parameters cannot be sent; b is returned as it was then.
// PROTOCOL §4.1.
func (c *Client) AppendHello(b []byte) ([]byte, error) {
	if c.state != stateStart {
		return b, misuse("AppendHello out of turn")
	}
	c.state = stateFailed
	if err := c.p.check(); err != nil {
		return b, err
	}
	var versions []byte
	for _, v := range c.p.Versions {
		versions = framing.AppendVarint(versions, v)
	}
	h := make(framing.Header, 0, maxOwn+len(c.p.Header))
	h = append(h, framing.Field{Key: framing.KeyVersions, Value: string(versions)})
	h = appendLimits(h, &c.p)
	if c.offer != nil {
		if err := c.offer.checkAuto(&c.p); err != nil {
			return b, err
		}
		c.offer.Moves, c.offer.Stream = true, true
		h = appendAuto(h, c.offer)
		h = appendService(h, c.offer)
	}
	b, err := appendFrame(b, framing.TypeHello, h, "", c.p.Header)
	if err != nil {
		return b, err
	}
	c.state = stateHalf
	return b, nil
}

// Receive takes the first frame of the server and returns what was agreed upon.
// The error is a [*RemoteError] for a refusal, or an [*Error]. Nothing of f is
// kept. PROTOCOL §4.2 to §4.4.
func (c *Client) Receive(f framing.Frame) (Result, error) {
	was := c.state
	c.state = stateFailed
	switch {
	case f.Type == framing.TypeErr:
		return Result{}, ParseErr(f)
	case was != stateHalf || f.Type != framing.TypeWelcome:
		return Result{}, unexpected(f.Type)
	}
	r, err := c.welcome(&f)
	if err != nil {
		return Result{}, err
	}
	c.state = stateDone
	return r, nil
}

func (c *Client) welcome(f *framing.Frame) (r Result, err error) {
	if err := checkFrame(f); err != nil {
		return r, err
	}
	fs, err := scan(f)
	if err != nil {
		return r, err
	}
	versions, err := fs.versions()
	if err != nil {
		return r, err
	}
	switch {
	case len(versions) != 1:
		return r, protocol("WELCOME with several versions")
	case !slices.Contains(c.p.Versions, versions[0]):
		return r, &Error{Code: framing.CodeVersion, Reason: "the server chose a version that was not offered"}
	}
	p, err := fs.params()
	if err != nil {
		return r, err
	}
	id := fs.get(framing.KeySessionID)
	chosen := fs.get(framing.KeyCompress)
	switch {
	case len(id) != len(r.SessionID):
		return r, protocol("bad session id")
	case c.p.Checksum && !p.Checksum:
		// §4.3: "on if either side asks for it"
		return r, protocol("the server refuses the checksum")
	case chosen != nil && (len(chosen) != 1 || !slices.Contains(c.p.Compression, chosen[0])):
		return r, protocol("the server chose a compression that was not offered")
	}
	r = Result{
		Version:        versions[0],
		SessionID:      [16]byte(id),
		PeerMaxFrame:   p.MaxFrame,
		PeerMaxMessage: p.MaxMessage,
		Checksum:       p.Checksum,
		Idle:           minNonZero(c.p.Idle, p.Idle),
	}
	if chosen != nil {
		r.Compression = chosen[0]
	}
	if r.PeerHeader, err = userHeader(f.Header); err != nil || c.offer == nil {
		return r, err
	}
	peer, err := welcomeAuto(f)
	if peer != nil {
		peer.Params = p
		r.Compression = 0 // of packets there is none
		c.auto = autoResult(&r, peer, peer.Carriers.both())
	}
	return r, err
}
