package simnet

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// receive returns what arrives within a second and from where, or "".
func receive(t *testing.T, c *Conn) (string, net.Addr) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 100)
	k, from, err := c.ReadFrom(buf)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(buf[:k]), from
}

// TestNAT: hosts behind a NAT are seen with its address and get answers; who they did
// not write to cannot reach them, if the filter says so.
func TestNAT(t *testing.T) {
	for _, filter := range []Dependency{EndpointIndependent, AddressDependent, AddressAndPortDependent} {
		synctest.Test(t, func(t *testing.T) {
			n := New(t, Options{Seed: 1, VNet: true})
			x := n.NAT("10.0.0.1", "192.168.1.0/24", NATOptions{Filter: filter})
			inside := x.Host("192.168.1.5").ListenPacket(100)
			h := n.Host("10.0.0.2")
			server, otherPort, other := h.ListenPacket(7), h.ListenPacket(8), n.Host("10.0.0.3").ListenPacket(7)
			n.Path(x.Host("192.168.1.5"), h).Set(Path{Delay: 10 * time.Millisecond})
			n.Path(h, x).Set(Path{Delay: 20 * time.Millisecond})

			inside.WriteTo([]byte("in"), server.LocalAddr())
			got, mapped := receive(t, server)
			if got != "in" || mapped.(*net.UDPAddr).AddrPort().Addr() != x.Addr() {
				t.Fatalf("%q from %v", got, mapped)
			}
			server.WriteTo([]byte("back"), mapped)
			if got, from := receive(t, inside); got != "back" || from.String() != "10.0.0.2:7" {
				t.Errorf("%q from %v", got, from)
			}
			if d := time.Since(n.start); d != 30*time.Millisecond {
				t.Errorf("there and back in %v", d)
			}
			for _, tt := range []struct {
				from   *Conn
				passes bool
			}{{otherPort, filter <= AddressDependent}, {other, filter == EndpointIndependent}} {
				tt.from.WriteTo([]byte("x"), mapped)
				if got, _ := receive(t, inside); (got != "") != tt.passes {
					t.Errorf("filter %d: got %q from %v", filter, got, tt.from.LocalAddr())
				}
			}
			// Nobody gets in without a mapping, or by the private address.
			other.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 100})
			other.WriteTo([]byte("x"), inside.LocalAddr())
			if got, _ := receive(t, inside); got != "" {
				t.Errorf("got %q", got)
			}
			if s := n.Stats(); s != (NetStats{NoHost: 1}) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestNATRebinding: a mapping that was not used is forgotten.
func TestNATRebinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(t, Options{Seed: 1, VNet: true})
		x := n.NAT("10.0.0.1", "192.168.1.0/24", NATOptions{Lifetime: 10 * time.Second})
		inside, server := x.Host("192.168.1.5").ListenPacket(100), n.Host("10.0.0.2").ListenPacket(7)
		var seen []string
		for _, pause := range []time.Duration{9, 9, 11, 0} {
			inside.WriteTo([]byte("in"), server.LocalAddr())
			_, from := receive(t, server)
			seen = append(seen, from.String())
			time.Sleep(pause * time.Second)
		}
		if seen[0] != seen[1] || seen[1] != seen[2] || seen[2] == seen[3] {
			t.Errorf("seen %v", seen)
		}
	})
}

// TestTwoNATs: hosts behind NATs reach each other when both have sent.
func TestTwoNATs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(t, Options{Seed: 1, VNet: true})
		server := n.Host("10.0.0.9").ListenPacket(1)
		var conns [2]*Conn
		var mapped [2]net.Addr
		o := NATOptions{Filter: AddressAndPortDependent}
		conns[0] = n.NAT("10.0.0.1", "192.168.1.0/24", o).Host("192.168.1.5").ListenPacket(100)
		conns[1] = n.NAT("10.0.0.2", "192.168.2.0/24", o).Host("192.168.2.5").ListenPacket(100)
		for i, c := range conns {
			c.WriteTo(nil, server.LocalAddr())
			_, mapped[i] = receive(t, server)
		}
		conns[0].WriteTo([]byte("early"), mapped[1])
		if got, _ := receive(t, conns[1]); got != "" {
			t.Errorf("got %q", got)
		}
		conns[1].WriteTo([]byte("hello"), mapped[0])
		if got, from := receive(t, conns[0]); got != "hello" || from.String() != mapped[1].String() {
			t.Errorf("got %q from %v", got, from)
		}
		conns[0].WriteTo([]byte("there"), mapped[1])
		if got, _ := receive(t, conns[1]); got != "there" {
			t.Errorf("got %q", got)
		}
	})
}
