package reliable

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"

	"github.com/vstp-go/vstp/tlsvstp"
)

// sealRigs has newRig make sealed associations. The simulations run with it and without.
var sealRigs bool

// sealed runs f with sealed associations.
func sealed(f func()) {
	sealRigs = true
	defer func() { sealRigs = false }()
	f()
}

func testKeys(t testing.TB, b byte) *tlsvstp.Keys {
	k, err := tlsvstp.NewKeys(tls.TLS_AES_128_GCM_SHA256, bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sealConfigs gives both ends their keys.
func sealConfigs(t testing.TB, c, s *Config) {
	cp, sp := tlsvstp.NewProtection(), tlsvstp.NewProtection()
	cp.SetWrite(testKeys(t, 'c'))
	sp.SetRead(testKeys(t, 'c'))
	sp.SetWrite(testKeys(t, 's'))
	cp.SetRead(testKeys(t, 's'))
	c.Protection, s.Protection = cp, sp
}

// TestSealed runs the simulations with sealed packets. PROTOCOL §8.4: "where they say
// nothing, §7 holds".
func TestSealed(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"StreamOverBadPaths", TestStreamOverBadPaths},
		{"MessagesOverBadPaths", TestMessagesOverBadPaths},
		{"Blackout", TestBlackout},
		{"MTUDrop", TestMTUDrop},
		{"DeadPeer", TestDeadPeer},
		{"HalfClose", TestHalfClose},
		{"BackPressure", TestBackPressure},
		{"IdleIsSilent", TestIdleIsSilent},
		{"KeepAlive", TestKeepAlive},
		{"CloseIsHeard", TestCloseIsHeard},
		{"PathChangedAgainAndAgain", TestPathChangedAgainAndAgain},
		{"Unheard", TestUnheard},
		{"PacketsRetransmitted", TestPacketsRetransmitted},
		{"CancelBeforeSent", TestCancelBeforeSent},
		{"EndSettlesAll", TestEndSettlesAll},
		{"OrderIsOrderOfSending", TestOrderIsOrderOfSending},
		{"ManyMessages", TestManyMessages},
		{"ResetIsNoEnd", TestResetIsNoEnd},
		{"ResetAfterFin", TestResetAfterFin},
		{"StreamsAreForgotten", TestStreamsAreForgotten},
		{"RecordsOfAcks", TestRecordsOfAcks},
		{"RecordsWithoutAcks", TestRecordsWithoutAcks},
		{"SimulatedBulk", TestSimulatedBulk},
		{"StarvedAsks", TestStarvedAsks},
		{"StarvedDead", TestStarvedDead},
		{"Patience", TestPatience},
		{"StreamRoom", TestStreamRoom},
	} {
		t.Run(tt.name, func(t *testing.T) { sealed(func() { tt.f(t) }) })
	}
}

// TestLatePacketsAndUpdates: packets of the phase before open for three probe timeouts after
// an update, and no longer; the association does not suffer from either. PROTOCOL §8.7.
func TestLatePacketsAndUpdates(t *testing.T) {
	sealed(func() {
		s := newRig(t, 1, wire{delay: time.Millisecond})
		c, v := s.ends[0], s.ends[1]
		s.wait(time.Second)
		keep := func(msg string) []byte {
			c.SendMessage(s.now, &Outgoing{Payload: []byte(msg)})
			return c.AppendDatagram(s.now, nil)
		}
		early, late := keep("early"), keep("late")
		if !c.c.Protection.Update() {
			t.Fatal("no update")
		}
		c.Ping()
		s.wait(5 * time.Millisecond)
		if c.c.Protection.Update() {
			t.Error("an update before the keys of the last one are dropped")
		}
		if got := v.Receive(s.now, early); !got.Opened || got.Latest {
			t.Error(got)
		}
		s.wait(3 * max(c.ProbeTimeout(), v.ProbeTimeout()))
		if got := v.Receive(s.now, late); got.Opened || v.Stats().PacketsDropped != 1 {
			t.Error(got, v.Stats().PacketsDropped)
		}
		if !c.c.Protection.Update() {
			t.Error("no second update")
		}
		if _, err := s.bulk(0, 100000, time.Second); err != nil {
			t.Error(err)
		}
		if in, ok := v.ReceiveMessage(s.now); !ok || string(in.Payload) != "early" {
			t.Errorf("%q", in.Payload)
		}
	})
}
