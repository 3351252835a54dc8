package endpoint

import (
	"errors"
	"net"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

const (
	// readBatch is how many packets are asked of the socket at a time.
	readBatch = 16

	// resetsPerSecond bounds the answers to packets with an unknown id. It is what a
	// server that was started anew needs for its peers to notice soon.
	resetsPerSecond = 1000
)

// A reader works through what a socket gives. Who holds the role owns it.
type reader struct {
	e       *Endpoint
	l       *lane
	now     time.Time
	cur     *Session   // locked: consecutive packets of one session take the lock once
	touched []*Session // of this batch, to be flushed
	scratch []byte

	behind  bool      // the socket had all that was asked of it, and may have more
	retries rateLimit // while that is so
}

// readFailed ends everything: nothing will come any more.
func (e *Endpoint) readFailed(err error) {
	if errors.Is(err, net.ErrClosed) {
		err = net.ErrClosed
	}
	e.mu.Lock()
	if e.failed == nil {
		e.failed = err
	}
	all := make([]*Session, 0, len(e.sessions))
	for _, s := range e.sessions {
		all = append(all, s)
	}
	e.listening = false
	e.accepts.wake()
	e.inbox.waiters.wake()
	e.mu.Unlock()
	e.cancel()
	e.crate.end()
	for _, s := range all {
		s.forget(err)
	}
}

// packet takes what one read gave: a datagram or several.
func (r *reader) packet(p *udpio.Packet) {
	b := p.Data
	r.l.bytesIn.Add(uint64(len(b)))
	size := p.SegSize
	if size <= 0 || size >= len(b) {
		r.l.datagramsIn.Add(1)
		r.datagram(b, p)
		return
	}
	r.l.datagramsIn.Add(uint64((len(b) + size - 1) / size))
	for len(b) > 0 {
		n := min(size, len(b))
		r.datagram(b[:n:n], p)
		b = b[n:]
	}
}

// datagram takes one datagram.
func (r *reader) datagram(b []byte, p *udpio.Packet) {
	id, _, kind := handshake.RouteID(b)
	if kind == handshake.KindPacket {
		r.association(reliable.ConnID(id), b, p)
		return
	}
	r.release()
	switch kind {
	case handshake.KindHello:
		if r.behind && !handshake.PlausibleCookie(r.now, b) && !r.retries.take(r.now) {
			r.e.stats.overloaded.Add(1)
			return
		}
		r.hello(b, p)
	case handshake.KindEarly:
		r.earlyPacket(id, b, p)
	case handshake.KindSealedHello:
		r.sealedPacket(reliable.ConnID(id), b, p)
	case handshake.KindWelcome, handshake.KindSealedWelcome:
		if !r.handshake(reliable.ConnID(id), b, p) {
			r.e.stats.malformed.Add(1)
		}
	case handshake.KindErr:
		if !r.handshake(reliable.ConnID(id), b, p) {
			r.reset(b, p)
		}
	case handshake.KindCrate:
		if r.e.cfg.sealsAll() {
			r.e.stats.refused.Add(1)
			return
		}
		r.e.crate.receive(r.now, b, p)
	default:
		r.e.stats.malformed.Add(1)
	}
}

// session returns the session that has this id. If there is none yet, the packet is kept
// for it, or answered.
func (r *reader) session(id reliable.ConnID, b []byte, p *udpio.Packet) *Session {
	e := r.e
	r.l.steered(id)
	e.mu.Lock()
	s := e.sessions[id]
	begins := s == nil && e.clients.byID[id] != nil
	e.mu.Unlock()
	if s != nil || !begins {
		if s == nil {
			r.unknown(id, b, p)
		}
		return s
	}
	r.keepEarly(id, b, p)
	// If it has begun meanwhile, it may have looked already for what was kept. Taking a
	// packet twice does no harm.
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sessions[id]
}

// association gives a packet to the session that has this id.
func (r *reader) association(id reliable.ConnID, b []byte, p *udpio.Packet) {
	s := r.cur
	if s == nil || s.id != id {
		r.release()
		if s = r.session(id, b, p); s == nil {
			return
		}
		s.mu.Lock()
		r.cur = s
		s.lane = r.l
	}
	switch {
	case s.unfinished: // the keys come with Finished
		if !r.keepEarly(id, b, p) {
			r.e.stats.dropped.Add(1)
		}
	case s.eng != nil && s.dial == nil:
		s.receiveFrom(r.now, b, p)
	case s.remote.AddrPort != p.Addr.AddrPort: // trap U9
		r.e.stats.dropped.Add(1)
	case s.dial != nil && s.overtaken(r.now, b):
	default:
		r.e.stats.dropped.Add(1)
	}
}

// release lets go of the session that had packets.
func (r *reader) release() {
	s := r.cur
	if s == nil {
		return
	}
	r.cur = nil
	if s.eng != nil {
		s.events()
	}
	if !s.touched {
		s.touched = true
		r.touched = append(r.touched, s)
	}
	s.mu.Unlock()
}

// finish lets the sessions that had packets in this batch answer. Each has one write;
// what is more takes another goroutine, so that nobody waits for it.
func (r *reader) finish() {
	r.release()
	for i, s := range r.touched {
		r.touched[i] = nil
		s.mu.Lock()
		s.touched = false
		all := s.flushSome(r.now, 1)
		gone := s.gone()
		s.mu.Unlock()
		if gone {
			r.e.remove(s)
		}
		if !all {
			go s.flushRest()
		}
	}
	r.touched = r.touched[:0]
	if cap(r.scratch) > 4096 {
		r.scratch = nil
	}
}

// unknown answers a packet for no association, so that its sender need not find out
// by its idle timeout. The answer is smaller than the packet, and there are few of
// them. PROTOCOL §7.4, §8.10; trap S9.
func (r *reader) unknown(id reliable.ConnID, b []byte, p *udpio.Packet) {
	r.e.stats.unknownID.Add(1)
	sealed := framing.Flags(b[4]).Has(framing.FlagSealed)
	least := handshake.UnknownIDLen
	if sealed {
		least = handshake.ResetLen
	}
	if len(b) <= least || !sealed && r.e.dialsOnly() {
		return
	}
	r.e.mu.Lock()
	ok := r.e.resets.take(r.now)
	r.e.mu.Unlock()
	if !ok {
		return
	}
	if sealed {
		r.scratch = handshake.AppendReset(r.scratch[:0], handshake.ConnID(id), r.e.resetToken(id, p.Local))
	} else {
		r.scratch = handshake.AppendUnknownID(r.scratch[:0], handshake.ConnID(id))
	}
	r.e.stats.resets.Add(1)
	r.e.write(r.scratch, p.Addr, p.Local)
}

// dialsOnly reports whether nobody can have begun an association here. A packet without TLS
// that comes to such a socket, and that it does not know, may be for who had its port
// before and goes on from another one: an answer would end that.
func (e *Endpoint) dialsOnly() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cfg.RefuseMessages && !e.listened
}

// reset takes an ERR that says that the peer does not know one of our associations.
func (r *reader) reset(b []byte, p *udpio.Packet) {
	id, token, hasToken, ok := handshake.ParseUnknownID(b)
	if !ok {
		r.e.stats.malformed.Add(1)
		return
	}
	r.e.mu.Lock()
	s := r.e.byPeer[peerKey{p.Addr.AddrPort, reliable.ConnID(id)}]
	r.e.mu.Unlock()
	if s == nil {
		r.e.stats.unknownID.Add(1)
		return
	}
	s.mu.Lock()
	switch {
	case s.unknownOnDatagrams(r.now):
	case !s.resetBy(&token, hasToken):
		r.e.stats.dropped.Add(1)
	case s.tls == nil && s.mob != nil && !s.mob.onlyDatagrams():
		s.datagramsGone(r.now)
	case s.eng != nil:
		s.eng.Reset(r.now)
	}
	r.cur = s
	r.release()
}
