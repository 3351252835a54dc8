package endpoint

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/udpio"
)

func TestPrefixOf(t *testing.T) {
	for _, c := range [...][2]string{
		{"192.0.2.77", "192.0.2.0/24"},
		{"::ffff:192.0.2.77", "192.0.2.0/24"},
		{"2001:db8:1:2ff::1", "2001:db8:1:200::/56"},
		{"fe80::1%eth0", "fe80::/56"},
	} {
		if got := prefixOf(netip.MustParseAddr(c[0])).String(); got != c[1] {
			t.Errorf("%s is of %s, want %s", c[0], got, c[1])
		}
	}
}

func TestRateLimit(t *testing.T) {
	var l rateLimit
	l.init(100)
	now := time.Unix(1000, 0)
	count := func(d time.Duration) (n int) {
		now = now.Add(d)
		for l.take(now) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 25}, {0, 0}, {10 * time.Millisecond, 1}, {100 * time.Millisecond, 10}, {time.Hour, 25}, {-time.Second, 0}} {
		if n := count(c.after); n != c.want {
			t.Errorf("%d after %v, want %d", n, c.after, c.want)
		}
	}
}

// TestCookieRotation: a cookie stays good for its life across a change of keys, and a
// key that is two changes old is of no use, whatever the time in the cookie.
func TestCookieRotation(t *testing.T) {
	var n uint64
	random := func(b []byte) {
		n++
		binary.BigEndian.PutUint64(b, n)
	}
	start := time.Unix(1e9, 0)
	var k cookieKeys
	k.init(start, random)
	addr, id := []byte("address"), handshake.ConnID{1}
	first := k.now
	now := start.Add(cookieKeyLife - time.Second)
	c := k.Append(nil, now, addr, id)
	if now = now.Add(20 * time.Second); !k.Check(now, addr, id, c) {
		t.Error("a cookie is refused because its key has become old")
	}
	if k.now == first || k.before != first {
		t.Error("the key was not replaced")
	}
	now = now.Add(cookieKeyLife)
	if forged := first.Append(nil, now, addr, id); k.Check(now, addr, id, forged) {
		t.Error("a key that was given up makes good cookies")
	}
}

// TestRetriesWhileBehind: a reader that has more than it can do gives out cookies at a
// limited rate, and looks at HELLOs that have one all the same.
func TestRetriesWhileBehind(t *testing.T) {
	e := loopback(t, testConfig())
	from := &udpio.Packet{Addr: addrOf(t, e)}
	r := &reader{e: e, now: time.Now(), behind: true}
	r.retries.init(40)
	first, err := handshake.NewDatagramClient(handshake.DatagramParams{SourceID: handshake.ConnID{1}})
	if err != nil {
		t.Fatal(err)
	}
	hello := first.AppendHello(nil)[0]
	for range 100 {
		r.datagram(hello, from)
	}
	if n := e.Stats().DatagramsSent; n != 10 {
		t.Errorf("%d retries, want 10", n)
	}
	addr, _ := from.Addr.AddrPort.AppendBinary(nil)
	good := e.cookies.Append(nil, r.now, addr, handshake.ConnID{1})
	if _, err := first.Receive(handshake.AppendRetry(nil, handshake.ConnID{1}, good)); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(time.Millisecond)
	r.datagram(first.AppendHello(nil)[0], from)
	if n := e.Stats().DatagramsSent; n != 11 {
		t.Errorf("a client with a cookie got no answer: %d datagrams", n)
	}
}
