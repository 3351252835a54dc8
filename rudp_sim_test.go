package vstp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// Byte streams and messages on datagrams over paths that lose, repeat and reorder, in
// virtual time.

// A simLink is two hosts, a PacketConn on each, and the path between them.
type simLink struct {
	net            *simnet.Net
	client, server *vstp.PacketConn
	ln             net.Listener
	ch, sh         *simnet.Host
}

// newSimLink makes one in a bubble. A nil config is the default one.
func newSimLink(t testing.TB, seed uint64, path simnet.Path, config *vstp.Config) *simLink {
	t.Helper()
	n := simnet.New(t, simnet.Options{Seed: seed, Path: path})
	l := &simLink{net: n, ch: n.Host("10.0.0.1"), sh: n.Host("10.0.0.2")}
	l.client = vstp.NewPacketConn(l.ch.ListenPacket(0), simConfig(config))
	l.server = vstp.NewPacketConn(l.sh.ListenPacket(6969), simConfig(config))
	var err error
	l.ln, err = l.server.ListenStream()
	require.NoError(t, err)
	t.Cleanup(func() { l.close() })
	return l
}

func (l *simLink) close() {
	done := async(l.client.Close)
	l.server.Close()
	<-done
}

// pair returns both ends of a stream.
func (l *simLink) pair(t testing.TB) (client, server *vstp.Conn) {
	t.Helper()
	c, err := l.client.DialStream(context.Background(), l.server.LocalAddr())
	require.NoError(t, err)
	s, err := l.ln.Accept()
	require.NoError(t, err)
	return c.(*vstp.Conn), s.(*vstp.Conn)
}

func lossy(loss float64) simnet.Path {
	return simnet.Path{Delay: 10 * time.Millisecond, Jitter: time.Millisecond, Loss: loss, Reorder: loss / 2, Duplicate: loss / 2}
}

// "Close flushes: what Write accepted arrives, then EOF, at 0, 10 and 30 % loss" (C1).
func TestSimCloseFlushes(t *testing.T) {
	for _, loss := range []float64{0, 0.1, 0.3} {
		for _, n := range []int64{0, 1, 1 << 10, 1 << 20} {
			t.Run(fmt.Sprintf("loss %v, %d bytes", loss, n), func(t *testing.T) {
				simnet.Run(t, 3, func(t *testing.T, seed uint64) {
					l := newSimLink(t, seed, lossy(loss), &vstp.Config{Linger: time.Minute})
					c, s := l.pair(t)
					closed := async(func() error {
						if _, err := io.Copy(c, content(n)); err != nil {
							return err
						}
						return c.Close()
					})
					got, err := digestOf(s)
					require.NoError(t, err)
					require.Equal(t, contentDigest(n), got)
					require.NoError(t, <-closed)
					_, err = s.Read(make([]byte, 1))
					require.Equal(t, io.EOF, err)
					require.NoError(t, s.Close())
					l.close()
				})
			})
		}
	}
}

// Both directions at once, with half-closes that come at different times (C5), at loss.
func TestSimBothWays(t *testing.T) {
	simnet.Run(t, 5, func(t *testing.T, seed uint64) {
		l := newSimLink(t, seed, lossy(0.05), nil)
		c, s := l.pair(t)
		k := talk{first: 200_000, second: 1_000_000}
		first := async(func() error { return k.begin(c) })
		require.NoError(t, k.answer(s))
		require.NoError(t, <-first)
		require.NoError(t, c.Close())
		require.NoError(t, s.Close())
		l.close()
	})
}

// Messages that want an acknowledgement arrive once each, whatever the path does (R1).
func TestSimExactlyOnce(t *testing.T) {
	for _, loss := range []float64{0, 0.2} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			simnet.Run(t, 5, func(t *testing.T, seed uint64) {
				l := newSimLink(t, seed, lossy(loss), &vstp.Config{MaxRetries: 20})
				const count = 200
				errs := make(chan error, count)
				for i := range count {
					go func() {
						errs <- l.client.SendMessage(context.Background(), &vstp.Message{
							Payload: append([]byte{byte(i)}, contentBytes(i*50)...), RequireAck: true,
						}, l.server.LocalAddr())
					}()
				}
				seen := make(map[byte]bool)
				for range count {
					m, _, err := l.server.ReceiveMessage(context.Background())
					require.NoError(t, err)
					i := m.Payload[0]
					require.False(t, seen[i], "message %d again", i)
					require.True(t, bytes.Equal(contentBytes(int(i)*50), m.Payload[1:]), "message %d", i)
					seen[i] = true
				}
				for range count {
					require.NoError(t, <-errs)
				}
				require.NoError(t, l.server.SetReadDeadline(time.Now().Add(time.Minute)))
				_, _, err := l.server.ReceiveMessage(context.Background())
				isTimeoutOf(t, err)
				l.close()
			})
		})
	}
}

// Ordered messages come in order in their channel; a channel does not wait for another.
func TestSimOrdered(t *testing.T) {
	simnet.Run(t, 5, func(t *testing.T, seed uint64) {
		l := newSimLink(t, seed, lossy(0.1), nil)
		const count = 100
		for i := range count {
			require.NoError(t, l.client.SendMessage(context.Background(), &vstp.Message{
				Payload: []byte{byte(i % 3), byte(i)}, Ordered: true, Channel: uint64(i % 3),
			}, l.server.LocalAddr()))
		}
		last := [3]int{-1, -1, -1}
		for range count {
			m, _, err := l.server.ReceiveMessage(context.Background())
			require.NoError(t, err)
			ch, i := m.Payload[0], int(m.Payload[1])
			require.Greater(t, i, last[ch])
			last[ch] = i
		}
		l.close()
	})
}

// "A 100 MB message does not delay a 100-byte one beside it" (F9), here of 10 MB on
// 10 MB/s.
func TestSimSmallBesideLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Delay: 10 * time.Millisecond, Rate: 10_000_000, Queue: 200_000}, nil)
		large := async(func() error {
			return l.client.SendMessage(context.Background(), &vstp.Message{Payload: contentBytes(10 << 20), RequireAck: true}, l.server.LocalAddr())
		})
		got := make(chan int, 100)
		go func() {
			for {
				m, _, err := l.server.ReceiveMessage(context.Background())
				if err != nil {
					return
				}
				got <- len(m.Payload)
			}
		}()
		time.Sleep(200 * time.Millisecond)
		for range 5 {
			start := time.Now()
			require.NoError(t, l.client.SendMessage(context.Background(), &vstp.Message{Payload: make([]byte, 100), RequireAck: true}, l.server.LocalAddr()))
			require.Less(t, time.Since(start), 150*time.Millisecond)
			require.Equal(t, 100, <-got)
		}
		require.Empty(t, large)
		require.NoError(t, <-large)
		require.Equal(t, 10<<20, <-got)
		l.close()
	})
}

// Deadlines are exact, and end what is blocked by the peer's credit too (D2).
func TestSimDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Delay: 5 * time.Millisecond}, nil)
		c, s := l.pair(t)
		for range 3 {
			start := time.Now()
			require.NoError(t, c.SetReadDeadline(start.Add(2*time.Second)))
			_, err := c.Read(make([]byte, 1))
			isTimeoutOf(t, err)
			require.Equal(t, 2*time.Second, time.Since(start))
			_, err = c.ReceiveMessage(context.Background())
			isTimeoutOf(t, err)
		}
		require.NoError(t, c.SetReadDeadline(time.Time{}))

		start := time.Now()
		require.NoError(t, c.SetWriteDeadline(start.Add(3*time.Second)))
		n, err := c.Write(contentBytes(60 << 20)) // more than all buffers
		isTimeoutOf(t, err)
		require.Equal(t, 3*time.Second, time.Since(start))
		require.NoError(t, c.SetWriteDeadline(time.Time{}))
		got := async(func() digest { d, _ := digestOf(s); return d })
		_, err = c.Write(contentBytes(n + 1000)[n:])
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		require.Equal(t, contentDigest(int64(n+1000)), <-got)

		start = time.Now()
		require.NoError(t, l.client.SetReadDeadline(start.Add(time.Second)))
		_, _, err = l.client.ReadFrom(nil)
		isTimeoutOf(t, err)
		require.Equal(t, time.Second, time.Since(start))
		c.Close()
		s.Close()
		l.close()
	})
}

// Close ends every blocked call at once (C6).
func TestSimCloseUnblocks(t *testing.T) {
	calls := map[string]func(c *vstp.Conn) error{
		"Read":           func(c *vstp.Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"WriteTo":        func(c *vstp.Conn) error { _, err := c.WriteTo(io.Discard); return err },
		"Write":          func(c *vstp.Conn) error { _, err := c.Write(make([]byte, 60<<20)); return err },
		"ReadFrom":       func(c *vstp.Conn) error { _, err := c.ReadFrom(&contentReader{}); return err },
		"ReceiveMessage": func(c *vstp.Conn) error { _, err := c.ReceiveMessage(context.Background()); return err },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newSimLink(t, 1, simnet.Path{Delay: time.Millisecond}, nil)
				c, s := l.pair(t)
				ended := make(chan time.Time, 2)
				errs := make(chan error, 2)
				for range 2 {
					go func() {
						err := call(c)
						ended <- time.Now()
						errs <- err
					}()
				}
				time.Sleep(10 * time.Second)
				require.Empty(t, errs)
				start := time.Now()
				closed := async(c.Close)
				for range 2 {
					require.Equal(t, start, <-ended)
					require.ErrorIs(t, <-errs, net.ErrClosed)
				}
				if err := <-closed; err != nil { // the peer reads nothing
					require.ErrorIs(t, err, vstp.ErrUnsent)
				}
				require.LessOrEqual(t, time.Since(start), vstp.DefaultLinger)
				s.Close()
				l.close()
			})
		})
	}
}

// Dial notices that nobody is there (N14), within ctx or Config.HandshakeTimeout.
func TestSimDialDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Down: true}, nil)
		start := time.Now()
		_, err := l.client.DialStream(context.Background(), l.server.LocalAddr())
		ne, ok := err.(net.Error)
		require.True(t, ok && ne.Timeout(), "%v", err)
		require.ErrorIs(t, err, vstp.ErrHandshakeTimeout)
		require.Equal(t, vstp.DefaultHandshakeTimeout, time.Since(start))

		start = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = l.client.DialStream(ctx, l.server.LocalAddr())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		l.close()
	})
}

// A message to nobody, too, is not waited for for ever.
func TestSimMessageToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Down: true}, nil)
		start := time.Now()
		err := l.client.SendMessage(context.Background(), &vstp.Message{RequireAck: true}, l.server.LocalAddr())
		ne, ok := err.(net.Error)
		require.True(t, ok && ne.Timeout(), "%v", err)
		require.LessOrEqual(t, time.Since(start), 30*time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start = time.Now()
		err = l.client.SendMessage(ctx, &vstp.Message{RequireAck: true}, l.server.LocalAddr())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		l.close()
	})
}

// A peer that is gone ends the connection after Config.IdleTimeout; one that is only
// quiet does not (keep-alive), for hours.
func TestSimIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Delay: 10 * time.Millisecond}, nil)
		c, s := l.pair(t)
		read := async(func() error { _, err := c.Read(make([]byte, 1)); return err })
		time.Sleep(3 * time.Hour)
		require.Empty(t, read)
		l.net.Both(l.ch, l.sh, simnet.Path{Down: true})
		start := time.Now()
		err := <-read
		ne, ok := err.(net.Error)
		require.True(t, ok && ne.Timeout(), "%v", err)
		require.ErrorIs(t, err, vstp.ErrIdleTimeout)
		require.InDelta(t, vstp.DefaultIdleTimeout.Seconds(), time.Since(start).Seconds(), vstp.DefaultKeepAlive.Seconds()+1)
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, vstp.ErrIdleTimeout)
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, vstp.ErrIdleTimeout)
		start = time.Now()
		c.Close()
		s.Close()
		require.Zero(t, time.Since(start), "nobody to wait for")
		l.close()
	})
}

// A peer that was restarted says that it does not know the connection: ErrReset.
func TestSimReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Delay: 10 * time.Millisecond}, &vstp.Config{Linger: -1})
		c, _ := l.pair(t)
		l.net.Path(l.sh, l.ch).Set(simnet.Path{Down: true}) // what it says at its end is lost
		l.server.Close()
		time.Sleep(time.Second)
		l.net.Path(l.sh, l.ch).Set(simnet.Path{Delay: 10 * time.Millisecond})
		l.server = vstp.NewPacketConn(l.sh.ListenPacket(6969), simConfig(nil))
		_, err := c.Write([]byte("hello"))
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, vstp.ErrReset)
		_, err = c.Write([]byte("hello"))
		require.ErrorIs(t, err, vstp.ErrReset)
		c.Close()

		// Messages find the new one.
		require.NoError(t, l.client.SendMessage(context.Background(), &vstp.Message{RequireAck: true}, l.server.LocalAddr()))
		l.close()
	})
}

// Message.Lifetime: given up on the way (R9), and what comes behind is not held up.
func TestSimLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Delay: 10 * time.Millisecond}, nil)
		require.NoError(t, l.client.SendMessage(context.Background(), &vstp.Message{RequireAck: true}, l.server.LocalAddr()))
		_, _, err := l.server.ReceiveMessage(context.Background())
		require.NoError(t, err)
		l.net.Path(l.ch, l.sh).Set(simnet.Path{Down: true})
		start := time.Now()
		err = l.client.SendMessage(context.Background(), &vstp.Message{Payload: contentBytes(5000), RequireAck: true, Ordered: true, Lifetime: time.Second}, l.server.LocalAddr())
		require.ErrorIs(t, err, vstp.ErrExpired)
		require.Equal(t, time.Second, time.Since(start))
		l.net.Path(l.ch, l.sh).Set(simnet.Path{Delay: 10 * time.Millisecond})
		require.NoError(t, l.client.SendMessage(context.Background(), &vstp.Message{Payload: []byte("next"), RequireAck: true, Ordered: true}, l.server.LocalAddr()))
		m, _, err := l.server.ReceiveMessage(context.Background())
		require.NoError(t, err)
		require.Equal(t, "next", string(m.Payload))
		l.close()
	})
}

// Closing the listener leaves streams and messages (N11); then streams are refused, and
// can be listened for again.
func TestSimListenStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Delay: time.Millisecond}, nil)
		c, s := l.pair(t)
		waiting, err := l.client.DialStream(context.Background(), l.server.LocalAddr())
		require.NoError(t, err)
		accepting := async(func() error {
			for {
				if _, err := l.ln.Accept(); err != nil {
					return err
				}
			}
		})
		synctest.Wait()
		require.NoError(t, l.ln.Close())
		require.NoError(t, l.ln.Close())
		require.ErrorIs(t, <-accepting, net.ErrClosed)
		waiting.Close()
		echoed := async(func() error { _, err := io.CopyN(s, s, 5); return err })
		require.NoError(t, roundTrip(c, []byte("hello")))
		require.NoError(t, <-echoed)
		start := time.Now()
		_, err = l.client.DialStream(context.Background(), l.server.LocalAddr())
		require.Error(t, err)
		require.Less(t, time.Since(start), time.Second, "refused, not ignored")
		require.NoError(t, l.client.SendMessage(context.Background(), &vstp.Message{RequireAck: true}, l.server.LocalAddr()))
		l.ln, err = l.server.ListenStream()
		require.NoError(t, err)
		c2, s2 := l.pair(t)
		for _, x := range []*vstp.Conn{c, s, c2, s2} {
			x.Close()
		}
		l.close()
	})
}

// Refusals, metadata and what was agreed upon are as on streams.
func TestSimHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hello vstp.HelloInfo
		config := &vstp.Config{
			Header: vstp.Header{{Key: "who", Value: "me"}, {Key: "big", Value: string(make([]byte, 200))}},
			VerifyHello: func(_ context.Context, h *vstp.HelloInfo) (vstp.Header, error) {
				hello = *h
				if h.MessagesOnly {
					return nil, &vstp.RefusedError{Reason: "streams only", Header: vstp.Header{{Key: "retry", Value: "3"}}}
				}
				return vstp.Header{{Key: "role", Value: "admin"}}, nil
			},
			IdleTimeout: 40 * time.Second, MaxMessageSize: 12345,
		}
		l := newSimLink(t, 1, simnet.Path{Delay: time.Millisecond}, config)
		c, s := l.pair(t)
		require.Equal(t, config.Header, hello.Header)
		require.Equal(t, l.client.LocalAddr(), hello.RemoteAddr)
		require.Equal(t, l.server.LocalAddr(), hello.LocalAddr)
		cs, ss := c.ConnectionState(), s.ConnectionState()
		require.True(t, cs.HandshakeComplete && ss.HandshakeComplete)
		require.Equal(t, append(config.Header.Clone(), vstp.Field{Key: "role", Value: "admin"}), cs.PeerHeader)
		require.Equal(t, config.Header, ss.PeerHeader)
		require.Equal(t, cs.SessionID, ss.SessionID)
		require.NotZero(t, cs.SessionID)
		require.Equal(t, "rudp", cs.Network)
		if *sealAll {
			require.Equal(t, "udp+tls", cs.Carrier)
		} else {
			require.Equal(t, "udp", cs.Carrier)
		}
		require.Equal(t, 12345, cs.MaxMessageSize)
		require.Equal(t, 40*time.Second, cs.IdleTimeout)
		require.Equal(t, !*sealAll, cs.Checksum)

		err := l.client.SendMessage(context.Background(), &vstp.Message{RequireAck: true}, l.server.LocalAddr())
		var re *vstp.RefusedError
		require.True(t, errors.As(err, &re), "%v", err)
		require.Equal(t, "streams only", re.Reason)
		require.Equal(t, "3", re.Header.Get("retry"))
		c.CloseWithError(vstp.CodeApplication+1, "go away")
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, &vstp.ProtocolError{Remote: true, Code: vstp.CodeApplication + 1})
		s.Close()
		l.close()
	})
}

// Pings measure the path.
func TestSimPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Delay: 25 * time.Millisecond}, nil)
		c, s := l.pair(t)
		d, err := c.Ping(context.Background())
		require.NoError(t, err)
		require.GreaterOrEqual(t, d, 50*time.Millisecond)
		require.Less(t, d, 60*time.Millisecond)
		st := c.Stats()
		require.NotZero(t, st.PacketsSent)
		require.NotZero(t, st.PacketsReceived)
		require.InDelta(t, 50, float64(st.RTT.Milliseconds()), 10)
		require.InDelta(t, 50, float64(st.MinRTT.Milliseconds()), 10)
		c.Close()
		s.Close()
		l.close()
	})
}

// nettest.TestConn, unmodified, over paths that lose, repeat and reorder. In real time,
// since it runs subtests.
func TestConnLossy(t *testing.T) {
	side := newAside(4)
	defer side.Wait()
	for _, path := range []simnet.Path{
		{Delay: time.Millisecond, Loss: 0.05, Reorder: 0.05, Duplicate: 0.05},
		{Loss: 0.2, Reorder: 0.05, Duplicate: 0.05},
	} {
		for name, config := range map[string]*vstp.Config{"": simConfig(nil), " with TLS": sealedConfig(nil)} {
			side.run(t, fmt.Sprintf("%v %%%s", 100*path.Loss, name), func(t *testing.T) { testConnLossy(t, path, config) })
		}
	}
}

func testConnLossy(t *testing.T, path simnet.Path, config *vstp.Config) {
	n := simnet.New(t, simnet.Options{Seed: 7, Limit: -1})
	a, b := n.Host("10.0.0.1"), n.Host("10.0.0.2")
	n.Both(a, b, path)
	server := vstp.NewPacketConn(b.ListenPacket(6969), config)
	ln, err := server.ListenStream()
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		client := vstp.NewPacketConn(a.ListenPacket(0), config)
		c1, err = client.DialStream(context.Background(), server.LocalAddr())
		if err != nil {
			return nil, nil, nil, err
		}
		c2, err = ln.Accept()
		if err != nil {
			return nil, nil, nil, err
		}
		return c1, c2, func() {
			first := async(c1.Close)
			c2.Close()
			<-first
			client.Close()
		}, nil
	})
}

// The errors of net.Conn on datagrams (N1, N2).
func TestSimErrorShapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSimLink(t, 1, simnet.Path{Delay: time.Millisecond}, nil)
		c, s := l.pair(t)
		require.NoError(t, c.SetDeadline(time.Now()))
		_, err := c.Read(make([]byte, 1))
		isTimeoutOf(t, err)
		_, err = c.Write([]byte("x"))
		isTimeoutOf(t, err)
		isTimeoutOf(t, c.SendMessage(context.Background(), &vstp.Message{}))
		require.NoError(t, c.SetDeadline(time.Time{}))
		require.NoError(t, s.Close())
		_, err = c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		_, err = c.ReceiveMessage(context.Background())
		require.Equal(t, io.EOF, err)
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, vstp.ErrPeerClosed)
		require.NoError(t, c.Close())
		for op, err := range everyError(c) {
			require.ErrorIs(t, err, net.ErrClosed, op)
			require.False(t, errors.Is(err, os.ErrDeadlineExceeded) || err.(net.Error).Timeout())
		}
		require.IsType(t, &net.UDPAddr{}, c.LocalAddr())
		require.Equal(t, l.server.LocalAddr().String(), c.RemoteAddr().String())
		l.close()
	})
}
