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
	auto   bool   // it knows of carriers
}

// NewServer returns a server that will answer with p. The slices in p are borrowed
// until the handshake is over.
func NewServer(p Params) *Server { return &Server{p: p} }

// AllowAuto makes the server one that knows of carriers: it takes what is about them out
// of HELLO, which it ignores otherwise. It is called before Receive. PROTOCOL §7.14.
func (s *Server) AllowAuto() { s.auto = true }

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
	switch {
	case s.hello.Legacy:
		s.state = stateLegacy
	case s.hello.Attach != nil:
		s.state = stateDone // the answer is that of the session
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
	if s.auto && isAttach(f.Header) {
		s.hello.Attach, err = ParseAttachHello(*f)
		return err
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
	if s.auto {
		if s.hello.Auto, err = helloAuto(f); err != nil {
			return err
		}
		if s.hello.Auto != nil {
			s.hello.Auto.Params = p
		}
	}
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
	return s.welcome(b, sessionID, nil, extra)
}

// AppendWelcomeAuto is AppendWelcome for a client that would move between carriers, whose
// byte stream carries packets from then on: own are the server's parameters, which get
// their defaults, and Carriers has the byte stream. Those given to NewServer do not count then.
// PROTOCOL §7.14.
func (s *Server) AppendWelcomeAuto(b []byte, sessionID [16]byte, own *DatagramParams, extra framing.Header) ([]byte, DatagramResult, error) {
	if s.state != stateHalf || s.hello.Auto == nil {
		return b, DatagramResult{}, misuse("AppendWelcomeAuto out of turn")
	}
	if own.Carriers&CarrierByteStream == 0 {
		return b, DatagramResult{}, misuse("a session on a byte stream that must not be there")
	}
	d := *own
	p := d.Params
	p.MaxFrame, p.Compression = DefaultMaxFrame, nil // of packets there is none
	if err := p.check(); err != nil {
		return b, DatagramResult{}, err
	}
	if err := d.checkAuto(&p); err != nil {
		return b, DatagramResult{}, err
	}
	*own = d
	s.p = p
	s.result.Checksum = s.hello.Checksum || p.Checksum
	s.result.Idle = minNonZero(p.Idle, s.hello.Idle)
	s.result.Compression = 0
	b, r, err := s.welcome(b, sessionID, &d, extra)
	if err != nil {
		return b, DatagramResult{}, err
	}
	return b, *autoResult(&r, s.hello.Auto, own.Carriers.both()), nil
}

// welcome appends WELCOME, with what is about carriers if own is not nil.
func (s *Server) welcome(b []byte, sessionID [16]byte, own *DatagramParams, extra framing.Header) ([]byte, Result, error) {
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
	if own != nil {
		h = appendCarriers(appendAuto(h, own), own.Carriers)
	}
	b, err := appendFrame(b, framing.TypeWelcome, h, "", p.Header, extra)
	if err != nil {
		return b, Result{}, err
	}
	s.state = stateDone
	return b, r, nil
}
