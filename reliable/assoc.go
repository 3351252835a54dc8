package reliable

import (
	"time"

	"github.com/vstp-go/vstp/framing"
)

// EventKind says what an Event is about.
type EventKind uint8

// The events.
const (
	EventNone          EventKind = iota
	EventReadable                // Stream: data, its end or an error can be read
	EventWritable                // Stream: there is room to write again, or writing has ended
	EventStream                  // Stream: opened by the peer
	EventStreamRoom              // OpenStream may be tried again after ErrStreams
	EventFlushed                 // Stream: the peer has all of it, and FIN
	EventMessage                 // a message can be received
	EventMessageRoom             // SendMessage may be tried again after ErrFull
	EventMessageDone             // Message: is settled
	EventMessagesEnd             // no further messages will come, see MessagesEnded
	EventPong                    // RTT: the answer to Ping has come
	EventPathResponse            // Data: the peer has answered AppendChallenge
	EventClosed                  // the association has ended, see Err
	EventControl                 // there is more to read from the control stream
	EventHandshakeDone           // the server says that the handshake is over
	EventMoved                   // Carrier, ByPeer: packets take that carrier now
)

// An Event tells of a change.
type Event struct {
	Kind    EventKind
	Stream  StreamID
	Message *Outgoing
	RTT     time.Duration
	Data    [8]byte
	Carrier Carrier // EventMoved; EventPathResponse: by which it came
	ByPeer  bool    // EventMoved: this side has followed
}

// A lifeState is where an association is in its life. PROTOCOL §7.10.
type lifeState uint8

const (
	stateOpen     lifeState = iota
	stateClosing            // CLOSE was sent, and is sent again until the peer answers
	stateDraining           // CLOSE was received; more of them are answered
	stateDone               // nothing more to say
)

// An Assoc is one association between two peers: packets, acknowledgements, streams
// and messages. It does no input and output, and has no clock. It is driven by five
// methods: what has come goes to Receive; Advance is called at Timeout; then
// AppendDatagram until it has nothing more; and NextEvent says what has changed.
//
// An Assoc is not safe for concurrent use. The same calls with the same times and
// the same Config give the same bytes. Times that go back count as standing still.
type Assoc struct {
	c      Config
	epoch  time.Time
	now    instant // latest time seen
	life   lifeState
	on     Carrier // that packets take
	via    Carrier // that the packet in hand came by
	err    error   // why it has ended
	header [packetHeaderLen - 4]byte
	random uint64
	moves  *moveState // nil without Config.Moves

	trailer   int     // bytes behind the chunks of a packet
	dropOldAt instant // when Protection.DropOld is due
	control   *controlState

	acks      ackState
	loss      lossState
	rtt       rttState
	cc        controller
	pacer     pacer
	mtu       mtuState
	eliciting int          // packets in flight that want an acknowledgement
	skipped   packetNumber // the number left out last
	nextSkip  packetNumber
	nextSend  instant // what the pacer has said, while something is waiting for it

	lastReceived  instant
	idleFrom      instant // begin of the idle timeout
	lastKeepAlive instant
	lastAckPing   instant

	// Control chunks that are due.
	pingDue        bool
	pingAsked      bool
	maxDataDue     bool
	maxMessagesDue bool
	maxStreamsDue  bool
	dataBlockedDue bool
	attention      []*stream
	cancels        []*cancelled
	pathResponses  [][8]byte
	challenges     challenged
	unheard        int                   // see Unheard
	refused        spanSet[packetNumber] // see refuse

	rested    bool    // see rest
	disturbed instant // see woken
	ready     sendQueue
	pool      *blockPool // nil: nothing is kept; see blocks

	// Streams and their common credit.
	streams        streamSet
	opened         uint64 // by this side
	peerOpened     uint64
	peerMaxStreams uint64 // what the peer allows
	wantStreamRoom bool   // OpenStream has returned ErrStreams
	maxPeerStreams uint64
	dataSent       int64
	dataCredit     int64
	dataRaised     bool  // dataCredit was used up, and is not any more
	blockedAt      int64 // the dataCredit of which the peer knows that it runs short
	received       int64
	granted        int64
	consumed       int64
	window         int64
	grantedAt      instant

	// Signs of life that are asked for while credit is missing. See starved.go.
	asked     int           // in a row
	owedSince instant       // when the first packet after the last received one was sent that wants an answer
	patience  time.Duration // of all attempts of a message

	// Messages out.
	messages        int   // not settled
	accepted        int64 // in all
	openMessages    int   // with an id
	unrepaired      int   // not repaired and not sent yet
	nextMessage     uint64
	sequences       map[uint64]uint64 // next in each ordered channel
	msgSent         int64             // charges
	msgCredit       int64
	lines           map[uint64][]*Outgoing // of each ordered channel those that have not begun
	blocked         sendQueue              // waiting for credit, or for openMessages
	blockedMessages int                    // not settled ones of those
	openShort       bool                   // one of them for openMessages
	messagesRaised  bool                   // there is more credit
	halfSent        map[uint64]*Outgoing   // with an id, and not settled
	timers          messageHeap
	wantMessageRoom bool
	red             *redundancy // nil before a message asks for it
	coders          coders

	// Messages in.
	partials     map[uint64]*partial
	messagesDone spanSet[uint64]
	channels     map[uint64]*channel
	places       int // spans of cancelled places in channels
	inbox        []Incoming
	inboxHead    int
	unread       int // not repaired ones in inbox
	unreadBytes  int
	msgReceived  int64 // charges
	msgGranted   int64
	msgReturned  int64
	deaf         bool // nobody receives messages any more
	messagesOver bool // the peer sends no further ones

	shutting       bool // Shutdown was called
	closeCode      uint64
	closeReason    string
	closeDue       bool    // a CLOSE is to be sent
	closeAt        instant // when the next one is
	closeTries     int
	lateChallenges int
	heard          int  // packets that want an acknowledgement, see lullAt
	closeHeard     uint // packets of a peer that has not heard of the end
	doneAt         instant

	events    []Event
	eventHead int
	stats     Counters
}

// New returns an association whose handshake is over.
func New(now time.Time, c *Config) *Assoc {
	a := &Assoc{
		c:              *c,
		epoch:          now.Add(-time.Second),
		random:         c.Seed,
		dataCredit:     c.Peer.MaxData,
		granted:        c.Local.MaxData,
		window:         c.Local.MaxData,
		msgCredit:      c.Peer.MaxMessages,
		msgGranted:     c.Local.MaxMessages,
		peerMaxStreams: uint64(max(0, c.Peer.MaxStreams)),
		maxPeerStreams: uint64(min(max(0, c.Local.MaxStreams), maxStreams)),
		skipped:        -1,
		rested:         true,
	}
	if a.c.ReceiveWindow == 0 {
		a.c.ReceiveWindow = defaultReceiveWindow
	}
	if a.c.RTT <= 0 {
		a.c.RTT = defaultInitialRTT
	}
	a.c.Peer.AckDelay = min(a.c.Peer.AckDelay, maxAckDelay)
	a.now = instant(time.Second)
	a.lastReceived, a.idleFrom, a.lastKeepAlive = a.now, a.now, a.now
	a.patience = c.Retry.patience()
	a.on, a.via = c.Carrier, c.Carrier
	a.c.Early = c.Early && c.Client && c.Protection != nil && c.Carrier == Datagrams
	a.makeHeader()
	if c.Protection != nil {
		a.control = new(controlState)
	}
	a.acks.maxDelay = c.Local.AckDelay
	a.rtt.init(a.c.RTT)
	a.loss.init()
	a.mtu.init(a)
	a.newController()
	a.pacer.init(a.now)
	if c.Moves || c.Carrier == ByteStream {
		a.makeMoves()
	}
	a.nextSkip = 100 + packetNumber(a.rand()%100)
	if a.c.Client {
		a.opened = 1
	} else {
		a.peerOpened = 1
		a.maxPeerStreams = max(a.maxPeerStreams, 1)
	}
	if !c.MessagesOnly {
		a.newStream(0)
	}
	a.pingDue = !a.c.Early // for a sample of the RTT, also where nothing else is sent
	return a
}

// tick takes the time of a call.
func (a *Assoc) tick(now time.Time) instant {
	if t := instant(now.Sub(a.epoch)); t > a.now {
		a.now = t
	}
	return a.now
}

// rand is splitmix64: predictable only for who knows the seed.
func (a *Assoc) rand() uint64 {
	a.random += 0x9e3779b97f4a7c15
	z := a.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (a *Assoc) event(e Event) { a.events = append(a.events, e) }

// NextEvent returns the next event, or one of kind EventNone.
func (a *Assoc) NextEvent() Event {
	if a.eventHead == len(a.events) {
		a.events, a.eventHead = a.events[:0], 0
		return Event{}
	}
	e := a.events[a.eventHead]
	a.events[a.eventHead] = Event{}
	a.eventHead++
	return e
}

// attend notes that a control chunk of s is due.
func (a *Assoc) attend(s *stream) {
	if !s.attn && a.allowed(s) {
		s.attn = true
		a.attention = append(a.attention, s)
	}
}

// Ping makes the peer answer at once. EventPong follows.
func (a *Assoc) Ping() { a.pingDue, a.pingAsked = true, true }

// Err returns why the association has ended, nil before. ErrPeerClosed is the
// orderly end by the peer, ErrClosed that by this side.
func (a *Assoc) Err() error { return a.err }

// Done reports that an ended association has nothing more to say, and can be
// forgotten. Timeout tells when that may be.
func (a *Assoc) Done() bool { return a.life == stateDone }

// LargestDatagram returns the size of the datagrams that are sent at present.
func (a *Assoc) LargestDatagram() int { return a.datagramMTU().current }

// maxPayload is how many bytes of chunks fit into a packet. What fits no datagram is
// repaired on the byte stream too, so that it survives a move.
func (a *Assoc) maxPayload() int { return a.datagramMTU().current - a.overhead() }

// itemAcked tells whoever sent it that an item has arrived.
func (a *Assoc) itemAcked(t instant, p *sentPacket, it *sentItem) {
	switch it.kind {
	case itemStream:
		a.streamAcked(it.stream, it)
	case itemMessage:
		a.messageAcked(t, it.msg, it)
	case itemParity:
		a.parityAcked(t, it.msg, it.start)
	case itemAck:
		a.acks.forget(packetNumber(it.end))
	case itemCancel:
		a.cancelAcked(it.cancel)
	case itemReset:
		it.stream.resetAcked = true
		a.checkFlushed(it.stream)
	case itemPing:
		a.event(Event{Kind: EventPong, RTT: t.sub(p.sent)})
	case itemProbe:
		a.mtu.probeAcked(a, t, int(it.end))
	case itemControl, itemDone:
		a.controlAcked(it)
	case itemMove:
		if uint64(it.end) == a.moves.seq {
			a.moves.due = false
		}
	}
}

// itemLost has an item sent again, if it still matters.
func (a *Assoc) itemLost(t instant, it *sentItem) {
	switch it.kind {
	case itemStream:
		a.streamLost(it.stream, it)
	case itemMessage:
		a.messageLost(it.msg, it)
	case itemReset:
		if !it.stream.resetAcked {
			it.stream.resetDue = true
			a.attend(it.stream)
		}
	case itemStop:
		if s := it.stream; s.final < 0 {
			s.stopDue = true
			a.attend(s)
		}
	case itemMaxStream:
		if s := it.stream; s.final < 0 && !s.stopped {
			s.grantDue = true
			a.attend(s)
		}
	case itemMaxData:
		a.maxDataDue = true
	case itemMaxMsgs:
		a.maxMessagesDue = true
	case itemMaxStreams:
		a.maxStreamsDue = true
	case itemBlocked:
		if s := it.stream; s.blockedAt == s.credit && !s.reset {
			s.blockedDue = true
			a.attend(s)
		}
	case itemDataBlocked:
		a.dataBlockedDue = a.blockedAt == a.dataCredit
	case itemCancel:
		a.cancelLost(it.cancel)
	case itemPing:
		a.pingDue, a.pingAsked = true, true
	case itemProbe:
		a.mtu.probeLost(a, t, int(it.end))
	case itemControl, itemDone:
		a.controlLost(it)
	case itemMove:
		a.moves.due = a.moves.due || uint64(it.end) == a.moves.seq
	}
}

// Receive takes a datagram with this association's LocalID, or with PeerID if it is a
// 0-RTT packet. It borrows the datagram, and changes it if there is Protection. What is
// wrong with it is counted, and ends the association if that is called for.
func (a *Assoc) Receive(now time.Time, datagram []byte) Received {
	t := a.tick(now)
	a.stats.PacketsReceived++
	a.stats.BytesReceived += uint64(len(datagram))
	pn, chunks, ok := a.open(datagram)
	a.keysOpened(t, ok)
	if !ok {
		a.stats.PacketsDropped++
		a.woken(t)
		return Received{}
	}
	a.via = Datagrams
	return a.packetIn(t, pn, chunks, isEarly(datagram), len(datagram))
}

// packetIn takes a packet that was opened, of so many bytes.
func (a *Assoc) packetIn(t instant, pn packetNumber, chunks []byte, early bool, size int) Received {
	again := a.acks.duplicate(pn) || a.refused.contains(pn)
	if a.moves != nil && (!again || a.via == ByteStream) { // a datagram may be somebody's replay
		u := &a.moves.uses[a.via]
		u.received, u.next = t, max(u.next, pn+1)
	}
	if again {
		a.stats.PacketsDuplicate++
		return Received{}
	}
	got := Received{Opened: true, Latest: pn >= a.acks.next, Taken: true}
	if a.life != stateOpen {
		a.receiveClosed(t, chunks, true)
		return got
	}
	a.lastReceived, a.idleFrom = t, t
	if a.via == a.on {
		a.unheard = 0
	}
	eliciting, urgent, err := a.chunksReceived(t, chunks, early)
	a.creditsRaised()
	switch {
	case err == errNoRoom:
		a.refuse(pn)
	case err != nil:
		a.fail(t, err)
	case a.life == stateOpen:
		if eliciting {
			a.heard++
		}
		if a.via == ByteStream {
			a.acks.frameReceived(t, pn, eliciting, urgent, size)
		} else {
			a.acks.packetReceived(t, pn, eliciting, urgent, a.rtt.known())
		}
	}
	if a.moves != nil && a.life == stateOpen {
		a.follow(t)
	}
	a.restOn()
	return got
}

// maxRefused bounds the spans of numbers of refused packets that are remembered.
const maxRefused = 64

// refuse notes that there was no room for all of a packet. Its number stays unknown to
// the peer, which sends what was in it again under another one; but a duplicate from
// the network must not deliver a second time what there was room for.
func (a *Assoc) refuse(pn packetNumber) {
	a.stats.PacketsRefused++
	a.refused.popFront(a.acks.floor)
	a.refused.add(pn, pn+1)
	if len(a.refused) > maxRefused {
		a.refused.popFront(a.refused[0].end)
	}
}

// chunksReceived works through the chunks of a packet. It reports whether the packet
// is to be acknowledged, and whether at once. Early is for those of a 0-RTT packet.
func (a *Assoc) chunksReceived(t instant, b []byte, early bool) (eliciting, urgent bool, err error) {
	if m := a.moves; m != nil && m.data != nil {
		return a.dataReceived(t)
	}
	if len(b) == 0 {
		return false, false, protocolError("empty packet")
	}
	var c chunk
	for len(b) > 0 {
		n, err := parseChunk(b, &c)
		if err != nil {
			return false, false, protocolError("malformed chunk")
		}
		b = b[n:]
		if early && !c.typ.inEarly() {
			return false, false, protocolError("a chunk that must not be in a 0-RTT packet")
		}
		if err := a.chunkReceived(t, &c); err != nil {
			return false, false, err
		}
		switch c.typ {
		case chunkAck, chunkPadding, chunkClose:
		case chunkPing:
			eliciting, urgent = true, true
		default:
			eliciting, a.rested = true, false
		}
		if a.life != stateOpen {
			break
		}
	}
	return eliciting, urgent, nil
}

func (a *Assoc) chunkReceived(t instant, c *chunk) error {
	switch c.typ {
	case chunkAck:
		return a.ackReceived(t, c)
	case chunkStream:
		return a.streamReceived(t, c)
	case chunkMessage:
		return a.messageReceived(c)
	case chunkFragment:
		return a.fragmentReceived(c)
	case chunkParity:
		return a.parityReceived(c)
	case chunkCancel:
		return a.cancelReceived(c)
	case chunkResetStream:
		return a.resetReceived(t, c)
	case chunkStopSending:
		return a.stopReceived(c)
	case chunkMaxData:
		if v := credit(c.value); v > a.dataCredit {
			a.dataRaised = a.dataRaised || a.dataSent >= a.dataCredit
			a.dataCredit = v
		}
	case chunkMaxStreamData:
		s, err := a.peerStream(c.id)
		if s == nil {
			return err
		}
		if v := credit(c.value); v > s.credit {
			s.credit = v
			a.enqueueStream(s)
		}
	case chunkMaxStreams:
		a.raiseMaxStreams(c.value)
	case chunkMaxMessages:
		if v := credit(c.value); v > a.msgCredit {
			a.msgCredit = v
			a.messagesRaised = true
		}
	case chunkStreamBlocked:
		return a.streamBlocked(c)
	case chunkDataBlocked:
		a.dataBlocked(c)
	case chunkPathChallenge:
		if to := a.responses(); len(*to) < maxPathResponses { // S3
			*to = append(*to, [8]byte(c.data))
		}
	case chunkMove:
		return a.moveReceived(c)
	case chunkPathResponse:
		a.pathResponseReceived(t, c)
	case chunkCrypto:
		return a.controlReceived(c)
	case chunkHandshakeDone:
		return a.doneReceived()
	case chunkClose:
		a.closeReceived(t, c)
	}
	// PADDING, PING and MESSAGES_BLOCKED ask for nothing here.
	return nil
}

// creditsRaised has those go on that wait for credit, once a packet, however many
// chunks in it raise it.
func (a *Assoc) creditsRaised() {
	if a.dataRaised {
		a.dataRaised = false
		for _, s := range a.streams {
			a.enqueueStream(s)
		}
	}
	if a.messagesRaised {
		a.messagesRaised = false
		a.unblockMessages()
	}
}

// credit turns a credit from the wire into a number that sums cannot overflow.
func credit(v uint64) int64 { return int64(min(v, framing.MaxVarint)) }
