package simnet

import "time"

// The part of a TCPConn that the network is: all here is called with its lock held.

// connect sends the first segment, and again after wait, twice that, and so on.
func (c *TCPConn) connect(wait time.Duration) {
	if c.established || c.err != nil {
		return
	}
	c.ready.Broadcast() // it may have taken too long
	now := c.nw.net.now()
	if c.out.path.Blocked {
		c.out.stats.Dropped++
	} else {
		c.nw.at(now+int64(c.out.path.Delay), c.syn)
	}
	c.nw.at(now+int64(wait), func() { c.connect(2 * wait) })
}

// syn arrives at the host that c is being connected to.
func (c *TCPConn) syn() {
	t := c.nw
	t.net.tableMu.RLock()
	there := t.net.hosts[c.remote.Addr()] != nil
	t.net.tableMu.RUnlock()
	l := t.listeners[c.remote]
	back := t.link(c.remote.Addr(), c.local.Addr())
	switch {
	case !there, c.established, c.err != nil:
		return
	case back.path.Blocked:
		back.stats.Dropped++
		return
	}
	due := t.net.now() + int64(back.path.Delay)
	if l == nil || c.out.path.Refused {
		t.at(due, func() {
			if !c.established {
				c.abort(errRefused)
			}
		})
		return
	}
	if len(l.queue) >= tcpBacklog {
		return // as Linux has it, the client tries again
	}
	if c.peer == nil {
		s := t.newConn(c.remote, c.local)
		s.peer, c.peer = c, s
		s.listener = l
		t.conns[s] = struct{}{}
	}
	t.at(due, func() {
		if c.established || c.err != nil {
			return
		}
		c.established = true
		c.ready.Broadcast()
		if c.out.path.Blocked {
			c.out.stats.Dropped++
			return
		}
		t.at(t.net.now()+int64(c.out.path.Delay), c.peer.accept)
	})
}

// accept is the end of the handshake at the server's side.
func (c *TCPConn) accept() {
	l := c.listener
	if c.established || c.err != nil {
		return
	}
	if l.closed {
		c.reset()
		return
	}
	c.established = true
	l.queue = append(l.queue, c)
	l.arrived.Signal()
}

// swallowed reports whether what is sent now arrives nowhere, and counts it.
func (c *TCPConn) swallowed() bool {
	p := &c.out.path
	if !p.Blocked && !p.Stalled && !c.forgotten {
		return false
	}
	c.out.stats.Dropped++
	return true
}

// end returns the sequence number behind all there is to send, FIN included.
func (c *TCPConn) end() int64 {
	e := c.una + int64(len(c.sbuf))
	if c.fin && !c.finAcked {
		e++
	}
	return e
}

// push gets in line for sending, if there is something that may be sent.
func (c *TCPConn) push() {
	if c.queued || c.err != nil || !c.established || c.nxt >= c.end() || c.probing && c.nxt > c.una {
		return
	}
	dataEnd := c.una + int64(len(c.sbuf))
	if c.nxt < dataEnd && c.nxt >= c.edge {
		c.arm(c.nw.net.now()) // the window is closed: ask from time to time
		return
	}
	c.queued = true
	c.out.waiting = append(c.out.waiting, c)
}

// kick is push, and sending if the path is free.
func (c *TCPConn) kick() {
	c.push()
	c.out.pump()
}

// transmit sends one segment and returns its size.
func (c *TCPConn) transmit(now int64) int64 {
	dataEnd := c.una + int64(len(c.sbuf))
	if c.err != nil || c.nxt >= c.end() {
		return 0
	}
	off := c.nxt
	n := max(0, min(c.out.segment(), dataEnd-off, c.edge-off))
	data := append([]byte(nil), c.sbuf[off-c.una:off-c.una+n]...)
	c.nxt += n
	fin := c.fin && c.nxt == dataEnd
	if fin {
		c.nxt++
	}
	expected := c.send(now, off, data, fin)
	c.arm(expected)
	return n
}

// send sends a segment and returns when its acknowledgement should come.
func (c *TCPConn) send(now, off int64, data []byte, fin bool) int64 {
	l, p := c.out, c.peer
	l.stats.Segments++
	l.stats.Bytes += uint64(len(data))
	if c.swallowed() {
		return now
	}
	rtt := l.path.Delay + p.out.path.Delay
	due := now + int64(l.path.Delay)
	if l.path.Rate > 0 {
		due += int64(len(data)) * int64(time.Second) / l.path.Rate
	}
	due += int64(l.lateness(int64(len(data)), rtt, c.nxt >= c.end()))
	due = max(due, c.lastDue)
	c.lastDue = due
	c.nw.at(due, func() { p.receive(off, data, fin) })
	return due + int64(p.out.path.Delay)
}

// arm sets the timer for what is not acknowledged when it should be.
func (c *TCPConn) arm(expected int64) {
	c.expected = max(c.expected, expected)
	if c.rto == 0 {
		c.rto = c.firstRTO()
	}
	if c.since == 0 {
		c.since = c.nw.net.now()
	}
	if !c.armed {
		c.armed = true
		c.nw.at(c.expected+int64(c.rto), c.timeout)
	}
}

// firstRTO is how long an acknowledgement may be late without a reason.
func (c *TCPConn) firstRTO() time.Duration {
	return max(minRTO, 2*(c.out.path.Delay+c.peer.out.path.Delay))
}

// timeout sends again what was not acknowledged, one segment of it first.
func (c *TCPConn) timeout() {
	c.armed = false
	now := c.nw.net.now()
	switch {
	case c.err != nil, c.una >= c.end():
		return
	case c.queued || now < c.expected+int64(c.rto):
		c.armed = true
		c.nw.at(max(now+1, c.expected)+int64(c.rto), c.timeout)
		return
	case now-c.since > int64(sendTimeout):
		c.abort(errTimeout)
		return
	}
	c.rto = min(2*c.rto, maxRTO)
	c.nxt = c.una
	c.recover = c.end()
	if c.edge <= c.una && len(c.sbuf) > 0 {
		c.arm(c.send(now, c.una, nil, false))
		return
	}
	c.probing = true
	c.arm(now)
	c.kick()
}

// receive gets a segment.
func (c *TCPConn) receive(off int64, data []byte, fin bool) {
	if !c.established && c.listener != nil {
		c.accept() // the segment before was lost
	}
	if c.err != nil || !c.established {
		if c.gone {
			c.sendReset()
		}
		return
	}
	end := off + int64(len(data))
	if off <= c.rcvNxt && end > c.rcvNxt {
		fresh := data[c.rcvNxt-off:]
		if c.closed { // nobody will read it
			c.reset()
			return
		}
		c.rbuf = append(c.rbuf, fresh...)
		c.rcvNxt = end
	}
	if fin && end == c.rcvNxt && !c.rfin {
		c.rfin = true
		c.rcvNxt++
		c.finish()
	}
	c.ready.Broadcast()
	c.sendAck()
}

// sendAck says how far we have come, and how much we take.
func (c *TCPConn) sendAck() {
	c.shown = c.rcvNxt + int64(max(0, c.rmax-len(c.rbuf)))
	l, p := c.out, c.peer
	l.stats.Acks++
	if c.swallowed() {
		return
	}
	ack, edge := c.rcvNxt, c.shown
	c.nw.at(c.nw.net.now()+int64(l.path.Delay), func() { p.acked(ack, edge) })
}

// acked gets an acknowledgement.
func (c *TCPConn) acked(ack, edge int64) {
	if c.err != nil {
		if c.gone {
			c.sendReset()
		}
		return
	}
	again := ack == c.una && edge == c.edge && c.nxt > c.una
	c.edge = max(c.edge, edge)
	c.since = 0
	switch {
	case ack > c.una:
		dataEnd := c.una + int64(len(c.sbuf))
		c.sbuf = c.sbuf[min(ack, dataEnd)-c.una:]
		if len(c.sbuf) == 0 {
			c.sbuf = nil
		}
		c.una = ack
		c.nxt = max(c.nxt, ack)
		if ack > dataEnd {
			c.finAcked = true
			c.finish()
		}
		c.rto, c.repeats, c.probing = c.firstRTO(), 0, false
		if c.una < c.end() {
			c.arm(c.nw.net.now())
		}
		c.ready.Broadcast()
	case again:
		if c.repeats++; c.repeats == 3 && c.una >= c.recover { // RFC 5681 §3.2
			c.recover = c.nxt
			c.nxt = c.una
		}
	}
	c.kick()
}

// finish forgets a connection that has ended in both directions.
func (c *TCPConn) finish() {
	if c.rfin && c.finAcked {
		delete(c.nw.conns, c)
	}
}

// reset ends the connection for both ends.
func (c *TCPConn) reset() {
	c.abort(errReset)
	c.sendReset()
}

func (c *TCPConn) sendReset() {
	l, p := c.out, c.peer
	if p == nil || c.swallowed() {
		return
	}
	c.nw.at(c.nw.net.now()+int64(l.path.Delay), func() { p.abort(errReset) })
}

// abort ends the connection at this end, which says nothing of it. What was received
// can still be read.
func (c *TCPConn) abort(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	c.gone = true
	c.sbuf = nil
	delete(c.nw.conns, c)
	c.ready.Broadcast()
}
