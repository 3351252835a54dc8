package vstp

import (
	"context"
	"time"

	"github.com/vstp-go/vstp/internal/stream"
)

// A tcpStart is a TCP connection, inside TLS if there is any, on which nothing was said yet.
type tcpStart struct {
	s      *stream.Session
	config *stream.Config // of this session alone
}

// commitPatience is how long a HELLO on TCP may go unanswered before UDP is tried beside
// it (again): who accepts a TCP connection may be a middlebox with nobody behind it.
// Shorter would make servers that take their time to verify verify twice. Trap A3.
const commitPatience = time.Second

// A carrierRace is the part of a dial of "auto" that decides which carrier a session
// begins on. The carrier named first is tried at once, the other one when the head start
// is over or the first has failed (RFC 8305 §5). On UDP the whole handshake is tried. On
// TCP, connecting and TLS are; HELLO is said only when that is ready and UDP has been given
// up, so that servers do not accept a session that nobody uses.
type carrierRace struct {
	first     Carrier
	only      bool // the other one is not tried
	headStart time.Duration

	// udp runs the handshake on datagrams. answered reports whether anything came back
	// meanwhile.
	udp      func(ctx context.Context) (*Conn, error)
	answered func() bool

	// tcp connects, and commit says HELLO on what tcp returned, which it owns then.
	tcp    func(ctx context.Context) (*tcpStart, error)
	commit func(ctx context.Context, s *tcpStart) (*Conn, error)

	// discard closes what tcp returned. standby, if not nil, takes over an attempt on TCP,
	// finished or not, for a session on UDP.
	discard func(s *tcpStart)
	standby func(c *Conn, a *tcpAttempt)
}

// A tcpAttempt is a call of carrierRace.tcp. Its context ends with that of the dial, unless
// somebody takes it over.
type tcpAttempt struct {
	done   chan struct{} // closed at the end
	s      *tcpStart
	err    error
	took   time.Duration
	unlink func() bool
	cancel context.CancelFunc
}

func (r *carrierRace) startTCP(ctx context.Context) *tcpAttempt {
	a := &tcpAttempt{done: make(chan struct{})}
	own := context.WithoutCancel(ctx)
	at, bounded := ctx.Deadline()
	if bounded {
		own, a.cancel = context.WithDeadline(own, at)
	} else {
		own, a.cancel = context.WithCancel(own)
	}
	a.unlink = context.AfterFunc(ctx, func() {
		if !bounded || ctx.Err() != context.DeadlineExceeded { // own says so itself
			a.cancel()
		}
	})
	start := time.Now()
	go func() {
		defer close(a.done)
		a.s, a.err = r.tcp(own)
		a.took = time.Since(start)
	}()
	return a
}

// end gives the attempt up.
func (a *tcpAttempt) end(discard func(*tcpStart)) {
	a.unlink()
	a.cancel()
	select {
	case <-a.done:
		if a.err == nil {
			discard(a.s)
		}
	default:
		go func() {
			<-a.done
			if a.err == nil {
				discard(a.s)
			}
		}()
	}
}

// A dialResult is what udp or commit returned.
type dialResult struct {
	c   *Conn
	err error
}

// A dialCall is a call of udp or commit under way.
type dialCall struct {
	result chan dialResult // has room for one
	cancel context.CancelFunc
}

func startCall(ctx context.Context, f func(ctx context.Context) (*Conn, error)) *dialCall {
	ctx, cancel := context.WithCancel(ctx)
	d := &dialCall{make(chan dialResult, 1), cancel}
	go func() {
		c, err := f(ctx)
		d.result <- dialResult{c, err}
	}()
	return d
}

// end gives the call up.
func (d *dialCall) end() {
	d.cancel()
	go func() {
		if r := <-d.result; r.c != nil {
			r.c.Close()
		}
	}()
}

// A raceState is a race under way.
type raceState struct {
	*carrierRace
	ctx context.Context

	udpCall    *dialCall // nil: not running
	giveUp     bool      // it was cancelled in favour of TCP
	tcpCall    *tcpAttempt
	ready      bool      // tcpCall has ended well, and nothing was said on it
	commitCall *dialCall // nil: not running
	udpErr     error     // why UDP is out of the race
	tcpErr     error
	udpTried   bool
	tcpTried   bool

	next *time.Timer // starts the other one, ends waiting for UDP, or for an answer to HELLO
}

// run returns the connection that came out first. Its error is what the server said, or
// that of the context or the carriers, both in one.
func (r *carrierRace) run(ctx context.Context) (*Conn, error) {
	s := &raceState{carrierRace: r, ctx: ctx, next: time.NewTimer(r.headStart)}
	defer s.next.Stop()
	if r.only {
		s.next.Stop()
	}
	if r.first == CarrierTCP {
		s.startTCP()
	} else {
		s.startUDP()
	}
	c, err := s.wait()
	if s.udpCall != nil {
		s.udpCall.end()
	}
	if s.commitCall != nil {
		s.commitCall.end()
	}
	if a := s.tcpCall; a != nil {
		if err == nil && r.standby != nil {
			r.standby(c, a)
		} else {
			a.end(r.discard)
		}
	}
	return c, err
}

func (s *raceState) startUDP() {
	s.udpTried, s.udpErr = true, nil
	s.udpCall = startCall(s.ctx, s.udp)
}

func (s *raceState) startTCP() {
	s.tcpTried, s.tcpErr = true, nil
	s.tcpCall = s.carrierRace.startTCP(s.ctx)
}

// wait takes what happens until the race is decided.
func (s *raceState) wait() (*Conn, error) {
	for {
		var udp, commit <-chan dialResult
		var tcp <-chan struct{}
		if s.udpCall != nil {
			udp = s.udpCall.result
		}
		if s.commitCall != nil {
			commit = s.commitCall.result
		}
		if s.tcpCall != nil && !s.ready {
			tcp = s.tcpCall.done
		}
		if udp == nil && tcp == nil && commit == nil {
			return nil, joinCarriers(s.udpErr, s.tcpErr)
		}
		select {
		case d := <-udp:
			s.udpCall.cancel()
			s.udpCall = nil
			if d.err == nil {
				return d.c, nil
			}
			if isFinal(d.err) {
				return nil, d.err
			}
			s.udpFailed(d.err)
		case <-tcp:
			if err := s.tcpCall.err; err != nil {
				s.tcpCall.end(s.discard)
				s.tcpCall = nil
				if isFinal(err) {
					return nil, err
				}
				s.tcpFailed(err)
				continue
			}
			s.tcpReady()
		case d := <-commit:
			s.commitCall.cancel()
			s.commitCall = nil
			if d.err == nil || isFinal(d.err) {
				return d.c, d.err
			}
			s.tcpFailed(d.err)
		case <-s.next.C:
			s.due()
		}
	}
}

// udpFailed goes on with TCP.
func (s *raceState) udpFailed(err error) {
	gaveUp := s.giveUp
	s.giveUp = false
	if !gaveUp || s.ctx.Err() != nil {
		s.udpErr = err
	}
	switch {
	case s.ready:
		s.say()
	case !s.tcpTried && !s.only && s.ctx.Err() == nil:
		s.startTCP()
	}
}

// tcpFailed goes on with UDP, also if it was given up before.
func (s *raceState) tcpFailed(err error) {
	s.tcpErr = err
	if s.udpCall == nil && s.udpErr == nil && !s.only && s.ctx.Err() == nil {
		s.startUDP()
	}
}

// tcpReady is called when HELLO can be said on TCP. A server that has answered on UDP
// gets as long as TCP took for the rest of that handshake.
func (s *raceState) tcpReady() {
	s.ready = true
	s.next.Stop()
	switch {
	case s.udpCall == nil:
		s.say()
	case s.answered():
		s.next.Reset(max(s.headStart, s.tcpCall.took))
	default:
		s.giveUpUDP()
	}
}

// giveUpUDP cancels the handshake on UDP. What comes of it decides how it goes on: it may
// have been faster.
func (s *raceState) giveUpUDP() {
	s.giveUp = true
	s.udpCall.cancel()
}

// say begins the handshake on TCP.
func (s *raceState) say() {
	a := s.tcpCall
	s.tcpCall, s.ready = nil, false
	a.unlink()
	a.cancel() // it is done
	s.commitCall = startCall(s.ctx, func(ctx context.Context) (*Conn, error) { return s.commit(ctx, a.s) })
	if !s.only {
		s.next.Stop()
		s.next.Reset(max(commitPatience, 2*a.took))
	}
}

// due is called when the timer fires.
func (s *raceState) due() {
	switch {
	case s.ctx.Err() != nil || s.only:
	case s.ready && s.udpCall != nil: // it has answered, and that was all
		s.giveUpUDP()
	case s.udpCall == nil && s.udpErr == nil: // its head start is over, or TCP's, or TCP hangs
		s.startUDP()
	case !s.tcpTried:
		s.startTCP()
	}
}
