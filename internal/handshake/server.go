package handshake

import (
	"slices"

	"github.com/vstp-go/vstp/framing"
)

// A Server is the side that answers HELLO with WELCOME. Its zero value is not usable.
type Server struct {
	p      Params
	state  state
	hello  Hello
	result Result // complete but for the session id
}

// NewServer returns a server that will answer with p. The slices in p are borrowed
// until the handshake is over.
func NewServer(p Params) *Server { return &Server{p: p} }

// Receive takes the first frame of the client. If it is not a negotiating HELLO,
// but one with which a crate peer may begin, the returned Hello has Legacy set. The
// error is a [*RemoteError] for an ERR, which is not answered, or an [*Error].
// Nothing of f is kept. PROTOCOL §4.1, §6.1.
func (s *Server) Receive(f framing.Frame) (*Hello, error) {
	was := s.state
	s.state = stateFailed
	switch {
	case f.Type == framing.TypeErr:
		return nil, ParseErr(f)
	case was != stateStart:
		return nil, unexpected(f.Type)
	case f.Type == framing.TypeHello:
		if err := s.p.check(); err != nil {
			return nil, err
		}
		if err := s.receiveHello(&f); err != nil {
			return nil, err
		}
	case f.Type == framing.TypeWelcome || !f.Type.Valid():
		return nil, unexpected(f.Type)
	default:
		s.receiveLegacy(nil)
	}
	s.state = stateHalf
	if s.hello.Legacy {
		s.state = stateLegacy
	}
	h := s.hello
	return &h, nil
}

func (s *Server) receiveHello(f *framing.Frame) error {
	fs, err := scan(f)
	if err != nil {
		return err
	}
	if fs.get(framing.KeyVersions) == nil { // a crate HELLO, §6.1
		h, err := f.Header.AppendTo(nil) // as it is, reserved keys too
		if err != nil {
			return &Error{Code: framing.CodeHeader, Err: err}
		}
		s.receiveLegacy(h)
		return nil
	}
	// The version comes first: one that is not ours may have other rules.
	versions, err := fs.versions()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(versions, func(v uint64) bool { return slices.Contains(s.p.Versions, v) })
	if i < 0 {
		return &Error{Code: framing.CodeVersion, Reason: "none of the versions offered is known"}
	}
	if err := checkFrame(f); err != nil {
		return err
	}
	p, err := fs.params()
	if err != nil {
		return err
	}
	p.Versions = versions
	if p.Header, err = userHeader(f.Header); err != nil {
		return err
	}
	s.hello = Hello{Params: p}
	s.result = Result{
		Version:        versions[i],
		PeerMaxFrame:   p.MaxFrame,
		PeerMaxMessage: p.MaxMessage,
		Checksum:       p.Checksum || s.p.Checksum,
		Idle:           minNonZero(s.p.Idle, p.Idle),
		PeerHeader:     p.Header,
	}
	for _, c := range p.Compression {
		if slices.Contains(s.p.Compression, c) {
			s.result.Compression = c
			break
		}
	}
	return nil
}

// receiveLegacy begins the crate profile; h is the metadata of a crate HELLO.
func (s *Server) receiveLegacy(h framing.Header) {
	r := LegacyResult()
	r.PeerHeader = h
	s.result = r
	s.hello = Hello{
		Params: Params{MaxFrame: r.PeerMaxFrame, MaxMessage: r.PeerMaxMessage, Checksum: true, Header: h},
		Legacy: true,
	}
}

// AppendWelcome accepts the client: it appends the WELCOME frame to b and returns
// what was agreed upon. The metadata is that of Params, then extra. An error says
// that they cannot be sent; b is returned as it was then, and the client is to be
// told with [AppendErr]. To a crate peer nothing is sent, so b is returned as it
// was, with the Result of the crate profile. PROTOCOL §4.2, §6.1.
func (s *Server) AppendWelcome(b []byte, sessionID [16]byte, extra framing.Header) ([]byte, Result, error) {
	switch s.state {
	case stateLegacy:
		s.state = stateLegacyOn
		return b, s.result, nil
	case stateHalf:
	default:
		return b, Result{}, misuse("AppendWelcome out of turn")
	}
	s.state = stateFailed
	r := s.result
	r.SessionID = sessionID

	var version [framing.MaxVarintLen]byte
	p := s.p
	p.Checksum = r.Checksum
	p.Compression = nil
	if r.Compression != 0 {
		p.Compression = []byte{r.Compression}
	}
	h := make(framing.Header, 0, maxOwn+len(p.Header)+len(extra))
	h = append(h,
		framing.Field{Key: framing.KeyVersions, Value: string(framing.AppendVarint(version[:0], r.Version))},
		framing.Field{Key: framing.KeySessionID, Value: string(sessionID[:])})
	h = appendLimits(h, &p)
	b, err := appendFrame(b, framing.TypeWelcome, h, "", p.Header, extra)
	if err != nil {
		return b, Result{}, err
	}
	s.state = stateDone
	return b, r, nil
}
