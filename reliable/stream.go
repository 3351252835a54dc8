package reliable

import (
	"cmp"
	"slices"
	"time"
)

// A finState is how far the end of a stream's sending side has come.
type finState uint8

const (
	finNone  finState = iota
	finReady          // to be sent, or sent again
	finSent
	finAcked
)

// A stream has two directions that know nothing of each other. PROTOCOL §7.7.
type stream struct {
	id StreamID

	// Sending: out holds what is not acknowledged from its base on.
	out      sendBuffer
	next     int64 // first byte that was never sent
	credit   int64 // granted by the peer
	acked    spanSet[int64]
	lost     spanSet[int64]
	writeErr error // why Write fails

	blockedAt int64 // the credit of which the peer has learnt that it runs short
	resetCode uint64

	// Receiving.
	in        recvBuffer
	received  int64 // highest offset the peer has used
	final     int64 // where the stream ends, -1 if not known
	granted   int64
	window    int64
	grantedAt instant
	readErr   error // after what is there: reset, or nobody reads

	queued bool // in Assoc.ready
	attn   bool // in Assoc.attention: a control chunk is due

	fin                         finState
	wantRoom                    bool // a Write took less than it was given
	blockedDue                  bool // the peer is to learn that credit runs short
	reset, resetDue, resetAcked bool // RESET_STREAM took the place of the rest

	grantDue  bool
	toldEnd   bool // Read has returned io.EOF or readErr
	stopped   bool // this side does not read
	stopDue   bool
	announced bool // EventReadable is under way

	flushed bool // EventFlushed was sent
	over    bool // both directions have ended, it is no more in Assoc.streams
}

// A streamSet is the streams by their ids: nearly always it is one.
type streamSet []*stream

// find returns where the stream of that id is, or would be.
func (s streamSet) find(id StreamID) (int, bool) {
	if len(s) > 0 && s[0].id == id {
		return 0, true
	}
	return slices.BinarySearchFunc(s, id, func(x *stream, id StreamID) int { return cmp.Compare(x.id, id) })
}

// get returns the stream of that id, or nil.
func (s streamSet) get(id StreamID) *stream {
	if i, ok := s.find(id); ok {
		return s[i]
	}
	return nil
}

func (s *streamSet) add(x *stream) {
	i, _ := s.find(x.id)
	*s = slices.Insert(*s, i, x)
}

func (s *streamSet) remove(x *stream) {
	if i, ok := s.find(x.id); ok {
		*s = slices.Delete(*s, i, i+1)
	}
}

func (a *Assoc) newStream(id StreamID) *stream {
	s := &stream{
		id:      id,
		final:   -1,
		credit:  a.c.Peer.MaxStreamData,
		granted: a.c.Local.MaxStreamData,
		window:  a.c.Local.MaxStreamData,
	}
	a.streams.add(s)
	return s
}

// openedByPeer reports whether the peer is the one to open id.
func (a *Assoc) openedByPeer(id StreamID) bool {
	return (id&1 == 0) != a.c.Client
}

// peerStream returns the stream of a chunk, which may open it. It is nil if the
// stream is over.
func (a *Assoc) peerStream(id uint64) (*stream, error) {
	sid := StreamID(id)
	if s := a.streams.get(sid); s != nil {
		return s, nil
	}
	if !a.openedByPeer(sid) {
		if id>>1 >= a.opened {
			return nil, protocolError("a stream that was never opened")
		}
		return nil, nil
	}
	if id>>1 >= a.maxPeerStreams {
		return nil, protocolError("more streams than allowed")
	}
	if id>>1 < a.peerOpened {
		return nil, nil
	}
	// Opening one opens all below, RFC 9000 §3.
	for n := a.peerOpened; n <= id>>1; n++ {
		s := a.newStream(StreamID(n<<1 | id&1))
		a.event(Event{Kind: EventStream, Stream: s.id})
	}
	a.peerOpened = id>>1 + 1
	return a.streams.get(sid), nil
}

// OpenStream opens a stream beside stream 0. The error is ErrStreams if the peer allows no
// more at present (EventStreamRoom tells when to try again), or why the association has
// ended.
func (a *Assoc) OpenStream() (StreamID, error) {
	if a.err != nil {
		return 0, a.err
	}
	if a.opened >= a.peerMaxStreams {
		a.wantStreamRoom = true
		return 0, ErrStreams
	}
	id := StreamID(a.opened << 1)
	if !a.c.Client {
		id |= 1
	}
	a.opened++
	a.newStream(id)
	return id, nil
}

// raiseMaxStreams takes a MAX_STREAMS.
func (a *Assoc) raiseMaxStreams(n uint64) {
	held := a.opened > a.peerMaxStreams
	a.peerMaxStreams = max(a.peerMaxStreams, n)
	if a.opened < a.peerMaxStreams {
		a.streamRoom()
	}
	if !held {
		return
	}
	for _, s := range a.streams { // see allowed
		if a.allowed(s) {
			a.enqueueStream(s)
			a.attend(s)
		}
	}
}

// streamRoom tells who has met ErrStreams that it may try again.
func (a *Assoc) streamRoom() {
	if a.wantStreamRoom {
		a.wantStreamRoom = false
		a.event(Event{Kind: EventStreamRoom})
	}
}

// sendLimit is how many bytes a stream holds for sending. A packet that is lost again
// and again holds everything behind it for as many round trips, in which the path
// should not run dry: at 5 % loss four losses in a row come every few seconds.
func (a *Assoc) sendLimit(s *stream) int {
	if a.c.SendBuffer > 0 {
		return a.c.SendBuffer
	}
	windows := sendWindows
	if a.on == ByteStream {
		windows = 1 // nothing is lost: what it does not take yet is better kept by the application
	}
	most := maxSendBuffer
	if s.out.end-s.next < int64(a.cc.window()) {
		most = maxHeldBuffer
	}
	return min(max(minSendBuffer, windows*a.cc.window()), most)
}

// Write takes what there is room for of p, and returns how much that is. If it is
// less than all, EventWritable tells when there is room.
func (a *Assoc) Write(now time.Time, id StreamID, p []byte) (int, error) {
	a.tick(now)
	s := a.streams.get(id)
	switch {
	case s == nil:
		return 0, ErrNoStream
	case s.writeErr != nil:
		return 0, s.writeErr
	case a.err != nil:
		return 0, a.err
	}
	n := min(len(p), max(0, a.sendLimit(s)-s.out.len()))
	if n < len(p) {
		s.wantRoom = true
	}
	if n > 0 {
		a.rested = false
		s.out.write(a.blocks(), p[:n])
		a.enqueueStream(s)
	}
	return n, nil
}

// CloseWrite sends FIN behind what was written. Writing has an end then; reading
// goes on. With stream 0 messages end too: FIN goes when the peer has all that
// SendMessage has accepted. PROTOCOL §7.7.
func (a *Assoc) CloseWrite(id StreamID) error {
	s := a.streams.get(id)
	switch {
	case s == nil:
		return ErrNoStream
	case s.fin != finNone || s.reset:
		return nil
	case a.err != nil:
		return a.err
	}
	s.fin = finReady
	s.writeErr = ErrWriteClosed
	a.enqueueStream(s)
	if id == 0 && a.wantMessageRoom {
		a.wantMessageRoom = false
		a.event(Event{Kind: EventMessageRoom})
	}
	return nil
}

// messagesClosed reports whether CloseWrite of stream 0 has ended the messages of this
// side.
func (a *Assoc) messagesClosed() bool {
	s := a.streams.get(0)
	return s != nil && s.fin != finNone
}

// finDue reports whether FIN of s is to be sent behind what was written.
func (a *Assoc) finDue(s *stream) bool {
	return s.fin == finReady && (s.id != 0 || a.messages == 0 && a.openMessages == 0)
}

// messagesLess is called when there is one message less that FIN of stream 0 waits for.
func (a *Assoc) messagesLess() {
	if s := a.streams.get(0); s != nil && s.fin == finReady {
		a.enqueueStream(s)
	}
}

// ResetStream gives up what the peer does not have yet, and tells it code.
func (a *Assoc) ResetStream(id StreamID, code uint64) {
	if s := a.streams.get(id); s != nil && !s.reset && s.fin != finAcked && a.err == nil {
		a.resetStream(s, code, ErrWriteClosed)
	}
}

func (a *Assoc) resetStream(s *stream, code uint64, err error) {
	s.reset, s.resetDue, s.resetCode = true, true, code
	s.writeErr = err
	s.out.release(a.blocks(), s.out.end)
	s.lost, s.acked = nil, nil
	a.attend(s)
	a.event(Event{Kind: EventWritable, Stream: s.id})
}

// Flushed reports whether the peer has all of the stream, or wants nothing of it.
func (a *Assoc) Flushed(id StreamID) bool {
	s := a.streams.get(id)
	return s == nil || s.fin == finAcked && s.out.len() == 0 || s.reset && s.resetAcked
}

// Unacked returns how many bytes were written and are not known to have arrived.
func (a *Assoc) Unacked(id StreamID) int {
	if s := a.streams.get(id); s != nil && !s.reset {
		return s.out.len()
	}
	return 0
}

// canSend reports whether s has something to send for which there is credit.
func (a *Assoc) canSend(s *stream) bool {
	if s.reset || !a.allowed(s) {
		return false
	}
	return len(s.lost) > 0 || s.next == s.out.end && a.finDue(s) ||
		s.next < s.out.end && s.next < s.credit && a.dataSent < a.dataCredit
}

// allowed reports whether the peer lets s be open: after 0-RTT packets that it has not
// accepted, it may allow fewer streams than it did before.
func (a *Assoc) allowed(s *stream) bool {
	return s.id == 0 || a.openedByPeer(s.id) || uint64(s.id)>>1 < a.peerMaxStreams
}

// enqueueStream puts s among those that send, if there is something.
func (a *Assoc) enqueueStream(s *stream) {
	if !s.queued && a.canSend(s) {
		s.queued = true
		a.ready.push(0, sender{stream: s})
	}
}

// appendStream appends a STREAM chunk of s, and reports whether it did.
func (a *Assoc) appendStream(b []byte, room int, s *stream, p *sentPacket) ([]byte, bool) {
	if s.reset {
		return b, false
	}
	start, end := s.next, s.out.end
	again := len(s.lost) > 0
	if again {
		start, end = s.lost[0].start, s.lost[0].end
	} else {
		end = min(end, s.credit, start+a.dataCredit-a.dataSent)
	}
	finToo := end == s.out.end && a.finDue(s)
	if start >= end && !finToo {
		return b, false
	}
	head := streamHead(uint64(s.id), uint64(start))
	n, last := dataFit(room, head, int(min(end-start, int64(room))))
	if room < head || n == 0 && end > start {
		return b, false
	}
	end = start + int64(n)
	fin := finToo && end == s.out.end
	b = appendStreamHead(b, uint64(s.id), uint64(start), n, fin, last)
	if !last || !a.leaveTail(b, &s.out, start, end) {
		b = a.appendBytes(b, &s.out, start, end)
	}
	p.add(sentItem{kind: itemStream, stream: s, start: start, end: end, fin: fin})
	if again {
		s.lost.remove(start, end)
		a.sentAgain(n)
	} else {
		s.next = end
		a.dataSent += int64(n)
		a.fed()
		a.announceBlocked(s)
	}
	if fin {
		s.fin = finSent
	}
	return b, true
}

// announceBlocked tells the peer when what it has granted does not last for another
// window: it knows neither, and gives more then if its application keeps up.
func (a *Assoc) announceBlocked(s *stream) {
	window := int64(a.cc.window())
	if s.credit-s.next < window && s.blockedAt < s.credit && s.out.end > s.credit {
		s.blockedAt = s.credit
		s.blockedDue = true
		a.attend(s)
	}
	if a.dataCredit-a.dataSent < window && a.blockedAt < a.dataCredit && s.out.end-s.next > a.dataCredit-a.dataSent {
		a.blockedAt = a.dataCredit
		a.dataBlockedDue = true
	}
}

// streamBlocked takes the peer's word that a stream's credit runs short.
func (a *Assoc) streamBlocked(c *chunk) error {
	s, err := a.peerStream(c.id)
	if s == nil {
		return err
	}
	if credit(c.value) < s.granted || s.final >= 0 || s.stopped || s.readErr != nil || int64(s.in.ready()) > s.window/4 {
		return nil // it has more already, or the application is what holds it up
	}
	s.window = max(s.window, min(2*s.window, a.c.ReceiveWindow))
	if fresh := s.in.read + s.window; fresh > s.granted {
		s.granted = fresh
		s.grantDue = true
		a.attend(s)
	}
	return nil
}

// dataBlocked is streamBlocked for all streams together.
func (a *Assoc) dataBlocked(c *chunk) {
	if credit(c.value) < a.granted {
		return
	}
	unread := 0
	for _, s := range a.streams {
		unread += s.in.ready()
	}
	if int64(unread) > a.window/4 {
		return
	}
	a.window = max(a.window, min(2*a.window, a.maxWindow()))
	if fresh := a.consumed + a.window; fresh > a.granted {
		a.granted = fresh
		a.maxDataDue = true
	}
}

// maxWindow is the most credit for all streams together.
func (a *Assoc) maxWindow() int64 { return a.c.ReceiveWindow + a.c.ReceiveWindow/2 }

// streamAcked notes that the peer has a part of s.
func (a *Assoc) streamAcked(s *stream, it *sentItem) {
	if it.fin && s.fin != finAcked && !s.reset {
		s.fin = finAcked
	}
	if s.reset {
		return
	}
	if start := max(it.start, s.out.base); start < it.end {
		s.lost.remove(start, it.end)
		if start == s.out.base && len(s.acked) == 0 {
			s.out.release(a.blocks(), it.end) // in order: the usual way
		} else {
			s.acked.add(start, it.end)
			if s.acked[0].start == s.out.base {
				s.out.release(a.blocks(), s.acked[0].end)
				s.acked.popFront(s.out.base)
			}
		}
	}
	if a.checkFlushed(s) {
		return
	}
	limit := a.sendLimit(s)
	enough := limit / 4 // of room
	if a.on == ByteStream {
		enough = limit / 2 // the carrier has more to do meanwhile
	}
	if s.wantRoom && s.out.len() <= limit-enough {
		s.wantRoom = false
		a.event(Event{Kind: EventWritable, Stream: s.id})
	}
}

// streamLost has a part of s sent again.
func (a *Assoc) streamLost(s *stream, it *sentItem) {
	if s.reset {
		return
	}
	if it.fin && s.fin == finSent {
		s.fin = finReady
	}
	if start := max(it.start, s.out.base); start < it.end {
		s.lost.add(start, it.end)
		for _, r := range s.acked {
			if r.start >= it.end {
				break
			}
			s.lost.remove(r.start, r.end)
		}
	}
	a.enqueueStream(s)
}

// checkFlushed reports whether the peer has all of s, and tells when that comes to be.
func (a *Assoc) checkFlushed(s *stream) bool {
	if s.over || !a.Flushed(s.id) {
		return s.over
	}
	if !s.flushed {
		s.flushed = true
		a.event(Event{Kind: EventFlushed, Stream: s.id})
		a.checkOver(s)
	}
	return true
}

// checkOver forgets a stream of which both directions are over, and whose end the
// application has seen. Stream 0 stays, so that its end can be asked for.
func (a *Assoc) checkOver(s *stream) {
	if s.id == 0 || s.over || !a.Flushed(s.id) {
		return
	}
	if !s.toldEnd && !s.stopped || s.final < 0 {
		return
	}
	s.over = true
	a.streams.remove(s)
	if a.openedByPeer(s.id) {
		a.maxPeerStreams++
		a.maxStreamsDue = true
	}
}
