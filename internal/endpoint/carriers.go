package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/vstp-go/vstp/internal/auto"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/stream"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// A session that moves has two carriers: the datagrams of the endpoint's socket, and a
// byte stream that is attached to it. One is active, the other one is its standby.
// PROTOCOL §7.14.
//
//	carriers.go         what there is, and what callers can do with it
//	carrier_attach.go   byte streams come, prove to belong to a session, and go
//	carrier_stream.go   packets on the byte stream
//	carrier_watch.go    is the standby alive, and is it time to move?

// A Bearer is a byte stream behind its handshake: a *stream.Bearer. One goroutine reads,
// one writes, and Close unblocks both.
type Bearer interface {
	ReadPacketTo(p []byte, plan func(begin []byte) (at, n int)) (packet []byte, n int, trailer []byte, err error)
	SetReadDeadline(t time.Time) error
	ReadPacket() ([]byte, error)                       // a view, valid until the next call
	Buffered() bool                                    // ReadPacket would not wait
	WriteBuffers(bufs *net.Buffers) error              // of whole frames; uses bufs up
	TryWrite(bufs *net.Buffers) (done bool, err error) // what there is room for; WriteBuffers does the rest
	Close() error
	Abort() error // Close for one that takes nothing
	TLSState() *tls.ConnectionState
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
}

var (
	_ Bearer            = (*stream.Bearer)(nil)
	_ stream.AutoServer = (*Endpoint)(nil)
)

// AutoConfig is how sessions move. All of it is settled.
type AutoConfig struct {
	Decide          auto.Config
	NoStandby       bool          // a carrier that is not active is not kept
	StandbyInterval time.Duration // how often the standby is asked whether it lives

	// Attach brings a byte stream to a session of a client: it dials and runs
	// [stream.Session.Attach]. Nil at a server.
	Attach func(ctx context.Context, s *Session, r *handshake.AttachRequest) (Bearer, error)

	// OnMove is told of each move, one after the other. No lock is held.
	OnMove func(s *Session, m session.Move)
}

const (
	carriers = 2 // reliable.Datagrams, reliable.ByteStream

	// recentMoves is how many moves Stats tells of.
	recentMoves = 16
)

// A mobile is what a session has that moves. Session.mu guards it.
type mobile struct {
	decider *auto.Decider
	born    reliable.Carrier
	laddr   net.Addr // of the byte stream that it was born on
	raddr   net.Addr

	bearer     *bearer // the byte stream; nil is none
	lost       bool    // it has ended by itself, and there was no other since
	dgrams     bool    // the peer has answered on datagrams
	dgramsLost bool    // it has said there that it does not know the session

	k      []byte // the secret; nil until it is needed
	n      uint64 // client: of the last attempt to attach; server: the largest accepted
	attach attaching

	probes     [carriers]probing
	sendErrors uint64 // of datagrams
	aside      []byte // a datagram that waits to be sent, whatever is active
	asideFrame []byte // the same for the byte stream
	next       time.Time

	why     string // of the move that this side has just ordered
	moves   []session.Move
	count   uint64
	open    bool      // the last of moves has no Gap yet
	heard   time.Time // last packet of the peer on the carrier before the last of moves
	moved   uint64    // reliable.Stats.BytesMoved before it
	told    int       // how many of moves OnMove has yet to be told
	telling bool
	calls   int   // of Move that are under way
	waiters waitq // those that wait for a carrier
}

// beginMobile makes a session one that moves. Session.mu is held, or nobody knows s yet.
func (s *Session) beginMobile(now time.Time, born reliable.Carrier) {
	c := s.ep.cfg.Auto
	m := &mobile{born: born, dgrams: born == reliable.Datagrams}
	d := c.Decide
	d.Follower = !s.client
	m.decider = auto.New(d)
	s.mob = m
	s.eng.SetAttached(now, born, true)
	m.next = now
	if born == reliable.Datagrams && s.client && !c.NoStandby {
		m.attach.next = now.Add(standbyDelay) // many connections are over by then
	}
}

// Carrier returns what the session sends on.
func (s *Session) Carrier() reliable.Carrier {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mob == nil || s.eng == nil {
		return reliable.Datagrams
	}
	return s.eng.Active()
}

// Moves reports whether the session can move at all.
func (s *Session) Moves() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mob != nil
}

// Move makes c the active carrier, now. If it is not attached, a client attaches it
// first, and waits for that.
func (s *Session) Move(ctx context.Context, c reliable.Carrier) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mob == nil {
		return session.ErrNotSupported
	}
	m := s.mob
	m.calls++
	defer func() { m.calls-- }()
	for asked := false; ; asked = true {
		now := time.Now()
		switch {
		case s.closed:
			return net.ErrClosed
		case s.ended != nil:
			return s.ended
		case s.eng.Active() == c:
			return nil
		case m.attached(c):
			s.moveTo(now, c, auto.ReasonForced.String())
			if s.eng.Active() != c { // its keys are used up, or the peer has used up the numbers
				return session.ErrNoCarrier
			}
			m.decider.Moved(now, c, true)
			s.flush(now)
			return nil
		case !s.client:
			return session.ErrNoCarrier
		}
		if err := over(ctx, nil); err != nil {
			return err
		}
		switch a := &m.attach; {
		case !asked:
			a.wanted = true
			if a.err = nil; !a.busy {
				a.next, a.after = time.Time{}, time.Time{} // however long that would have been
			}
			s.wantCarrier(now, c)
			s.flush(now) // lets go of the lock: the answer may be there already
			continue
		case c == reliable.ByteStream && !a.busy && a.err != nil:
			return a.err
		}
		m.waiters.wait(&s.mu, doneOf(ctx))
	}
}

// Pin has the session stay on a carrier, and move there when it is attached. Nil ends that.
func (s *Session) Pin(c *reliable.Carrier) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mob == nil {
		return session.ErrNotSupported
	}
	now := time.Now()
	if c == nil {
		s.mob.decider.SetPin(false, 0)
	} else {
		s.mob.decider.SetPin(true, *c)
		if !s.mob.attached(*c) && s.client {
			s.wantCarrier(now, *c)
		}
	}
	s.watch(now)
	s.flush(now)
	return nil
}

// attached reports whether packets can be sent on c.
func (m *mobile) attached(c reliable.Carrier) bool {
	if c == reliable.ByteStream {
		return m.bearer != nil
	}
	return m.dgrams
}

// onlyDatagrams reports whether what a server says in datagrams is about the session. Behind
// one address, datagrams may reach another server than the byte stream, which does not
// know the session. Session.mu is held.
func (m *mobile) onlyDatagrams() bool { return m.bearer == nil && m.dgrams }

// moveTo makes to the active carrier. Session.mu is held.
func (s *Session) moveTo(now time.Time, to reliable.Carrier, why string) {
	s.mob.why = why
	s.eng.Move(now, to)
	s.events()
	s.mob.why = ""
}

// carrierMoved notes that the engine sends on another carrier now. Session.mu is held.
func (s *Session) carrierMoved(now time.Time, to reliable.Carrier, byPeer bool) {
	m := s.mob
	s.carry = s.carry[:0] // counts as lost
	why := m.why
	if byPeer || why == "" {
		byPeer = true
		why = auto.ReasonPeer.String()
		m.decider.Moved(now, to, false)
	}
	m.settle(s.eng)
	st := s.eng.Stats()
	if len(m.moves) == recentMoves {
		m.moves = append(m.moves[:0], m.moves[1:]...)
	}
	m.moves = append(m.moves, session.Move{Time: now, From: other(to).String(), To: to.String(), Reason: why, ByPeer: byPeer})
	m.count++
	m.open = true
	m.heard = s.eng.CarrierStats(now, other(to)).Received
	m.moved = st.BytesMoved
	m.told = min(m.told+1, recentMoves)
	if byPeer { // it has come by the new carrier, most likely
		s.arrived(now, to)
	}
	m.next = now
	m.waiters.wake()
	s.readers.wake() // some of them read the socket, where nothing may come any more
}

func other(c reliable.Carrier) reliable.Carrier { return reliable.ByteStream - c }

// settle fills in what the last move has cost so far.
func (m *mobile) settle(eng *reliable.Assoc) {
	if len(m.moves) > 0 {
		m.moves[len(m.moves)-1].Resent = eng.Stats().BytesMoved - m.moved
	}
}

// arrived notes that a packet of the peer has come on a carrier. Session.mu is held.
func (s *Session) arrived(now time.Time, c reliable.Carrier) {
	m := s.mob
	if p := &m.probes[c]; c == reliable.Datagrams && s.client && !m.dgrams && !p.hurried {
		// The server has begun to look whether we are here. What it got before it had found
		// out, it has dropped if there is no TLS.
		p.hurried = true
		p.sent = time.Time{}
		s.probe(now, c)
	}
	if m.next.IsZero() {
		m.next = now.Add(watchEvery) // a session that is in use is looked at
	}
	if m.open && s.eng.Active() == c {
		m.open = false
		last := &m.moves[len(m.moves)-1]
		if !m.heard.IsZero() {
			last.Gap = now.Sub(m.heard)
		}
		s.tellMoves()
	}
}

// tellMoves has OnMove be told of what it does not know. Session.mu is held.
func (s *Session) tellMoves() {
	m := s.mob
	if m.told == 0 || m.telling {
		return
	}
	log, hook := s.ep.cfg.Logger, s.ep.cfg.Auto.OnMove
	if log == nil && hook == nil {
		m.told = 0
		return
	}
	m.telling = true
	go func() { // no lock may be held, and nobody waits for what a hook does
		s.mu.Lock()
		for m.told > 0 {
			m.settle(s.eng)
			mv := m.moves[max(0, len(m.moves)-m.told)]
			m.told--
			s.mu.Unlock()
			if log != nil {
				log.Info("vstp: moved to another carrier", "remote", s.RemoteAddr(), "from", mv.From, "to", mv.To,
					"reason", mv.Reason, "gap", mv.Gap, "resent", mv.Resent)
			}
			if hook != nil {
				hook(s, mv)
			}
			s.mu.Lock()
		}
		m.telling = false
		s.mu.Unlock()
	}()
}

// movesSoFar returns how many there were, and the last ones. Session.mu is held.
func (s *Session) movesSoFar() (uint64, []session.Move) {
	m := s.mob
	if m == nil || len(m.moves) == 0 {
		return 0, nil
	}
	m.settle(s.eng)
	return m.count, append([]session.Move(nil), m.moves...)
}

// sayAside sends what does not belong to the active carrier, and reports whether there was
// something. Session.mu is held, and is released for the write.
func (s *Session) sayAside() bool {
	m := s.mob
	if len(m.aside) == 0 {
		return false
	}
	b := m.aside
	m.aside = nil
	remote, local := s.remote, s.local
	s.stats.pktsOut++
	s.stats.wireOut += uint64(len(b))
	s.mu.Unlock()
	err := s.ep.write(b, remote, local)
	s.mu.Lock()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		if !errors.Is(err, udpio.ErrAgain) {
			m.sendErrors++
		}
		s.noWay(time.Now(), err)
	}
	return true
}

// endMobile lets go of the byte stream of a session that is forgotten. Session.mu is held.
func (s *Session) endMobile() {
	m := s.mob
	if m == nil {
		return
	}
	if m.attach.cancel != nil {
		m.attach.cancel()
	}
	if b := m.bearer; b != nil {
		s.letGo(b)
		go b.Close()
	}
	m.waiters.wake()
	if m.open {
		m.open = false
		s.tellMoves()
	}
}

// pathChanged tells the engine of another path of the datagrams. Session.mu is held.
func (s *Session) pathChanged(now time.Time, rtt time.Duration, sameHost bool) {
	if m := s.mob; m != nil && !m.dgrams && !s.client {
		m.dgrams = true
		s.eng.SetAttached(now, reliable.Datagrams, true)
		m.waiters.wake()
	}
	s.eng.PathChanged(now, rtt, sameHost)
}

// pumping reports whether something is being written to the byte stream. What is written
// last, to a peer that takes nothing, does not hold the session for ever. Session.mu is
// held.
func (m *mobile) pumping() bool {
	b := m.bearer
	if b == nil || !b.writing {
		return false
	}
	if !b.closing {
		b.closing = true
		time.AfterFunc(closeGrace, func() { b.Close() })
	}
	return true
}

// waitOrRead is that of waitq. Where the peer's packets come on a byte stream, nobody has
// to read the socket himself. Session.mu is held.
func (s *Session) waitOrRead(q *waitq, done <-chan struct{}) {
	if s.mob != nil && s.eng.Active() == reliable.ByteStream {
		s.readStreamAgain()
		q.waitFor(&s.mu, done, s.lane, false)
		return
	}
	q.waitOrRead(&s.mu, done, s.lane)
}

// stuck returns how long the engine has to wait at least with what it wants to do: the
// active carrier takes nothing. Session.mu is held.
func (s *Session) stuck(now time.Time) time.Duration {
	m := s.mob
	if m == nil || s.eng == nil {
		return 0
	}
	switch b := m.bearer; {
	case b != nil && b.writing && b.closing:
		return stuckBusy // there is nothing else to wait for
	case s.eng.Active() == reliable.Datagrams:
		return 0
	case b == nil:
		return stuckAbsent
	case b.writing: // a peer that takes nothing for long costs little
		return min(max(now.Sub(b.since)/8, stuckBusy), stuckAbsent)
	}
	return 0
}

// How long the timer waits at least while there is no byte stream, or it takes no more:
// whatever changes that flushes anyway.
const (
	stuckAbsent = 100 * time.Millisecond
	stuckBusy   = 10 * time.Millisecond
)
