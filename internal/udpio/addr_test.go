package udpio

import (
	"net"
	"net/netip"
	"reflect"
	"testing"
)

type otherAddr struct{ network, s string }

func (a otherAddr) Network() string { return a.network }
func (a otherAddr) String() string  { return a.s }

// TestAddrOf is trap U8: one peer, one key.
func TestAddrOf(t *testing.T) {
	tests := []struct {
		a    *net.UDPAddr
		want string
	}{
		{&net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5}, "192.0.2.1:5"},
		{&net.UDPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 5}, "192.0.2.1:5"},
		{&net.UDPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 5}, "192.0.2.1:5"},
		{&net.UDPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 5, Zone: "lo"}, "192.0.2.1:5"},
		{&net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 5, Zone: "lo"}, "[2001:db8::1]:5"},
		{&net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 5, Zone: "eth9"}, "[fe80::1%eth9]:5"},
		{&net.UDPAddr{IP: net.ParseIP("100::"), Port: 0, Zone: "udp x"}, "[100::]:0"},
	}
	for _, test := range tests {
		got, err := AddrOf(test.a)
		if err != nil || got.AddrPort != netip.MustParseAddrPort(test.want) || got.Other != nil {
			t.Errorf("AddrOf(%v) = %v, %v", test.a, got, err)
		}
		if u := got.NetAddr().(*net.UDPAddr); !u.IP.Equal(test.a.IP) || u.Port != test.a.Port {
			t.Errorf("back: %v, want %v", u, test.a)
		}
	}
	for _, a := range []net.Addr{nil, (*net.UDPAddr)(nil), &net.UDPAddr{Port: 5}} {
		if _, err := AddrOf(a); err == nil {
			t.Errorf("AddrOf(%v) is an address", a)
		}
	}
}

func TestAddrOfNumericZone(t *testing.T) {
	ifis, err := net.Interfaces()
	if err != nil || len(ifis) == 0 {
		t.Skip("no interfaces")
	}
	ifi := ifis[0]
	a := addrOf(t, &net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 5, Zone: ifi.Name})
	var z zones
	if got := z.addrPort(netip.MustParseAddr("fe80::1"), ifi.Index, 5); got != a.AddrPort {
		t.Errorf("a packet's address is %v, its net.Addr %v", got, a)
	}
	if z.index(ifi.Name) != ifi.Index || z.index("4711") != 4711 || z.index("no such") != 0 {
		t.Error("wrong index")
	}
}

func TestAddrOfOthers(t *testing.T) {
	seen := make(map[netip.AddrPort]net.Addr)
	for _, a := range []net.Addr{
		otherAddr{"mem", "a"}, otherAddr{"mem", "b"}, otherAddr{"pipe", "a"}, otherAddr{"", ""},
		&net.UnixAddr{Name: "/tmp/x", Net: "unixgram"},
	} {
		got, err := AddrOf(a)
		if err != nil || got.NetAddr() != a || !got.IsValid() {
			t.Errorf("AddrOf(%v) = %v, %v", a, got, err)
		}
		if b := seen[got.AddrPort]; b != nil {
			t.Errorf("%v and %v have one key", a, b)
		}
		seen[got.AddrPort] = a
		if again, _ := AddrOf(a); again.AddrPort != got.AddrPort {
			t.Errorf("%v has two keys", a)
		}
	}
}

// TestNetAddr: what is returned is what package net makes of it, in one allocation.
func TestNetAddr(t *testing.T) {
	for _, text := range []string{"192.0.2.1:7", "[2001:db8::1]:65535", "[fe80::1%eth0]:1", "[::ffff:192.0.2.1]:7"} {
		ap := netip.MustParseAddrPort(text)
		got, want := Addr{AddrPort: ap}.NetAddr().(*net.UDPAddr), net.UDPAddrFromAddrPort(ap)
		if !reflect.DeepEqual(got, want) || cap(got.IP) != len(got.IP) {
			t.Errorf("%s: %#v, want %#v", text, got, want)
		}
		if n := testing.AllocsPerRun(100, func() { netAddr = Addr{AddrPort: ap}.NetAddr() }); n > 1 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
	if got := (Addr{}).NetAddr().(*net.UDPAddr); got.IP != nil || got.Port != 0 {
		t.Errorf("%#v", got)
	}
}

var netAddr net.Addr
