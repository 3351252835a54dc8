package endpoint

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/crate"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
)

const (
	// maxCrateMessages and maxCrateBytes bound the messages of crate peers that wait
	// for ReceiveMessage.
	maxCrateMessages = 1024
	maxCrateBytes    = 4 << 20

	// maxCratePending bounds the messages that wait for an ACK.
	maxCratePending = 4096

	// crateBurst datagrams of a message are sent at once, the next ones after cratePause.
	crateBurst = 32
	cratePause = time.Millisecond
)

// crateState is what an Endpoint does in the crate profile. PROTOCOL §6.5.
type crateState struct {
	e *Endpoint

	receiving sync.Mutex // before all other locks: between the room that there is and its use

	mu      sync.Mutex
	ended   bool
	r       *crate.Receiver
	s       crate.Sender
	peers   cratePeers
	pending map[crateKey]*crateOp
	next    time.Time // no message in pending is due before
	timer   *time.Timer
	armed   time.Time
}

type crateKey struct {
	addr netip.AddrPort
	id   uint64
}

// A crateOp is a message that waits for its ACK.
type crateOp struct {
	*crate.Pending
	datagrams [][]byte
	to        udpio.Addr
	done      bool
	err       error
	settled   waitq
}

func (c *crateState) init(e *Endpoint) {
	c.e = e
	c.r = crate.NewReceiver(crate.Config{MaxMessage: e.cfg.maxMessage()})
	c.pending = make(map[crateKey]*crateOp)
}

// receive takes a datagram that is not of the negotiated profile.
func (c *crateState) receive(now time.Time, b []byte, p *udpio.Packet) {
	if reply := c.take(now, b, p); len(reply) > 0 {
		c.e.write(reply, p.Addr, p.Local)
	}
}

// take is receive but for the answer, which it returns.
func (c *crateState) take(now time.Time, b []byte, p *udpio.Packet) []byte {
	e := c.e
	c.receiving.Lock()
	defer c.receiving.Unlock()
	e.mu.Lock()
	room := int64(maxCrateBytes) - e.inbox.size
	if len(e.inbox.crate) >= maxCrateMessages || e.usable() != nil || e.cfg.RefuseMessages && !e.cfg.Legacy {
		room = 0
	}
	from := p.Addr.AddrPort
	associated := e.shared[from] != nil && e.shared[from].up
	e.mu.Unlock()

	c.mu.Lock()
	res := c.r.Receive(now, from, b, max(room, 0))
	if res.Drop == 0 && (res.Message != nil || res.Acked) && !associated {
		c.peers.heard(now, from)
	}
	if res.Acked {
		if op := c.pending[crateKey{from, res.ID}]; op != nil {
			delete(c.pending, crateKey{from, res.ID})
			op.done = true
			op.settled.wake()
		}
	}
	reply := append([]byte(nil), res.Reply...)
	c.arm(now)
	c.mu.Unlock()

	switch {
	case res.Drop == crate.DropFull:
		e.stats.dropped.Add(1)
	case res.Drop != 0 && res.Drop != crate.DropDuplicate:
		e.stats.malformed.Add(1)
	}
	if m := res.Message; m != nil {
		e.mu.Lock()
		in := &e.inbox
		size := m.Size()
		in.crate = append(in.crate, received{
			m:    &session.Message{Header: m.Header, Payload: m.Payload, ReqAck: m.ReqAck},
			size: size,
			from: p.Addr.NetAddr(),
		})
		in.size += size
		in.waiters.wake()
		e.mu.Unlock()
	}
	return reply
}

// knows reports whether a peer was heard in the crate profile only, and lately.
func (c *crateState) knows(addr netip.AddrPort) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers.crate.has(time.Now(), addr)
}

// negotiated is called for a peer that negotiates.
func (c *crateState) negotiated(addr netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers.met(time.Now(), addr)
}

// send sends a message in the crate profile.
func (c *crateState) send(ctx context.Context, m *session.Message, to udpio.Addr) error {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return net.ErrClosed
	}
	if m.ReqAck && len(c.pending) >= maxCratePending {
		c.mu.Unlock()
		return errTooMany
	}
	pkt, err := c.s.Encode(m.Header, m.Payload, m.ReqAck)
	if err != nil {
		c.mu.Unlock()
		switch err {
		case crate.ErrTooLarge:
			return session.ErrMessageTooLarge
		case crate.ErrKey:
			return session.ErrReservedKey
		}
		return err
	}
	c.mu.Unlock()
	if m.ReqAck {
		return c.sendAndWait(ctx, pkt, to)
	}
	c.write(pkt.Datagrams, to)
	return nil
}

// write sends the datagrams of a message, in bursts: the crate has no flow control, and
// its socket a buffer of the usual size, which holds about 90 of them.
func (c *crateState) write(datagrams [][]byte, to udpio.Addr) {
	for i, b := range datagrams {
		if i > 0 && i%crateBurst == 0 {
			time.Sleep(cratePause)
		}
		c.e.write(b, to, udpio.Local{})
	}
}

// sendAndWait waits for the ACK of a message, which the timer sends again.
func (c *crateState) sendAndWait(ctx context.Context, pkt crate.Packet, to udpio.Addr) error {
	r := c.e.cfg.Retry
	now := time.Now()
	op := &crateOp{
		Pending: crate.NewPending(now, crate.Retry{
			MaxRetries: r.MaxRetries, AckTimeout: r.AckTimeout, Delay: r.Delay, MaxDelay: r.MaxDelay,
		}),
		datagrams: pkt.Datagrams,
		to:        to,
	}
	key := crateKey{to.AddrPort, pkt.ID}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending[key] = op
	c.due(op)
	c.arm(now)
	c.mu.Unlock()
	c.write(pkt.Datagrams, to)
	c.mu.Lock()
	defer func() {
		if c.pending[key] == op {
			delete(c.pending, key)
		}
	}()
	for {
		if op.done {
			return op.err
		}
		if c.ended {
			return net.ErrClosed
		}
		if err := over(ctx, &c.e.wdl); err != nil {
			return err
		}
		op.settled.wait(&c.mu, doneOf(ctx))
	}
}

// due brings next forward for op. crateState.mu is held.
func (c *crateState) due(op *crateOp) {
	if t := op.Timeout(); c.next.IsZero() || t.Before(c.next) {
		c.next = t
	}
}

// arm sets the timer for what is due next. crateState.mu is held.
func (c *crateState) arm(now time.Time) {
	if c.ended {
		return
	}
	next := c.r.Timeout()
	if next.IsZero() || !c.next.IsZero() && c.next.Before(next) {
		next = c.next
	}
	if next.IsZero() || !c.armed.IsZero() && !next.Before(c.armed) {
		return
	}
	d := max(next.Sub(now), time.Millisecond)
	c.armed = now.Add(d)
	if c.timer == nil {
		c.timer = time.AfterFunc(d, c.fire)
	} else {
		c.timer.Reset(d)
	}
}

// fire is what the timer calls.
func (c *crateState) fire() {
	now := time.Now()
	c.mu.Lock()
	c.armed = time.Time{}
	if c.ended {
		c.mu.Unlock()
		return
	}
	if t := c.r.Timeout(); !t.IsZero() && !now.Before(t) {
		c.r.Advance(now)
	}
	var again []*crateOp
	if !c.next.IsZero() && !now.Before(c.next) {
		again = c.advance(now)
	}
	c.arm(now)
	c.mu.Unlock()
	for _, op := range again {
		c.mu.Lock()
		datagrams := c.s.Again(op.datagrams)
		c.mu.Unlock()
		c.write(datagrams, op.to)
	}
}

// advance looks at all messages that wait, and returns those to be sent again.
func (c *crateState) advance(now time.Time) (again []*crateOp) {
	c.next = time.Time{}
	for key, op := range c.pending {
		switch op.Advance(now) {
		case crate.Resend:
			again = append(again, op)
		case crate.Fail:
			delete(c.pending, key)
			op.done, op.err = true, session.ErrAckTimeout
			op.settled.wake()
			continue
		}
		c.due(op)
	}
	return again
}

func (c *crateState) wake() {
	c.mu.Lock()
	c.wakeAll()
	c.mu.Unlock()
}

// wakeAll wakes who waits for an ACK. crateState.mu is held.
func (c *crateState) wakeAll() {
	for _, op := range c.pending {
		op.settled.wake()
	}
}

// end ends everything.
func (c *crateState) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.wakeAll()
}
