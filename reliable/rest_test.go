package reliable

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/vstp-go/vstp/tlsvstp"
)

// A restingProtection counts how often it rests.
type restingProtection struct {
	*tlsvstp.Protection
	rests int
	awake bool // something was sealed or opened since
}

func (p *restingProtection) Rest() {
	p.rests++
	p.awake = false
	p.Protection.Rest()
}

func (p *restingProtection) SealFrom(b []byte, start int, chunks []byte, pn uint64) []byte {
	p.awake = true
	return p.Protection.SealFrom(b, start, chunks, pn)
}

func (p *restingProtection) Seal(b []byte, start int, pn uint64) []byte {
	p.awake = true
	return p.Protection.Seal(b, start, pn)
}

func (p *restingProtection) Open(packet []byte, next uint64) (uint64, []byte, bool) {
	p.awake = true
	return p.Protection.Open(packet, next)
}

// TestKeysRest: what packets need of the keys is given back a second after the last packet,
// and at once after a sign of life; packets of strangers have it made once, not each time;
// and the association goes on, also with a key update.
func TestKeysRest(t *testing.T) {
	sealed(func() {
		s := newRig(t, 1, wire{delay: time.Millisecond}, func(c *Config) { c.KeepAlive = 10 * time.Second })
		var ps [2]*restingProtection
		for i, a := range s.ends {
			ps[i] = &restingProtection{Protection: a.c.Protection.(*tlsvstp.Protection)}
			a.c.Protection = ps[i]
		}
		var last []byte
		s.links[0].drop = func(b []byte) bool { last = bytes.Clone(b); return false }
		asleep := func(when string) {
			t.Helper()
			for i, p := range ps {
				if p.awake {
					t.Errorf("%s: end %d is awake, after it has rested %d times", when, i, p.rests)
				}
			}
		}
		if _, err := s.bulk(0, 1000, time.Second); err != nil {
			t.Fatal(err)
		}
		if !ps[0].awake || !ps[1].awake {
			t.Error("no packet was protected")
		}
		s.wait(2 * restAfter)
		asleep("after the first packets")

		// Signs of life. In between there is nothing to be done.
		for range 3 {
			s.wait(10 * time.Second)
			asleep("after signs of life")
		}
		v, rests := s.ends[1], ps[1].rests
		for i := range 1000 {
			b := bytes.Clone(last)
			b[len(b)-1-i%16] ^= 1
			if v.Receive(s.now, b).Opened {
				t.Fatal("a forged packet opens")
			}
			v.AppendDatagram(s.now, nil)
		}
		if ps[1].rests != rests || !ps[1].awake {
			t.Errorf("rested %d times between forged packets", ps[1].rests-rests)
		}
		if at := v.Timeout(); !at.Equal(s.now.Add(restAfter)) {
			t.Errorf("goes on resting after %v", at.Sub(s.now))
		}
		s.wait(restAfter + time.Millisecond)
		asleep("after forged packets")
		if ps[1].rests != rests+1 {
			t.Errorf("rested %d times after forged packets", ps[1].rests-rests)
		}

		for i := range 3 {
			if _, err := s.bulk(i%2, 100000, time.Second); err != nil {
				t.Error(err)
			}
			s.wait(4 * restAfter) // with a probe of the MTU
			asleep(fmt.Sprint("after bytes ", i, s.now.Sub(s.start)))
			if !s.ends[0].c.Protection.Update() {
				t.Error("no update at rest")
			}
		}
	})
}
