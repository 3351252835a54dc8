package vstp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// The contract of net.PacketConn, as rigorously as nettest.TestConn has that of
// net.Conn, on every way to get a PacketConn.

// A packetTransport is one way to get two PacketConns that reach each other.
type packetTransport struct {
	name   string
	listen func(t testing.TB, config *vstp.Config) *vstp.PacketConn
	config vstp.Config
}

var packetTransports = []packetTransport{
	{name: "udp4", listen: listenPacket("udp4", "127.0.0.1:0")},
	{name: "udp6", listen: listenPacket("udp6", "[::1]:0")},
	{name: "udp, any", listen: listenPacket("udp", ":0")},
	{name: "nocrc", listen: listenPacket("udp", "127.0.0.1:0"), config: vstp.Config{Checksum: vstp.ChecksumOff}},
	{name: "reliable", listen: listenPacket("udp", "127.0.0.1:0"), config: vstp.Config{Reliable: true}},
	{name: "tls", listen: func(t testing.TB, config *vstp.Config) *vstp.PacketConn {
		c := *config
		cert := newAuthority(t).cert // each end has its own, and trusts any
		c.TLS = &tls.Config{Certificates: []tls.Certificate{cert.Certificate}, InsecureSkipVerify: true}
		return listenPacket("udp", "127.0.0.1:0")(t, &c)
	}},
	{name: "wrapped", listen: func(t testing.TB, config *vstp.Config) *vstp.PacketConn {
		inner, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		return vstp.NewPacketConn(struct{ net.PacketConn }{inner}, config) // no SyscallConn
	}},
}

func listenPacket(network, address string) func(testing.TB, *vstp.Config) *vstp.PacketConn {
	return func(t testing.TB, config *vstp.Config) *vstp.PacketConn {
		t.Helper()
		pc, err := (&vstp.ListenConfig{Config: config}).ListenPacket(context.Background(), network, address)
		if err != nil && network == "udp6" {
			t.Skip("no IPv6: ", err)
		}
		require.NoError(t, err)
		return pc.(*vstp.PacketConn)
	}
}

// open returns a PacketConn that is closed when the test is over.
func (tr packetTransport) open(t testing.TB) *vstp.PacketConn {
	t.Helper()
	pc := tr.listen(t, &tr.config)
	t.Cleanup(func() { pc.Close() })
	return pc
}

// eachPacketTransport runs f with two PacketConns and the address of the second.
func eachPacketTransport(t *testing.T, f func(t *testing.T, a, b *vstp.PacketConn, to net.Addr)) {
	t.Helper()
	for _, tr := range packetTransports {
		t.Run(tr.name, func(t *testing.T) {
			a, b := tr.open(t), tr.open(t)
			f(t, a, b, reachable(b))
		})
	}
}

// reachable is where pc can be reached from this host.
func reachable(pc *vstp.PacketConn) net.Addr {
	a := *pc.LocalAddr().(*net.UDPAddr)
	if a.IP.IsUnspecified() {
		a.IP = net.IPv4(127, 0, 0, 1)
	}
	return &a
}

// limited sets a deadline so that no test hangs.
func limited(t testing.TB, pcs ...*vstp.PacketConn) {
	for _, pc := range pcs {
		require.NoError(t, pc.SetDeadline(time.Now().Add(patience)))
	}
}

// isTimeoutOf checks N1.
func isTimeoutOf(t testing.TB, err error) {
	t.Helper()
	ne, ok := err.(net.Error)
	require.True(t, ok && ne.Timeout(), "N1: %v", err)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// Messages of every size go both ways, with the address of the sender; an answer to
// that address arrives.
func TestPacketConnIO(t *testing.T) {
	eachPacketTransport(t, func(t *testing.T, a, b *vstp.PacketConn, to net.Addr) {
		limited(t, a, b)
		buf := make([]byte, 4<<20)
		var from net.Addr
		for _, n := range []int{1, 0, 100, 1199, 1200, 1201, 1472, 9000, 65_507, 65_508, 1_000_000, sized(3_000_000, 300_000)} {
			p := contentBytes(n)
			k, err := a.WriteTo(p, to)
			require.NoError(t, err)
			require.Equal(t, n, k)
			k, from, err = b.ReadFrom(buf)
			require.NoError(t, err)
			require.True(t, bytes.Equal(p, buf[:k]), "%d bytes of %d", k, n)
			ua, ok := from.(*net.UDPAddr)
			require.True(t, ok, "N9: %T", from)
			require.Equal(t, a.LocalAddr().(*net.UDPAddr).Port, ua.Port)

			k, err = b.WriteTo(p, from)
			require.NoError(t, err)
			require.Equal(t, n, k)
			k, _, err = a.ReadFrom(buf)
			require.NoError(t, err)
			require.True(t, bytes.Equal(p, buf[:k]), "answer: %d bytes of %d", k, n)
		}
	})
}

// A thousand messages both ways at once, large and small, none lost where all are
// repaired, and none twice.
func TestPacketConnBothWays(t *testing.T) {
	tr := packetTransport{listen: listenPacket("udp", "127.0.0.1:0"), config: vstp.Config{Reliable: true}}
	a, b := tr.open(t), tr.open(t)
	limited(t, a, b)
	count := sized(1000, 300)
	var g group
	for _, x := range [][2]*vstp.PacketConn{{a, b}, {b, a}} {
		g.Go(func() error {
			for i := range count {
				p := append(fmt.Appendf(nil, "%d:", i), contentBytes(i*i%20_000)...)
				if _, err := x[0].WriteTo(p, reachable(x[1])); err != nil {
					return err
				}
			}
			return nil
		})
		g.Go(func() error {
			seen := make(map[int]bool)
			buf := make([]byte, 1<<16)
			for range count {
				n, _, err := x[0].ReadFrom(buf)
				if err != nil {
					return fmt.Errorf("after %d messages: %w", len(seen), err)
				}
				var i int
				head, body, _ := bytes.Cut(buf[:n], []byte(":"))
				fmt.Sscan(string(head), &i)
				if seen[i] || !bytes.Equal(body, contentBytes(i*i%20_000)) {
					return fmt.Errorf("message %d again, or damaged", i)
				}
				seen[i] = true
			}
			return nil
		})
	}
	g.Wait(t)
}

// What does not fit into p is dropped with the message, and the next one is whole (N7).
func TestPacketConnTruncates(t *testing.T) {
	eachPacketTransport(t, func(t *testing.T, a, b *vstp.PacketConn, to net.Addr) {
		limited(t, a, b)
		for _, n := range []int{10, 5000} {
			for _, room := range []int{0, 1, 9} {
				_, err := a.WriteTo(contentBytes(n), to)
				require.NoError(t, err)
				p := make([]byte, room)
				k, from, err := b.ReadFrom(p)
				require.NoError(t, err)
				require.Equal(t, room, k)
				require.NotNil(t, from)
				require.Equal(t, contentBytes(n)[:room], p)
				_, err = a.WriteTo([]byte("next"), to)
				require.NoError(t, err)
				p = make([]byte, 100)
				k, _, err = b.ReadFrom(p)
				require.NoError(t, err)
				require.Equal(t, "next", string(p[:k]))
			}
		}
	})
}

// A deadline in the past ends calls at once, although a message waits and there is room
// to send (D1); it ends with its reset.
func TestPacketConnPastDeadline(t *testing.T) {
	eachPacketTransport(t, func(t *testing.T, a, b *vstp.PacketConn, to net.Addr) {
		limited(t, a, b)
		_, err := a.WriteTo([]byte("first"), to)
		require.NoError(t, err)
		require.NoError(t, b.SetReadDeadline(time.Unix(1, 0)))
		buf := make([]byte, 100)
		for range 3 {
			n, addr, err := b.ReadFrom(buf)
			isTimeoutOf(t, err)
			require.Zero(t, n)
			require.Nil(t, addr)
			_, _, err = b.ReceiveMessage(context.Background())
			isTimeoutOf(t, err)
		}
		require.NoError(t, a.SetWriteDeadline(time.Unix(1, 0)))
		n, err := a.WriteTo([]byte("never"), to)
		isTimeoutOf(t, err)
		require.Zero(t, n)
		isTimeoutOf(t, a.SendMessage(context.Background(), &vstp.Message{}, to))

		// D3: not the other's.
		_, err = b.WriteTo([]byte("back"), reachable(a))
		require.NoError(t, err)
		n, _, err = a.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, "back", string(buf[:n]))

		require.NoError(t, b.SetReadDeadline(time.Now().Add(patience)))
		n, _, err = b.ReadFrom(buf)
		require.NoError(t, err, "nothing was lost")
		require.Equal(t, "first", string(buf[:n]))
		require.NoError(t, a.SetWriteDeadline(time.Time{}))
		_, err = a.WriteTo([]byte("second"), to)
		require.NoError(t, err)
		n, _, err = b.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, "second", string(buf[:n]))
	})
}

// A deadline holds for a ReadFrom that is blocked already (D2), for several at once,
// and is theirs alone.
func TestPacketConnBlockedRead(t *testing.T) {
	eachPacketTransport(t, func(t *testing.T, a, b *vstp.PacketConn, to net.Addr) {
		const readers = 4
		errs := make(chan error, readers)
		for range readers {
			go func() {
				_, _, err := b.ReadFrom(make([]byte, 10))
				errs <- err
			}()
		}
		for _, at := range []time.Time{time.Now().Add(time.Hour), {}, time.Now().Add(10 * time.Millisecond)} {
			require.NoError(t, b.SetReadDeadline(at))
		}
		for range readers {
			isTimeoutOf(t, receive(t, errs))
		}
		_, err := b.WriteTo([]byte("x"), reachable(a))
		require.NoError(t, err)
		limited(t, a, b)
		_, _, err = a.ReadFrom(make([]byte, 10))
		require.NoError(t, err)
	})
}

// A context ends ReceiveMessage with its cause, and nothing is lost.
func TestPacketConnContext(t *testing.T) {
	eachPacketTransport(t, func(t *testing.T, a, b *vstp.PacketConn, to net.Addr) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(context.Background())
		ended := async(func() error { _, _, err := b.ReceiveMessage(ctx); return err })
		cancel(why)
		err := receive(t, ended)
		require.ErrorIs(t, err, why)
		var oe *net.OpError
		require.True(t, errors.As(err, &oe))
		require.ErrorIs(t, a.SendMessage(ctx, &vstp.Message{}, to), why)
		limited(t, a, b)
		h := vstp.Header{{Key: "k", Value: "1"}, {Key: "", Value: "\xff"}, {Key: "k", Value: "2"}}
		for _, n := range []int{0, 10, 100_000} {
			require.NoError(t, a.SendMessage(context.Background(), &vstp.Message{Header: h, Payload: contentBytes(n)}, to))
			m, _, err := b.ReceiveMessage(context.Background())
			require.NoError(t, err)
			require.Equal(t, h, m.Header)
			require.True(t, bytes.Equal(contentBytes(n), m.Payload))
			require.False(t, m.RequireAck)
		}
	})
}

// SendMessage with RequireAck returns when the message is there, although nobody has
// received it yet.
func TestPacketConnRequireAck(t *testing.T) {
	eachPacketTransport(t, func(t *testing.T, a, b *vstp.PacketConn, to net.Addr) {
		limited(t, a, b)
		for _, n := range []int{0, 1000, 500_000} {
			require.NoError(t, a.SendMessage(context.Background(), &vstp.Message{Payload: contentBytes(n), RequireAck: true}, to))
			m, _, err := b.ReceiveMessage(context.Background())
			require.NoError(t, err)
			require.True(t, m.RequireAck)
			require.True(t, bytes.Equal(contentBytes(n), m.Payload))
		}
	})
}

// Close ends every blocked call with net.ErrClosed (C6), as it does calls that follow;
// addresses stay (N9), and the port is free.
func TestPacketConnClose(t *testing.T) {
	eachPacketTransport(t, func(t *testing.T, a, b *vstp.PacketConn, to net.Addr) {
		calls := []func() error{
			func() error { _, _, err := b.ReadFrom(make([]byte, 1)); return err },
			func() error { _, _, err := b.ReceiveMessage(context.Background()); return err },
			func() error { _, err := b.WriteTo([]byte("x"), to); return err },
			func() error { return b.SendMessage(context.Background(), &vstp.Message{}, to) },
			func() error { return b.SetDeadline(time.Now()) },
			func() error { return b.SetReadDeadline(time.Time{}) },
			func() error { return b.SetWriteDeadline(time.Time{}) },
			func() error { _, err := b.DialStream(context.Background(), to); return err },
			func() error { _, err := b.ListenStream(); return err },
		}
		errs := make(chan error, 6)
		for _, call := range calls[:2] {
			for range 3 {
				go func() { errs <- call() }()
			}
		}
		addr := b.LocalAddr()
		require.NoError(t, b.Close())
		require.NoError(t, b.Close(), "again")
		for range cap(errs) {
			require.ErrorIs(t, receive(t, errs), net.ErrClosed)
		}
		for i, call := range calls {
			err := call()
			ne, ok := err.(net.Error)
			require.True(t, ok && !ne.Timeout(), "%d: %v", i, err)
			require.ErrorIs(t, err, net.ErrClosed)
		}
		require.Equal(t, addr, b.LocalAddr())
		again, err := net.ListenPacket("udp", addr.String())
		require.NoError(t, err, "the port is free")
		again.Close()
	})
}

// Addresses that cannot be sent to are the error of the call, and of no other.
func TestPacketConnAddresses(t *testing.T) {
	eachPacketTransport(t, func(t *testing.T, a, b *vstp.PacketConn, to net.Addr) {
		limited(t, a, b)
		for _, addr := range []net.Addr{nil, (*net.UDPAddr)(nil), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1},
			&net.UnixAddr{Name: "x", Net: "unixgram"}, (*net.IPAddr)(nil)} {
			n, err := a.WriteTo([]byte("x"), addr)
			var oe *net.OpError
			var ae *net.AddrError
			require.True(t, errors.As(err, &oe) && errors.As(err, &ae), "%v: %v", addr, err)
			require.Equal(t, "write", oe.Op)
			require.Zero(t, n)
			require.Error(t, a.SendMessage(context.Background(), &vstp.Message{}, addr))
			_, err = a.DialStream(context.Background(), addr)
			require.True(t, errors.As(err, &ae), "%v: %v", addr, err)
		}
		_, err := a.WriteTo([]byte("x"), &net.UDPAddr{Port: to.(*net.UDPAddr).Port}) // this host, as with package net
		require.NoError(t, err)
		_, from, err := b.ReadFrom(make([]byte, 10))
		require.NoError(t, err)
		_, err = b.WriteTo([]byte("x"), from)
		require.NoError(t, err)
		_, _, err = a.ReadFrom(make([]byte, 10))
		require.NoError(t, err)
	})
}

// "Too large: ErrMessageTooLarge, synchronously" (F8), and what cannot be sent harms
// nothing.
func TestPacketConnTooLarge(t *testing.T) {
	small := packetTransport{listen: listenPacket("udp", "127.0.0.1:0"), config: vstp.Config{MaxMessageSize: 2000}}
	a, b := small.open(t), small.open(t)
	limited(t, a, b)
	to := reachable(b)
	buf := make([]byte, 5000)
	for range 2 { // before there is an association, and with one
		n, err := a.WriteTo(make([]byte, 2001), to)
		require.ErrorIs(t, err, vstp.ErrMessageTooLarge)
		require.Zero(t, n)
		require.ErrorIs(t, a.SendMessage(context.Background(), &vstp.Message{Header: vstp.Header{{Key: "\x01"}}}, to), vstp.ErrReservedKey)
		_, err = a.WriteTo(contentBytes(2000), to)
		require.NoError(t, err)
		n, _, err = b.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, contentBytes(2000), buf[:n])
	}

	whole := packetTransport{listen: listenPacket("udp", "127.0.0.1:0"), config: vstp.Config{NoFragmentation: true, MaxDatagramSize: 1200}}
	a, b = whole.open(t), whole.open(t)
	limited(t, a, b)
	_, err := a.WriteTo(make([]byte, 1200), reachable(b))
	require.ErrorIs(t, err, vstp.ErrMessageTooLarge)
	_, err = a.WriteTo(make([]byte, 1000), reachable(b))
	require.NoError(t, err)
	_, _, err = b.ReadFrom(buf)
	require.NoError(t, err)
}

// All methods at once, under the race detector (N8); WriteTo has done with its slice
// when it returns (N4).
func TestPacketConnConcurrently(t *testing.T) {
	eachPacketTransport(t, func(t *testing.T, a, b *vstp.PacketConn, to net.Addr) {
		const rounds = 50
		var g group
		run := func(f func(i int)) {
			g.Go(func() error {
				for i := range rounds {
					f(i)
				}
				return nil
			})
		}
		ctx := context.Background()
		for _, pc := range []*vstp.PacketConn{a, b} {
			dst := reachable(a)
			if pc == a {
				dst = to
			}
			for range 3 {
				p := make([]byte, 3000)
				run(func(i int) {
					pc.WriteTo(p[:i*50], dst)
					for j := range p {
						p[j] = byte(i)
					}
				})
				run(func(i int) { pc.SendMessage(ctx, &vstp.Message{Payload: []byte("m"), Ordered: i%2 == 0}, dst) })
				run(func(int) { pc.SetReadDeadline(time.Now().Add(time.Millisecond)) })
				run(func(int) { pc.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)) })
				run(func(int) { pc.SetDeadline(time.Now().Add(time.Millisecond)) })
				run(func(int) { pc.LocalAddr(); pc.Stats() })
				buf := make([]byte, 3000)
				run(func(int) { pc.ReadFrom(buf) })
				run(func(int) {
					if m, _, err := pc.ReceiveMessage(ctx); err == nil {
						for j := range m.Payload { // it is ours
							m.Payload[j] = 1
						}
					}
				})
			}
		}
		g.Wait(t)
		var wg sync.WaitGroup
		for range 4 { // and everything with Close
			wg.Go(func() { a.WriteTo([]byte("x"), to) })
			wg.Go(func() { a.SetDeadline(time.Now().Add(time.Second)) })
			wg.Go(func() { a.ReadFrom(make([]byte, 1)) })
			wg.Go(func() { a.Close() })
		}
		wg.Wait()
	})
}

// Many sockets talk to one, each in its own association; each answer finds its way.
func TestPacketConnManyPeers(t *testing.T) {
	tr := packetTransport{listen: listenPacket("udp", "127.0.0.1:0")}
	server := tr.open(t)
	served := async(func() error {
		return server.Serve(t.Context(), func(ctx context.Context, pc *vstp.PacketConn, m *vstp.Message, addr net.Addr) error {
			return pc.SendMessage(ctx, &vstp.Message{Header: m.Header, Payload: bytes.ToUpper(m.Payload), RequireAck: true}, addr)
		})
	})
	var g group
	for i := range sized(50, 20) {
		client := tr.open(t)
		limited(t, client)
		g.Go(func() error {
			for j := range 5 {
				h := vstp.Header{{Key: "n", Value: fmt.Sprint(i, j)}}
				err := client.SendMessage(context.Background(), &vstp.Message{Header: h, Payload: []byte("hello"), RequireAck: true}, reachable(server))
				if err != nil {
					return err
				}
				m, _, err := client.ReceiveMessage(context.Background())
				if err != nil {
					return err
				}
				if string(m.Payload) != "HELLO" || m.Header.Get("n") != fmt.Sprint(i, j) {
					return fmt.Errorf("%q %v", m.Payload, m.Header)
				}
			}
			return nil
		})
	}
	g.Wait(t)
	require.Equal(t, sized(50, 20), server.Stats().Associations)
	require.NoError(t, server.Close())
	require.ErrorIs(t, receive(t, served), net.ErrClosed)
}

// Serve calls the handler one at a time for each peer, in order, but for several peers
// at once; it ends with its context and waits for handlers.
func TestPacketServe(t *testing.T) {
	tr := packetTransport{listen: listenPacket("udp", "127.0.0.1:0"), config: vstp.Config{Reliable: true}}
	server, slow, fast := tr.open(t), tr.open(t), tr.open(t)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	var order []string
	var running, most atomic.Int32
	served := async(func() error {
		return server.Serve(ctx, func(ctx context.Context, pc *vstp.PacketConn, m *vstp.Message, addr net.Addr) error {
			if string(m.Payload) == "fast" {
				entered <- struct{}{}
				return errors.New("which is logged")
			}
			most.Store(max(most.Load(), running.Add(1)))
			<-release
			order = append(order, string(m.Payload))
			running.Add(-1)
			if len(order) == 5 {
				entered <- struct{}{}
			}
			return nil
		})
	})
	for i := range 5 {
		require.NoError(t, slow.SendMessage(t.Context(), &vstp.Message{Payload: fmt.Appendf(nil, "%d", i), Ordered: true, RequireAck: true}, reachable(server)))
	}
	for range 3 {
		_, err := fast.WriteTo([]byte("fast"), reachable(server))
		require.NoError(t, err)
		receive(t, entered)
	}
	close(release)
	receive(t, entered)
	cancel(why)
	require.ErrorIs(t, receive(t, served), why)
	require.Equal(t, []string{"0", "1", "2", "3", "4"}, order)
	require.EqualValues(t, 1, most.Load())
	_, _, err := server.ReadFrom(nil)
	require.ErrorIs(t, err, net.ErrClosed)
}

// A configuration that cannot work is the error of every call, and Close still closes.
func TestNewPacketConnBadConfig(t *testing.T) {
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	pc := vstp.NewPacketConn(inner, &vstp.Config{Header: vstp.Header{{Key: "\x01"}}})
	_, _, err = pc.ReadFrom(make([]byte, 1))
	require.ErrorIs(t, err, vstp.ErrReservedKey)
	_, err = pc.WriteTo(nil, inner.LocalAddr())
	require.ErrorIs(t, err, vstp.ErrReservedKey)
	_, err = pc.ListenStream()
	require.ErrorIs(t, err, vstp.ErrReservedKey)
	require.ErrorIs(t, pc.SetDeadline(time.Now()), vstp.ErrReservedKey)
	require.Equal(t, inner.LocalAddr(), pc.LocalAddr())
	require.Zero(t, pc.Stats())
	require.NoError(t, pc.Close())
	_, err = inner.WriteTo(nil, inner.LocalAddr())
	require.ErrorIs(t, err, net.ErrClosed)
}
