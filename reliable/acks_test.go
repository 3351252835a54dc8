package reliable

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// "The last packet is acknowledged within the ack delay", whatever came before it: a lonely
// one, the end of a burst, and the first of a burst after a pause.
func TestAckOfTheLast(t *testing.T) {
	for _, rtt := range []time.Duration{100 * time.Microsecond, 40 * time.Millisecond, 300 * time.Millisecond} {
		s := newRig(t, 1, wire{delay: rtt / 2, rate: 100 * mbit, queue: 4 << 20})
		if _, err := s.bulk(0, 8<<20, time.Minute); err != nil { // many come in a round trip
			t.Fatal(err)
		}
		s.wait(rtt + 100*time.Millisecond)
		a := s.ends[0]
		if rtt > 10*time.Millisecond && s.ends[1].acks.every <= ackEvery {
			t.Fatal("not many packets in a round trip")
		}
		for _, n := range []int{1, 1000, 5000, 200_000, 1, 50_000, 50_000, 1} {
			if m, err := a.Write(s.now, 0, make([]byte, n)); m != n || err != nil {
				t.Fatal(m, err)
			}
			last, came := s.now, s.ends[1].Stats().PacketsReceived
			var waited time.Duration
			s.run(time.Minute, func() bool {
				if c := s.ends[1].Stats().PacketsReceived; c > came {
					last, came = s.now, c
				}
				if s.ends[1].acks.waiting > 0 {
					waited = max(waited, s.now.Sub(last))
				}
				return a.eliciting == 0
			})
			if waited > DefaultAckDelay || a.eliciting > 0 {
				t.Errorf("RTT %v: %d bytes acknowledged after %v", rtt, n, waited)
			}
			s.drain(1)
			s.wait(50 * time.Millisecond)
		}
		if n := a.Stats().ProbeTimeouts; n > 0 {
			t.Errorf("RTT %v: %d probe timeouts", rtt, n)
		}
	}
}

// drain reads what an end has of stream 0.
func (s *rig) drain(end int) {
	buf := make([]byte, 1<<16)
	for {
		if n, err := s.ends[end].Read(s.now, 0, buf); n == 0 || err != nil {
			return
		}
	}
}

// ackScript is a receiver for which many packets come in a round trip of 64 ms.
func ackScript() (s *ackState, in func(at time.Duration, pns ...packetNumber)) {
	const rtt = 64 * time.Millisecond
	begin := instant(time.Second)
	s = &ackState{maxDelay: DefaultAckDelay, next: 1, every: 50, since: begin}
	s.received.add(0, 1)
	return s, func(at time.Duration, pns ...packetNumber) {
		for _, pn := range pns {
			s.packetReceived(begin.add(at), pn, true, false, rtt)
		}
	}
}

func (s *ackState) send(at time.Duration) { s.append(nil, instant(time.Second).add(at), 100) }

// After a pause, what came before it says nothing.
func TestAckAfterPause(t *testing.T) {
	s, in := ackScript()
	for pn := packetNumber(1); pn < 400; pn++ {
		in(time.Millisecond, pn)
	}
	in(64*time.Millisecond, 400)
	require.Equal(t, 400/acksPerRTT, s.every)
	for pn := packetNumber(401); pn < 800; pn++ {
		in(65*time.Millisecond, pn)
	}
	s.send(66 * time.Millisecond)
	in(10*time.Second, 800, 801)
	require.Equal(t, ackEvery, s.every)
	require.True(t, s.immediate)
}

// Where many packets came and then nothing, the last ACK is repeated for a round trip: lost
// ones in a row would stop a sender with a full window for several probe timeouts.
func TestAckRepeated(t *testing.T) {
	const pause = 8 * time.Millisecond // an eighth of the round trip
	begin := instant(time.Second)
	s, in := ackScript()
	in(time.Millisecond, 1, 2)
	s.send(2 * time.Millisecond)
	at := 2 * time.Millisecond
	for range acksPerRTT {
		require.Equal(t, begin.add(at+pause), s.timeout())
		require.False(t, s.due(begin.add(at+pause-1)))
		at += pause
		require.True(t, s.due(begin.add(at)))
		s.send(at)
	}
	require.Zero(t, s.timeout(), "not for ever")

	s.every, s.since = 50, begin.add(at)
	in(at, 3) // which begins it anew, from its own ACK on
	require.NotEqual(t, begin.add(at+pause), s.timeout())
	s.send(at + time.Millisecond)
	require.Equal(t, begin.add(at+time.Millisecond+pause), s.timeout())

	s.every = ackEvery // few came
	in(at+2*time.Millisecond, 4, 5)
	s.send(at + 2*time.Millisecond)
	require.Zero(t, s.timeout())
}
