package vstp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/vstp-go/vstp"
)

// listenOn listens with n sockets.
func listenOn(t testing.TB, network string, n int, config *vstp.Config) *vstp.Listener {
	t.Helper()
	ln, err := (&vstp.ListenConfig{Config: config, Sockets: n}).Listen(context.Background(), network, "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.(*vstp.Listener)
}

// socketsHere is how many sockets a listener has that was asked to have n.
func socketsHere(n int) int {
	if runtime.GOOS == "linux" {
		return n
	}
	return 1
}

// "negative invalid", and more than there can be is as much as there can be; streams have none.
func TestSocketsNumber(t *testing.T) {
	for _, network := range []string{"rudp", "auto"} {
		_, err := (&vstp.ListenConfig{Sockets: -1}).Listen(t.Context(), network, "127.0.0.1:0")
		var oe *net.OpError
		require.ErrorAs(t, err, &oe)
		for n, want := range map[int]int{1: 1, 3: socketsHere(3), 1000: socketsHere(64)} {
			require.Equal(t, want, listenOn(t, network, n, nil).Stats().Sockets)
		}
	}
	_, err := (&vstp.ListenConfig{Sockets: -1}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.Error(t, err)
	require.Zero(t, listenOn(t, "tcp", 4, nil).Stats())
}

// A port that somebody has is in use, also if he has it with several sockets; and when it is
// free again, another number of them gets it.
func TestSocketsPortInUse(t *testing.T) {
	ln := listenOn(t, "rudp", 4, nil)
	for _, n := range []int{1, 4} {
		_, err := (&vstp.ListenConfig{Sockets: n}).Listen(t.Context(), "rudp", ln.Addr().String())
		require.Error(t, err)
	}
	require.NoError(t, ln.Close())
	again, err := (&vstp.ListenConfig{Sockets: 3}).Listen(t.Context(), "rudp", ln.Addr().String())
	require.NoError(t, err)
	again.Close()
}

func TestSocketsConn(t *testing.T) {
	side := newAside(2)
	defer side.Wait()
	for _, tr := range []transport{{name: "rudp", network: "rudp"}, {name: "rudp+TLS", network: "rudp", tls: true}} {
		side.run(t, tr.name, func(t *testing.T) {
			cc, sc := tr.configs(t)
			ln := listenOn(t, tr.network, 4, sc)
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				if c1, err = (&vstp.Dialer{Config: cc}).Dial(tr.network, ln.Addr().String()); err != nil {
					return nil, nil, nil, err
				}
				if c2, err = ln.Accept(); err != nil {
					c1.Close()
					return nil, nil, nil, err
				}
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
			require.Zero(t, ln.Stats().Strays)
		})
	}
}

// A thousand connections echo over four sockets, with the kernel told to choose and without.
func TestSocketsThousandConnections(t *testing.T) {
	for name, off := range map[string]string{"steered": "", "program refused": "nosteer"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("VSTP_UDP_OFFLOAD", off)
			ln := listenOn(t, "rudp", 4, nil)
			go echoAll(ln)
			var g group
			gate := make(chan struct{}, 100)
			var all sync.WaitGroup
			conns := sized(1000, 250)
			all.Add(conns)
			for i := range conns {
				g.Go(func() error {
					gate <- struct{}{}
					c, err := vstp.Dial("rudp", ln.Addr().String())
					<-gate
					all.Done()
					if err != nil {
						return err
					}
					defer c.Close()
					all.Wait()
					return errors.Join(roundTrip(c, contentBytes(100+i)), roundTrip(c, contentBytes(3000)))
				})
			}
			g.Wait(t)
			st := ln.Stats()
			require.Zero(t, st.Strays)
			require.Zero(t, st.BadCookies)
			require.Zero(t, st.UnknownID-st.Resets)
		})
	}
}

// Tickets are good at all sockets, for 0-RTT too: one server has made them.
func TestSocketsEarlyData(t *testing.T) {
	a := newAuthority(t)
	ln := listenOn(t, "rudp", 4, &vstp.Config{TLS: a.server(), EarlyData: true})
	go echoAll(ln)
	cc := a.client()
	cc.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	client := &vstp.Config{TLS: cc, EarlyData: true}
	resumes(t, "rudp", ln.Addr().String(), client).Close()
	early := 0
	for range 16 { // each from another port
		c, err := (&vstp.Dialer{Config: client}).Dial("rudp", ln.Addr().String())
		require.NoError(t, err)
		require.NoError(t, roundTrip(c, contentBytes(500)))
		require.NoError(t, c.(*vstp.Conn).Handshake(t.Context()))
		if c.(*vstp.Conn).ConnectionState().EarlyData {
			early++
		}
		c.Close()
	}
	require.Greater(t, early, 8)
}

// Sessions that begin on TCP and move to UDP, and back, meet their packets on any socket.
func TestSocketsAuto(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		cc, sc := transport{tls: withTLS}.configs(t)
		ln := listenOn(t, "auto", 4, sc)
		go echoAll(ln)
		cc.Auto.Pin = vstp.CarrierTCP
		for range 8 {
			conn, err := (&vstp.Dialer{Config: cc}).Dial("auto", ln.Addr().String())
			require.NoError(t, err)
			c := conn.(*vstp.Conn)
			for _, to := range []vstp.Carrier{vstp.CarrierUDP, vstp.CarrierTCP, vstp.CarrierUDP} {
				require.NoError(t, c.Move(t.Context(), to))
				require.NoError(t, roundTrip(c, contentBytes(30_000)))
			}
			require.NoError(t, c.Close())
		}
		require.Zero(t, ln.Stats().Strays)
	}
}

// Messages have several sockets too.
func TestSocketsMessages(t *testing.T) {
	pc, err := (&vstp.ListenConfig{Sockets: 4}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	}()
	for i := range 12 {
		c, err := vstp.Dial("udp", pc.LocalAddr().String())
		require.NoError(t, err)
		want := contentBytes(100 + 4000*i)
		_, err = c.Write(want)
		require.NoError(t, err)
		got := make([]byte, len(want)+1)
		n, err := c.Read(got)
		require.NoError(t, err)
		require.Equal(t, want, got[:n])
		c.Close()
	}
	require.Equal(t, socketsHere(4), pc.(*vstp.PacketConn).Stats().Sockets)
}

// Bulk of several clients into one listener: what more sockets cost, and gain where there are
// cores for them.
func BenchmarkSockets(b *testing.B) {
	for _, n := range []int{1, 2, 4} {
		b.Run([]string{1: "1", 2: "2", 4: "4"}[n], func(b *testing.B) {
			ln := listenOn(b, "rudp", n, nil)
			var done sync.WaitGroup
			const clients = 4
			var conns []net.Conn
			for range clients {
				c, err := vstp.Dial("rudp", ln.Addr().String())
				require.NoError(b, err)
				s, err := ln.Accept()
				require.NoError(b, err)
				conns = append(conns, c)
				done.Go(func() { io.Copy(io.Discard, s); s.Close() })
			}
			p := make([]byte, 256<<10)
			b.SetBytes(clients * int64(len(p)))
			before := cpuTime(b)
			b.ResetTimer()
			var writers sync.WaitGroup
			for _, c := range conns {
				writers.Go(func() {
					for range b.N {
						if _, err := c.Write(p); err != nil {
							b.Error(err)
							return
						}
					}
					c.Close()
				})
			}
			writers.Wait()
			done.Wait()
			b.StopTimer()
			b.ReportMetric((cpuTime(b)-before).Seconds()/(float64(b.N)*clients*float64(len(p))/1e9), "cpu-s/GB")
			b.ReportMetric(float64(ln.Stats().Strays), "strays")
		})
	}
}
