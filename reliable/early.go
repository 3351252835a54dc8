package reliable

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Established ends Config.Early: the handshake is over, and packets go to peer from now
// on. Limits and idle are those of this handshake. If the server has accepted the 0-RTT
// packets, credits only grow. If not, all that was sent in them is sent again, within the
// new limits; a message that is too large for them fails, and one that is not repaired
// is lost. PROTOCOL §8.9.
func (a *Assoc) Established(now time.Time, peer ConnID, limits Limits, idle time.Duration, earlyAccepted bool) {
	t := a.tick(now)
	if !a.c.Early {
		return
	}
	a.c.Early = false
	a.c.PeerID, a.c.IdleTimeout = peer, idle
	a.makeHeader()
	size := a.mtu.current
	if a.life != stateOpen {
		return // CLOSE is repeated
	}
	limits.AckDelay = min(limits.AckDelay, maxAckDelay)
	if earlyAccepted {
		a.raise(limits)
	} else {
		a.startOver(t, limits)
	}
	if a.mtu.bound(a); a.mtu.current < size {
		a.mtu.set(a, a.mtu.current)
	}
	a.lastReceived, a.idleFrom, a.lastKeepAlive = t, t, t // an answer of the server has come
	if a.loss.lastEliciting != 0 {
		a.loss.lastEliciting = t // no probe timeout has run yet
	}
	a.owedSince = t
	a.pingDue = true
}

// raise takes limits that are not smaller than those remembered.
func (a *Assoc) raise(limits Limits) {
	old := a.c.Peer
	limits.MaxMessage = max(limits.MaxMessage, old.MaxMessage)
	limits.MaxStreamData = max(limits.MaxStreamData, old.MaxStreamData)
	a.c.Peer = limits
	a.dataCredit = max(a.dataCredit, limits.MaxData)
	a.msgCredit = max(a.msgCredit, limits.MaxMessages)
	a.dataRaised, a.messagesRaised = true, true
	for _, s := range a.streams {
		s.credit = max(s.credit, limits.MaxStreamData)
	}
	a.raiseMaxStreams(uint64(max(0, limits.MaxStreams)))
	a.creditsRaised()
}

// startOver forgets all that was sent, of which the server has seen nothing. It means
// nothing for congestion control.
func (a *Assoc) startOver(t instant, limits Limits) {
	messages := a.unsettled()
	a.dropInFlight(t, nil)
	a.loss.lossTime, a.loss.ptoCount, a.loss.probes = 0, 0, 0
	a.c.Peer = limits
	a.red.startOver()
	a.ready, a.blocked, a.blockedMessages, a.openShort = sendQueue{}, sendQueue{}, 0, false
	a.dataSent, a.dataCredit, a.blockedAt, a.dataBlockedDue = 0, limits.MaxData, 0, false
	a.peerMaxStreams = uint64(max(0, limits.MaxStreams))
	for _, s := range a.streams {
		a.restartStream(s)
	}
	a.attention = slices.DeleteFunc(a.attention, func(s *stream) bool {
		s.attn = a.allowed(s)
		return !s.attn
	})
	a.msgSent, a.msgCredit, a.openMessages, a.nextMessage = 0, limits.MaxMessages, 0, 0
	a.cancels = nil // of messages that the server has never heard of
	clear(a.halfSent)
	clear(a.sequences)
	clear(a.lines)
	for _, m := range messages {
		a.restartMessage(t, m)
	}
	a.messagesLess()
}

// restartStream is startOver for one stream.
func (a *Assoc) restartStream(s *stream) {
	s.queued = false
	s.credit = a.c.Peer.MaxStreamData
	s.blockedAt, s.blockedDue = 0, false
	s.next, s.lost = s.out.base, nil
	if s.fin == finSent {
		s.fin = finReady
	}
	if s.reset { // with it goes the final size
		s.next, s.resetDue = 0, true
	}
	a.enqueueStream(s)
}

// unsettled returns the messages that are not settled, as they were sent.
func (a *Assoc) unsettled() []*Outgoing {
	ms := slices.Collect(maps.Values(a.halfSent))
	for _, q := range []*sendQueue{&a.ready, &a.blocked} {
		for _, l := range q.levels {
			for _, x := range l.q[l.head:] {
				if m := x.msg; m != nil && !m.done && !m.started {
					ms = append(ms, m)
				}
			}
		}
	}
	slices.SortFunc(ms, func(m, n *Outgoing) int { return cmp.Compare(m.number, n.number) })
	return slices.Compact(ms)
}

// restartMessage is startOver for one message.
func (a *Assoc) restartMessage(t instant, m *Outgoing) {
	m.queued, m.waiting, m.started = false, false, false
	m.next, m.lost, m.attempts, m.progress, m.parity = 0, nil, 0, t, nil
	if m.Ordered {
		a.line(m)
	}
	if int64(len(m.Payload)) > a.c.Peer.MaxMessage {
		a.settleMessage(m, ErrMessageTooLarge)
		return
	}
	a.enqueueMessage(m)
}
