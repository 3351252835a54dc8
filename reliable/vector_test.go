package reliable

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// streamRig is a rig on the byte stream, with much credit.
func streamRig(t testing.TB) *rig {
	return newRig(t, 1, wire{}, func(c *Config) {
		c.Moves, c.Carrier, c.Checksum = true, ByteStream, true
		c.Local.MaxData, c.Local.MaxStreamData = 8<<20, 8<<20
		c.Peer = c.Local
	})
}

// TestFrameVector: the pieces together are what AppendFrame makes.
func TestFrameVector(t *testing.T) {
	one, two := streamRig(t), streamRig(t)
	mem := make([]byte, 4*MaxFrame)
	var v FrameVector
	for i, n := range []int{1, 64 << 10, 100, 5000, 200_000, 1023, 1024, 40_000, 64 << 10, 64 << 10} {
		data := bytes.Repeat([]byte{byte(i), 1, 2, 3, 4, 5, 6}, n/7+1)[:n]
		for _, s := range []*rig{one, two} {
			s.now = s.now.Add(time.Millisecond)
			s.ends[0].Advance(s.now)
			if k, err := s.ends[0].Write(s.now, 0, data); k != n || err != nil {
				t.Fatal(k, err)
			}
		}
		if i%3 == 1 { // messages between
			for _, s := range []*rig{one, two} {
				if err := s.ends[0].SendMessage(s.now, &Outgoing{Payload: data[:min(n, 3000)], Repair: true}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for k, r := range []int{0, 1} { // and what comes back
			var want, got []byte
			for {
				m := len(want)
				if want = one.ends[r].AppendFrame(one.now, want); len(want) == m {
					break
				}
			}
			v.Init(mem)
			for two.ends[r].AppendFrames(two.now, &v) {
			}
			pieces := v.Pieces(nil)
			for _, p := range pieces {
				got = append(got, p...)
			}
			if !bytes.Equal(got, want) || v.Len() != len(want) {
				t.Fatalf("%d: %d bytes in %d pieces, other than the %d", i, len(got), len(pieces), len(want))
			}
			if k == 0 && n >= 5000 && len(pieces) < 2 {
				t.Errorf("%d: a copy", i)
			}
			two.ends[r].Written(&v)
			for _, s := range []*rig{one, two} {
				if !deliver(s.ends[1-r], s.now, got) {
					t.Fatal("not opened")
				}
				for s.ends[1-r].NextEvent().Kind != EventNone {
				}
			}
		}
		buf := make([]byte, 1<<20)
		for _, s := range []*rig{one, two} {
			if k, err := s.ends[1].Read(s.now, 0, buf); !bytes.Equal(buf[:k], data) || err != nil {
				t.Fatalf("%d: read %d bytes, %v", i, k, err)
			}
		}
	}
}

// deliver gives a the frames in b.
func deliver(a *Assoc, now time.Time, b []byte) bool {
	for len(b) > 0 {
		n := packetHeaderLen + int(binary.BigEndian.Uint32(b[7:]))
		if framing.Flags(b[4]).Has(framing.FlagCRC) {
			n += 4
		}
		if !a.ReceiveFrame(now, b[:n]).Opened {
			return false
		}
		b = b[n:]
	}
	return true
}

// TestFrameVectorPins: until Written, views stay as they are, although the peer has
// acknowledged what is in them and more was written since.
func TestFrameVectorPins(t *testing.T) {
	s := streamRig(t)
	c, p := s.ends[0], s.ends[1]
	mem, buf := make([]byte, 4*MaxFrame), make([]byte, 1<<20)
	var v FrameVector
	for round := range 50 {
		n := 1 + round*4000
		s.now = s.now.Add(time.Millisecond)
		c.Advance(s.now)
		if _, err := c.Write(s.now, 0, bytes.Repeat([]byte{byte(round)}, n)); err != nil {
			t.Fatal(err)
		}
		v.Init(mem)
		for v.Len()+MaxFrame <= len(mem) && c.AppendFrames(s.now, &v) {
		}
		pieces := v.Pieces(nil)
		was := bytes.Join(pieces, nil)
		deliver(p, s.now, was)
		p.Read(s.now, 0, buf)
		s.now = s.now.Add(30 * time.Millisecond)
		p.Advance(s.now)
		deliver(c, s.now, p.AppendFrame(s.now, nil))
		if c.Unacked(0) != 0 {
			t.Fatalf("%d bytes are kept", c.Unacked(0))
		}
		c.Write(s.now, 0, bytes.Repeat([]byte{0xff}, 200_000))
		c.Advance(s.now.Add(2 * time.Second)) // rest
		if !bytes.Equal(bytes.Join(pieces, nil), was) {
			t.Fatalf("round %d: overwritten", round)
		}
		c.Written(&v)
		if c.pool.pins != 0 || len(c.pool.limbo) > 0 {
			t.Fatalf("%d pins, %d blocks in limbo", c.pool.pins, len(c.pool.limbo))
		}
		for b := []byte{0}; len(b) > 0; { // all out
			b = c.AppendFrame(s.now, nil)
			deliver(p, s.now, b)
			p.Read(s.now, 0, buf)
			s.now = s.now.Add(30 * time.Millisecond)
			p.Advance(s.now)
			deliver(c, s.now, p.AppendFrame(s.now, nil))
		}
	}
}
