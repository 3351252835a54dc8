package reliable

// An association at rest carries nothing but signs of life, and most are at rest nearly
// always: whatever it needs only while it is busy is made when it is needed, and given
// back by rest.

// restOn gives back what a sign of life has taken.
func (a *Assoc) restOn() {
	if a.rested && a.loss.sent.head < 0 {
		a.loss.release()
		a.restKeys()
	}
}

// restKeys gives back what Protection needs for packets only.
func (a *Assoc) restKeys() {
	if p, ok := a.c.Protection.(interface{ Rest() }); ok {
		p.Rest()
	}
}

// woken notes a packet that is not the peer's. To find that out, Protection has made again
// what it needs to open packets. That stays for a while, as otherwise whoever sends more of
// those would have it made for each of them.
func (a *Assoc) woken(t instant) {
	if a.rested && a.c.Protection != nil {
		a.rested, a.disturbed = false, t
	}
}

// release gives memory back while nothing is in flight.
func (l *lossState) release() {
	l.sent.release()
	if l.sent.ring == nil {
		l.lossWork = nil
	}
}

func (s *stream) rest() {
	s.in.rest()
	if s.out.len() == 0 {
		s.out.blocks = nil
	}
	s.acked, s.lost = dropEmpty(s.acked), dropEmpty(s.lost)
}

func (r *recvBuffer) rest() {
	r.busy = false
	r.have = dropEmpty(r.have)
	if len(r.blocks) == 0 {
		r.blocks = nil
	}
}

func (c *controlState) rest() {
	if !c.unacked() {
		c.out.blocks = nil
	}
	c.acked, c.lost = dropEmpty(c.acked), dropEmpty(c.lost)
}

func (s *sendQueue) rest() {
	if s.empty() {
		s.levels = nil
	}
}

// dropEmpty returns s without memory of its own if nothing is in it.
func dropEmpty[S ~[]T, T any](s S) S {
	if len(s) == 0 {
		return nil
	}
	return s
}
