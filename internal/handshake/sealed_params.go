package handshake

import "github.com/vstp-go/vstp/framing"

// SealedParams are the transport parameters of one end: what it brings to a handshake
// in datagrams with TLS. A zero field means its default, as in [DatagramParams].
// Checksum, MaxFrame, Compression and Header mean nothing here. PROTOCOL §8.6.
type SealedParams struct {
	DatagramParams
	ClientID      ConnID              // server: the client's
	SessionID     [16]byte            // server
	ResetToken    [ResetTokenLen]byte // server: the client's would be read on the way
	HasResetToken bool                // server
	Confirm       bool                // server: the client waits for WELCOME
}

// AppendClientParams appends the transport parameters of a client. An error says that
// they cannot be sent.
func AppendClientParams(b []byte, p *SealedParams) ([]byte, error) {
	own, err := p.checked()
	if err != nil {
		return b, err
	}
	b = appendID(b, framing.KeySourceID, own.SourceID)
	var versions []byte
	for _, v := range own.Versions {
		versions = framing.AppendVarint(versions, v)
	}
	h := framing.Header{{Key: framing.KeyVersions, Value: string(versions)}}
	h = appendDatagramLimits(h, &own.DatagramParams)
	h = appendService(h, &own.DatagramParams)
	return own.finish(b, h)
}

// AppendServerParams appends the transport parameters of a server; its Versions hold
// the one that [Negotiate] has chosen, and Carriers only what a client with Moves is to
// know. An error says that they cannot be sent.
func AppendServerParams(b []byte, p *SealedParams) ([]byte, error) {
	own, err := p.checked()
	if err != nil {
		return b, err
	}
	if len(own.Versions) != 1 {
		return b, misuse("several versions")
	}
	b = appendID(b, framing.KeyPacket, own.ClientID)
	b = appendID(b, framing.KeySourceID, own.SourceID)
	h := framing.Header{
		varintField(framing.KeyVersions, own.Versions[0]),
		{Key: framing.KeySessionID, Value: string(own.SessionID[:])},
	}
	h = appendDatagramLimits(h, &own.DatagramParams)
	h = appendCarriers(h, own.Carriers)
	if own.Confirm {
		h = append(h, framing.Field{Key: framing.KeyConfirm, Value: "\x01"})
	}
	if own.HasResetToken {
		h = append(h, framing.Field{Key: framing.KeyResetToken, Value: string(own.ResetToken[:])})
	}
	return own.finish(b, h)
}

// checked returns p with its defaults.
func (p *SealedParams) checked() (SealedParams, error) {
	own := *p
	err := own.checkDatagram()
	own.Checksum = true // which is what its absence says
	return own, err
}

// finish appends what both ends write behind their own.
func (p *SealedParams) finish(b []byte, h framing.Header) ([]byte, error) {
	b, err := framing.AppendHeader(b, h)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b, nil
}

// ParseClientParams decodes the transport parameters of a client. It keeps nothing of
// b. An error is an [*Error], with which the handshake fails.
func ParseClientParams(b []byte) (*SealedParams, error) {
	return parseParams(b, false)
}

// ParseServerParams decodes the transport parameters of a server. It keeps nothing of
// b. An error is an [*Error], with which the handshake fails.
func ParseServerParams(b []byte) (*SealedParams, error) {
	return parseParams(b, true)
}

// The keys that transport parameters have and blocks of §7.3 have not.
const (
	ownSource = iota
	ownPacket
	ownToken
	ownConfirm
	ownKeys
)

func parseParams(b framing.RawHeader, server bool) (*SealedParams, error) {
	t := framing.TypeHello
	if server {
		t = framing.TypeWelcome
	}
	fs, err := scanDatagram(t, b)
	if err != nil {
		return nil, err
	}
	i := framing.KeyChecksum[0] - firstKey
	fs.fields.v[i], fs.fields.repeated[i] = nil, false // means nothing here
	// The version comes first: one that is not ours may have other rules.
	versions, err := fs.versions()
	if err != nil {
		return nil, err
	}
	d, err := fs.params()
	if err != nil {
		return nil, err
	}
	d.Versions, d.Checksum = versions, false
	p := &SealedParams{DatagramParams: d}
	if err := p.parseOwn(b, server); err != nil {
		return nil, err
	}
	if !server {
		return p, nil
	}
	if len(versions) != 1 {
		return nil, protocol("several versions chosen")
	}
	session := fs.fields.get(framing.KeySessionID)
	if len(session) != len(p.SessionID) {
		return nil, protocol("bad session id")
	}
	p.SessionID = [16]byte(session)
	return p, nil
}

// parseOwn decodes what only transport parameters have. There is no metadata in them.
func (p *SealedParams) parseOwn(b framing.RawHeader, server bool) error {
	var v [ownKeys][]byte
	for key, value := range b.All() {
		var i int
		switch string(key) {
		case framing.KeySourceID:
			i = ownSource
		case framing.KeyResetToken:
			i = ownToken
		case framing.KeyPacket:
			i = ownPacket
		case framing.KeyConfirm:
			i = ownConfirm
		default:
			if len(key) == 0 || key[0] >= framing.ReservedKeys {
				return protocol("metadata in transport parameters")
			}
			continue
		}
		if !server && i != ownSource {
			continue
		}
		if v[i] != nil {
			return protocol("a header key is repeated")
		}
		v[i] = value
	}
	if len(v[ownSource]) != len(p.SourceID) {
		return protocol("bad source id")
	}
	p.SourceID = ConnID(v[ownSource])
	if server {
		if len(v[ownPacket]) != len(p.ClientID) {
			return protocol("bad id of the client")
		}
		p.ClientID = ConnID(v[ownPacket])
	}
	if t := v[ownToken]; t != nil {
		if len(t) != len(p.ResetToken) {
			return protocol("bad reset token")
		}
		p.ResetToken, p.HasResetToken = [ResetTokenLen]byte(t), true
	}
	if c := v[ownConfirm]; c != nil {
		if len(c) != 1 || c[0] > 1 {
			return protocol("bad confirm")
		}
		p.Confirm = c[0] == 1
	}
	return nil
}

// Negotiate returns what the parameters of both ends come to, for one of them: its own
// are those that it has sent or will send, the peer's those parsed. A server whose own
// Versions are all that it knows gets the one to send as Result.Version. That ids are
// those of the frames is for the caller to check, but for the client's in the server's
// parameters. An error is an [*Error]. PROTOCOL §4.3, §8.6.
func Negotiate(client, server *SealedParams, isClient bool) (DatagramResult, error) {
	c, s := *client, *server
	own, peer := &s, &c
	if isClient {
		own, peer = peer, own
	}
	if err := own.checkDatagram(); err != nil {
		return DatagramResult{}, err
	}
	version, err := chooseVersion(c.Versions, s.Versions)
	switch {
	case err != nil && isClient:
		return DatagramResult{}, &Error{Code: framing.CodeVersion, Reason: "the server chose a version that was not offered"}
	case err != nil:
		return DatagramResult{}, err
	case isClient && s.ClientID != c.SourceID:
		return DatagramResult{}, protocol("parameters for another client")
	}
	return DatagramResult{
		Result: Result{
			Version:        version,
			SessionID:      s.SessionID,
			PeerMaxFrame:   peer.MaxFrame,
			PeerMaxMessage: peer.MaxMessage,
			Idle:           minNonZero(own.Idle, peer.Idle),
		},
		PeerID: peer.SourceID,
		Peer:   peer.limits(),
		Stream: c.Stream || c.Moves,
		Moves:  c.Moves && s.Carriers.both(),
	}, nil
}
