package reliable

import (
	"testing"
	"time"
)

// TestCancelledPlaces: places in a channel that stay empty are kept as runs, so that a
// sender of which many ordered messages expire behind one that is stuck goes on, and one
// that only wants to fill memory does not.
func TestCancelledPlaces(t *testing.T) {
	s := newRig(t, 1, wire{})
	a := s.ends[1]
	pn := packetNumber(0)
	give := func(from, step uint64) {
		var b []byte
		for n := range uint64(50) {
			seq := from + n*step
			b = appendCancel(b, pn2id(pn)+n, 1, true, 5, seq)
		}
		a.Receive(s.now, forge(a, pn, b))
		pn++
	}
	for range 1000 { // 50,000 in a row behind place 0
		give(1+50*uint64(pn), 1)
	}
	if a.Err() != nil || a.places != 1 {
		t.Fatal(a.Err(), a.places)
	}
	for n := uint64(0); a.Err() == nil; n++ {
		if n > maxPlaces {
			t.Fatal("no end of places")
		}
		give(1<<30+100*n, 2)
	}
	if a.places > maxPlaces+1 {
		t.Error(a.places)
	}
}

// pn2id gives each packet of a test 50 message ids of its own.
func pn2id(pn packetNumber) uint64 { return 50 * uint64(pn) }

// TestCreditFlood: a packet full of chunks that raise a credit is as little work as one.
func TestCreditFlood(t *testing.T) {
	s := newRig(t, 1, wire{}, func(c *Config) { c.Peer.MaxStreams, c.Local.MaxStreams = 1000, 1000 })
	a := s.ends[0]
	for range 900 {
		if _, err := a.OpenStream(); err != nil {
			t.Fatal(err)
		}
	}
	var b []byte
	v := uint64(10 << 20)
	for len(b) < 65000 {
		v++
		b = appendValues(b, chunkMaxData, v)
		b = appendValues(b, chunkMaxMessages, v<<8)
	}
	begin := time.Now()
	a.Receive(s.now, forge(a, 0, b))
	if d := time.Since(begin); d > 500*time.Millisecond || a.dataCredit != int64(v) {
		t.Errorf("took %v", d)
	}
}

// TestCloseIsHeard: packets of a peer that has not heard of the end do not use up the
// tries of telling it.
func TestCloseIsHeard(t *testing.T) {
	s := newRig(t, 1, wire{delay: 5 * time.Millisecond})
	s.bulk(0, 100000, time.Second)
	s.ends[1].Write(s.now, 0, make([]byte, 1<<20))
	s.run(20*time.Millisecond, func() bool { return false })
	s.links[0].down = true
	s.ends[0].Close(s.now, 300, "enough")
	s.run(300*time.Millisecond, func() bool { return false })
	s.links[0].down = false
	s.run(time.Minute, func() bool { return s.ends[1].Err() != nil })
	if want := (&ProtocolError{Remote: true, Code: 300}); !want.Is(s.ends[1].Err()) {
		t.Error(s.ends[1].Err())
	}
}
