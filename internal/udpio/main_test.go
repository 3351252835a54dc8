package udpio

import (
	"fmt"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	os.Unsetenv(offloadEnv) // modes has all of it
	goleak.VerifyTestMain(m)
}

// modes calls f with every combination of the switches.
func modes(t *testing.T, f func(t *testing.T, o Options)) {
	for i := range 8 {
		o := Options{NoGSO: i&1 != 0, NoGRO: i&2 != 0, NoMMsg: i&4 != 0}
		t.Run(modeName(o), func(t *testing.T) { f(t, o) })
	}
	t.Run("off", func(t *testing.T) { f(t, Options{NoFastPath: true}) })
	t.Run("wrapped", func(t *testing.T) {
		// A wrapper without SyscallConn is any net.PacketConn.
		f(t, Options{NoFastPath: true, NoMMsg: true})
	})
}

func modeName(o Options) string {
	return fmt.Sprintf("gso=%v,gro=%v,mmsg=%v", !o.NoGSO, !o.NoGRO, !o.NoMMsg)
}

type wrapper struct{ net.PacketConn }

// listen returns a Conn on a socket. Tests that need IPv6 are skipped without it.
func listen(t testing.TB, network, addr string, o Options) *Conn {
	t.Helper()
	pc, err := net.ListenPacket(network, addr)
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	if o.NoFastPath && o.NoMMsg {
		pc.(*net.UDPConn).SetReadBuffer(4 << 20) // a Conn cannot, through the wrapper
		pc = wrapper{pc}
	}
	c := New(pc, o)
	t.Cleanup(func() { c.Close() })
	return c
}

// needHost skips tests that need an address which this host does not have, trap U12.
func needHost(t testing.TB, host string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skip(err)
	}
	pc.Close()
}

func addrOf(t testing.TB, a net.Addr) Addr {
	t.Helper()
	addr, err := AddrOf(a)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func parseAddr(t testing.TB, s string) Addr {
	t.Helper()
	u, err := net.ResolveUDPAddr("udp", s)
	if err != nil {
		t.Fatal(err)
	}
	return addrOf(t, u)
}

func portOf(c *Conn) int { return c.LocalAddr().(*net.UDPAddr).Port }

// A datagram is a copy of what Read got.
type datagram struct {
	data  string
	addr  Addr
	local Local
}

// readN reads n datagrams, as a caller does.
func readN(t testing.TB, c *Conn, n int) []datagram {
	t.Helper()
	ps := make([]Packet, 8)
	var got []datagram
	for len(got) < n {
		m, err := c.Read(ps)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps[:m] {
			rest := p.Data
			for {
				var segment []byte
				segment, rest = firstSegment(rest, p.SegSize)
				got = append(got, datagram{string(segment), p.Addr, p.Local})
				if len(rest) == 0 {
					break
				}
			}
		}
	}
	if len(got) > n {
		t.Fatalf("got %d datagrams, want %d", len(got), n)
	}
	return got
}
