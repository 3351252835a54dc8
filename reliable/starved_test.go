package reliable

import (
	"testing"
	"time"
)

// starvedRig is a rig in which the server reads nothing, and the client has a stream or
// messages for which there is no credit any more.
func starvedRig(t *testing.T, messages bool) (s *rig, all []*Outgoing) {
	s = newRig(t, 1, wire{delay: 10 * time.Millisecond}, func(c *Config) {
		c.Local.MaxMessages, c.Peer.MaxMessages = 20000, 20000
		c.IdleTimeout = 5 * time.Second
	})
	c := s.ends[0]
	if messages {
		for range 30 {
			m := &Outgoing{Payload: make([]byte, 1000), Repair: true}
			if err := c.SendMessage(s.now, m); err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
		}
	} else {
		s.run(time.Second, func() bool {
			c.Write(s.now, 0, make([]byte, 1<<20))
			return false
		})
	}
	s.wait(20 * time.Second)
	return s, all
}

// TestStarvedAsks: who waits for credit, with nothing on its way, asks for a sign of life
// now and then, with a packet that a peer which does not know the association answers.
// PROTOCOL §7.7, §7.4. A slow reader does not end it, however long that takes.
func TestStarvedAsks(t *testing.T) {
	for _, messages := range []bool{false, true} {
		s, all := starvedRig(t, messages)
		c, v := s.ends[0], s.ends[1]
		last, asked := s.now, 0
		s.links[0].drop = func(b []byte) bool {
			if s.now.Sub(last) > maxPTO+time.Second {
				t.Errorf("messages %v: nothing for %v", messages, s.now.Sub(last))
			}
			if len(b) <= minPingPacket-1 {
				t.Errorf("%d bytes", len(b))
			}
			last = s.now
			asked++
			return false
		}
		s.wait(5 * time.Minute)
		if asked < 100 || asked > 400 {
			t.Errorf("messages %v: asked %d times in 5 minutes", messages, asked)
		}
		if c.Err() != nil || v.Err() != nil {
			t.Fatal(c.Err(), v.Err())
		}
		s.links[0].drop = nil
		s.run(time.Minute, func() bool { // now it reads
			buf := make([]byte, 1<<16)
			for n, _ := v.Read(s.now, 0, buf); n > 0; n, _ = v.Read(s.now, 0, buf) {
			}
			for _, ok := v.ReceiveMessage(s.now); ok; _, ok = v.ReceiveMessage(s.now) {
			}
			done := c.Unacked(0) == 0
			for _, m := range all {
				done = done && m.Done()
			}
			return done
		})
		if n := c.Unacked(0); n > 0 || c.messages > 0 {
			t.Errorf("%d bytes, %d messages do not go on", n, c.messages)
		}
		sent := s.links[0].sent // and then there is rest
		s.wait(4 * time.Second)
		if n := s.links[0].sent - sent; n > 4 {
			t.Errorf("%d packets with nothing to say", n)
		}
	}
}

// TestStarvedDead: a peer that has gone meanwhile is noticed, by the idle timeout and,
// by messages that want an acknowledgement, as Config.Retry says.
func TestStarvedDead(t *testing.T) {
	for _, messages := range []bool{false, true} {
		s, _ := starvedRig(t, messages)
		c := s.ends[0]
		s.links[1].down = true
		start := s.now
		s.run(time.Minute, func() bool { return c.Err() != nil })
		if d := s.now.Sub(start); c.Err() != ErrIdleTimeout || d > 5*time.Second+maxPTO {
			t.Error(c.Err(), d)
		}
	}
	s := newRig(t, 1, wire{delay: 10 * time.Millisecond}, func(c *Config) {
		c.Local.MaxMessages, c.Peer.MaxMessages = 20000, 20000
		c.IdleTimeout = 0
	})
	c := s.ends[0]
	for range 30 {
		c.SendMessage(s.now, &Outgoing{Payload: make([]byte, 1000), Repair: true})
	}
	m := &Outgoing{Payload: make([]byte, 2000), Ack: true}
	c.SendMessage(s.now, m)
	s.wait(5 * time.Minute)
	if m.Done() {
		t.Fatal("slow is not dead:", m.Err())
	}
	s.links[1].down = true
	start := s.now
	s.run(time.Minute, m.Done)
	// Four attempts of 2 s, with 100, 200 and 400 ms between them.
	if d := s.now.Sub(start); m.Err() != ErrNoAck || d < 8700*time.Millisecond || d > 8700*time.Millisecond+maxPTO {
		t.Error(m.Err(), d)
	}
}

// TestPatience: the time of all attempts, without overflow.
func TestPatience(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		r    Retry
		want time.Duration
	}{
		{Retry{}, 0},
		{Retry{AckTimeout: s}, s},
		{Retry{AckTimeout: s, MaxRetries: 1, Delay: s, MaxDelay: 9 * s}, 3 * s},
		{Retry{AckTimeout: s, MaxRetries: 4, Delay: s, MaxDelay: 3 * s}, 14 * s},
		{Retry{AckTimeout: s, MaxRetries: 1 << 30, Delay: s, MaxDelay: 3 * s}, maxPatience},
		{Retry{AckTimeout: 1 << 62, MaxRetries: 3, Delay: 1 << 62, MaxDelay: 1 << 62}, maxPatience},
		{Retry{AckTimeout: s, MaxRetries: 100, Delay: 1, MaxDelay: 3 * s}, 101*s + 68*3*s + 4294967295},
		{Retry{AckTimeout: s, MaxRetries: 1 << 20, MaxDelay: 3 * s}, (1<<20 + 1) * s},
	} {
		if got := c.r.patience(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.r, got, c.want)
		}
	}
}
