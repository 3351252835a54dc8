package endpoint

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/internal/udpio"
)

// A splitter is a socket that looks like several with one port. choose says which one gets
// a datagram.
type splitter struct {
	net.PacketConn
	parts  []*splitPart
	choose func(b []byte) int
	once   sync.Once
}

type splitPart struct {
	*splitter
	in  chan splitDatagram
	got int // owned by run
}

type splitDatagram struct {
	b    []byte
	from net.Addr
}

func newSplitter(pc net.PacketConn, n int, choose func(b []byte) int) *splitter {
	s := &splitter{PacketConn: pc, choose: choose}
	for range n {
		s.parts = append(s.parts, &splitPart{splitter: s, in: make(chan splitDatagram, 4096)})
	}
	go s.run()
	return s
}

func (s *splitter) run() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.PacketConn.ReadFrom(buf)
		if err != nil {
			for _, p := range s.parts {
				close(p.in)
			}
			return
		}
		p := s.parts[s.choose(buf[:n])]
		p.got++
		select {
		case p.in <- splitDatagram{append([]byte(nil), buf[:n]...), from}:
		default: // as a socket's buffer
		}
	}
}

func (p *splitPart) ReadFrom(b []byte) (int, net.Addr, error) {
	d, ok := <-p.in
	if !ok {
		return 0, nil, net.ErrClosed
	}
	return copy(b, d.b), d.from, nil
}

func (p *splitPart) SetReadDeadline(time.Time) error { return nil }

func (s *splitter) Close() (err error) {
	s.once.Do(func() { err = s.PacketConn.Close() })
	return err
}

// endpoint makes an endpoint of the parts. With a spread it chooses as the kernel would,
// otherwise choose of newSplitter does.
func (s *splitter) endpoint(t *testing.T, spread *Spread, cfg *Config) *Endpoint {
	socks := make([]*udpio.Conn, len(s.parts))
	for i, p := range s.parts {
		socks[i] = udpio.New(p, udpio.Options{})
	}
	e := NewOnSockets(socks, spread, cfg)
	t.Cleanup(func() { e.Close() })
	return e
}

// steered chooses as a kernel with the program: what has no id goes to a socket at random.
func steered(t *testing.T, s *Spread, n int) func(b []byte) int {
	r := rand.New(rand.NewPCG(1, 2))
	return func(b []byte) int {
		if i := run(t, s, b); i != elsewhere {
			return int(i)
		}
		return r.IntN(n)
	}
}

func testSpread(n int) *Spread {
	r := rand.New(rand.NewPCG(3, uint64(n)))
	return NewSpread(n, func(b []byte) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	})
}

// both sends n bytes each way at once, and checks them.
func both(t *testing.T, c, s *Session, n int) {
	t.Helper()
	want := pattern(n)
	var wg sync.WaitGroup
	for _, pair := range [][2]*Session{{c, s}, {s, c}} {
		wg.Go(func() {
			_, err := pair[0].Write(want)
			require.NoError(t, err)
		})
		wg.Go(func() {
			got := make([]byte, n)
			_, err := io.ReadFull(pair[1], got)
			require.NoError(t, err)
			equal(t, got, want)
		})
	}
	wg.Wait()
}

// Packets that all come on a socket chosen at random, handshakes with all their parts among
// them, lose nothing: whoever reads knows all associations.
func TestLanesAtRandom(t *testing.T) {
	for name, withTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, cb := plainOrSealed(withTLS), plainOrSealed(withTLS)
				n := simnet.New(t, simnet.Options{Seed: 4, Path: simnet.Path{Delay: 10 * time.Millisecond, Loss: 0.02}, Limit: time.Hour})
				ha, hb := n.Host("10.0.0.1"), n.Host("10.0.0.2")
				r := rand.New(rand.NewPCG(5, 6))
				split := newSplitter(hb.ListenPacket(6969), 4, func([]byte) int { return r.IntN(4) })
				spread := testSpread(4)
				b := split.endpoint(t, spread, cb)
				a := newEndpoint(t, ha.ListenPacket(0), ca)
				for range 3 {
					c, s := connect(t, a, b)
					both(t, c, s, 300_000)
					require.NoError(t, c.SendMessage(t.Context(), &session.Message{Payload: pattern(50_000), ReqAck: true}))
					m, err := s.ReceiveMessage(t.Context())
					require.NoError(t, err)
					equal(t, m.Payload, pattern(50_000))
					go s.Close()
					require.NoError(t, c.Close())
				}
				require.Greater(t, b.Stats().Strays, uint64(100)) // three of four
				require.Equal(t, 4, b.Stats().Sockets)
				settle(t, a, b)
			})
		})
	}
}

// Each association's packets come on its own socket, associations take turns with the
// sockets, and a client whose address changes stays on the one it has.
func TestLanesBySteering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lanes = 4
		n := simnet.New(t, simnet.Options{Seed: 4, VNet: true, Path: simnet.Path{Delay: 10 * time.Millisecond}, Limit: time.Hour})
		inside := n.NAT("10.0.0.1", "192.168.1.0/24", simnet.NATOptions{Lifetime: 5 * time.Second}).Host("192.168.1.5")
		hb := n.Host("10.0.0.2")
		spread := testSpread(lanes)
		split := newSplitter(hb.ListenPacket(6969), lanes, steered(t, spread, lanes))
		b := split.endpoint(t, spread, testConfig())
		a := newEndpoint(t, inside.ListenPacket(0), testConfig())
		used := make([]int, lanes)
		for range 2 * lanes {
			c, s := connect(t, a, b)
			own := spread.Of(s.id)
			used[own]++
			synctest.Wait()
			before := b.lanes[own].datagramsIn.Load()
			both(t, c, s, 100_000)
			require.Greater(t, b.lanes[own].datagramsIn.Load()-before, uint64(60))

			time.Sleep(10 * time.Second) // for the NAT to forget
			c.Write([]byte("again"))
			_, err := io.ReadFull(s, make([]byte, 5))
			require.NoError(t, err)
			before = b.lanes[own].datagramsIn.Load()
			both(t, c, s, 100_000)
			require.Equal(t, uint64(1), s.Stats().PathChanges)
			require.Greater(t, b.lanes[own].datagramsIn.Load()-before, uint64(60))
			require.Same(t, b.lanes[own], laneOf(s))
			go s.Close()
			require.NoError(t, c.Close())
		}
		require.Equal(t, []int{2, 2, 2, 2}, used)
		require.Zero(t, b.Stats().Strays)
		settle(t, a, b)
	})
}

func laneOf(s *Session) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lane
}

// An endpoint with several sockets that begins itself is answered on the right one.
func TestLanesDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(t, simnet.Options{Seed: 4, Path: simnet.Path{Delay: 10 * time.Millisecond}, Limit: time.Hour})
		spread := testSpread(3)
		split := newSplitter(n.Host("10.0.0.1").ListenPacket(7000), 3, steered(t, spread, 3))
		a := split.endpoint(t, spread, testConfig())
		b := newEndpoint(t, n.Host("10.0.0.2").ListenPacket(6969), testConfig())
		for range 6 {
			c, s := connect(t, a, b)
			both(t, c, s, 50_000)
			go s.Close()
			require.NoError(t, c.Close())
		}
		for i := range 6 { // one association, but the server begins it anew
			send(t, a, addrOf(t, b), &session.Message{Payload: pattern(i * 1000)})
			equal(t, receive(t, b).Payload, pattern(i*1000))
			send(t, b, addrOf(t, a), &session.Message{Payload: pattern(i)})
			equal(t, receive(t, a).Payload, pattern(i))
		}
		require.Zero(t, a.Stats().Strays)
	})
}

// A server that is started anew with another number of sockets says so to its clients from
// whichever socket their packets come to.
func TestLanesStartedAnew(t *testing.T) {
	for name, withTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, cb := plainOrSealed(withTLS), plainOrSealed(withTLS)
				cb.ResetKey = &[32]byte{1, 2, 3}
				n := simnet.New(t, simnet.Options{Seed: 4, Path: simnet.Path{Delay: 10 * time.Millisecond}, Limit: time.Hour})
				ha, hb := n.Host("10.0.0.1"), n.Host("10.0.0.2")
				spread := testSpread(4)
				split := newSplitter(hb.ListenPacket(6969), 4, steered(t, spread, 4))
				b := split.endpoint(t, spread, cb)
				a := newEndpoint(t, ha.ListenPacket(0), ca)
				var clients []*Session
				for range 8 {
					c, s := connect(t, a, b)
					both(t, c, s, 1000)
					clients = append(clients, c)
				}
				split.Close() // as if the process had died
				<-b.done

				spread = testSpread(3)
				split = newSplitter(hb.ListenPacket(6969), 3, steered(t, spread, 3))
				b = split.endpoint(t, spread, cb)
				for _, c := range clients {
					c.Write([]byte("hello?"))
					_, err := c.Read(make([]byte, 1))
					require.ErrorIs(t, err, session.ErrReset)
				}
				require.GreaterOrEqual(t, b.Stats().Resets, uint64(8))
			})
		})
	}
}

// What a socket may do in all is not more with several: cookies of one are good at all
// others, and handshakes are counted together.
func TestLanesShareLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(t, simnet.Options{Seed: 4, Path: simnet.Path{Delay: 10 * time.Millisecond}, Limit: time.Hour})
		cfg := testConfig()
		cfg.MaxAssociations = 5
		i := 0
		split := newSplitter(n.Host("10.0.0.2").ListenPacket(6969), 4, func([]byte) int { i++; return i % 4 }) // no cookie comes back to where it was made
		b := split.endpoint(t, nil, cfg)
		b.Listen()
		a := newEndpoint(t, n.Host("10.0.0.1").ListenPacket(0), testConfig())
		for range 5 {
			_, err := a.DialStream(t.Context(), addrOf(t, b))
			require.NoError(t, err)
		}
		_, err := a.DialStream(t.Context(), addrOf(t, b))
		var remote *handshake.RemoteError
		require.ErrorAs(t, err, &remote)
		require.Zero(t, b.Stats().BadCookies)

		// Answers to packets that nobody knows.
		for _, l := range b.lanes {
			r := &reader{e: b, l: l, now: time.Now()}
			for range resetsPerSecond {
				r.unknown([8]byte{1}, make([]byte, 1200), &udpio.Packet{Addr: addrOf(t, a)})
			}
		}
		require.Equal(t, uint64(resetsPerSecond), b.Stats().Resets)
	})
}

// Closing ends what waits, whatever socket it waits for.
func TestLanesClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(t, simnet.Options{Seed: 4, Path: simnet.Path{Delay: 10 * time.Millisecond}, Limit: time.Hour})
		spread := testSpread(4)
		split := newSplitter(n.Host("10.0.0.2").ListenPacket(6969), 4, steered(t, spread, 4))
		b := split.endpoint(t, spread, testConfig())
		a := newEndpoint(t, n.Host("10.0.0.1").ListenPacket(0), testConfig())
		errs := make(chan error)
		for range 4 {
			_, s := connect(t, a, b)
			go func() {
				_, err := s.Read(make([]byte, 1))
				errs <- err
			}()
		}
		go func() {
			_, _, err := b.ReceiveMessage(t.Context())
			errs <- err
		}()
		go func() {
			_, err := b.Accept(t.Context())
			errs <- err
		}()
		synctest.Wait()
		go b.Close()
		for range 6 {
			require.ErrorIs(t, <-errs, net.ErrClosed)
		}
		<-b.done
	})
}
