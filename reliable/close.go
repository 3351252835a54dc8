package reliable

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// How often CLOSE is said until the peer answers, and how long an ended association
// answers, in probe timeouts. PROTOCOL §7.10.
const (
	closeTries   = 6
	drainPTOs    = 3
	maxReasonLen = framing.MaxReasonLen
)

// handshakeRepeat is when a client repeats its HELLO at first, PROTOCOL §7.3: one of
// which no packet has come may not have the WELCOME without which CLOSE says nothing to
// it, and gets both once more when it asks.
const handshakeRepeat = 250 * time.Millisecond

// codeClosed is the orderly end.
const codeClosed = 0

// Shutdown ends the association in order: the streams end behind what was written,
// nothing is received any more, and when the peer has everything, it is told. Err is
// nil until then.
func (a *Assoc) Shutdown(now time.Time) {
	t := a.tick(now)
	if a.shutting || a.life != stateOpen {
		return
	}
	a.shutting = true
	a.deaf = true
	for a.inboxHead < len(a.inbox) {
		a.ReceiveMessage(now)
	}
	for _, s := range slices.Clone(a.streams) {
		a.CloseWrite(s.id)
		a.StopReading(now, s.id)
	}
	a.checkShutdown(t)
}

// checkShutdown completes Shutdown when nothing is left to be sent.
func (a *Assoc) checkShutdown(t instant) {
	if a.life == stateOpen && a.messages == 0 && len(a.cancels) == 0 && a.flushed() && !a.control.unacked() {
		a.beginClose(t, codeClosed, "", ErrClosed)
	}
}

// Quiet reports whether no message is on its way, in either direction, or waits to be
// received: whoever ends the association now cuts nothing off.
func (a *Assoc) Quiet() bool {
	if a.messages > 0 || a.openMessages > 0 || len(a.partials) > 0 || a.MessagesWaiting() {
		return false
	}
	for _, ch := range a.channels {
		if len(ch.waiting) > 0 {
			return false
		}
	}
	return true
}

// flushed reports whether the peer has all that was written, and knows that it is all.
func (a *Assoc) flushed() bool {
	for _, s := range a.streams {
		if !a.Flushed(s.id) {
			return false
		}
	}
	return true
}

// Close ends the association at once. The peer is told code and reason, of up to
// 1,024 bytes. Code 0 is an orderly end if the peer has everything; otherwise it
// is told that something is missing.
func (a *Assoc) Close(now time.Time, code uint64, reason string) {
	t := a.tick(now)
	if a.life == stateOpen {
		if code == codeClosed && !a.flushed() {
			code = uint64(framing.CodeAborted)
		}
		a.beginClose(t, code, reason[:min(len(reason), maxReasonLen)], ErrClosed)
	}
}

// fail ends the association because of what the peer did.
func (a *Assoc) fail(t instant, err error) {
	var pe *ProtocolError
	if errors.As(err, &pe) && a.life == stateOpen {
		a.beginClose(t, uint64(pe.Code), pe.Reason, err)
		return
	}
	a.end(t, err)
}

// beginClose sends CLOSE, and goes on until the peer answers.
func (a *Assoc) beginClose(t instant, code uint64, reason string, err error) {
	a.ended(err)
	a.life = stateClosing
	a.closeCode, a.closeReason = code, reason
	a.closeDue = true
	a.closeTries = 0
	a.doneAt = 0
	if a.moves != nil {
		a.moves.closeOn = a.on
	}
}

// end ends the association without telling the peer.
func (a *Assoc) end(_ instant, err error) {
	if a.life == stateOpen {
		a.ended(err)
	}
	a.life = stateDone
}

// Reset ends the association because the peer does not know it any more.
func (a *Assoc) Reset(now time.Time) {
	t := a.tick(now)
	if a.life == stateOpen {
		a.end(t, ErrReset)
	}
	a.life = stateDone
}

// ended settles everything that waits. What has come can still be read.
func (a *Assoc) ended(err error) {
	a.err = err
	queues := [...]sendQueue{a.ready, a.blocked}
	a.ready, a.blocked = sendQueue{}, sendQueue{} // settling one may begin another
	for _, s := range queues {
		for _, l := range s.levels {
			for _, x := range l.q[l.head:] {
				if x.msg != nil {
					a.settleMessage(x.msg, err)
				}
			}
		}
	}
	for len(a.timers) > 0 {
		m := a.timers[0]
		a.unschedule(m)
		a.settleMessage(m, err)
	}
	for _, id := range slices.Sorted(maps.Keys(a.halfSent)) {
		a.settleMessage(a.halfSent[id], err)
	}
	for _, st := range a.streams {
		if st.writeErr == nil {
			st.writeErr = err
		}
		a.readable(st)
		a.event(Event{Kind: EventWritable, Stream: st.id})
	}
	if a.wantMessageRoom {
		a.wantMessageRoom = false
		a.event(Event{Kind: EventMessageRoom})
	}
	a.streamRoom()
	a.ready, a.timers, a.cancels = sendQueue{}, nil, nil
	a.pool = &blockPool{over: true}
	a.openMessages = 0
	next := a.loss.sent.next
	a.loss = lossState{}
	a.loss.init()
	a.loss.sent.base, a.loss.sent.next = next, next
	a.eliciting = 0
	if a.moves != nil {
		a.moves.forget()
	}
	if a.control != nil {
		a.control.drop()
	}
	a.event(Event{Kind: EventClosed})
}

// closeReceived takes the peer's CLOSE.
func (a *Assoc) closeReceived(t instant, c *chunk) {
	var err error = ErrPeerClosed
	switch framing.ErrorCode(c.value) {
	case codeClosed, framing.CodeAborted: // whether streams are complete, FIN tells
	default:
		err = &ProtocolError{
			Remote: true,
			Code:   framing.ErrorCode(c.value),
			Reason: string(c.data[:min(len(c.data), maxReasonLen)]),
		}
	}
	a.ended(err)
	a.life = stateDraining
	a.closeCode, a.closeReason = codeClosed, ""
	a.closeDue = true
	if a.moves != nil {
		a.moves.closeOn = a.via
	}
	a.doneAt = t.add(drainPTOs * a.rtt.pto(a.c.Peer.AckDelay))
}

// maxLateChallenges bounds the challenges that are answered after CLOSE.
const maxLateChallenges = 16

// receiveClosed takes a packet that came after the end. Whether it has the peer's CLOSE
// counts only if it is known to be the peer's. PROTOCOL §7.10.
func (a *Assoc) receiveClosed(t instant, chunks []byte, known bool) {
	hasClose := false
	var c chunk
	to := a.responses()
	if a.moves != nil && known {
		a.moves.closeOn = a.via // where the peer is
	}
	for len(chunks) > 0 {
		n, err := parseChunk(chunks, &c)
		if err != nil {
			break
		}
		chunks = chunks[n:]
		hasClose = hasClose || c.typ == chunkClose
		if c.typ == chunkPathChallenge && known && a.lateChallenges < maxLateChallenges && len(*to) < maxPathResponses {
			a.lateChallenges++ // without the answer, CLOSE from here may be nobody's
			*to = append(*to, [8]byte(c.data))
			a.closeDue = a.closeDue || a.life == stateClosing
		}
	}
	switch a.life {
	case stateClosing:
		if hasClose && known { // the answer
			a.closeDue, a.closeAt = false, 0
			a.doneAt = t.add(drainPTOs * a.rtt.pto(a.c.Peer.AckDelay))
			a.closeTries = closeTries
		} else if a.closeHeard++; a.closeHeard&(a.closeHeard-1) == 0 && a.closeTries < closeTries {
			a.closeDue = true // it has not heard yet; RFC 9000 §10.2.1
		}
	case stateDraining:
		a.closeDue = a.closeDue || hasClose
	}
}

// appendClosePacket appends a packet with CLOSE if one is due.
func (a *Assoc) appendClosePacket(t instant, b []byte) []byte {
	if !a.closeDue || a.life == stateDone {
		return b
	}
	a.closeDue = false
	start := len(b)
	pn := a.loss.sent.next
	b = a.appendHeader(b, pn)
	a.loss.sent.next++
	a.loss.sent.base = a.loss.sent.next
	for _, d := range a.pathResponses {
		b = append(append(b, byte(chunkPathResponse)), d[:]...)
	}
	a.pathResponses = nil
	b = appendClose(b, a.closeCode, a.closeReason)
	b = a.seal(b, start, pn)
	a.stats.PacketsSent++
	a.stats.BytesSent += uint64(len(b) - start)
	a.closeTried(t)
	return b
}

// closeTried sets when CLOSE is said again.
func (a *Assoc) closeTried(t instant) {
	if a.life == stateClosing && t >= a.closeAt {
		pto := a.rtt.pto(a.c.Peer.AckDelay)
		if !a.c.Client && a.acks.next == 0 {
			pto = max(pto, handshakeRepeat)
		}
		a.closeTries++
		if a.closeTries < closeTries {
			a.closeAt = t.add(min(pto<<(a.closeTries-1), max(maxPTO, pto)))
		} else {
			a.closeAt = 0
			a.doneAt = t.add(pto)
		}
	}
}

// advanceClosed is Advance after the end.
func (a *Assoc) advanceClosed(t instant) {
	if a.closeAt != 0 && t >= a.closeAt {
		a.closeDue = true
		a.closeElsewhere()
	}
	if _, ok := a.closeCarrier(); !ok && a.closeDue { // there is no way to say it
		a.closeDue = false
		a.closeTried(t)
	}
	if a.doneAt != 0 && t >= a.doneAt {
		a.life = stateDone
		a.closeDue = false
	}
}
