package udpio

import (
	"net"
	"sync"
	"testing"
	"time"
)

// TestReconnect: a connected socket gets another port, while it is read and written, and
// goes on with its peer alone; on the fast path and without.
func TestReconnect(t *testing.T) {
	for _, o := range []Options{{}, {NoFastPath: true}} {
		for _, network := range []string{"udp4", "udp6"} {
			server, err := net.ListenUDP(network, &net.UDPAddr{IP: map[string]net.IP{"udp4": net.IPv4(127, 0, 0, 1), "udp6": net.IPv6loopback}[network]})
			if err != nil {
				t.Log("no", network)
				continue
			}
			pc, err := net.DialUDP(network, nil, server.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			c := New(pc, o)
			to, _ := AddrOf(server.LocalAddr())
			heard := make(chan string, 1000)
			var wg sync.WaitGroup
			wg.Go(func() {
				ps := make([]Packet, 4)
				for {
					n, err := c.Read(ps)
					if err != nil {
						return
					}
					for _, p := range ps[:n] {
						if p.Addr.AddrPort != to.AddrPort {
							t.Error("from", p.Addr)
						}
						heard <- string(p.Data)
					}
				}
			})
			stop := make(chan struct{})
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Microsecond):
						c.Write([]byte("noise"), 0, to, Local{})
						c.LocalAddr()
					}
				}
			})
			seen := make(map[string]bool)
			for range 20 {
				if !c.CanReconnect() {
					t.Fatal("cannot")
				}
				if err := c.Reconnect(); err != nil {
					t.Fatal(err)
				}
				at := c.LocalAddr().String()
				seen[at] = true
				b := make([]byte, 100)
				for {
					n, from, err := server.ReadFrom(b)
					if err != nil {
						t.Fatal(err)
					}
					if from.String() == at && string(b[:n]) == "noise" {
						server.WriteTo([]byte(at), from)
						break
					}
				}
				if got := <-heard; got != at {
					t.Errorf("%q, not %q", got, at)
				}
			}
			if len(seen) < 15 {
				t.Errorf("%d ports", len(seen))
			}
			close(stop)
			c.Close()
			if err := c.Reconnect(); err != net.ErrClosed {
				t.Error(err)
			}
			wg.Wait()
			server.Close()
		}
	}
}
