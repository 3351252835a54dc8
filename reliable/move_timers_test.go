package reliable

import (
	"testing"
	"time"
	"unsafe"
)

// TestMoveTimers: idle timeout, keep-alive, and probes on the byte stream.
func TestMoveTimers(t *testing.T) {
	for _, c := range []Carrier{Datagrams, ByteStream} {
		s, _ := bothCarriers(t, c, func(c *Config) { c.KeepAlive, c.IdleTimeout = 5*time.Second, 20*time.Second })
		sent := s.pipe.sent[0] + s.links[0].sent
		s.wait(50 * time.Second)
		if n := s.pipe.sent[0] + s.links[0].sent - sent; n < 10 || n > 30 || s.ends[0].Err() != nil {
			t.Errorf("%v: %d packets of keep-alive: %v", c, n, s.ends[0].Err())
		}
		s.pipe.stall = [2]bool{true, true}
		s.links[0].down, s.links[1].down = true, true
		s.ends[0].Write(s.now, 0, []byte("x"))
		s.wait(40 * time.Second)
		for _, a := range s.ends {
			if a.Err() != ErrIdleTimeout {
				t.Errorf("%v: %v", c, a.Err())
			}
		}
	}
	// Without any carrier, too.
	s, _ := bothCarriers(t, ByteStream, func(c *Config) { c.KeepAlive, c.IdleTimeout = 5*time.Second, 20*time.Second })
	a := s.ends[0]
	a.SetAttached(s.now, ByteStream, false)
	a.SetAttached(s.now, Datagrams, false)
	s.cut()
	s.pipe.stall[1], s.links[1].down = true, true
	m := &Outgoing{Payload: []byte("x"), Ack: true}
	a.SendMessage(s.now, m)
	a.Write(s.now, 0, make([]byte, 1<<20))
	s.wait(40 * time.Second)
	if a.Err() != ErrIdleTimeout || !m.Done() {
		t.Error(a.Err())
	}
}

// TestMoveMessageTimers: on a byte stream that stalls, a message is tried as often and as
// long, but nothing is sent again.
func TestMoveMessageTimers(t *testing.T) {
	s, r := bothCarriers(t, ByteStream)
	a := s.ends[0]
	s.pipe.stall = [2]bool{true, true}
	m := &Outgoing{Payload: make([]byte, 3000), Ack: true}
	a.SendMessage(s.now, m)
	s.wait(time.Minute)
	if st := a.Stats(); r.count(0, EventMessageDone) != 1 || m.Err() != ErrNoAck || st.MessageRetries != 3 || st.BytesRetransmitted != 0 {
		t.Errorf("%v, %+v", m.Err(), st)
	}
}

// TestMoveClose: CLOSE takes the active carrier, and the other one if that is gone or says
// nothing. Without any, the end comes all the same. PROTOCOL §7.10.
func TestMoveClose(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(s *rig)
		max  time.Duration
		told bool
	}{
		{"active", func(s *rig) {}, 300 * time.Millisecond, true},
		{"stalled", func(s *rig) { s.pipe.stall = [2]bool{true, true} }, time.Second, true},
		{"gone", func(s *rig) { s.cut(); s.ends[0].SetAttached(s.now, ByteStream, false) }, time.Second, true},
		{"nothing", func(s *rig) {
			s.cut()
			s.ends[0].SetAttached(s.now, ByteStream, false)
			s.ends[0].SetAttached(s.now, Datagrams, false)
			s.links[0].down = true
		}, 20 * time.Second, false},
	} {
		s, _ := bothCarriers(t, ByteStream)
		tt.do(s)
		s.ends[0].Close(s.now, 7, "bye")
		begin := s.now
		if !s.run(time.Minute, func() bool { return s.ends[0].Done() && (!tt.told || s.ends[1].Err() != nil) }) || s.now.Sub(begin) > tt.max {
			t.Errorf("%s: %v and %v after %v", tt.name, s.ends[0].Err(), s.ends[1].Err(), s.now.Sub(begin))
		}
		if tt.told && !s.run(time.Minute, func() bool { return s.ends[1].Done() }) {
			t.Errorf("%s: not done", tt.name)
		}
	}
}

// TestMoveChallenges: answers go where challenges have come from, whichever carrier is
// active, and say how long they took.
func TestMoveChallenges(t *testing.T) {
	test := func() {
		for _, active := range []Carrier{Datagrams, ByteStream} {
			for _, c := range []Carrier{Datagrams, ByteStream} {
				s, r := bothCarriers(t, active)
				a := s.ends[0]
				data := [8]byte{1, 2, 3, byte(c)}
				frames, datagrams := s.pipe.sent, [2]int{s.links[0].sent, s.links[1].sent}
				if c == ByteStream {
					s.sendFrame(0, a.AppendFrameChallenge(s.now, nil, data))
				} else {
					b := a.AppendChallenge(s.now, nil, data, 1200)
					if len(b) != 1200 {
						t.Errorf("%d bytes", len(b))
					}
					s.send(0, b)
				}
				r.forget()
				s.wait(time.Second)
				if n := s.pipe.sent[1] - frames[1]; c == Datagrams && active == Datagrams && n > 0 {
					t.Errorf("%d frames", n)
				}
				if n := s.links[1].sent - datagrams[1]; c == ByteStream && active == ByteStream && n > 0 {
					t.Errorf("%d datagrams", n)
				}
				if r.count(0, EventPathResponse) != 1 {
					t.Fatalf("%v on %v: %d responses", c, active, r.count(0, EventPathResponse))
				}
				for _, e := range r.events[0] {
					if e.Kind == EventPathResponse && (e.Carrier != c || e.Data != data || e.RTT < 20*time.Millisecond || e.RTT > 30*time.Millisecond) {
						t.Errorf("%+v", e)
					}
				}
				if rtt := a.CarrierStats(s.now, c).RTT; rtt < 20*time.Millisecond || rtt > 30*time.Millisecond {
					t.Errorf("%v on %v: RTT %v", c, active, rtt)
				}
				onlyOn(t, s, active)
			}
		}
	}
	test()
	sealed(test)
	// The answer by the other carrier does not count, and few are kept.
	s, r := bothCarriers(t, ByteStream)
	a := s.ends[0]
	r.forget()
	a.AppendFrameChallenge(s.now, nil, [8]byte{7})
	a.Receive(s.now, forge(a, 100, append([]byte{byte(chunkPathResponse)}, 7, 0, 0, 0, 0, 0, 0, 0)))
	s.flush(0)
	if r.count(0, EventPathResponse) != 0 {
		t.Error("answered by a datagram")
	}
	for i := range 100 {
		a.Receive(s.now, forge(a, packetNumber(101+i), append([]byte{byte(chunkPathChallenge)}, make([]byte, 8)...)))
	}
	if len(a.moves.elsewhere) != maxPathResponses {
		t.Error(len(a.moves.elsewhere))
	}
	if b := a.AppendDatagram(s.now, nil); len(b) == 0 || len(a.AppendDatagram(s.now, nil)) > 0 {
		t.Error("not one datagram with the answers")
	}
}

// TestMoveRefused: a packet for which the peer had no room goes again on a byte stream,
// although nothing is lost there.
func TestMoveRefused(t *testing.T) {
	s, _ := bothCarriers(t, ByteStream)
	a, v := s.ends[0], s.ends[1]
	a.Write(s.now, 0, []byte("one"))
	b := a.AppendFrame(s.now, nil)
	v.refuse(v.acks.next) // as if there had been no room
	if got := v.ReceiveFrame(s.now, b); !got.Opened || got.Taken {
		t.Fatalf("%+v", got)
	}
	a.Write(s.now, 0, []byte("two"))
	buf := make([]byte, 10)
	n := 0
	if !s.run(time.Second, func() bool {
		k, _ := v.Read(s.now, 0, buf[n:])
		n += k
		return n == 6
	}) || string(buf[:6]) != "onetwo" {
		t.Errorf("%q", buf[:n])
	}
}

// TestMoveACKs: on a byte stream an ACK comes for a quarter of a megabyte, or a
// millisecond; and bulk is not held up by them.
func TestMoveACKs(t *testing.T) {
	s := newPair(t, 1, wire{delay: 10 * time.Millisecond}, ByteStream, func(c *Config) {
		c.Local.MaxData, c.Local.MaxStreamData = 16<<20, 16<<20
		c.Peer = c.Local
	})
	s.pipe.rate = 1000 * mbit
	s.pipe.room = 2 << 20
	s.wait(time.Second)
	frames := s.pipe.sent
	const n = 200 << 20
	d, err := s.bulk(0, n, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	data, acks := s.pipe.sent[0]-frames[0], s.pipe.sent[1]-frames[1]
	share := float64(n) / d.Seconds() / (1000 * mbit)
	cs := s.ends[0].CarrierStats(s.now, ByteStream)
	t.Logf("%d frames, %d back, %.3f of the rate, window %d, %+v", data, acks, share, s.ends[0].cc.window(), cs)
	if data > n/60000+500 || acks > int(d/time.Millisecond)+200 || share < 0.9 {
		t.Error("too many, or too slow")
	}
	if cs.Rate < 0.7*1000*mbit || cs.Rate > 1.3*1000*mbit || cs.Lost != 0 || cs.Acked+100 < cs.Sent || cs.Received.IsZero() {
		t.Errorf("%+v", cs)
	}
	if w := s.ends[0].cc.window(); w < 4<<20 || w > maxStreamWindow {
		t.Errorf("window %d", w)
	}
	// A slow one has little in flight.
	s = newPair(t, 1, wire{delay: 10 * time.Millisecond}, ByteStream)
	s.pipe.rate, s.pipe.room = 1*mbit, 100<<10
	if _, err := s.bulk(0, 2<<20, time.Minute); err != nil {
		t.Fatal(err)
	}
	if w := s.ends[0].cc.window(); w > minStreamWindow+100<<10 {
		t.Errorf("window %d", w)
	}
	s.pipe.see = func(from int, b []byte) {
		if from == 0 && len(b) > minFrame {
			t.Fatalf("a frame of %d bytes takes %v", len(b), time.Duration(float64(len(b))/s.pipe.rate*1e9))
		}
	}
	if _, err := s.bulk(0, 1<<20, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// TestMoveOvertaken: a packet on the carrier that is not active says nothing about those
// in flight on the other, however much faster it is.
func TestMoveOvertaken(t *testing.T) {
	s, _ := bothCarriers(t, Datagrams)
	a := s.ends[0]
	s.links[0].delay = 100 * time.Millisecond
	s.pipe.delay = time.Millisecond
	if _, err := s.bulk(0, 200<<10, time.Minute); err != nil {
		t.Fatal(err)
	}
	s.wait(time.Second)
	written, buf := 0, make([]byte, 64<<10)
	for i := range 200 {
		n, _ := a.Write(s.now, 0, make([]byte, 5000))
		written += n
		s.flush(0)
		s.sendFrame(0, a.AppendFrameChallenge(s.now, nil, [8]byte{byte(i)}))
		s.wait(5 * time.Millisecond)
		s.ends[1].Read(s.now, 0, buf)
	}
	s.wait(time.Second)
	if st := a.Stats(); st.PacketsLost != 0 || st.PacketsLate != 0 || written < 400000 {
		t.Errorf("%d bytes: %+v", written, st)
	}
}

// TestMoveProbed: datagrams that overtake frames in a long queue do not make these old:
// they are all taken, and nothing goes again.
func TestMoveProbed(t *testing.T) {
	s, _ := bothCarriers(t, ByteStream)
	a, v := s.ends[0], s.ends[1]
	s.pipe.delay = 300 * time.Millisecond
	s.links[0].delay, s.links[1].delay = time.Millisecond, time.Millisecond
	a.Write(s.now, 0, make([]byte, 100<<10))
	s.wait(2 * time.Second)
	got, buf := 0, make([]byte, 64<<10)
	for i := range 300 {
		a.Write(s.now, 0, make([]byte, 3000))
		v.Write(s.now, 0, make([]byte, 3000))
		s.flush(0)
		s.send(0, a.AppendChallenge(s.now, nil, [8]byte{byte(i)}, 100))
		s.wait(5 * time.Millisecond)
		for _, x := range s.ends {
			n, _ := x.Read(s.now, 0, buf)
			got += n
		}
	}
	s.wait(2 * time.Second)
	for _, x := range s.ends {
		for n := 1; n > 0; got += n {
			n, _ = x.Read(s.now, 0, buf)
		}
		if st := x.Stats(); st.PacketsDuplicate+st.PacketsLost+st.BytesRetransmitted > 0 {
			t.Errorf("%+v", st)
		}
	}
	if got != 100<<10+600*3000 {
		t.Errorf("%d bytes", got)
	}
}

// TestMoveBehind: although the peer has the ACK of a datagram that has overtaken them,
// frames with smaller numbers are not old.
func TestMoveBehind(t *testing.T) {
	s, _ := bothCarriers(t, ByteStream)
	v := s.ends[1]
	n := v.acks.next
	ping := []byte{byte(chunkPing)}
	v.ReceiveFrame(s.now, forgePlain(v, n, ping))
	v.Receive(s.now, forge(v, n+9, append([]byte{byte(chunkPathChallenge)}, make([]byte, 8)...)))
	v.Write(s.now, 0, []byte("x"))
	pn := v.loss.sent.next
	v.AppendFrame(s.now, nil)
	v.Receive(s.now, forge(v, n+10, appendAck(nil, []pnRange{{pn, pn + 1}}, 0, 100)))
	if got := v.ReceiveFrame(s.now, forgePlain(v, n+1, ping)); v.Unacked(0) != 0 || !got.Taken {
		t.Errorf("%+v", got)
	}
}

// TestMoveSize: who does not move pays nothing.
func TestMoveSize(t *testing.T) {
	s := newRig(t, 1, wire{})
	a := s.ends[0]
	if a.moves != nil || len(a.AppendFrame(s.now, nil)) > 0 || a.ReceiveFrame(s.now, nil).Opened || len(a.AppendFrameChallenge(s.now, nil, [8]byte{})) > 0 {
		t.Error("something moves")
	}
	a.Move(s.now, ByteStream)
	a.SetAttached(s.now, ByteStream, true)
	if a.Active() != Datagrams || a.CarrierStats(s.now, Datagrams).PTO == 0 || a.CarrierStats(s.now, ByteStream) != (CarrierStats{}) {
		t.Error("moved")
	}
	t.Logf("Assoc %d bytes, sentPacket %d, moveState %d", unsafe.Sizeof(*a), unsafe.Sizeof(sentPacket{}), unsafe.Sizeof(moveState{}))
}
