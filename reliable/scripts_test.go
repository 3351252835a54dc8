package reliable

import (
	"io"
	"testing"
	"time"
)

// A recorder collects the events of a rig.
type recorder struct {
	events [2][]Event
}

func record(s *rig) *recorder {
	r := &recorder{}
	s.onEvent = func(end int, e Event) { r.events[end] = append(r.events[end], e) }
	return r
}

// count returns how many events of a kind an end has had since the last forget.
func (r *recorder) count(end int, k EventKind) (n int) {
	for _, e := range r.events[end] {
		if e.Kind == k {
			n++
		}
	}
	return n
}

func (r *recorder) forget() { r.events = [2][]Event{} }

// settle runs a rig for d.
func (s *rig) wait(d time.Duration) { s.run(d, func() bool { return false }) }

// atRest fails if the books of an association in which all is settled do not add up.
func atRest(t *testing.T, a *Assoc) {
	t.Helper()
	if a.messages != 0 || a.openMessages != 0 || a.unrepaired != 0 || len(a.halfSent) != 0 || len(a.timers) != 0 {
		t.Errorf("messages %d, open %d, unrepaired %d, half sent %d, timers %d", a.messages, a.openMessages, a.unrepaired, len(a.halfSent), len(a.timers))
	}
	if a.eliciting != 0 || a.loss.inflight != 0 || a.loss.sent.head >= 0 && a.mtu.probing == 0 {
		t.Errorf("eliciting %d, in flight %d bytes, first %d", a.eliciting, a.loss.inflight, a.loss.sent.head)
	}
	if !a.ready.empty() || a.controlDue() {
		t.Errorf("something is still to be sent")
	}
}

// TestCancelBeforeSent: of a message that was given up before it began, the peer
// sees nothing, and its channel has no hole.
func TestCancelBeforeSent(t *testing.T) {
	for name, m := range map[string]*Outgoing{
		"plain":    {Payload: []byte("x")},
		"repaired": {Payload: []byte("x"), Repair: true},
		"ordered":  {Payload: []byte("x"), Ordered: true, Channel: 1},
		"acked":    {Payload: []byte("x"), Ack: true},
	} {
		for _, how := range []string{"cancel", "lifetime"} {
			t.Run(name+" "+how, func(t *testing.T) {
				s := newRig(t, 1, wire{delay: time.Millisecond})
				c, v := s.ends[0], s.ends[1]
				n := *m
				m := &n
				if how == "lifetime" {
					m.Lifetime = time.Millisecond
				}
				if err := c.SendMessage(s.now, m); err != nil {
					t.Fatal(err)
				}
				if how == "cancel" {
					c.CancelMessage(s.now, m)
				} else {
					s.now = s.now.Add(time.Millisecond)
					c.Advance(s.now)
				}
				if !m.Done() || m.Err() == nil {
					t.Fatal(m.Err())
				}
				after := &Outgoing{Payload: []byte("y"), Ordered: true, Channel: 1}
				c.SendMessage(s.now, after)
				s.wait(time.Second)
				if c.Err() != nil || v.Err() != nil {
					t.Fatal(c.Err(), v.Err())
				}
				if in, ok := v.ReceiveMessage(s.now); !ok || string(in.Payload) != "y" {
					t.Fatalf("%q %v", in.Payload, ok)
				}
				if _, ok := v.ReceiveMessage(s.now); ok || !after.Done() || after.Err() != nil {
					t.Fatal(ok, after.Err())
				}
				s.wait(time.Second)
				atRest(t, c)
			})
		}
	}
}

// TestEndSettlesAll: when an association ends, each message is settled, also those
// that wait for credit behind others (trap C6).
func TestEndSettlesAll(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond}, func(c *Config) { c.Local.MaxMessages, c.Peer.MaxMessages = 3000, 3000 })
	r := record(s)
	c := s.ends[0]
	var all []*Outgoing
	for i := range 20 {
		m := &Outgoing{Payload: make([]byte, 700), Repair: true, Priority: int8(i % 3), Ack: i%2 == 0}
		if err := c.SendMessage(s.now, m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	s.wait(time.Second)
	s.links[0].down = true
	s.ends[0].msgCredit += 300 // one more begins, and is in the queue when the end comes
	c.SendMessage(s.now, &Outgoing{Payload: []byte("x"), Repair: true, Priority: 9})
	c.AppendDatagram(s.now, nil)
	c.messageLost(c.halfSent[c.nextMessage-1], &sentItem{start: 0, end: 1})
	c.Close(s.now, 0, "")
	s.wait(time.Second)
	for i, m := range all {
		if !m.Done() {
			t.Errorf("message %d is not settled", i)
		}
	}
	if n := r.count(0, EventMessageDone); n != 21 || c.messages != 0 {
		t.Errorf("%d events, %d messages", n, c.messages)
	}
}

// TestOrderIsOrderOfSending: messages of one channel arrive in the order of
// SendMessage, also if credit is short or priorities differ. PROTOCOL §7.8.
func TestOrderIsOrderOfSending(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond}, func(c *Config) { c.Local.MaxMessages, c.Peer.MaxMessages = 5000, 5000 })
	c, v := s.ends[0], s.ends[1]
	for i := range 40 {
		m := &Outgoing{Payload: make([]byte, 1+s.rng.IntN(4000)), Ordered: true, Channel: uint64(i % 2), Priority: int8(s.rng.IntN(5))}
		m.Payload[0] = byte(i)
		if i%5 == 4 {
			m.Lifetime = 5 * time.Millisecond
		}
		if err := c.SendMessage(s.now, m); err != nil {
			t.Fatal(err)
		}
	}
	last := [2]int{-1, -1}
	got := 0
	s.run(20*time.Second, func() bool {
		if in, ok := v.ReceiveMessage(s.now); ok {
			got++
			i := int(in.Payload[0])
			if i <= last[i%2] {
				t.Fatalf("message %d after %d", i, last[i%2])
			}
			last[i%2] = i
		}
		return false
	})
	if got < 32 || c.Err() != nil || v.Err() != nil {
		t.Errorf("%d messages, %v %v", got, c.Err(), v.Err())
	}
	atRest(t, c)
}

// TestManyMessages: what waits for its turn costs nothing.
func TestManyMessages(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	c, v := s.ends[0], s.ends[1]
	for range maxQueuedMessages {
		if err := c.SendMessage(s.now, &Outgoing{Payload: []byte("x"), Ack: true}); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	n := 0
	if !s.run(time.Minute, func() bool {
		for {
			if _, ok := v.ReceiveMessage(s.now); !ok {
				break
			}
			n++
		}
		return c.messages == 0
	}) || n != maxQueuedMessages {
		t.Fatal(n)
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("%v for %d messages", d, n)
	} else {
		t.Log(d)
	}
}

// TestResetIsNoEnd: a stream that its sender gave up never looks complete, although
// all bytes below the final size may be there. RFC 9000 §3.2.
func TestResetIsNoEnd(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	r := record(s)
	c, v := s.ends[0], s.ends[1]
	c.Write(s.now, 0, []byte("abc"))
	s.wait(time.Second)
	b := make([]byte, 10)
	if n, err := v.Read(s.now, 0, b); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := v.Read(s.now, 0, b); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	r.forget()
	c.ResetStream(0, 7)
	s.wait(time.Second)
	if r.count(1, EventReadable) == 0 {
		t.Error("a reader would sleep on")
	}
	if n, err := v.Read(s.now, 0, b); n != 0 || err != ErrStreamReset {
		t.Error(n, err)
	}
}

// TestResetAfterFin: once all of a stream has come, a RESET_STREAM means nothing.
func TestResetAfterFin(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	c, v := s.ends[0], s.ends[1]
	c.Write(s.now, 0, []byte("abc"))
	c.CloseWrite(0)
	s.flush(0)
	s.links[1].down = true // the ACK is lost
	s.wait(10 * time.Millisecond)
	c.ResetStream(0, 7)
	s.links[1].down = false
	s.wait(time.Second)
	b := make([]byte, 10)
	if n, err := v.Read(s.now, 0, b); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := v.Read(s.now, 0, b); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
}

// TestStreamsAreForgotten: a stream whose directions are both over leaves nothing
// behind, raises MAX_STREAMS by one, and its reader sees io.EOF first.
func TestStreamsAreForgotten(t *testing.T) {
	for seed := range uint64(20) {
		s := newRig(t, seed, wire{delay: 5 * time.Millisecond, jitter: 20 * time.Millisecond, loss: 0.2, dup: 0.2})
		r := record(s)
		c, v := s.ends[0], s.ends[1]
		const n = 40
		opened := 0
		b := make([]byte, 100)
		ends := 0
		over := [2]map[StreamID]bool{{}, {}}
		closed := map[StreamID]bool{}
		ok := s.run(10*time.Minute, func() bool {
			for opened < n {
				id, err := c.OpenStream()
				if err == ErrStreams {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				opened++
				c.Write(s.now, id, []byte("request"))
				if id%4 == 0 {
					c.CloseWrite(id)
				}
			}
			for i, a := range s.ends {
				for id := StreamID(2); id <= 2*n; id += 2 {
					if a.streams.get(id) == nil || over[i][id] {
						continue
					}
					m, err := a.Read(s.now, id, b)
					if err == io.EOF {
						over[i][id] = true
						ends++
					} else if err != nil {
						t.Fatal(err)
					}
					if a == v && m > 0 {
						a.Write(s.now, id, b[:m])
						a.CloseWrite(id)
					}
					if a == c && m > 0 && !closed[id] {
						closed[id] = true
						c.CloseWrite(id)
					}
				}
			}
			return ends == 2*n
		})
		if !ok {
			t.Fatalf("seed %d: %d ends", seed, ends)
		}
		s.wait(5 * time.Second)
		if len(c.streams) != 1 || len(v.streams) != 1 {
			t.Errorf("seed %d: %d and %d streams are left", seed, len(c.streams), len(v.streams))
		}
		if v.maxPeerStreams != 16+n || c.peerMaxStreams != 16+n {
			t.Errorf("seed %d: the peer may open %d streams, and thinks %d", seed, v.maxPeerStreams, c.peerMaxStreams)
		}
		if k := r.count(0, EventFlushed); k != n {
			t.Errorf("seed %d: flushed %d times", seed, k)
		}
	}
}

// TestRecordsOfAcks: an end that only receives keeps nothing of the packets that
// carry its ACKs.
func TestRecordsOfAcks(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	c, v := s.ends[0], s.ends[1]
	for range 20000 {
		for range 2 {
			c.SendMessage(s.now, &Outgoing{Payload: []byte("x")})
			s.flush(0)
		}
		s.wait(time.Millisecond)
		v.ReceiveMessage(s.now)
		v.ReceiveMessage(s.now)
	}
	if n := len(v.loss.sent.ring); n > 64 {
		t.Errorf("%d records", n)
	}
}

// TestRecordsWithoutAcks: nor does it matter if its own packets are never
// acknowledged (trap S3).
func TestRecordsWithoutAcks(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	c, v := s.ends[0], s.ends[1]
	s.links[1].down = true
	v.Write(s.now, 0, make([]byte, 10000))
	for range 30000 {
		c.Ping()
		c.loss.probes = 1
		s.flush(0)
		s.wait(time.Millisecond)
	}
	if v.Err() != nil {
		t.Fatal(v.Err())
	}
	if n := len(v.loss.sent.ring); n > 4*maxAckRecords {
		t.Errorf("%d records", n)
	}
	s.links[1].down = false
	got := 0
	s.run(10*time.Second, func() bool {
		n, _ := c.Read(s.now, 0, make([]byte, 10000))
		got += n
		return got == 10000
	})
	if got != 10000 {
		t.Errorf("%d bytes", got)
	}
}
