package handshake

import (
	"bytes"
	"slices"

	"github.com/vstp-go/vstp/framing"
)

// A DatagramClient is the side that sends HELLO in datagrams. Who uses it sends all
// datagrams of [DatagramClient.AppendHello] again and again until the handshake is
// over: at first, when [Again] asks for it, and by a timer. PROTOCOL §7.3.
type DatagramClient struct {
	p       DatagramParams
	block   []byte // of HELLO, without the fields in front of it
	cookie  []byte
	token   []byte // until there is a cookie
	retries int
	over    bool

	from   ConnID   // of the server whose parts are there
	parts  assembly // of WELCOME
	result DatagramResult
}

// NewDatagramClient returns a client that will offer p. An error says that the
// parameters cannot be sent.
func NewDatagramClient(p DatagramParams) (*DatagramClient, error) {
	if err := p.checkDatagram(); err != nil {
		return nil, err
	}
	var versions []byte
	for _, v := range p.Versions {
		versions = framing.AppendVarint(versions, v)
	}
	h := make(framing.Header, 0, maxDatagramOwn+len(p.Header))
	h = append(h, framing.Field{Key: framing.KeyVersions, Value: string(versions)})
	h = appendDatagramLimits(h, &p)
	h = appendService(h, &p)
	block, err := appendBlock(h, p.Header)
	if err != nil {
		return nil, err
	}
	return &DatagramClient{p: p, block: block}, nil
}

// SetToken has HELLO begin with a token that the server has given to an earlier client
// here. No other client must have it. PROTOCOL §7.3.
func (c *DatagramClient) SetToken(token []byte) {
	if len(token) > 0 && len(token) <= MaxToken {
		c.token = bytes.Clone(token)
	}
}

// AppendHello appends the datagrams that make up HELLO now. Without a cookie or token
// there is one, which may be only the first part: its answer is a cookie anyway.
func (c *DatagramClient) AppendHello(to [][]byte) [][]byte {
	route := appendID(make([]byte, 0, 16+MaxCookie), framing.KeySourceID, c.p.SourceID)
	if c.cookie != nil {
		route = append(route, 1, byte(len(c.cookie)), framing.KeyCookie[0])
		route = append(route, c.cookie...)
		return cut(to, framing.TypeHello, route, c.block)
	}
	if c.token != nil {
		route = append(route, 1, byte(len(c.token)), framing.KeyCookie[0])
		route = append(route, c.token...)
	}
	block := c.block
	if missing := MinHello - framing.FixedLen - framing.TrailerLen - len(route) - len(block); missing > 0 {
		pad := max(0, missing-3)
		block = append(slices.Clip(block), 1, byte(pad), framing.KeyPadding[0])
		block = append(block, make([]byte, pad)...)
	}
	// A large block would be cut further than is sent; that costs little, once.
	n := len(to)
	to = cut(to, framing.TypeHello, route, block)
	if c.token == nil {
		to = to[:n+1]
	}
	return to
}

// Receive takes a datagram that claims to be for this client. Only what has its
// connection id can do anything, and that nobody can guess. An error is final: a
// [*RemoteError] for a refusal, or an [*Error] for a server that breaks the rules.
// Nothing of the datagram is kept.
func (c *DatagramClient) Receive(datagram []byte) (Outcome, error) {
	f, ok := parseHandshake(datagram)
	if !ok || c.over {
		return Ignored, nil
	}
	id, h, ok := cutID(f.Header, framing.KeyPacket)
	if !ok || id != c.p.SourceID {
		return Ignored, nil
	}
	switch f.Type {
	case framing.TypeErr:
		c.over = true
		return Ignored, ParseErr(f)
	case framing.TypeWelcome:
		if cookie, _, ok := cutField(h, framing.KeyCookie); ok {
			return c.retry(cookie), nil
		}
		return c.receiveWelcome(h, f.Payload)
	}
	return Ignored, nil
}

// retry takes a cookie. One that is there already is the answer to a HELLO that was
// sent twice.
func (c *DatagramClient) retry(cookie []byte) Outcome {
	if len(cookie) == 0 || len(cookie) > MaxCookie || c.retries == maxRetries || bytes.Equal(cookie, c.cookie) {
		return Ignored
	}
	c.retries++
	c.cookie = bytes.Clone(cookie)
	return Again
}

func (c *DatagramClient) receiveWelcome(h framing.RawHeader, payload []byte) (Outcome, error) {
	from, h, ok := cutID(h, framing.KeySourceID)
	if !ok {
		return Ignored, nil
	}
	if _, _, crypto := cutField(h, framing.KeyCrypto); crypto {
		return Ignored, nil // bytes of TLS, which this client has not asked for
	}
	p, h, ok := cutPart(h, payload)
	if !ok {
		return Ignored, nil
	}
	block := []byte(h)
	if p.total > 0 {
		if from != c.from || p.total != c.parts.total { // a server that has started anew
			c.from, c.parts = from, assembly{}
		}
		if !c.parts.add(p, payload) {
			return Taken, nil
		}
		block = c.parts.block()
	}
	c.over = true
	if err := c.welcome(from, block); err != nil {
		return Ignored, err
	}
	return Done, nil
}

func (c *DatagramClient) welcome(from ConnID, block framing.RawHeader) error {
	fs, err := scanDatagram(framing.TypeWelcome, block)
	if err != nil {
		return err
	}
	versions, err := fs.versions()
	if err != nil {
		return err
	}
	switch {
	case len(versions) != 1:
		return protocol("WELCOME with several versions")
	case !slices.Contains(c.p.Versions, versions[0]):
		return &Error{Code: framing.CodeVersion, Reason: "the server chose a version that was not offered"}
	}
	p, err := fs.params()
	if err != nil {
		return err
	}
	session := fs.fields.get(framing.KeySessionID)
	if len(session) != len(c.result.SessionID) {
		return protocol("bad session id")
	}
	if c.p.Checksum && !p.Checksum {
		return protocol("the server refuses the checksum")
	}
	user, err := userHeader(block)
	if err != nil {
		return err
	}
	c.result = DatagramResult{
		Result: Result{
			Version:        versions[0],
			SessionID:      [16]byte(session),
			PeerMaxFrame:   p.MaxFrame,
			PeerMaxMessage: p.MaxMessage,
			Checksum:       p.Checksum,
			Idle:           minNonZero(c.p.Idle, p.Idle),
			PeerHeader:     user,
		},
		PeerID: from,
		Peer:   p.limits(),
		Stream: c.p.Stream || c.p.Moves,
		Moves:  c.p.Moves && p.Carriers.both(),
		Token:  bytes.Clone(fs.token),
	}
	return nil
}

// Result returns what was agreed upon, after [Done].
func (c *DatagramClient) Result() DatagramResult { return c.result }
