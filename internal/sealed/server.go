package sealed

import (
	"context"
	"crypto/tls"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/tlsvstp"
)

const (
	amplification = 3   // bytes to an address that has shown nothing, for each from there
	maxFlights    = 256 // repetitions of what a client claims not to have, before there are fewer
	fewerFlights  = 16  // then one for so many claims: somebody may be repeating what the client has said
)

// A Server answers one client.
type Server struct {
	end
	ctx    context.Context
	config *tls.Config
	early  *Early
	id     handshake.ConnID
	client handshake.ConnID
	accept func(*handshake.SealedParams) (*handshake.SealedParams, error)

	validated      bool // the client receives at its address
	received, said int  // bytes
	asks, flights  int  // how often the client wanted something again, and got it
	claims         bool // it has said what it has, since it was answered
	asked          bool // the client wants something again
	repeated       bool // it does not know how much of its Finished has come, after a long certificate
	refused        bool // ERR was made
	refusal        []byte

	own, hello *handshake.SealedParams
	result     handshake.DatagramResult
}

// An Early permits 0-RTT.
type Early struct {
	// Accept is asked whether to accept it, with the parameters that the client has of
	// the session before, and the note of then.
	Accept func(sent *handshake.SealedParams, note []byte) bool

	// Note is kept in the tickets that are made.
	Note []byte
}

// NewServer makes a server of the connection id for the client of that id. Config is
// one of [tlsvstp.ServerConfig]. accept is asked once for this end's parameters, with
// the client's; its error ends the handshake. early, if not nil, permits 0-RTT.
func NewServer(ctx context.Context, config *tls.Config, id, client handshake.ConnID, early *Early,
	accept func(*handshake.SealedParams) (*handshake.SealedParams, error)) *Server {
	s := &Server{ctx: ctx, config: config, early: early, id: id, client: client, accept: accept}
	s.packets.typ = framing.TypeWelcome
	s.packets.peer = client
	return s
}

// parameters takes the client's, and returns this end's.
func (s *Server) parameters(b []byte) ([]byte, error) {
	p, err := handshake.ParseClientParams(b)
	if err != nil {
		return nil, err
	}
	if p.SourceID != s.client {
		return nil, errIDs
	}
	if s.own, err = s.accept(p); err != nil {
		return nil, err
	}
	s.hello = p
	s.own.SourceID, s.own.ClientID = s.id, s.client
	if s.result, err = handshake.Negotiate(p, s.own, false); err != nil {
		return nil, err
	}
	return handshake.AppendServerParams(nil, s.own)
}

// acceptEarly reports whether 0-RTT may begin with the parameters of a session before.
func (s *Server) acceptEarly(_, sent, note []byte) bool {
	p, err := handshake.ParseServerParams(sent)
	return err == nil && s.early.Accept(p, note)
}

// Hello takes a HELLO of this client, of that many bytes. validated says that it had
// a good cookie.
func (s *Server) Hello(h *handshake.DatagramHello, size int, validated bool) {
	s.received += size
	s.validated = s.validated || validated
	if s.done {
		return
	}
	s.initial.claim(h.InitialHave, s.claims) // zero if it says nothing about it
	s.hs.claim(h.HandshakeHave, s.claims)
	s.claims = true
	if s.err != nil || s.handshakeKeys || !s.initial.add(h.Offset, h.Data) {
		s.asked = true
		return
	}
	if s.tls == nil {
		if h.Offset > 0 && s.initial.taken == 0 && s.initial.pieces[0].offset > 0 {
			return // the beginning comes later
		}
		var err error
		c := tlsvstp.HandshakeConfig{TLS: s.config, ServerParams: s.parameters}
		if s.early != nil {
			c.EarlyData, c.AcceptEarly, c.Note = true, s.acceptEarly, s.early.Note
		}
		s.tls, err = tlsvstp.NewServerHandshake(s.ctx, c)
		if err != nil {
			s.fail(err)
			return
		}
	}
	s.feed()
}

// Packet takes a packet of the Handshake level, decrypting it in place. It reports
// whether the packet was the client's.
func (s *Server) Packet(b []byte) bool {
	s.received += len(b)
	if s.done {
		return false
	}
	ok, news := s.take(b, framing.TypeHello)
	if !ok {
		return false
	}
	s.repeated = s.repeated || !news
	s.validated = true
	s.initial.peerHas = uint64(len(s.initial.out)) // the keys come from that
	s.asked = true                                 // there is something that it waits for
	s.feed()
	return true
}

// Validated reports whether the client has shown that it receives at its address.
func (s *Server) Validated() bool { return s.validated }

// Allowance is how many bytes may be sent to the client, if it is not validated.
func (s *Server) Allowance() int { return amplification*s.received - s.said }

// AppendFlight appends what is to be sent now: what is new, and what the client
// waits for.
func (s *Server) AppendFlight(to [][]byte) [][]byte {
	asked, fresh := s.asked, s.fresh
	s.asked, s.fresh, s.claims = false, false, false
	if s.done || !asked && !fresh && s.err == nil {
		return to
	}
	if asked {
		if s.asks++; s.flights >= maxFlights && s.asks%fewerFlights != 0 {
			if asked = false; !fresh {
				return to
			}
		}
	}
	start := len(to)
	switch {
	case s.err != nil:
		to = s.appendFailure(to, asked)
	default:
		to = s.appendCrypto(to, asked)
	}
	if asked && len(to) > start {
		s.flights++
	}
	if !s.validated {
		n := start
		for n < len(to) && s.said+len(to[n]) <= amplification*s.received {
			s.said += len(to[n])
			n++
		}
		clear(to[n:])
		to = to[:n]
	}
	return to
}

// appendCrypto appends both levels: what the client does not have if it asks, what
// was not sent otherwise.
func (s *Server) appendCrypto(to [][]byte, asked bool) [][]byte {
	from := func(c *crypto) uint64 {
		if asked {
			return max(c.peerHas, c.claimed)
		}
		return c.sent
	}
	for offset := from(&s.initial); offset < uint64(len(s.initial.out)); {
		rest := s.initial.out[offset:]
		rest = rest[:min(len(rest), handshake.CryptoRoom(0))]
		to = append(to, handshake.AppendCryptoWelcome(nil, &handshake.CryptoFrame{ClientID: s.client, SourceID: s.id, Offset: offset, Data: rest}))
		offset += uint64(len(rest))
	}
	s.initial.sent = uint64(len(s.initial.out))
	if offset := from(&s.hs); s.packets.write != nil && (s.repeated || offset < uint64(len(s.hs.out))) {
		to = s.packets.append(to, s.hs.out, offset, s.hs.has())
		s.hs.sent = uint64(len(s.hs.out))
		s.repeated = false
	}
	return to
}

// appendFailure tells the client why there will be nothing: once, and when it asks.
func (s *Server) appendFailure(to [][]byte, asked bool) [][]byte {
	if remote(s.err) || s.refused && !asked {
		return to
	}
	s.refused = true
	code, reason := closing(s.err)
	if s.packets.write != nil {
		to = s.appendCrypto(to, true) // without ServerHello the client has no keys
		return s.packets.appendClose(to, code, reason)
	}
	if s.refusal == nil {
		var err error
		if s.refusal, err = handshake.AppendRefusal(nil, s.client, code, reason, nil); err != nil {
			return to
		}
	}
	return append(to, s.refusal)
}

// Params returns the client's parameters, nil before they have come.
func (s *Server) Params() *handshake.SealedParams { return s.hello }

// SessionID returns the one that accept has chosen.
func (s *Server) SessionID() [16]byte { return s.own.SessionID }

// Result returns what was agreed upon, when Params is not nil.
func (s *Server) Result() handshake.DatagramResult { return s.result }

// EarlyKeys reports that 0-RTT was accepted: its packets can be opened.
func (s *Server) EarlyKeys() bool { return s.earlyKeys && s.err == nil }

// Tickets makes a session ticket, if the configuration wants any, and returns the TLS
// bytes for the control stream.
func (s *Server) Tickets() ([]byte, error) {
	if err := s.tls.SendTicket(); err != nil {
		return nil, err
	}
	s.pump()
	b := s.tickets
	s.tickets = nil
	return b, nil
}
