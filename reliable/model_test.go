package reliable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vstp-go/vstp/tlsvstp"
)

// The model test: random operations at both ends of random paths, against what a
// stream and a message are. The ends act on events alone, as the calls of an
// application that is blocked do: a wake-up that is missing shows as a standstill.

// A modelDirection is what one end sends and the other receives.
type modelDirection struct {
	written, read []byte
	closed        bool // CloseWrite was called
	eof           bool
	blocked       bool // Write took less than it was given; waits for EventWritable
	readable      bool // an event has told so, and Read has not said nothing since

	sent     map[uint64]*modelMessage
	order    map[uint64][]uint64 // by channel: numbers of ordered messages, as sent
	last     map[uint64]int      // by channel: index in order of the last one received
	full     bool
	messages bool // an event has told of messages
	ended    bool // and of their end
	nextID   uint64

	control, controlRead []byte // of the control stream
	controlled           bool   // an event has told that there is more of it
}

type modelMessage struct {
	out     *Outgoing
	body    []byte
	got     int
	settled bool
	channel uint64
	kept    bool // may not be lost
	cancel  bool
}

// rigCarrier is how the configurations of models differ that have two carriers.
var rigCarrier func(*Config)

type model struct {
	t    *testing.T
	seed uint64
	s    *rig
	rng  *rand.Rand
	dirs [2]*modelDirection // by sending end
	ops  int

	updates [2]int // of keys, by end
	done    int    // how often EventHandshakeDone came
	early   func() // ends 0-RTT
	mover   *mover // nil with one carrier
}

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d at %v: %s\nclient %+v\nserver %+v", m.seed, m.s.since(), fmt.Sprintf(format, args...), m.s.ends[0].Stats(), m.s.ends[1].Stats())
}

// messageBody is what message n of an end looks like.
func messageBody(n uint64, size int) []byte {
	b := make([]byte, 8+size)
	for i := range b {
		b[i] = byte(n>>(8*(i%8))) ^ byte(i/8*31)
	}
	return b
}

func newModel(t *testing.T, seed uint64) *model {
	rng := rand.New(rand.NewPCG(seed, 99))
	pick := func(n ...int) int { return n[rng.IntN(len(n))] }
	w := wire{
		delay:   time.Duration(pick(0, 1, 5, 50)) * time.Millisecond,
		jitter:  time.Duration(pick(0, 0, 3, 30)) * time.Millisecond,
		loss:    float64(pick(0, 0, 5, 20)) / 100,
		dup:     float64(pick(0, 0, 10)) / 100,
		corrupt: float64(pick(0, 0, 5)) / 100,
	}
	if rng.IntN(3) == 0 {
		w.rate, w.queue = float64(pick(1, 10, 100))*mbit, pick(5000, 50000, 1<<20)
	}
	small := rng.IntN(3) == 0
	carrier := rigCarrier
	s := newRig(t, seed, w, func(c *Config) {
		c.KeepAlive = time.Second
		c.Retry.MaxRetries = 30
		if small {
			for _, l := range []*Limits{&c.Local, &c.Peer} {
				l.MaxData, l.MaxStreamData = 3000, 2000
				l.MaxMessage = 20000
				l.MaxMessages = MessageWindow(l.MaxMessage)
			}
			c.ReceiveWindow = 8000
			c.SendBuffer = 3000
		}
		if seed%5 == 0 {
			c.Controller = CUBIC
		}
		c.Checksum = true
		if carrier != nil {
			carrier(c)
		}
	})
	m := &model{t: t, seed: seed, s: s, rng: rng, ops: 60}
	for i := range m.dirs {
		m.dirs[i] = &modelDirection{sent: map[uint64]*modelMessage{}, order: map[uint64][]uint64{}, last: map[uint64]int{}}
	}
	s.onEvent = m.event
	if sealRigs && seed%2 == 0 {
		m.beginEarly()
	}
	return m
}

func (m *model) event(end int, e Event) {
	out, in := m.dirs[end], m.dirs[1-end]
	switch e.Kind {
	case EventWritable:
		out.blocked = false
	case EventReadable:
		in.readable = true
	case EventControl:
		in.controlled = true
	case EventHandshakeDone:
		if m.done++; m.done > 1 || end != 0 {
			m.fatalf("end %d: HANDSHAKE_DONE %d times", end, m.done)
		}
	case EventMessage:
		in.messages = true
	case EventMessagesEnd:
		in.messages, in.ended = true, true
	case EventMessageRoom:
		out.full = false
	case EventMessageDone:
		for _, x := range out.sent {
			if x.out == e.Message {
				x.settled = true
				if err := e.Message.Err(); err != nil && !x.cancel && !errors.Is(err, ErrExpired) {
					m.fatalf("message failed: %v", err)
				}
			}
		}
	case EventClosed:
		if m.s.ends[end].Err() != ErrClosed && m.s.ends[end].Err() != ErrPeerClosed {
			m.fatalf("end %d ended: %v", end, m.s.ends[end].Err())
		}
	}
}

// beginEarly has the client send 0-RTT packets until m.early is called, which the server
// accepts or not. PROTOCOL §8.9.
func (m *model) beginEarly() {
	cc, sc := m.s.ends[0].c, m.s.ends[1].c
	cp, sp := tlsvstp.NewProtection(), tlsvstp.NewProtection()
	cc.Protection, cc.Early, cc.PeerID, sc.Protection = cp, true, ConnID{}, sp
	accepted := m.rng.IntN(2) == 0
	cp.SetEarlyWrite(testKeys(m.t, 'e'))
	if accepted {
		sp.SetEarlyRead(testKeys(m.t, 'e'))
	}
	sp.SetWrite(testKeys(m.t, 's'))
	for _, v := range []*int64{&cc.Peer.MaxData, &cc.Peer.MaxStreamData, &cc.Peer.MaxMessages} {
		if *v /= int64(m.rng.IntN(3) + 1); !accepted {
			*v *= int64(m.rng.IntN(5) + 1)
		}
	}
	m.s.ends = [2]*Assoc{New(m.s.now, &cc), New(m.s.now, &sc)}
	m.early = func() {
		m.early = nil
		cp.SetRead(testKeys(m.t, 's'))
		cp.SetWrite(testKeys(m.t, 'c'))
		sp.SetRead(testKeys(m.t, 'c'))
		m.s.ends[0].Established(m.s.now, sc.LocalID, sc.Local, time.Minute, accepted)
	}
}

// act does one random thing.
func (m *model) act() {
	end := m.rng.IntN(2)
	a, d := m.s.ends[end], m.dirs[end]
	now := m.s.now
	if m.rng.IntN(10) == 0 {
		now = now.Add(-time.Duration(m.rng.IntN(5000)) * time.Millisecond) // a clock that goes back
	}
	if k := a.c.Protection; k != nil && m.rng.IntN(3) == 0 {
		m.actSealed(end)
		return
	}
	switch m.rng.IntN(8) {
	case 0, 1, 2:
		if d.closed || d.blocked {
			return
		}
		p := messageBody(uint64(len(d.written)), m.rng.IntN([]int{10, 1000, 100000}[m.rng.IntN(3)]))
		n, err := a.Write(now, 0, p)
		if err != nil {
			m.fatalf("write: %v", err)
		}
		d.written = append(d.written, p[:n]...)
		d.blocked = n < len(p)
	case 3, 4, 5:
		if d.full {
			return
		}
		x := &modelMessage{body: messageBody(d.nextID, m.rng.IntN([]int{10, 1000, 15000}[m.rng.IntN(3)]))}
		x.out = &Outgoing{Payload: x.body, Priority: int8(m.rng.IntN(3))}
		switch m.rng.IntN(5) {
		case 0:
		case 1:
			x.out.Ack, x.kept = true, true
		case 2:
			x.out.Repair, x.kept = true, true
		default:
			x.channel = uint64(m.rng.IntN(3))
			x.out.Ordered, x.out.Channel, x.kept = true, x.channel, true
			x.out.Priority = 0
		}
		if m.rng.IntN(4) == 0 {
			x.out.Lifetime, x.kept = time.Duration(m.rng.IntN(300)+1)*time.Millisecond, false
		}
		switch err := a.SendMessage(now, x.out); err {
		case nil:
			if x.out.Ordered {
				d.order[x.channel] = append(d.order[x.channel], d.nextID)
			}
			d.sent[d.nextID] = x
			d.nextID++
		case ErrFull:
			d.full = true
		default:
			m.fatalf("send: %v", err)
		}
	case 6:
		for _, x := range d.sent {
			if !x.settled && !x.cancel && m.rng.IntN(20) == 0 {
				x.cancel, x.kept = true, false
				a.CancelMessage(now, x.out)
				break
			}
		}
	case 7:
		for i := range m.s.links {
			m.s.links[i].down = m.rng.IntN(10) == 0
		}
	}
}

// actSealed does one random thing that only sealed associations do.
func (m *model) actSealed(end int) {
	a, d := m.s.ends[end], m.dirs[end]
	switch m.rng.IntN(3) {
	case 0:
		p := messageBody(uint64(len(d.control)), m.rng.IntN([]int{10, 1000, 100000}[m.rng.IntN(3)]))
		if a.WriteControl(p) {
			d.control = append(d.control, p...)
		}
	case 1:
		if end == 1 {
			a.SendHandshakeDone()
			return
		}
		fallthrough
	default:
		if a.c.Protection.Update() {
			m.updates[end]++
		}
	}
}

// receiveControl takes some of the control stream, like frames that are complete.
func (m *model) receiveControl(end int) {
	a, d := m.s.ends[end], m.dirs[1-end]
	if !d.controlled {
		return
	}
	p := a.ReadControl()
	n := len(p)
	if n > 0 && n < 50000 && len(d.controlRead)+n < len(d.control) {
		n = m.rng.IntN(n) // the rest comes with the next event
	}
	d.controlRead = append(d.controlRead, p[:n]...)
	a.ConsumeControl(n)
	d.controlled = false
	if !bytes.HasPrefix(d.control, d.controlRead) {
		m.fatalf("end %d read other control bytes than were written, at %d", end, len(d.controlRead))
	}
}

// receive takes what events have announced.
func (m *model) receive(end int) {
	m.receiveControl(end)
	a, d := m.s.ends[end], m.dirs[1-end]
	buf := make([]byte, 1+m.rng.IntN(5000))
	for d.readable {
		n, err := a.Read(m.s.now, 0, buf)
		d.read = append(d.read, buf[:n]...)
		if !bytes.HasPrefix(d.written, d.read) {
			m.fatalf("end %d read other bytes than were written, at %d", end, len(d.read))
		}
		if err == io.EOF {
			if !d.closed || len(d.read) != len(d.written) {
				m.fatalf("EOF after %d of %d", len(d.read), len(d.written))
			}
			d.eof = true
		} else if err != nil {
			m.fatalf("read: %v", err)
		}
		if n == 0 {
			d.readable = false
		}
	}
	for d.messages {
		in, ok := a.ReceiveMessage(m.s.now)
		if !ok && d.ended && !a.MessagesEnded() {
			m.fatalf("end %d: %v, but messages have ended: %v", end, a.MessagesEnded(), d.ended)
		}
		if !ok {
			d.messages = false
			break
		}
		var n uint64
		for i := range 8 {
			n |= uint64(in.Payload[i]) << (8 * i)
		}
		x := d.sent[n]
		if x == nil || !bytes.Equal(x.body, in.Payload) {
			m.fatalf("a message that nobody has sent: %d", n)
		}
		if x.got++; x.got > 1 {
			m.fatalf("message %d delivered twice", n)
		}
		if x.out.Ordered {
			at := -1
			for i, o := range d.order[x.channel] {
				if o == n {
					at = i
				}
			}
			if last, ok := d.last[x.channel]; ok && at < last {
				m.fatalf("message %d of channel %d out of order", n, x.channel)
			}
			d.last[x.channel] = at
		}
	}
}

func (m *model) run() {
	for op := range m.ops {
		if m.early != nil && (op == m.ops/2 || m.rng.IntN(8) == 0) {
			m.early()
		}
		for range m.rng.IntN(4) {
			m.act()
		}
		m.s.run(time.Duration(m.rng.IntN(100))*time.Millisecond, func() bool {
			if m.mover != nil {
				m.mover.tick()
				if m.rng.IntN(3) == 0 {
					m.mover.act()
				}
			}
			return m.rng.IntN(20) == 0
		})
		for end := range 2 {
			if m.rng.IntN(3) > 0 {
				m.receive(end)
			}
		}
	}
	for i := range m.s.links {
		m.s.links[i].down = false
		m.s.links[i].loss = min(m.s.links[i].loss, 0.1)
	}
	if m.mover != nil {
		m.mover.end()
	}
	for end, d := range m.dirs {
		d.closed = true
		if err := m.s.ends[end].CloseWrite(0); err != nil {
			m.fatalf("CloseWrite: %v", err)
		}
		if err := m.s.ends[end].SendMessage(m.s.now, &Outgoing{}); err != ErrWriteClosed {
			m.fatalf("SendMessage after CloseWrite: %v", err)
		}
	}
	done := func() bool {
		all := true
		for end := range 2 {
			m.receive(end)
			d := m.dirs[end]
			all = all && len(d.control) == len(d.controlRead) && d.eof && d.ended && m.s.ends[end].messages == 0 && m.s.ends[end].Flushed(0)
			for _, x := range d.sent {
				all = all && x.settled && (!x.kept || x.got == 1)
			}
		}
		return all
	}
	if !m.s.run(5*time.Minute, done) {
		for end, d := range m.dirs {
			lost := 0
			for _, x := range d.sent {
				if x.kept && x.got == 0 {
					lost++
				}
			}
			m.t.Logf("end %d: read %d of %d, eof %v, messages open %d, not delivered %d", end, len(d.read), len(d.written), d.eof, m.s.ends[end].messages, lost)
		}
		m.fatalf("standstill")
	}
	m.s.run(5*time.Second, func() bool { return false })
	m.s.run(5*time.Second, func() bool { // between two PINGs
		return m.s.ends[0].loss.inflight == 0 && m.s.ends[1].loss.inflight == 0
	})
	if c := m.s.ends[1].control; c != nil && (m.done == 1) != (c.done == doneKnown) {
		m.fatalf("HANDSHAKE_DONE came %d times, %d", m.done, c.done)
	}
	for end := range m.s.ends {
		m.receive(end) // messages that nobody repairs may have come late
	}
	for end, a := range m.s.ends {
		if c := a.control; c != nil && (c.out.len() != 0 || c.pending() || len(c.in.b) != 0 || len(c.in.have) != 0) {
			m.fatalf("end %d has something of the control stream left: %+v", end, c)
		}
		if a.loss.inflight != 0 || a.eliciting != 0 || a.openMessages != 0 || a.unrepaired != 0 || len(a.timers) != 0 || len(a.halfSent) != 0 ||
			len(a.partials) != 0 || a.streams.get(0).out.len() != 0 || len(a.streams.get(0).in.blocks) != 0 || a.unread != 0 || a.unreadBytes != 0 {
			m.fatalf("end %d has something left: inflight %d, eliciting %d, open %d, unrepaired %d, timers %d, halfSent %d, partials %d, out %d, blocks %d, unread %d",
				end, a.loss.inflight, a.eliciting, a.openMessages, a.unrepaired, len(a.timers), len(a.halfSent), len(a.partials),
				a.streams.get(0).out.len(), len(a.streams.get(0).in.blocks), a.unread)
		}
	}
	m.s.ends[m.rng.IntN(2)].Shutdown(m.s.now)
	if !m.s.run(3*time.Minute, func() bool { return m.s.ends[0].Done() && m.s.ends[1].Done() }) {
		m.fatalf("no end: %v, %v", m.s.ends[0].Err(), m.s.ends[1].Err())
	}
}

func TestModel(t *testing.T) {
	seeds := uint64(1000)
	if raceEnabled {
		seeds = 100
	}
	for seed := range seeds {
		newModel(t, seed).run()
	}
}

// TestSealedModel: the same with sealed packets, and key updates at random moments at
// both ends. PROTOCOL §8.7.
func TestSealedModel(t *testing.T) {
	seeds := uint64(400)
	if raceEnabled {
		seeds = 40
	}
	updates := [2]int{}
	sealed(func() {
		for seed := range seeds {
			m := newModel(t, 10000+seed)
			m.run()
			updates[0] += m.updates[0]
			updates[1] += m.updates[1]
		}
	})
	if t.Log(updates); updates[0] < int(seeds) || updates[1] < int(seeds) {
		t.Errorf("%d key updates", updates)
	}
}
