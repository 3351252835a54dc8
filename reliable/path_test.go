package reliable

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"
)

// TestPathBytes: challenge, response and what follows are these very bytes.
// PROTOCOL §7.5, §7.13.
func TestPathBytes(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond}, func(c *Config) { c.Checksum = false })
	r := record(s)
	s.wait(time.Second)
	c, v := s.ends[0], s.ends[1]
	data := [8]byte{0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4}
	head := func(id string, length string, pn packetNumber) string {
		return "565401" + "0300" + "0f00" + length + "010c01" + id + hex.EncodeToString([]byte{0, 0, 0, byte(pn)})
	}
	check := func(what string, got []byte, want string) {
		t.Helper()
		if g := hex.EncodeToString(got); g != want {
			t.Fatalf("%s:\n got %s\nwant %s", what, g, want)
		}
	}
	pn := v.loss.sent.next
	b := v.AppendChallenge(s.now, nil, data, 50)
	check("challenge", b, head("0100000000000000", "00000018", pn)+"1a"+"deadbeef01020304"+"000000000000000000000000000000")
	if got := c.Receive(s.now, bytes.Clone(b)); !got.Opened || !got.Latest {
		t.Fatal(got)
	}
	if got := c.Receive(s.now, bytes.Clone(b)); got.Opened || got.Latest {
		t.Fatal("a duplicate is", got)
	}
	c.cc.(*bbr).cwnd = 0 // the window is no reason to be silent
	pn = c.loss.sent.next
	b = c.AppendDatagram(s.now, nil)
	check("response", b, head("0200000000000000", "00000009", pn)+"1b"+"deadbeef01020304")
	if c.loss.inflight != 0 || c.loss.sent.head >= 0 {
		t.Error("a response is in flight")
	}
	wrong := bytes.Clone(b)
	wrong[len(wrong)-1]++
	wrong[25] += 2
	v.Receive(s.now, wrong)
	if got := v.Receive(s.now, bytes.Clone(b)); !got.Opened || got.Latest {
		t.Fatal("an older packet is", got)
	}
	wrong[25]++
	copy(wrong[len(wrong)-8:], data[:]) // the right one once more
	v.Receive(s.now, wrong)
	s.flush(1)
	if n := r.count(1, EventPathResponse); n != 1 {
		t.Fatalf("%d responses", n)
	}
	for _, e := range r.events[1] {
		if e.Kind == EventPathResponse && e.Data != data {
			t.Fatal(e.Data)
		}
	}
	if b := v.AppendChallenge(s.now, []byte("x"), data, 34); string(b) != "x" {
		t.Error("a challenge that has no room")
	}
	if b := v.AppendChallenge(s.now, nil, data, 35); len(b) != 35 {
		t.Errorf("%d bytes", len(b))
	}
}

// TestPathElsewhere: without TLS, what comes from elsewhere does nothing but make a
// candidate, whatever it is, unless it answers a challenge. With the answer it is like
// any other packet.
func TestPathElsewhere(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	s.wait(time.Second)
	c, v := s.ends[0], s.ends[1]
	before, next := v.stats, v.acks.next
	for _, tt := range []struct {
		pn     packetNumber
		chunks []byte
		want   Received
	}{
		{next, appendClose(nil, 5, "x"), Received{Opened: true, Latest: true}},
		{next + 1<<20, []byte{1}, Received{Opened: true, Latest: true}},
		{next, streamChunk(0, 0, "forged", true, true), Received{Opened: true, Latest: true}},
		{next, append([]byte{byte(chunkPathResponse)}, "forged.."...), Received{Opened: true, Latest: true}},
		{next - 1, []byte{1}, Received{}},
		{next, []byte{0x1f}, Received{}},
		{next, []byte{byte(chunkPathResponse), 1}, Received{}},
		{next, nil, Received{}},
	} {
		if got := v.ReceiveElsewhere(s.now, forge(v, tt.pn, tt.chunks)); got != tt.want {
			t.Errorf("%x: %+v", tt.chunks, got)
		}
	}
	if v.Err() != nil || v.stats != before || v.acks.next != next || v.Timeout().Before(s.now) && !v.Timeout().IsZero() {
		t.Errorf("%v: from %+v to %+v", v.Err(), before, v.stats)
	}
	// The client has gone, and closed. Its answer comes with the CLOSE.
	c.Close(s.now, 9, "bye")
	c.AppendDatagram(s.now, nil)
	data := [8]byte{1, 2, 3}
	c.Receive(s.now, v.AppendChallenge(s.now, nil, data, 100))
	b := c.AppendDatagram(s.now, nil)
	want := append([]byte{byte(chunkPathResponse)}, data[:]...)
	want = appendClose(want, 9, "bye")
	if got := b[packetHeaderLen : len(b)-4]; !bytes.Equal(got, want) {
		t.Fatalf("%x, not %x", got, want)
	}
	if got := v.ReceiveElsewhere(s.now, b); got != (Received{true, true, true}) || v.Err() == nil {
		t.Error(got, v.Err())
	}
	// After the end, who knows no challenge does not end it earlier.
	s = newRig(t, 1, wire{delay: time.Millisecond})
	s.wait(time.Second)
	v = s.ends[1]
	v.Close(s.now, 9, "bye")
	v.AppendDatagram(s.now, nil)
	v.ReceiveElsewhere(s.now, forge(v, v.acks.next, appendClose(nil, 0, "")))
	if v.doneAt != 0 || len(v.AppendDatagram(s.now, nil)) == 0 {
		t.Error("a stranger's CLOSE counts")
	}
}

// TestPathChallengesBounded: whatever a peer challenges or answers, little is kept, and
// what it never acknowledges does not pile up. Trap S3.
func TestPathChallengesBounded(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	s.wait(time.Second)
	v := s.ends[1]
	pn := v.acks.next
	var many []byte
	for i := range 100 {
		many = append(append(many, byte(chunkPathChallenge)), 0, 0, 0, 0, 0, 0, 0, byte(i))
		many = append(append(many, byte(chunkPathResponse)), 0, 0, 0, 0, 0, 0, 0, byte(i))
	}
	for range 20000 {
		v.Receive(s.now, forge(v, pn, many))
		pn++
		for n := 0; ; n++ {
			b := v.AppendDatagram(s.now, nil)
			if len(b) == 0 {
				break
			}
			if len(b) > 200 || n > 2 {
				t.Fatalf("answer %d has %d bytes", n, len(b))
			}
		}
		if len(v.pathResponses) > maxPathResponses || len(v.events) > 4 {
			t.Fatal(len(v.pathResponses), len(v.events))
		}
	}
	if n := len(v.loss.sent.ring); n > 4*maxAckRecords {
		t.Errorf("%d records", n)
	}
	for i := range 100 {
		v.AppendChallenge(s.now, nil, [8]byte{byte(i)}, 1200)
	}
	if len(v.challenges) != maxChallenges {
		t.Error(len(v.challenges))
	}
}

// TestPathChanged: what is in flight goes out again, and only another host begins anew
// with what is known of the path. RFC 9000 §9.4; trap G4.
func TestPathChanged(t *testing.T) {
	for _, controller := range []Controller{BBR, CUBIC} {
		for _, same := range []bool{false, true} {
			s := newRig(t, 1, wire{delay: 10 * time.Millisecond, rate: 100 * mbit, queue: 1 << 20}, func(c *Config) { c.Controller = controller })
			a := s.ends[0]
			if _, err := s.bulk(0, 8<<20, time.Minute); err != nil {
				t.Fatal(err)
			}
			before := a.Stats()
			data := make([]byte, 256<<10)
			a.Write(s.now, 0, data)
			for len(a.AppendDatagram(s.now, nil)) > 0 { // all of it is lost
			}
			if a.loss.inflight == 0 {
				t.Fatal("nothing in flight")
			}
			a.PathChanged(s.now, 3*time.Millisecond, same)
			after := a.Stats()
			if after.InFlight != 0 || a.eliciting != 0 || after.PacketsLost == before.PacketsLost {
				t.Errorf("%v: in flight %d bytes, %d packets", controller, after.InFlight, a.eliciting)
			}
			if same && (after.RTT != before.RTT || after.CongestionWindow != before.CongestionWindow || after.MTU != before.MTU) {
				t.Errorf("%v: same host: from %+v\nto %+v", controller, before, after)
			}
			if !same && (after.RTT != 3*time.Millisecond || after.MinRTT != after.RTT || after.MTU != BaseMTU || after.CongestionWindow > bbrFirstWindow*BaseMTU) {
				t.Errorf("%v: another host: from %+v\nto %+v", controller, before, after)
			}
			b := a.AppendDatagram(s.now, nil)
			if len(b) == 0 || b[packetHeaderLen] != byte(chunkPing) && b[packetHeaderLen] != byte(chunkAck) {
				t.Fatalf("first on the new path: %x", b[:min(len(b), 40)])
			}
			s.send(0, b)
			got := 0
			buf := make([]byte, 64<<10)
			if !s.run(10*time.Second, func() bool {
				n, _ := s.ends[1].Read(s.now, 0, buf)
				got += n
				return got == len(data)
			}) {
				t.Fatalf("%v: %d bytes", controller, got)
			}
			s.wait(5 * time.Second)
			if a.Err() != nil || a.mtu.current != 1472 && a.mtu.full >= mtuFullPackets {
				t.Errorf("%v: %v, MTU %d", controller, a.Err(), a.mtu.current)
			}
			s.shutdown(t, 1)
		}
	}
}

// TestPathChangedAgainAndAgain: an association lives with any number of changes.
func TestPathChangedAgainAndAgain(t *testing.T) {
	for seed := range uint64(6) {
		s := newRig(t, seed, wire{delay: 10 * time.Millisecond, loss: 0.05, jitter: 5 * time.Millisecond, rate: 50 * mbit, queue: 1 << 20})
		next := s.now
		changes := 0
		_, err := s.bulkWith(0, 8<<20, 5*time.Minute, func() {
			if s.now.Before(next) || changes == 100 {
				return
			}
			changes++
			next = s.now.Add(time.Duration(20+s.rng.IntN(100)) * time.Millisecond)
			s.way = s.way[:0] // what is on its way is lost
			s.ends[s.rng.IntN(2)].PathChanged(s.now, time.Duration(s.rng.IntN(3))*20*time.Millisecond, s.rng.IntN(2) == 0)
		})
		if err != nil {
			t.Fatal(seed, err)
		}
		for _, a := range s.ends {
			bounds(t, a)
		}
		s.shutdown(t, seed)
	}
}

// TestUnheard counts the probe timeouts since the peer was heard last.
func TestUnheard(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	s.wait(time.Second)
	a := s.ends[0]
	if n, d := a.Unheard(s.now); n != 0 || d != 0 || a.ProbeTimeout() > time.Second {
		t.Fatal(n, d, a.ProbeTimeout())
	}
	s.links[1].down = true
	a.Write(s.now, 0, []byte("x"))
	s.wait(2 * time.Second)
	if n, d := a.Unheard(s.now); n < 3 || d < time.Second || d > 2*time.Second {
		t.Fatal(n, d)
	}
	s.links[1].down = false
	s.wait(3 * time.Second)
	if n, d := a.Unheard(s.now); n != 0 || d != 0 {
		t.Fatal(n, d)
	}
}

// TestLull: a client to which much came asks once, when nothing comes any more, whether
// that was all; where it is now, the server learns by that. A server does not ask, and
// neither does who got little.
func TestLull(t *testing.T) {
	for from, packets := range []int{1: 40, 0: 40} {
		s := newRig(t, 1, wire{delay: 10 * time.Millisecond})
		s.wait(5 * time.Second)
		if _, err := s.bulk(from, packets*1000, time.Minute); err != nil {
			t.Fatal(err)
		}
		s.wait(900 * time.Millisecond)
		before := s.ends[1-from].stats.PacketsSent
		s.wait(10 * time.Second)
		want := uint64(from) // the client is end 0, which gets what end 1 sends
		if got := s.ends[1-from].stats.PacketsSent - before; got != want {
			t.Errorf("from %d: %d packets in silence", from, got)
		}
	}
	s := newRig(t, 1, wire{delay: 10 * time.Millisecond})
	s.wait(5 * time.Second)
	s.bulk(1, 1000, time.Minute)
	s.wait(900 * time.Millisecond)
	before := s.ends[0].stats.PacketsSent
	s.wait(10 * time.Second)
	if s.ends[0].stats.PacketsSent != before {
		t.Error("a client that got little asks")
	}
}
