package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
	"github.com/vstp-go/vstp/tlsvstp"
)

// A Session is one association. It is safe for concurrent use.
//
// Its engine has no goroutine: the reader of the socket gives it what arrives, calls
// of the application give it what is to be sent, and a timer does the rest. Whoever
// has changed something flushes. mu guards all of it, and is never held during a
// system call or a wait.
type Session struct {
	ep     *Endpoint
	id     reliable.ConnID // by which the endpoint finds it
	remote udpio.Addr      // see setRemote
	client bool
	stream bool // has a byte stream
	shared bool // its messages are those of Endpoint.SendMessage and ReceiveMessage

	mu      sync.Mutex
	lane    *lane           // where its packets come
	cand    *candidate      // for remote; nil is none
	local   udpio.Local     // where the peer reaches us; zero: for the routes to say
	reached netip.Addr      // where WELCOME came; of a client
	eng     *reliable.Assoc // nil until there are keys, or WELCOME
	peerID  reliable.ConnID
	result  handshake.Result
	dial    *dialing // of a client, until the handshake is over

	connected    bool                 // the handshake is over, and the application may have the session
	tls          *tls.ConnectionState // nil without TLS
	sealed       *sealedClient        // of a client with TLS
	admission    *client              // of a server with TLS: whose HELLO in the control stream is awaited; Endpoint.mu guards it too
	early        bool                 // 0-RTT was accepted
	unfinished   bool                 // of a server: there is 0-RTT, and the client's Finished has not come
	born         time.Time            // of the engine
	prot         *tlsvstp.Protection  // of a server, while it is unfinished
	capped       bool                 // the client has not shown its address: allowance is what may be sent
	allowance    int
	tickets      []byte   // for when it is admitted
	helloed      bool     // HELLO or WELCOME of the control stream has come
	peerToken    [16]byte // of stateless resets
	hasPeerToken bool
	prefix       netip.Prefix // where the peer began; Endpoint.mu guards it
	counted      bool         // in Endpoint.prefixes; Endpoint.mu guards it

	closed  bool  // by Close: nothing but the end goes on
	ended   error // why the engine has ended, or the handshake failed; final
	removed bool  // the endpoint has forgotten it
	over    bool  // it is to be forgotten, whatever the engine says
	alone   bool  // it is closed, and no call waits until the peer has everything
	touched bool  // had packets in this batch; the reader's
	ready   bool  // is in Endpoint.inbox; Endpoint.mu guards it
	up      bool  // the handshake is over; Endpoint.mu guards it
	orphan  bool  // is in Endpoint.inbox only; Endpoint.mu guards it
	wclosed bool  // CloseWrite was called
	writing bool  // a Write is under way: the bytes of two do not mix
	pongs   uint64
	pongRTT time.Duration
	used    time.Time // shared: last message
	heard   time.Time // last packet of the peer
	endBy   time.Time // when over is set; zero until it is closed

	readers  waitq // Read
	writers  waitq // Write
	messages waitq // ReceiveMessage
	room     waitq // SendMessage, for room in the engine or the end of the handshake
	others   waitq // Ping, Close, Handshake
	sends    map[*reliable.Outgoing]*sendOp
	left     []leftOver // messages that go on over another association
	mob      *mobile    // nil if it does not move between carriers

	rdl, wdl deadline

	// Sending. See flush.go.
	flushing bool      // somebody is at it
	asked    bool      // and others wanted to
	carry    []byte    // a datagram that did not fit into the last batch
	again    time.Time // the socket takes nothing before
	unsent   int       // writes in a row that have failed because there is no way
	timer    *time.Timer
	armed    time.Time // when the timer fires; zero if it does not

	stats counters
}

// counters are the numbers of Stats that the engine does not have.
type counters struct {
	bytesOut, bytesIn uint64
	wireOut, wireIn   uint64
	pktsOut, pktsIn   uint64
	msgsOut, msgsIn   uint64
	sendErrors        uint64
	pathChanges       uint64
}

func newSession(e *Endpoint, remote udpio.Addr, local udpio.Local) *Session {
	s := &Session{ep: e, lane: e.lanes[0], remote: remote, local: local}
	s.rdl.init(e.epoch, s.wakeReaders)
	s.wdl.init(e.epoch, s.wakeWriters)
	return s
}

// start begins the life of the engine. Session.mu is held, or nobody knows s yet.
func (s *Session) start(now time.Time, c *reliable.Config, r *handshake.DatagramResult) {
	s.eng = reliable.New(now, c)
	s.peerID = reliable.ConnID(r.PeerID)
	s.result = r.Result
	s.used, s.born = now, now
	if c.Moves {
		s.beginMobile(now, c.Carrier)
	}
}

// LocalAddr returns the address of the socket, with the address at which the peer
// reaches it where that is known.
func (s *Session) LocalAddr() net.Addr {
	s.mu.Lock()
	m := s.mob
	s.mu.Unlock()
	if m != nil && m.laddr != nil {
		return m.laddr
	}
	a := s.ep.sock.LocalAddr()
	if u, ok := a.(*net.UDPAddr); !ok || !u.IP.IsUnspecified() {
		return a
	}
	s.mu.Lock()
	local := s.local.Addr
	if !local.IsValid() {
		local = s.reached
	}
	s.mu.Unlock()
	return localAddr(a, local)
}

// NetConn returns nil: there is no connection below.
func (s *Session) NetConn() net.Conn { return nil }

// TLSState returns what TLS has found out about the peer, nil without TLS. It is not to
// be changed.
func (s *Session) TLSState() *tls.ConnectionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tls
}

// Result returns what the handshake agreed upon, and whether it is finished.
func (s *Session) Result() (handshake.Result, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result, s.connected
}

// Handshake waits for the end of the handshake, and at a client for WELCOME. A Session that
// was dialed or accepted has it behind it, but for two cases: with 0-RTT what was read before
// may be a replay, and with a server that wants no confirmation WELCOME is still on its way.
func (s *Session) Handshake(ctx context.Context) error {
	return s.await(ctx, func() bool {
		return s.connected && s.dial == nil && !s.unfinished && (!s.client || s.tls == nil || s.helloed)
	})
}

// EarlyData reports whether the association began with 0-RTT, which the server accepted.
func (s *Session) EarlyData() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.early
}

// await waits until the session is ready, which is asked with Session.mu held.
func (s *Session) await(ctx context.Context, ready func() bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case ready(): // whatever has become of it since: the next call tells
			return nil
		case s.closed:
			return net.ErrClosed
		case s.ended != nil:
			return s.ended
		}
		if err := over(ctx, nil); err != nil {
			return err
		}
		s.others.wait(&s.mu, doneOf(ctx))
	}
}

// SetReadDeadline is that of net.Conn. It holds for Read and ReceiveMessage.
func (s *Session) SetReadDeadline(t time.Time) error { return s.setDeadline(&s.rdl, t) }

// SetWriteDeadline is that of net.Conn. It holds for Write and SendMessage.
func (s *Session) SetWriteDeadline(t time.Time) error { return s.setDeadline(&s.wdl, t) }

func (s *Session) setDeadline(d *deadline, t time.Time) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	d.set(t)
	return nil
}

func (s *Session) wakeReaders() {
	s.mu.Lock()
	s.readers.wake()
	s.messages.wake()
	s.mu.Unlock()
}

func (s *Session) wakeWriters() {
	s.mu.Lock()
	s.writers.wake()
	s.wakeSends()
	s.mu.Unlock()
}

// wakeSends wakes all calls that send messages. Session.mu is held.
func (s *Session) wakeSends() {
	s.room.wake()
	for _, o := range s.sends {
		o.settled.wake()
	}
}

// wakeAll wakes everybody. Session.mu is held.
func (s *Session) wakeAll() {
	s.readers.wake()
	s.messages.wake()
	s.writers.wake()
	s.others.wake()
	s.wakeSends()
	if s.mob != nil {
		s.mob.waiters.wake()
	}
}

// receive gives the engine a datagram. Session.mu is held.
func (s *Session) receive(now time.Time, b []byte) reliable.Received {
	s.stats.pktsIn++
	s.stats.wireIn += uint64(len(b))
	got := s.eng.Receive(now, b)
	if s.mob != nil && got.Opened {
		s.arrived(now, reliable.Datagrams)
	}
	s.heard = now
	return got
}

// events works through what the engine has to say. Session.mu is held.
func (s *Session) events() {
	for {
		ev := s.eng.NextEvent()
		switch ev.Kind {
		case reliable.EventNone:
			return
		case reliable.EventReadable:
			if ev.Stream == 0 {
				s.readers.wake()
			}
		case reliable.EventWritable:
			if ev.Stream == 0 {
				s.writers.wake()
			}
		case reliable.EventStream:
			s.eng.StopReading(time.Now(), ev.Stream) // nobody takes further streams yet
		case reliable.EventFlushed:
			s.others.wake()
		case reliable.EventMessage:
			s.messageArrived()
		case reliable.EventMessagesEnd:
			s.messages.wake()
		case reliable.EventMessageRoom:
			s.room.wake()
		case reliable.EventMessageDone:
			s.messageDone(ev.Message)
		case reliable.EventPong:
			s.pongs++
			s.pongRTT = ev.RTT
			s.others.wake()
		case reliable.EventControl:
			s.control()
		case reliable.EventHandshakeDone:
			s.handshakeDone()
		case reliable.EventPathResponse:
			if now := time.Now(); !s.probeAnswered(now, ev.Carrier, ev.Data) {
				s.pathResponse(now, ev.Data)
			}
		case reliable.EventMoved:
			s.carrierMoved(time.Now(), ev.Carrier, ev.ByPeer)
		case reliable.EventClosed:
			s.engineEnded()
		}
	}
}

// engineEnded notes why the engine has ended. Session.mu is held.
func (s *Session) engineEnded() {
	if s.ended != nil {
		return
	}
	s.ended = translate(s.eng.Err())
	if s.ended == nil {
		s.ended = io.ErrUnexpectedEOF
	}
	s.wakeAll()
	if s.shared {
		s.ep.unshare(s)
		s.moveOn()
	}
}

// translate makes an error of the engine one of package session.
func translate(err error) error {
	var p *reliable.ProtocolError
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.As(err, &p) && p.Remote:
		return &handshake.RemoteError{Code: p.Code, Reason: p.Reason}
	case errors.As(err, &p):
		return &handshake.Error{Code: p.Code, Reason: p.Reason}
	}
	for _, t := range translations {
		if errors.Is(err, t.engine) {
			return t.ours
		}
	}
	return err
}

var translations = []struct{ engine, ours error }{
	{reliable.ErrClosed, net.ErrClosed},
	{reliable.ErrPeerClosed, session.ErrPeerClosed},
	{reliable.ErrWriteClosed, session.ErrWriteClosed},
	{reliable.ErrTruncated, io.ErrUnexpectedEOF},
	{reliable.ErrStreamReset, io.ErrUnexpectedEOF},
	{reliable.ErrIdleTimeout, session.ErrIdleTimeout},
	{reliable.ErrReset, session.ErrReset},
	{reliable.ErrKeysUsedUp, session.ErrKeysUsedUp},
	{reliable.ErrMessageTooLarge, session.ErrMessageTooLarge},
	{reliable.ErrNoAck, session.ErrAckTimeout},
	{reliable.ErrExpired, session.ErrExpired},
}

// Ping makes the peer answer, and returns how long that took.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	if err := s.Handshake(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, asked := s.pongs, false
	for {
		if s.closed {
			return 0, net.ErrClosed
		}
		if err := over(ctx, nil); err != nil {
			return 0, err
		}
		switch {
		case asked && s.pongs != before:
			return s.pongRTT, nil
		case s.ended != nil:
			return 0, s.ended
		case !asked:
			asked = true
			s.eng.Ping()
			s.flush(time.Now())
			continue
		}
		s.waitOrRead(&s.others, doneOf(ctx))
	}
}

// Stats returns a snapshot.
func (s *Session) Stats() session.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.stats
	st := session.Stats{
		BytesSent:        c.bytesOut,
		BytesReceived:    c.bytesIn,
		WireSent:         c.wireOut,
		WireReceived:     c.wireIn,
		FramesSent:       c.pktsOut,
		FramesReceived:   c.pktsIn,
		MessagesSent:     c.msgsOut,
		MessagesReceived: c.msgsIn,
		PathChanges:      c.pathChanges,
	}
	if s.eng == nil {
		return st
	}
	e := s.eng.Stats()
	st.PacketsSent = e.PacketsSent
	st.PacketsReceived = e.PacketsReceived
	st.PacketsLost = e.PacketsLost
	st.PacketsDropped = e.PacketsDropped + e.PacketsDuplicate + e.PacketsRefused
	st.PacketsRetransmitted = e.PacketsRetransmitted
	st.BytesRetransmitted = e.BytesRetransmitted
	st.RedundantSent = e.RedundantSent
	st.RedundantRepaired = e.RedundantRepaired
	st.RTT, st.MinRTT, st.RTTVar = e.RTT, e.MinRTT, e.RTTVar
	st.CongestionWindow = e.CongestionWindow
	st.BytesInFlight = e.InFlight
	st.PacingRate = e.PacingRate
	st.Bandwidth = e.Bandwidth
	st.MTU = e.MTU
	st.Controller = s.ep.cfg.Controller.String() + " " + e.State
	st.Moves, st.RecentMoves = s.movesSoFar()
	return st
}
