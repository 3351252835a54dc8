package reliable

import (
	"testing"
	"time"
)

// "A lost last packet recovers in about one PTO": of a message, and of a stream, with the
// peer's delay of acknowledgements, on a path that was measured. The data is there after
// the probe timeout, which is a round trip and some, and one way.
func TestLostTail(t *testing.T) {
	for _, size := range []int{200, 5000, 50_000} {
		for _, stream := range []bool{false, true} {
			s := newRig(t, 1, wire{delay: 20 * time.Millisecond})
			for range 10 { // of which the path is known
				if err := s.ends[0].SendMessage(s.now, &Outgoing{Payload: make([]byte, size), Repair: true}); err != nil {
					t.Fatal(err)
				}
				s.wait(200 * time.Millisecond)
				s.ends[1].ReceiveMessage(s.now)
			}
			// What is sent next goes at once: its last packet is lost.
			if stream {
				if n, err := s.ends[0].Write(s.now, 0, make([]byte, size)); n != size || err != nil {
					t.Fatal(n, err)
				}
			} else if err := s.ends[0].SendMessage(s.now, &Outgoing{Payload: make([]byte, size), Repair: true}); err != nil {
				t.Fatal(err)
			}
			var last []byte
			begin := s.now
			a := s.ends[0]
			for b := a.AppendDatagram(s.now, nil); len(b) > 0 || a.ready.len() > 0; b = a.AppendDatagram(s.now, nil) {
				if len(b) == 0 { // the pacer
					s.now = a.Timeout()
					a.Advance(s.now)
					continue
				}
				last = b
				if a.ready.len() > 0 {
					s.send(0, b)
				}
			}
			if len(last) == 0 {
				t.Fatal("nothing was sent")
			}
			sent := s.now
			got := 0
			buf := make([]byte, 1<<16)
			if !s.run(5*time.Second, func() bool {
				if stream {
					n, _ := s.ends[1].Read(s.now, 0, buf)
					got += n
				} else if in, ok := s.ends[1].ReceiveMessage(s.now); ok {
					got += len(in.Payload)
				}
				return got == size
			}) {
				t.Fatalf("%d of %d bytes", got, size)
			}
			took := s.now.Sub(sent)
			t.Logf("%d bytes, stream %v: %v after the last packet, sent in %v; %d probe timeouts, RTT %v +- %v", size, stream, took, sent.Sub(begin),
				a.Stats().ProbeTimeouts, a.Stats().RTT, a.Stats().RTTVar)
			if most := a.rtt.pto(a.c.Peer.AckDelay) + 20*time.Millisecond + 2*time.Millisecond; took > most {
				t.Errorf("%d bytes, stream %v: %v, over %v", size, stream, took, most)
			}
		}
	}
}

// "In flows that the application limits, loss is detected by later packets at once": one
// way, a round trip, and the interval until the next packet.
func TestLostInSparseFlow(t *testing.T) {
	for _, interval := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond} {
		s := newRig(t, 1, wire{delay: 20 * time.Millisecond})
		n := 0
		s.links[0].drop = func([]byte) bool { n++; return n%50 == 49 }
		f := flow{size: 200, interval: interval, count: 1000, warm: 20, message: Outgoing{Repair: true}}
		f.run(s, nil)
		// The second packet behind it, if the first comes sooner than an eighth of the RTT.
		most := 60*time.Millisecond + max(interval, 5*time.Millisecond) + 3*time.Millisecond
		t.Logf("every %v: p50 %v p99 %v max %v", interval, f.at(50), f.at(99), f.at(100))
		if f.at(99) > most || f.at(50) > 21*time.Millisecond {
			t.Errorf("every %v: p50 %v p99 %v, over %v", interval, f.at(50), f.at(99), most)
		}
	}
}
