package vstp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// Ends of peers and of connections, and what they leave behind.

// A server that is killed and comes back on the same port says that it knows nothing of
// the connections there were: everything blocked on them ends with ErrReset soon, a new
// dial works, and messages go through again.
func TestStackRestart(t *testing.T) {
	simnet.Run(t, 5, func(t *testing.T, seed uint64) {
		path := lossy(0.05)
		path.Rate, path.Queue = 1_000_000, 100_000
		l := newStack(t, simnet.Options{Seed: seed, Path: path, VNet: seed%2 == 1}, stackConfig, &vstp.Config{Linger: -1})
		require.NoError(t, l.send(&vstp.Message{RequireAck: true}))
		l.receive(t)
		for range 3 {
			writer, sink := l.pair(t)
			go io.Copy(io.Discard, sink)
			reader, s := l.pair(t)
			_, err := s.Write([]byte("x"))
			require.NoError(t, err)
			_, err = io.ReadFull(reader, make([]byte, 1))
			require.NoError(t, err)
			read := async(func() error { _, err := reader.Read(make([]byte, 1)); return err })
			written := async(func() error { _, err := writer.ReadFrom(&contentReader{}); return err })
			time.Sleep(time.Second)
			l.kill()
			time.Sleep(time.Second)
			l.restart(t, &vstp.Config{Linger: -1})
			start := time.Now()
			require.ErrorIs(t, <-written, vstp.ErrReset)
			require.LessOrEqual(t, time.Since(start), 5*time.Second, "probes go on")
			require.ErrorIs(t, <-read, vstp.ErrReset)
			require.LessOrEqual(t, time.Since(start), vstp.DefaultKeepAlive+5*time.Second)
			for _, c := range []*vstp.Conn{reader, writer} {
				_, err = c.Write([]byte("x"))
				require.ErrorIs(t, err, vstp.ErrReset)
				start = time.Now()
				c.Close()
				require.Zero(t, time.Since(start), "nobody to wait for")
			}
			c, s := l.pair(t)
			require.NoError(t, transfer(c, s, 100_000))
			start = time.Now()
			if err := l.send(&vstp.Message{Payload: contentBytes(10_000), RequireAck: true}); err != nil {
				// The old server might have had it, for all the client knows. The next one goes through.
				require.ErrorIs(t, err, vstp.ErrReset)
				require.NoError(t, l.send(&vstp.Message{Payload: contentBytes(10_000), RequireAck: true}))
			}
			require.Less(t, time.Since(start), 5*time.Second)
			isContent(t, 10_000, l.receive(t).Payload)
			l.quiet(t)
		}
		l.close()
	})
}

// A server that was restarted writes to a client that has not noticed yet.
func TestStackRestartedServerSends(t *testing.T) {
	simnet.Run(t, 3, func(t *testing.T, seed uint64) {
		l := newStack(t, simnet.Options{Seed: seed, Path: lossy(0.05)}, nil, nil)
		require.NoError(t, l.send(&vstp.Message{RequireAck: true}))
		l.receive(t)
		l.kill()
		l.restart(t, nil)
		require.NoError(t, l.server.SendMessage(context.Background(), &vstp.Message{Payload: []byte("back"), RequireAck: true}, l.client.LocalAddr()))
		m, _, err := l.client.ReceiveMessage(context.Background())
		require.NoError(t, err)
		require.Equal(t, "back", string(m.Payload))
		require.NoError(t, l.send(&vstp.Message{Payload: []byte("forth"), RequireAck: true}))
		require.Equal(t, "forth", string(l.receive(t).Payload))
		l.close()
	})
}

// Close and dead peers: Close takes Config.Linger and no longer (C2), both ways.
func TestStackCloseDead(t *testing.T) {
	for _, linger := range []time.Duration{0, 300 * ms, 30 * time.Second, -1} {
		synctest.Test(t, func(t *testing.T) {
			l := newStack(t, simnet.Options{Path: simnet.Path{Delay: 10 * ms}}, &vstp.Config{Linger: linger, IdleTimeout: -1, KeepAlive: -1}, nil)
			c, _ := l.pair(t)
			l.net.Both(l.ch, l.sh, simnet.Path{Down: true})
			_, err := c.Write(contentBytes(100_000))
			require.NoError(t, err)
			want := max(linger, 0)
			if linger == 0 {
				want = vstp.DefaultLinger
			}
			start := time.Now()
			err = c.Close()
			require.Equal(t, want, time.Since(start))
			if want > 0 {
				require.ErrorIs(t, err, vstp.ErrUnsent)
			}
			start = time.Now()
			l.client.Close()
			require.LessOrEqual(t, time.Since(start), want)
			l.server.Close()
		})
	}
}

// PacketConn.Close flushes what is to be repaired (C1 for messages).
func TestStackPacketConnCloseFlushes(t *testing.T) {
	for _, loss := range []float64{0, 0.1, 0.3} {
		simnet.Run(t, 3, func(t *testing.T, seed uint64) {
			l := newStack(t, simnet.Options{Seed: seed, Path: lossy(loss)}, &vstp.Config{Linger: time.Minute}, nil)
			const count = 40 // before there is an association, too
			for i := range count {
				require.NoError(t, l.send(&vstp.Message{Payload: contentBytes(i * 100), Repair: true}))
			}
			closed := async(l.client.Close)
			seen := make(map[int]bool)
			for range count {
				m := l.receive(t)
				isContent(t, int64(len(m.Payload)), m.Payload)
				require.False(t, seen[len(m.Payload)])
				seen[len(m.Payload)] = true
			}
			require.NoError(t, <-closed)
			l.quiet(t)
			l.close()
		})
	}
}

// Thousands of connections opened and closed in all the ways that there are leave
// nothing behind (C7): no goroutine, no timer, no association, no memory.
func TestStackOpenClose(t *testing.T) {
	conns := sized(10_000, 1000)
	synctest.Test(t, func(t *testing.T) {
		config := &vstp.Config{Linger: time.Second}
		l := newStack(t, simnet.Options{Seed: 1, Path: simnet.Path{Delay: 5 * ms, Loss: 0.01}}, config, config)
		served := async(func() error {
			for i := 0; ; i++ {
				s, err := l.ln.Accept()
				if err != nil {
					return err
				}
				go serveOne(s.(*vstp.Conn), i)
			}
		})
		const workers = 50
		var heap [3]int64
		var goroutines [3]int
		for round, n := range []int{conns / 10, conns / 10, conns - 2*(conns/10)} {
			var g group
			for w := range workers {
				g.Go(func() error {
					for i := range n / workers {
						if err := openCloseStack(l, w+i); err != nil {
							return err
						}
					}
					return nil
				})
			}
			g.wg.Wait()
			g.Wait(t)
			time.Sleep(3 * time.Minute)                                               // idle timeouts, and cookies
			c, err := l.client.DialStream(context.Background(), l.server.LocalAddr()) // which has old ones forgotten
			require.NoError(t, err)
			c.Close()
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			for _, pc := range []*vstp.PacketConn{l.client, l.server} {
				st := pc.Stats()
				require.Zero(t, st.Associations, "%+v", st)
				require.Zero(t, st.Handshakes, "%+v", st)
			}
			goroutines[round] = runtime.NumGoroutine()
			heap[round] = memoryInUse()
		}
		t.Log(goroutines, heap)
		require.LessOrEqual(t, goroutines[2], goroutines[0]+1)
		require.Less(t, heap[2]-heap[1], int64(2<<20), "%v", heap)
		l.close()
		require.ErrorIs(t, <-served, net.ErrClosed)
	})
}

// serveOne ends a connection in one of the ways of servers.
func serveOne(s *vstp.Conn, kind int) {
	switch kind % 4 {
	case 0:
		io.Copy(s, s)
	case 1:
		io.Copy(io.Discard, s)
	case 2:
		s.Write([]byte("hello"))
	}
	s.Close()
}

// openCloseStack opens a connection and ends it in one of the ways of clients.
func openCloseStack(l *simLink, kind int) error {
	ctx := context.Background()
	if kind%7 == 6 { // gives up in the middle of the handshake
		short, cancel := context.WithTimeout(ctx, time.Duration(kind%30)*ms)
		defer cancel()
		ctx = short
	}
	nc, err := l.client.DialStream(ctx, l.server.LocalAddr())
	if err != nil {
		if ctx.Err() != nil {
			err = nil
		}
		return err
	}
	c := nc.(*vstp.Conn)
	switch kind % 7 {
	case 0:
	case 1:
		c.Write(contentBytes(5000))
	case 2:
		c.CloseWrite()
		io.Copy(io.Discard, c)
	case 3:
		c.CloseWithError(vstp.CodeApplication, "bye")
	case 4:
		c.SetDeadline(time.Now().Add(time.Second))
		c.Write([]byte("hello"))
		io.ReadAll(c)
	case 5:
		c.SendMessage(ctx, &vstp.Message{Payload: contentBytes(3000), RequireAck: true})
	}
	if err = c.Close(); errors.Is(err, vstp.ErrPeerClosed) || errors.Is(err, vstp.ErrUnsent) {
		err = nil // the server was faster
	}
	return err
}

// Thousands of peers that send a message each leave nothing behind.
func TestStackManyPeers(t *testing.T) {
	peers := sized(2000, 200)
	synctest.Test(t, func(t *testing.T) {
		l := newStack(t, simnet.Options{Seed: 1, Path: simnet.Path{Delay: 5 * ms}}, nil, nil)
		var heap [2]int64
		for round := range 2 {
			for i := range peers {
				pc := vstp.NewPacketConn(l.ch.ListenPacket(0), simConfig(nil))
				require.NoError(t, pc.SendMessage(context.Background(), &vstp.Message{Payload: contentBytes(i), RequireAck: true}, l.server.LocalAddr()))
				m, from, err := l.server.ReceiveMessage(context.Background())
				require.NoError(t, err)
				require.Equal(t, portOf(pc).String(), from.String())
				require.True(t, bytes.Equal(contentBytes(i), m.Payload))
				if i%2 == 0 {
					l.net.Path(l.ch, l.sh).Update(func(p *simnet.Path) { p.Down = true }) // without BYE
				}
				require.NoError(t, pc.Close())
				l.net.Path(l.ch, l.sh).Update(func(p *simnet.Path) { p.Down = false })
			}
			time.Sleep(5 * time.Minute)
			require.Zero(t, l.server.Stats().Associations)
			heap[round] = memoryInUse()
		}
		require.Less(t, heap[1]-heap[0], int64(2<<20))
		l.close()
	})
}
