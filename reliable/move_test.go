package reliable

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// bothCarriers returns what newPair makes, at rest.
func bothCarriers(t testing.TB, first Carrier, config ...func(*Config)) (*rig, *recorder) {
	s := newPair(t, 1, wire{delay: 10 * time.Millisecond}, first, config...)
	r := record(s)
	s.wait(time.Second)
	return s, r
}

// onlyOn fails if packets of data take another carrier.
func onlyOn(t *testing.T, s *rig, c Carrier) {
	t.Helper()
	for i, a := range s.ends {
		if a.Active() != c {
			t.Fatalf("end %d is on %v, not %v", i, a.Active(), c)
		}
	}
	frames, datagrams := s.pipe.sent, [2]int{s.links[0].sent, s.links[1].sent}
	for from := range 2 {
		if _, err := s.bulk(from, 300<<10, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	s.wait(100 * time.Millisecond)
	if c == Datagrams && s.pipe.sent != frames {
		t.Error("frames on the byte stream")
	}
	if c == ByteStream && [2]int{s.links[0].sent, s.links[1].sent} != datagrams {
		t.Error("datagrams")
	}
}

// TestMoveBytes: the first packet after a move is these very bytes. PROTOCOL §7.14.
func TestMoveBytes(t *testing.T) {
	for _, checksum := range []bool{false, true} {
		s, _ := bothCarriers(t, Datagrams, func(c *Config) { c.Checksum = checksum })
		a := s.ends[0]
		a.acks = ackState{}
		pn := byte(a.loss.sent.next)
		a.Move(s.now, ByteStream)
		b := a.AppendFrame(s.now, nil)
		want := "565401030" + "0" + "0f00" + "00000004" + "010c01" + "0200000000000000" + hex.EncodeToString([]byte{0, 0, 0, pn}) + "1d0101" + "01"
		if checksum {
			want = want[:9] + "1" + want[10:]
		}
		if got := hex.EncodeToString(b); !checksum && got != want || len(b) != len(want)/2+len(b)-len(want)/2 || got[:9] != want[:9] {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
		if checksum {
			if framing.Checksum(0, b[:len(b)-4]) == 0 || !framing.Flags(b[4]).Has(framing.FlagCRC) || len(b) != len(want)/2+4 {
				t.Errorf("%x has no CRC", b)
			}
		}
		if got := s.ends[1].ReceiveFrame(s.now, b); got != (Received{true, true, true}) || s.ends[1].Active() != ByteStream {
			t.Errorf("%+v, %v", got, s.ends[1].Active())
		}
		if b := a.AppendDatagram(s.now, nil); len(b) > 0 {
			t.Errorf("a datagram %x", b)
		}
	}
}

// TestMove: both ends take the new carrier, there and back, and nothing goes on the other.
// With Protection, frames are not sealed and have no CRC.
func TestMove(t *testing.T) {
	test := func() {
		for _, first := range []Carrier{Datagrams, ByteStream} {
			for mover := range 2 {
				s, r := bothCarriers(t, first)
				s.pipe.see = func(_ int, b []byte) {
					if f := framing.Flags(b[4]); f.Has(framing.FlagSealed) || f.Has(framing.FlagCRC) == sealRigs {
						t.Fatalf("% x", b[:26])
					}
				}
				c := first
				onlyOn(t, s, c)
				for n := range 4 {
					c = other(c)
					r.forget()
					s.ends[mover].Move(s.now, c)
					s.ends[mover].Move(s.now, c) // does nothing
					s.wait(100 * time.Millisecond)
					for i := range 2 {
						if r.count(i, EventMoved) != 1 {
							t.Fatalf("end %d moved %d times", i, r.count(i, EventMoved))
						}
						for _, e := range r.events[i] {
							if e.Kind == EventMoved && (e.Carrier != c || e.ByPeer != (i != mover)) {
								t.Errorf("end %d: %+v", i, e)
							}
						}
					}
					onlyOn(t, s, c)
					own, peer := s.ends[mover].Stats(), s.ends[1-mover].Stats()
					if own.Moves != uint64(n+1) || peer.MovesFollowed != uint64(n+1) || own.MovesFollowed+peer.Moves+own.MovesLate+peer.MovesLate != 0 {
						t.Errorf("%+v %+v", own, peer)
					}
				}
				for _, a := range s.ends {
					if a.stats.PacketsDropped+a.stats.BlackHoles > 0 {
						t.Errorf("%+v", a.stats)
					}
				}
				s.shutdown(t, 1)
			}
		}
	}
	test()
	sealed(test)
}

// TestMoveFromDead: what is in flight on a path that is dead goes out again on the other
// carrier. It is no congestion. Traps A2, A3, G4.
func TestMoveFromDead(t *testing.T) {
	for _, from := range []Carrier{Datagrams, ByteStream} {
		s, _ := bothCarriers(t, from)
		a := s.ends[0]
		if _, err := s.bulk(0, 4<<20, time.Minute); err != nil {
			t.Fatal(err)
		}
		s.wait(100 * time.Millisecond)
		lost := a.CarrierStats(s.now, from).Lost
		for i := range 2 {
			s.links[i].down = from == Datagrams
			s.pipe.stall[i] = from == ByteStream
		}
		data := bytes.Repeat([]byte("0123456789"), 10000)
		n, _ := a.Write(s.now, 0, data)
		s.wait(1500 * time.Millisecond)
		cs := a.CarrierStats(s.now, from)
		if cs.Unheard < 3 || cs.Silence < time.Second || cs.PTO <= 0 || cs.PTO > 200*time.Millisecond {
			t.Errorf("%v: %+v", from, cs)
		}
		if again := a.Stats().BytesRetransmitted; from == ByteStream && again != 0 {
			t.Errorf("%d bytes again on a byte stream", again)
		}
		window, mtu := a.Stats().CongestionWindow, a.Stats().MTU
		a.Move(s.now, other(from))
		if cs := a.CarrierStats(s.now, from); cs.Lost > lost+2 || cs.Unheard != 0 {
			t.Errorf("%v: %+v", from, cs)
		}
		got, buf := 0, make([]byte, 64<<10)
		begin := s.now
		if !s.run(5*time.Second, func() bool {
			m, _ := s.ends[1].Read(s.now, 0, buf)
			got += m
			return got == n
		}) || s.now.Sub(begin) > 500*time.Millisecond {
			t.Errorf("%d of %d after %v", got, n, s.now.Sub(begin))
		}
		if moved := a.Stats().BytesMoved; moved == 0 || moved > uint64(n) {
			t.Errorf("%d bytes moved of %d", moved, n)
		}
		if from == Datagrams { // back soon, and then late
			s.links[0].down, s.links[1].down = false, false
			a.Move(s.now, Datagrams)
			if st := a.Stats(); st.CongestionWindow < window || st.MTU != mtu || st.RTT > 100*time.Millisecond {
				t.Errorf("window %d, was %d; %+v", st.CongestionWindow, window, st)
			}
			s.wait(time.Second)
			a.Move(s.now, ByteStream)
			s.wait(rememberPath + time.Second)
			a.Move(s.now, Datagrams)
			if st := a.Stats(); st.CongestionWindow > bbrFirstWindow*BaseMTU || st.MTU != BaseMTU {
				t.Errorf("after long: %+v", st)
			}
		} else {
			s.flow(0)
			s.flow(1)
		}
		s.wait(time.Second)
		for _, a := range s.ends {
			atRest(t, a)
		}
		s.shutdown(t, 1)
	}
}

// TestMoveLateACK: what has arrived before the move need not go again if the ACK comes in
// time, by whatever carrier; and it gives no sample of the RTT.
func TestMoveLateACK(t *testing.T) {
	s, _ := bothCarriers(t, Datagrams)
	a, v := s.ends[0], s.ends[1]
	a.Write(s.now, 0, make([]byte, 5000))
	for b := a.AppendDatagram(s.now, nil); len(b) > 0; b = a.AppendDatagram(s.now, nil) {
		v.Receive(s.now, b)
	}
	v.Move(s.now, ByteStream)
	a.Move(s.now, ByteStream)
	rtt := a.rtt
	s.now = s.now.Add(5 * time.Millisecond)
	a.ReceiveFrame(s.now, v.AppendFrame(s.now, nil))
	if a.moves.moved != nil || a.rtt != rtt {
		t.Errorf("%d packets, %+v", len(a.moves.moved), a.rtt)
	}
	b := a.AppendFrame(s.now, nil)
	if len(b) > 100 || a.stats.BytesMoved != 0 || a.Unacked(0) != 0 {
		t.Errorf("%d bytes, %d moved, %d not acknowledged", len(b), a.stats.BytesMoved, a.Unacked(0))
	}
	// An ACK by the other carrier counts, but gives no sample either.
	v.ReceiveFrame(s.now, b)
	s.wait(100 * time.Millisecond)
	rtt = a.rtt
	a.Write(s.now, 0, make([]byte, 5000))
	v.ReceiveFrame(s.now, a.AppendFrame(s.now, nil))
	var ack []byte
	ack = appendAck(ack, v.acks.received, 0, 1000)
	a.Receive(s.now, forge(a, v.loss.sent.next, ack))
	if a.Unacked(0) != 0 || a.rtt != rtt {
		t.Errorf("%d not acknowledged, %+v", a.Unacked(0), a.rtt)
	}
}

// TestMoveOrder: of moves that cross the largest number counts, and of equal ones the
// client's. Those that are older or known do nothing.
func TestMoveOrder(t *testing.T) {
	move := func(seq, c uint64) []byte { return appendValues(nil, chunkMove, seq, c) }
	for end := range 2 {
		s, _ := bothCarriers(t, Datagrams)
		a := s.ends[end]
		pn := s.ends[1-end].loss.sent.next + 10
		for i, x := range []struct {
			seq  uint64
			to   Carrier
			want Carrier
		}{
			{0, ByteStream, Datagrams},
			{1, Datagrams, Datagrams},
			{1, ByteStream, Carrier(end)}, // from the server it does not count
			{2, Datagrams, Datagrams},
			{1, ByteStream, Datagrams},
			{9, ByteStream, ByteStream},
			{9, ByteStream, ByteStream},
			{8, Datagrams, ByteStream},
			{framing.MaxVarint, Datagrams, Datagrams},
		} {
			a.Receive(s.now, forge(a, pn, move(x.seq, uint64(x.to))))
			pn++
			if a.Active() != x.want || a.Err() != nil {
				t.Fatalf("end %d, %d: on %v: %v", end, i, a.Active(), a.Err())
			}
		}
		a.Move(s.now, ByteStream) // no number is left
		if a.Active() != Datagrams {
			t.Error("moved")
		}
	}
	// Both go at once.
	for gap := range 30 {
		s, _ := bothCarriers(t, Datagrams)
		s.ends[0].Move(s.now, ByteStream)
		s.wait(time.Duration(gap) * time.Millisecond)
		s.ends[1].Move(s.now, ByteStream)
		s.wait(time.Duration(gap/2) * time.Millisecond)
		s.ends[gap%2].Move(s.now, Datagrams)
		s.wait(200 * time.Millisecond)
		if x, y := s.ends[0], s.ends[1]; x.Active() != y.Active() || x.moves.seq != y.moves.seq || x.moves.due || y.moves.due {
			t.Fatalf("%v and %v", x.Active(), y.Active())
		}
		onlyOn(t, s, s.ends[0].Active())
	}
}

// TestMoveMalformed: what must not come ends the association.
func TestMoveMalformed(t *testing.T) {
	for _, tt := range []struct {
		moves  bool
		chunks string
	}{
		{false, "1d 01 01"}, {true, "1d 01 02"}, {true, "1d 01"}, {true, "1d 01 40"}, {true, "1d"}, {true, "1d ff ff ff ff ff ff ff ff 41 00"},
	} {
		s := newRig(t, 1, wire{}, func(c *Config) { c.Moves = tt.moves })
		a := s.ends[1]
		a.Receive(s.now, forge(a, 0, unhex(tt.chunks)))
		var pe *ProtocolError
		if !errors.As(a.Err(), &pe) {
			t.Errorf("%v %s: %v", tt.moves, tt.chunks, a.Err())
		}
	}
	if chunkMove.inEarly() {
		t.Error("MOVE in 0-RTT packets")
	}
}

// TestMoveFrames: what is none of the association's is not opened, and counted.
func TestMoveFrames(t *testing.T) {
	test := func() {
		s, _ := bothCarriers(t, ByteStream)
		a, v := s.ends[0], s.ends[1]
		a.Write(s.now, 0, []byte("hello"))
		good := a.AppendFrame(s.now, nil)
		bad := func(what string, f func(b []byte) []byte) {
			before := v.stats.PacketsDropped
			if got := v.ReceiveFrame(s.now, f(bytes.Clone(good))); got != (Received{}) || v.stats.PacketsDropped != before+1 {
				t.Errorf("%s: %+v", what, got)
			}
		}
		flip := func(i int, x byte) func([]byte) []byte { return func(b []byte) []byte { b[i] ^= x; return b } }
		bad("magic", flip(0, 1))
		bad("version", flip(2, 1))
		bad("type", flip(3, 1))
		bad("sealed", flip(4, byte(framing.FlagSealed)))
		bad("phase", flip(4, byte(framing.FlagPhase)))
		bad("CRC flag", flip(4, byte(framing.FlagCRC)))
		bad("header length", flip(5, 1))
		bad("payload length", flip(10, 1))
		bad("key", flip(13, 1))
		bad("id", flip(21, 1))
		if !sealRigs {
			bad("CRC", flip(len(good)-1, 1))
			bad("chunks", flip(27, 1))
		}
		for n := range len(good) {
			bad("cut off", func(b []byte) []byte { return b[:n] })
		}
		bad("longer", func(b []byte) []byte { return append(b, 0) })
		bad("too long", func(b []byte) []byte { return make([]byte, MaxFrame+1) })
		if sealRigs {
			v.Receive(s.now, bytes.Clone(good)) // plain, by a datagram
			if v.acks.received.contains(packetNumber(good[25])) {
				t.Error("a frame without a seal was taken as a datagram")
			}
		}
		if got := v.ReceiveFrame(s.now, bytes.Clone(good)); got != (Received{true, true, true}) {
			t.Errorf("%+v", got)
		}
		if got := v.ReceiveFrame(s.now, bytes.Clone(good)); got != (Received{Opened: true}) || v.stats.PacketsDuplicate != 1 {
			t.Errorf("once more: %+v", got)
		}
		buf := make([]byte, 10)
		if n, _ := v.Read(s.now, 0, buf); string(buf[:n]) != "hello" || v.Err() != nil {
			t.Errorf("%q, %v", buf[:n], v.Err())
		}
	}
	test()
	sealed(test)
}

// TestMoveStorm: of many moves a hundred are followed at once, then one a millisecond, and
// the last one in the end. Trap A4.
func TestMoveStorm(t *testing.T) {
	s, _ := bothCarriers(t, Datagrams)
	v := s.ends[1]
	pn := s.ends[0].loss.sent.next + 10
	for i := range 1000 {
		v.Receive(s.now, forge(v, pn, appendValues(nil, chunkMove, uint64(i+1), uint64(1-i%2))))
		pn++
	}
	if st := v.Stats(); st.MovesFollowed != 100 || st.MovesLate != 1 || v.Active() != Datagrams {
		t.Fatalf("%+v", st)
	}
	v.Receive(s.now, forge(v, pn, appendValues(nil, chunkMove, 1001, 1)))
	if v.Active() != Datagrams {
		t.Error("followed at once")
	}
	if at := v.Timeout(); at.Sub(s.now) > time.Millisecond {
		t.Errorf("goes on in %v", at.Sub(s.now))
	}
	for at := v.Timeout(); v.Active() == Datagrams && at.Sub(s.now) < time.Second; at = v.Timeout() {
		v.AppendDatagram(at, nil)
		v.Advance(at)
	}
	if st := v.Stats(); st.MovesFollowed != 101 || v.Active() != ByteStream || v.now.sub(v.lastReceived) > time.Millisecond+1 {
		t.Fatalf("%+v after %v", st, v.now.sub(v.lastReceived))
	}
	// Over time, it is a thousand a second.
	before := v.Stats().MovesFollowed
	for i := range 20000 {
		now := s.now.Add(time.Duration(i) * 100 * time.Microsecond)
		v.Receive(now, forge(v, pn, appendValues(nil, chunkMove, uint64(i+2000), uint64(i/3%2))))
		v.Advance(now)
		pn++
	}
	if n := v.Stats().MovesFollowed - before; n > 2200 || n < 500 {
		t.Errorf("%d in two seconds", n)
	}
	if len(v.moves.moved) > maxMoved {
		t.Error(len(v.moves.moved))
	}
}

// TestMoveNotAttached: a move to what is not there waits until it is, or is superseded.
// This side does not go where nothing is.
func TestMoveNotAttached(t *testing.T) {
	s, r := bothCarriers(t, Datagrams)
	a, v := s.ends[0], s.ends[1]
	v.SetAttached(s.now, ByteStream, false)
	v.Move(s.now, ByteStream)
	if v.Active() != Datagrams {
		t.Fatal("moved to nothing")
	}
	a.Move(s.now, ByteStream)
	s.wait(100 * time.Millisecond)
	if v.Active() != Datagrams || v.Err() != nil || a.Active() != ByteStream {
		t.Fatal(v.Active(), v.Err())
	}
	if _, err := s.bulk(0, 100<<10, time.Minute); err != nil { // meanwhile, each its way
		t.Fatal(err)
	}
	if _, err := s.bulk(1, 100<<10, time.Minute); err != nil {
		t.Fatal(err)
	}
	r.forget()
	v.SetAttached(s.now, ByteStream, true)
	s.flush(1)
	if v.Active() != ByteStream || r.count(1, EventMoved) != 1 {
		t.Fatal(v.Active())
	}
	onlyOn(t, s, ByteStream)
	s.shutdown(t, 1)
}

// TestMoveLost: a MOVE that is lost goes again, by loss detection, by a probe, or on the
// next byte stream; data does not overtake it on the first packet.
func TestMoveLost(t *testing.T) {
	s, _ := bothCarriers(t, ByteStream)
	a, v := s.ends[0], s.ends[1]
	a.Write(s.now, 0, make([]byte, 100<<10))
	a.Move(s.now, Datagrams)
	first := a.AppendDatagram(s.now, nil)
	found := false
	for b := first[packetHeaderLen : len(first)-4]; len(b) > 0; {
		var c chunk
		n, err := parseChunk(b, &c)
		if err != nil {
			t.Fatal(err)
		}
		if c.typ == chunkStream && !found {
			t.Error("data comes first")
		}
		found = found || c.typ == chunkMove
		b = b[n:]
	}
	if !found {
		t.Errorf("no MOVE in %x", first)
	}
	s.wait(time.Second) // the first packet is lost
	if v.Active() != Datagrams {
		t.Fatal("never told")
	}
	if n, _ := v.Read(s.now, 0, make([]byte, 200<<10)); n != 100<<10 {
		t.Fatal(n)
	}
	a.Move(s.now, ByteStream)
	a.AppendFrame(s.now, nil) // goes with the connection
	s.cut()
	for _, a := range s.ends {
		a.SetAttached(s.now, ByteStream, false)
	}
	s.wait(time.Second)
	for _, a := range s.ends {
		a.SetAttached(s.now, ByteStream, true)
	}
	s.wait(100 * time.Millisecond)
	onlyOn(t, s, ByteStream)
}

// TestMoveReset: a byte stream that breaks takes what was on it along. It goes out on the
// next one, and meanwhile time does not stand still.
func TestMoveReset(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		s, _ := bothCarriers(t, ByteStream)
		a, v := s.ends[0], s.ends[1]
		s.pipe.stall = [2]bool{true, true}
		n, _ := a.Write(s.now, 0, make([]byte, 300<<10))
		v.Write(s.now, 0, make([]byte, 300<<10))
		s.wait(100 * time.Millisecond)
		s.cut()
		for _, x := range s.ends {
			if !replaced {
				x.SetAttached(s.now, ByteStream, false)
				if b := x.AppendFrame(s.now, nil); len(b) > 0 {
					t.Error("a frame for nothing")
				}
				s.wait(3 * time.Second)
				if at := x.Timeout(); !at.After(s.now) {
					t.Error("something is due")
				}
			}
		}
		for _, x := range s.ends {
			x.SetAttached(s.now, ByteStream, true)
		}
		got, buf := [2]int{}, make([]byte, 64<<10)
		if !s.run(5*time.Second, func() bool {
			for i, x := range s.ends {
				k, _ := x.Read(s.now, 0, buf)
				got[i] += k
			}
			return got[0] == n && got[1] == n
		}) {
			t.Fatalf("replaced %v: %d of %d", replaced, got, n)
		}
		s.shutdown(t, 1)
	}
}
