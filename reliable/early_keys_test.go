package reliable

import (
	"testing"
	"time"

	"github.com/vstp-go/vstp/tlsvstp"
)

// TestEarlyKeys: 0-RTT with real keys, which come as those of a handshake do: the server
// has early keys and those for sealing first, the client both of the Application level
// later, the server those for opening last. PROTOCOL §8.5, §8.9.
func TestEarlyKeys(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		for seed := range uint64(20) {
			s := newRig(t, seed, wire{delay: 10 * time.Millisecond, jitter: 10 * time.Millisecond, loss: 0.1, dup: 0.1, corrupt: 0.05})
			cc, sc := s.ends[0].c, s.ends[1].c
			cp, sp := tlsvstp.NewProtection(), tlsvstp.NewProtection()
			cc.Protection, sc.Protection, cc.Early, cc.PeerID = cp, sp, true, ConnID{}
			cp.SetEarlyWrite(testKeys(t, 'e'))
			if accepted {
				sp.SetEarlyRead(testKeys(t, 'e'))
			}
			sp.SetWrite(testKeys(t, 's'))
			c, v := New(s.now, &cc), New(s.now, &sc)
			s.ends = [2]*Assoc{c, v}
			w := doEarly(t, s, c)
			v.WriteControl([]byte("WELCOME"))
			v.Write(s.now, 0, []byte("early answer"))
			s.wait(15 * time.Millisecond)
			if got := v.streams.get(0).in.highest > 0; got != accepted && seed == 0 {
				t.Errorf("accepted %v, has something %v", accepted, got)
			}
			cp.SetRead(testKeys(t, 's'))
			cp.SetWrite(testKeys(t, 'c'))
			established(s, accepted)
			s.wait(15 * time.Millisecond)
			sp.SetRead(testKeys(t, 'c'))
			v.SendHandshakeDone()
			checkEarly(t, s, w)
			s.wait(10 * time.Second)
			sp.SetEarlyRead(nil)
			b := make([]byte, 99)
			n, err := c.Read(s.now, 0, b)
			if string(b[:n]) != "early answer" || string(c.ReadControl()) != "WELCOME" || c.control.done != doneKnown {
				t.Errorf("seed %d: %q, %v, %q", seed, b[:n], err, c.ReadControl())
			}
			atRest(t, c)
			s.shutdown(t, seed)
		}
	}
}
