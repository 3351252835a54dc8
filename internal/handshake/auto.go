package handshake

import (
	"github.com/vstp-go/vstp/framing"
)

// checkAuto is checkDatagram for what goes into a HELLO or WELCOME on a byte stream, where
// the Params are those of the stream, which were checked.
func (p *DatagramParams) checkAuto(params *Params) error {
	p.Params = *params
	if err := p.checkDatagram(); err != nil {
		return err
	}
	p.Params = *params
	return nil
}

// appendAuto appends what the HELLO and WELCOME of a byte stream have in addition if it
// carries packets, without those that say what their absence says too. PROTOCOL §7.14.
func appendAuto(h framing.Header, p *DatagramParams) framing.Header {
	h = append(h, framing.Field{Key: framing.KeySourceID, Value: string(p.SourceID[:])})
	return appendDatagramOnly(h, p)
}

// helloAuto decodes what a client offers who would move, but for the Params. It returns
// nil for all others.
func helloAuto(f *framing.Frame) (*DatagramParams, error) {
	if v, ok := f.Header.Lookup(framing.KeyService); !ok || string(v) != serviceMoves {
		return nil, nil
	}
	return parseAuto(f)
}

// welcomeAuto decodes what a server says of carriers, but for the Params. It returns nil if
// the session is an ordinary one.
func welcomeAuto(f *framing.Frame) (*DatagramParams, error) {
	v, _ := f.Header.Lookup(framing.KeyCarriers)
	if parseCarriers(v)&CarrierByteStream == 0 {
		return nil, nil
	}
	return parseAuto(f)
}

func parseAuto(f *framing.Frame) (*DatagramParams, error) {
	fs, err := scanDatagram(f.Type, f.Header)
	if err != nil {
		return nil, err
	}
	p, err := fs.params()
	if err != nil {
		return nil, err
	}
	var id []byte
	for key, value := range f.Header.All() {
		if string(key) != framing.KeySourceID {
			continue
		}
		if id != nil {
			return nil, protocol("a header key is repeated")
		}
		id = value
	}
	if len(id) != len(p.SourceID) {
		return nil, protocol("bad source id")
	}
	p.SourceID = ConnID(id)
	return &p, nil
}

// autoResult is what r and the peer's side come to.
func autoResult(r *Result, peer *DatagramParams, moves bool) *DatagramResult {
	return &DatagramResult{Result: *r, PeerID: peer.SourceID, Peer: peer.limits(), Stream: true, Moves: moves}
}
