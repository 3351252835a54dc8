package reliable

import (
	"bytes"
	"testing"
	"time"
)

// TestRefusedTwice: of a packet for which there is no room, a duplicate that the
// network makes delivers nothing a second time, and when the peer repeats what was in
// it, that arrives.
func TestRefusedTwice(t *testing.T) {
	s := newRig(t, 1, wire{delay: time.Millisecond})
	c, v := s.ends[0], s.ends[1]
	s.wait(time.Second)
	next := c.loss.sent.next + 100
	packet := func(chunks ...[]byte) []byte {
		next++
		return c.seal(append(c.appendHeader(nil, next-1), joined(chunks...)...), 0, next-1)
	}
	for i := range maxOutOfOrder {
		v.Receive(s.now, packet(streamChunk(0, uint64(2+2*i), "x", false, true)))
	}
	refused := packet(appendMessage(nil, false, []byte{0}, nil, []byte("once")), streamChunk(0, 3*maxOutOfOrder, "x", false, true))
	for range 3 {
		v.Receive(s.now, bytes.Clone(refused))
	}
	if st := v.Stats(); st.PacketsRefused != 1 || st.PacketsDuplicate != 2 || v.Err() != nil {
		t.Error(st.PacketsRefused, st.PacketsDuplicate, v.Err())
	}
	n := 0
	for {
		m, ok := v.ReceiveMessage(s.now)
		if !ok {
			break
		}
		n++
		if string(m.Payload) != "once" {
			t.Errorf("%q", m.Payload)
		}
	}
	if n != 1 {
		t.Errorf("a message came %d times", n)
	}
	if v.acks.duplicate(next - 1) {
		t.Error("a refused packet is acknowledged")
	}
	v.Receive(s.now, packet(streamChunk(0, 0, "xxxxx", false, true)))
	v.Receive(s.now, packet(streamChunk(0, 3*maxOutOfOrder, "x", false, true)))
	if st := v.Stats(); st.PacketsRefused != 1 || v.Err() != nil {
		t.Error("there is room again", st.PacketsRefused, v.Err())
	}
	for range 10 * maxRefused {
		next++ // so that they do not touch
		v.refuse(next)
	}
	if len(v.refused) > maxRefused || !v.refused.contains(next) {
		t.Error(len(v.refused))
	}
}

// TestPingIsAnswerable: a packet that asks whether the peer is there is larger than the
// 30 bytes of the answer of one that does not know it. PROTOCOL §7.4; trap S9.
func TestPingIsAnswerable(t *testing.T) {
	for _, sum := range []bool{false, true} {
		s := newRig(t, 1, wire{delay: time.Millisecond}, func(c *Config) { c.Checksum = sum })
		s.wait(time.Second)
		c := s.ends[0]
		c.Ping()
		b := c.AppendDatagram(s.now, nil)
		if len(b) < minPingPacket || len(b) > 40 {
			t.Errorf("checksum %v: %d bytes: %x", sum, len(b), b)
		}
		s.ends[1].Receive(s.now, b)
		if st := s.ends[1].Stats(); st.PacketsDropped > 0 || s.ends[1].Err() != nil {
			t.Error(st.PacketsDropped, s.ends[1].Err())
		}
	}
}

// TestPacketsRetransmitted: packets that repeat something are counted, others are not.
func TestPacketsRetransmitted(t *testing.T) {
	for _, loss := range []float64{0, 0.05} {
		s := newRig(t, 1, wire{delay: 5 * time.Millisecond, loss: loss})
		if _, err := s.bulk(0, 1<<20, time.Minute); err != nil {
			t.Fatal(err)
		}
		st := s.ends[0].Stats()
		if (st.PacketsRetransmitted > 0) != (loss > 0) || st.PacketsRetransmitted > st.PacketsLost+2*st.ProbeTimeouts+10 ||
			st.BytesRetransmitted > st.PacketsRetransmitted*uint64(st.MTU) {
			t.Errorf("%d packets, %d bytes, of %d lost", st.PacketsRetransmitted, st.BytesRetransmitted, st.PacketsLost)
		}
	}
}
