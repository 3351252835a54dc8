package endpoint

import (
	"log/slog"
	"time"

	"github.com/vstp-go/vstp/internal/auto"
	"github.com/vstp-go/vstp/reliable"
)

const (
	// probeAgain is the pause after a probe of a standby that was not answered; it
	// doubles up to maxProbeAgain.
	probeAgain    = time.Second
	maxProbeAgain = 30 * time.Second

	maxProbeTimeout = 10 * time.Second

	// probeTwice is how long the answer to a probe may take, at least, until another one
	// is sent that is wanted urgently.
	probeTwice = 100 * time.Millisecond

	// A server that has just welcomed a session on a byte stream may not have it ready
	// for datagrams yet.
	unknownTries = 4
	unknownRetry = 5 * time.Millisecond

	// standbyProbe is the size of the datagram that asks whether the standby lives. The
	// first ones are as large as every path has to carry.
	standbyProbe = 64

	// watchEvery bounds how often packets that come make the session look whether to
	// move.
	watchEvery = 50 * time.Millisecond
)

// probing is how one carrier is asked for a sign of life. Session.mu guards it.
type probing struct {
	data    [8]byte
	sent    time.Time // of the one that is under way; zero is none
	asked   time.Time // of the first one that was not answered
	last    time.Time // of the last one
	next    time.Time // of the next one; zero is none
	lost    int       // in a row
	rtt     time.Duration
	first   bool // any were answered
	unknown int  // answers that the session is not known
	hurried bool // the one under way was sent before the one before had its time
}

// probeTimeout is how long an answer on c may take: on a byte stream it may stand behind
// what was left there. Session.mu is held.
func (s *Session) probeTimeout(c reliable.Carrier) time.Duration {
	d := s.ep.cfg.Auto.Decide.ProbeTimeout
	if c == reliable.ByteStream {
		d = max(d, min(3*s.eng.CarrierStats(time.Now(), c).RTT, maxProbeTimeout))
	}
	return d
}

// probe asks whether c lives, unless it is being asked. Session.mu is held; flush sends it.
func (s *Session) probe(now time.Time, c reliable.Carrier) {
	m := s.mob
	p := &m.probes[c]
	if s.ended != nil || !p.sent.IsZero() && now.Sub(p.sent) < max(probeTwice, 3*p.rtt) {
		return
	}
	p.next = time.Time{}
	s.ep.cfg.random(p.data[:])
	if c == reliable.ByteStream {
		if m.bearer == nil {
			return
		}
		m.asideFrame = s.eng.AppendFrameChallenge(now, m.asideFrame[:0], p.data)
	} else {
		if !s.remote.IsValid() {
			return
		}
		size := standbyProbe
		if !p.first {
			size = reliable.BaseMTU
		}
		m.aside = s.eng.AppendChallenge(now, m.aside[:0], p.data, size)
	}
	if p.sent.IsZero() {
		p.asked = now
	}
	p.sent, p.last = now, now
}

// probeAnswered takes the answer to a probe. It reports whether it was one. Session.mu is
// held.
func (s *Session) probeAnswered(now time.Time, c reliable.Carrier, data [8]byte) bool {
	m := s.mob
	if m == nil {
		return false
	}
	p := &m.probes[c]
	if p.sent.IsZero() || p.data != data {
		return false
	}
	p.rtt = max(now.Sub(p.sent), time.Microsecond)
	p.sent, p.lost, p.first = time.Time{}, 0, true
	if c == reliable.Datagrams && !m.dgrams {
		m.dgrams, m.dgramsLost = true, false
		s.eng.SetAttached(now, c, true)
		m.waiters.wake()
	}
	m.next = now
	return true
}

// unknownOnDatagrams takes the news that the server does not know the session on
// datagrams, and reports whether it has never known it there: its byte stream lives, and
// this may be another server behind the same address, or one that is a little late.
// Session.mu is held.
func (s *Session) unknownOnDatagrams(now time.Time) bool {
	m := s.mob
	if m == nil || m.dgrams || s.eng == nil || s.ended != nil {
		return false
	}
	s.ep.stats.dropped.Add(1)
	p := &m.probes[reliable.Datagrams]
	if p.sent.IsZero() {
		return true // it is not asked
	}
	p.sent, p.hurried = time.Time{}, false
	if p.unknown++; p.unknown <= unknownTries {
		p.next = now.Add(unknownRetry << p.unknown)
	} else {
		p.lost++
		s.ep.note(slog.LevelInfo, "vstp: the server does not know the session on datagrams", "remote", s.remote.AddrPort)
	}
	s.arm(now)
	return true
}

// datagramsGone takes the news, which are not proven, that the server does not know the
// session on datagrams any more: the byte stream will tell. Session.mu is held.
func (s *Session) datagramsGone(now time.Time) {
	m := s.mob
	s.ep.stats.dropped.Add(1)
	if s.ended != nil || s.eng.Active() != reliable.Datagrams {
		return
	}
	m.dgrams, m.dgramsLost = false, true
	m.probes[reliable.Datagrams] = probing{last: now, lost: s.ep.cfg.Auto.Decide.ProbeAttempts}
	s.eng.SetAttached(now, reliable.Datagrams, false)
	s.watch(now)
}

// probesDue looks for probes that were not answered, and sends those that are due.
// Session.mu is held.
func (s *Session) probesDue(now time.Time) {
	m := s.mob
	cfg := s.ep.cfg.Auto
	active := s.eng.Active()
	for c := range reliable.Carrier(carriers) {
		p := &m.probes[c]
		if !p.sent.IsZero() && now.Sub(p.asked) >= s.probeTimeout(c) {
			p.sent, p.hurried = time.Time{}, false
			p.lost++
			m.next = now
			if c == reliable.Datagrams && m.calls > 0 {
				p.next = now.Add(probeAgain) // also without standby: Move waits for it
			}
			if p.lost >= cfg.Decide.ProbeAttempts && c == reliable.ByteStream && c != active && m.bearer != nil {
				s.streamGone(now, m.bearer, errDeadStandby) // trap A8
				continue
			}
		}
		if !s.client || c == active || !p.sent.IsZero() || c == reliable.ByteStream && m.bearer == nil ||
			cfg.NoStandby && p.next.IsZero() {
			continue
		}
		if at := s.probeAt(c); !at.IsZero() && !now.Before(at) {
			s.probe(now, c)
		}
	}
}

// probeAt returns when a standby is asked next. Session.mu is held.
func (s *Session) probeAt(c reliable.Carrier) time.Time {
	p := &s.mob.probes[c]
	cfg := s.ep.cfg.Auto
	switch {
	case !p.next.IsZero():
		return p.next
	case p.last.IsZero():
		return s.born
	case p.lost > 0 && p.lost < cfg.Decide.ProbeAttempts:
		return p.last
	case p.lost > 0:
		return p.last.Add(min(probeAgain<<min(p.lost-cfg.Decide.ProbeAttempts, 8), maxProbeAgain))
	}
	heard := s.eng.CarrierStats(time.Now(), c).Received
	if heard.Before(p.last) {
		heard = p.last
	}
	return heard.Add(cfg.StandbyInterval)
}

// mobileAt returns when mobileDue has something to do, zero for never. Session.mu is held.
func (s *Session) mobileAt() time.Time {
	m := s.mob
	if m == nil || s.ended != nil || s.eng == nil {
		return time.Time{}
	}
	at := m.next
	first := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	active := s.eng.Active()
	for c := range reliable.Carrier(carriers) {
		p := &m.probes[c]
		switch {
		case !p.sent.IsZero():
			first(p.asked.Add(s.probeTimeout(c)))
		case !s.client || c == active || c == reliable.ByteStream && m.bearer == nil || c == reliable.Datagrams && !s.remote.IsValid():
		case s.ep.cfg.Auto.NoStandby && p.next.IsZero():
		default:
			first(s.probeAt(c))
		}
	}
	if !m.attach.busy && m.bearer == nil && s.mayAttach() {
		first(m.attach.next)
	}
	return at
}

// mobileDue does what a session that moves has to do in time. Session.mu is held.
func (s *Session) mobileDue(now time.Time) {
	m := s.mob
	if m == nil || s.ended != nil || s.eng == nil {
		return
	}
	s.probesDue(now)
	s.attachDue(now)
	if n, _ := s.eng.Unheard(now); n > 0 {
		m.next = now
	}
	s.watchIfDue(now)
	s.tellIfLate(now)
}

// tellIfLate tells of a move after which nothing has come for a long time. Session.mu is
// held.
func (s *Session) tellIfLate(now time.Time) {
	m := s.mob
	if m.open && now.Sub(m.moves[len(m.moves)-1].Time) > time.Second {
		s.tellMoves()
	}
}

// watchIfDue is watch if it is time. Session.mu is held.
func (s *Session) watchIfDue(now time.Time) {
	if m := s.mob; !m.next.IsZero() && !now.Before(m.next) {
		s.watch(now)
	}
}

// watch looks whether the session is to move, and does so. Session.mu is held.
func (s *Session) watch(now time.Time) {
	m := s.mob
	if m == nil || s.eng == nil || s.ended != nil {
		return
	}
	active := s.eng.Active()
	in := auto.Input{Now: now, Active: active}
	for c := range reliable.Carrier(carriers) {
		in.Carriers[c] = s.carrierInput(now, c)
	}
	d := m.decider.Decide(in)
	m.next = d.Next
	if !m.next.IsZero() && m.next.Before(now.Add(time.Millisecond)) {
		m.next = now.Add(time.Millisecond)
	}
	if d.Probe {
		if o := other(active); m.attached(o) || o == reliable.Datagrams {
			s.probe(now, o)
		} else if s.client {
			s.needAttach(now)
		}
	}
	if b := m.bearer; d.Renew && s.client && b != nil {
		s.streamGone(now, b, errStalled)
		return
	}
	if !d.Move || !m.attached(d.To) {
		return
	}
	s.moveTo(now, d.To, d.Reason.String())
	if s.eng.Active() != d.To {
		return // it cannot, see Move
	}
	m.decider.Moved(now, d.To, false)
	if b := m.bearer; b != nil && active == reliable.ByteStream && fatal(d.Reason) {
		s.streamGone(now, b, errStalled) // what stands in its queue is of no use any more
	}
}

// fatal reports whether a carrier is given up with a move away from it.
func fatal(r auto.Reason) bool {
	return r == auto.ReasonSilence || r == auto.ReasonStalled || r == auto.ReasonReset
}

// carrierInput is what the decision is made from. Session.mu is held.
func (s *Session) carrierInput(now time.Time, c reliable.Carrier) auto.CarrierInput {
	m := s.mob
	st := s.eng.CarrierStats(now, c)
	p := &m.probes[c]
	in := auto.CarrierInput{
		Attached:   m.attached(c),
		Alive:      st.Received,
		RTT:        st.RTT,
		Sent:       st.Sent,
		Lost:       st.Lost,
		Rate:       st.Rate,
		Limited:    st.Limited,
		LargeLost:  st.LargeLost,
		ProbesLost: p.lost,
		ProbeRTT:   p.rtt,
	}
	if c == s.eng.Active() {
		in.Timeouts, in.Silence, in.PTO = st.Unheard, st.Silence, st.PTO
		in.Received = s.eng.Stats().BytesReceived
	}
	if c == reliable.ByteStream {
		in.Gone = m.bearer == nil && m.lost
	} else {
		in.Gone = m.dgramsLost
		in.SendErrors = m.sendErrors
	}
	return in
}
