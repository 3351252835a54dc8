package vstp_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
)

// The network "auto" over the system's sockets. What paths can do to it is in the
// simulations and in network namespaces.

// autoTransports are those of "auto".
func eachAutoTransport(t *testing.T, f func(t *testing.T, tr transport)) {
	t.Helper()
	for _, tls := range []bool{false, true} {
		tr := transport{name: "auto", network: "auto", tls: tls}
		if tls {
			tr.name += "+TLS"
		}
		t.Run(tr.name, func(t *testing.T) { f(t, tr) })
	}
}

// dialAuto returns both ends of a connection.
func (tr transport) dialAuto(t testing.TB, ln *vstp.Listener, config *vstp.Config) (c, s *vstp.Conn) {
	t.Helper()
	return connect(t, ln, &vstp.Dialer{Config: config})
}

// onCarrier waits until c sends on a carrier.
func onCarrier(t testing.TB, c *vstp.Conn, want vstp.Carrier) {
	t.Helper()
	require.Eventually(t, func() bool { return c.Carrier() == want }, patience, time.Millisecond)
}

// echoes checks that bytes get through both ways.
func echoes(t testing.TB, c, s *vstp.Conn) {
	t.Helper()
	done := async(func() error {
		b := make([]byte, 100_000)
		if _, err := io.ReadFull(s, b); err != nil {
			return err
		}
		_, err := s.Write(b)
		return err
	})
	require.NoError(t, roundTrip(c, contentBytes(100_000)))
	require.NoError(t, receive(t, done))
}

// A connection is moved forth and back by either end, and says so.
func TestAutoMove(t *testing.T) {
	eachAutoTransport(t, func(t *testing.T, tr transport) {
		cc, sc := tr.configs(t)
		moves := make(chan vstp.Move, 16)
		var conns sync.Map
		cc.Auto.OnMove = func(c *vstp.Conn, m vstp.Move) {
			conns.Store(c, true)
			moves <- m
		}
		ln, err := (&vstp.ListenConfig{Config: sc}).Listen(t.Context(), "auto", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		c, s := tr.dialAuto(t, ln.(*vstp.Listener), cc)
		suffix := ""
		if tr.tls {
			suffix = "+tls"
		}
		for _, e := range []*vstp.Conn{c, s} {
			st := e.ConnectionState()
			require.Equal(t, "auto", st.Network)
			require.Equal(t, "udp"+suffix, st.Carrier)
			require.Equal(t, tr.tls, st.TLS != nil)
			require.Equal(t, vstp.CarrierUDP, e.Carrier())
		}
		laddr, raddr := c.LocalAddr().String(), c.RemoteAddr().String()
		require.Equal(t, ln.Addr().String(), raddr)
		echoes(t, c, s)

		require.NoError(t, c.Move(t.Context(), vstp.CarrierTCP))
		require.Equal(t, vstp.CarrierTCP, c.Carrier())
		require.Equal(t, "tcp"+suffix, c.ConnectionState().Carrier)
		echoes(t, c, s)
		onCarrier(t, s, vstp.CarrierTCP)
		require.NoError(t, c.Move(t.Context(), vstp.CarrierTCP), "it is there already")

		require.NoError(t, s.Move(t.Context(), vstp.CarrierUDP))
		onCarrier(t, c, vstp.CarrierUDP)
		echoes(t, c, s)
		require.NoError(t, c.Move(t.Context(), vstp.CarrierAny), "the other one")
		require.Equal(t, vstp.CarrierTCP, c.Carrier())
		echoes(t, c, s)

		require.Equal(t, laddr, c.LocalAddr().String())
		require.Equal(t, raddr, c.RemoteAddr().String())
		for _, e := range []*vstp.Conn{c, s} {
			st := e.Stats()
			require.EqualValues(t, 3, st.Moves)
			require.Len(t, st.RecentMoves, 3)
			for i, to := range []string{"tcp", "udp", "tcp"} {
				m := st.RecentMoves[i]
				require.Equal(t, to, m.To)
				require.NotEqual(t, m.From, m.To)
				require.Equal(t, (e == c) != (i != 1), m.ByPeer)
				require.NotEmpty(t, m.Reason)
			}
		}
		for _, to := range []string{"tcp", "udp", "tcp"} {
			require.Equal(t, to, receive(t, moves).To)
		}
		conns.Range(func(key, _ any) bool {
			require.Same(t, c, key)
			return true
		})
	})
}

// A pin keeps a connection where it is, or where it is to be.
func TestAutoPin(t *testing.T) {
	eachAutoTransport(t, func(t *testing.T, tr transport) {
		ln, d := tr.start(t)
		c, s := connect(t, ln, d)
		require.NoError(t, c.Pin(vstp.CarrierTCP))
		onCarrier(t, c, vstp.CarrierTCP)
		echoes(t, c, s)
		require.NoError(t, c.Pin(vstp.CarrierUDP))
		onCarrier(t, c, vstp.CarrierUDP)
		onCarrier(t, s, vstp.CarrierUDP)
		require.NoError(t, c.Pin(vstp.CarrierAny))
		echoes(t, c, s)

		pinned := *d.Config
		pinned.Auto.Pin = vstp.CarrierTCP
		c, s = tr.dialAuto(t, ln, &pinned)
		require.Equal(t, vstp.CarrierTCP, c.Carrier())
		require.Equal(t, "tcp", c.RemoteAddr().Network())
		require.Equal(t, "tcp", s.RemoteAddr().Network())
		echoes(t, c, s)
		require.NoError(t, c.Pin(vstp.CarrierUDP), "its datagrams have never been used")
		onCarrier(t, c, vstp.CarrierUDP)
		echoes(t, c, s)
		require.Equal(t, "tcp", c.RemoteAddr().Network(), "of the carrier that it began on")
	})
}

// Other networks do not move.
func TestMoveNotSupported(t *testing.T) {
	want := map[string]vstp.Carrier{"tcp": vstp.CarrierTCP, "unix": vstp.CarrierAny, "rudp": vstp.CarrierUDP}
	eachTransport(t, func(t *testing.T, tr transport) {
		if tr.auto() {
			return
		}
		c, s := tr.pair(t)
		for _, e := range []*vstp.Conn{c, s} {
			require.Equal(t, want[tr.network], e.Carrier())
			require.ErrorIs(t, e.Move(t.Context(), vstp.CarrierTCP), vstp.ErrNotSupported)
			require.ErrorIs(t, e.Pin(vstp.CarrierUDP), vstp.ErrNotSupported)
		}
	})
	// Nor does "auto" with a server that does not.
	for network, carrier := range map[string]vstp.Carrier{"tcp": vstp.CarrierTCP, "rudp": vstp.CarrierUDP} {
		for _, tls := range []bool{false, true} {
			ln, d := transport{network: network, tls: tls}.start(t)
			nc, err := d.Dial("auto", ln.Addr().String())
			require.NoError(t, err)
			c := nc.(*vstp.Conn)
			defer c.Close()
			s, err := ln.Accept()
			require.NoError(t, err)
			defer s.Close()
			echoes(t, c, s.(*vstp.Conn))
			require.Equal(t, "auto", c.ConnectionState().Network)
			require.Equal(t, carrier, c.Carrier())
			require.True(t, strings.HasPrefix(c.ConnectionState().Carrier, carrier.String()))
			require.ErrorIs(t, c.Move(t.Context(), vstp.CarrierAny), vstp.ErrNotSupported)
			require.ErrorIs(t, c.Pin(vstp.CarrierTCP), vstp.ErrNotSupported)
			require.Zero(t, c.Stats().Moves)
		}
	}
}

// One listener has clients of all kinds: "tcp", "rudp", "auto", the crate on TCP, and
// with a handler also "udp" and the crate on UDP.
func TestAutoListenerServesAll(t *testing.T) {
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", tls), func(t *testing.T) {
			cc, sc := transport{tls: tls}.configs(t)
			echo := func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
				return c.SendMessage(ctx, &vstp.Message{Payload: append([]byte("echo "), m.Payload...)})
			}
			l, err := (&vstp.ListenConfig{Config: sc, Messages: echo}).Listen(t.Context(), "auto", "127.0.0.1:0")
			require.NoError(t, err)
			ln := l.(*vstp.Listener)
			ctx, cancel := context.WithCancel(t.Context())
			served := async(func() error { return ln.Serve(ctx, echo) })
			for _, network := range []string{"tcp", "tcp4", "rudp", "rudp4", "auto", "auto4", "udp", "udp4"} {
				c, err := (&vstp.Dialer{Config: cc}).Dial(network, ln.Addr().String())
				require.NoError(t, err, network)
				vc := c.(*vstp.Conn)
				require.NoError(t, vc.SetDeadline(time.Now().Add(patience)))
				require.NoError(t, vc.SendMessage(ctx, &vstp.Message{Payload: []byte(network), Repair: true}))
				m, err := vc.ReceiveMessage(ctx)
				require.NoError(t, err, network)
				require.Equal(t, "echo "+network, string(m.Payload))
				require.NoError(t, c.Close())
			}
			if !tls {
				conn, err := net.Dial("tcp", ln.Addr().String())
				require.NoError(t, err)
				_, err = conn.Write(unhex(t, crateHello+crateReqAck1))
				require.NoError(t, err)
				b := make([]byte, len(unhex(t, crateAck1)))
				require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
				_, err = io.ReadFull(conn, b)
				require.NoError(t, err)
				require.Equal(t, crateAck1, hex.EncodeToString(b))
				conn.Close()

				crate := newRawUDP(t)
				to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: ln.Addr().(*net.TCPAddr).Port}
				crate.send(to, crateReqAck)
				var got []string // in any order
				for range 2 {
					b := make([]byte, 2000)
					n, _, err := crate.ReadFrom(b)
					require.NoError(t, err)
					got = append(got, hex.EncodeToString(b[:n]))
				}
				answer := hex.EncodeToString(crateFrame(t, framing.TypeData, 0, nil, "echo hi"))
				require.ElementsMatch(t, []string{crateAck42, answer}, got)
			}
			cancel()
			require.ErrorIs(t, receive(t, served), context.Canceled)
		})
	}
}

// Without a handler for messages, who has nothing else is refused.
func TestAutoListenerRefusesMessages(t *testing.T) {
	ln, err := vstp.Listen("auto", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, err = vstp.Dial("udp", ln.Addr().String())
	var refused *vstp.RefusedError
	require.True(t, errors.As(err, &refused), "%v", err)
}

// A handler for messages may close the listener that calls it.
func TestMessagesHandlerCloses(t *testing.T) {
	var ln net.Listener
	ready, closed := make(chan struct{}), make(chan error, 1)
	lc := &vstp.ListenConfig{Messages: func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
		<-ready
		closed <- ln.Close()
		<-ctx.Done()
		return ctx.Err()
	}}
	var err error
	ln, err = lc.Listen(t.Context(), "auto", "127.0.0.1:0")
	require.NoError(t, err)
	close(ready)
	c, err := vstp.Dial("udp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("close"))
	require.NoError(t, err)
	require.NoError(t, receive(t, closed))
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// The Conn that a handler for messages gets is for sending.
func TestMessagePeerConn(t *testing.T) {
	got := make(chan error, 1)
	lc := &vstp.ListenConfig{Messages: func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
		_, err := c.Read(make([]byte, 1))
		_, err2 := c.ReceiveMessage(ctx)
		got <- errors.Join(err, err2, c.CloseWrite(), c.SetDeadline(time.Time{}))
		_, err = c.Write([]byte(c.ConnectionState().Network + " " + c.Carrier().String()))
		return err
	}}
	ln, err := lc.Listen(t.Context(), "auto", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := vstp.Dial("udp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("hello"))
	require.NoError(t, err)
	for _, err := range receive(t, got).(interface{ Unwrap() []error }).Unwrap() {
		require.ErrorIs(t, err, vstp.ErrNotSupported)
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	require.NoError(t, err)
	require.Equal(t, "udp udp", string(b[:n]))
}

// "With Config.TLS plaintext clients are refused with the typed errors on both", and the
// other way round. Trap A5.
func TestAutoTLSMismatch(t *testing.T) {
	secure := transport{name: "tls", network: "auto", tls: true}
	plain := transport{name: "plain", network: "auto"}
	cc, _ := secure.configs(t)
	for _, pin := range []vstp.Carrier{vstp.CarrierAny, vstp.CarrierUDP, vstp.CarrierTCP} {
		for _, c := range []struct {
			server transport
			client vstp.Config
			want   error
		}{{secure, vstp.Config{}, vstp.ErrTLSRequired}, {plain, *cc, vstp.ErrNotTLS}} {
			ln, _ := c.server.listen(t)
			defer ln.Close()
			c.client.Auto.Pin = pin
			start := time.Now()
			_, err := (&vstp.Dialer{Config: &c.client}).Dial("auto", ln.Addr().String())
			var oe *net.OpError
			require.True(t, errors.As(err, &oe) && oe.Op == "dial" && oe.Net == "auto", "%v", err)
			require.ErrorIs(t, err, c.want, "server %s, pin %v", c.server.name, pin)
			require.Less(t, time.Since(start), soon)
		}
	}
}

// Who verifies a certificate, does so on both.
func TestAutoCertificate(t *testing.T) {
	tr := transport{network: "auto", tls: true}
	ln, _ := tr.start(t)
	other, _ := tr.configs(t) // has another authority
	for _, pin := range []vstp.Carrier{vstp.CarrierAny, vstp.CarrierUDP, vstp.CarrierTCP} {
		other.Auto.Pin = pin
		start := time.Now()
		_, err := (&vstp.Dialer{Config: other}).Dial("auto", ln.Addr().String())
		require.ErrorContains(t, err, "unknown authority")
		require.NotContains(t, err.Error(), "on tcp")
		require.Less(t, time.Since(start), soon)
	}
}

// Both dead is one error with both reasons. Trap A3.
func TestAutoNobodyThere(t *testing.T) {
	ln, err := vstp.Listen("auto", "127.0.0.1:0")
	require.NoError(t, err)
	address := ln.Addr().String()
	require.NoError(t, ln.Close())
	start := time.Now()
	_, err = vstp.Dial("auto", address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.EqualError(t, err, "dial auto "+address+": on udp and tcp: connect: connection refused")
	require.Less(t, time.Since(start), soon)

	// Silence: sockets that nobody reads.
	pc, err := net.ListenPacket("udp", address)
	require.NoError(t, err)
	defer pc.Close()
	tcp, err := net.Listen("tcp", address)
	require.NoError(t, err)
	defer tcp.Close()
	_, err = vstp.DialTimeout("auto", address, 400*time.Millisecond)
	ne, ok := err.(net.Error)
	require.True(t, ok && ne.Timeout(), "%v", err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(start), 2*soon)
}

// A server that has messages only on UDP is found on TCP.
func TestAutoBesideMessages(t *testing.T) {
	inner, packets := bothPorts(t)
	ln := vstp.NewListener(inner, nil)
	defer ln.Close()
	pc := vstp.NewPacketConn(packets, nil)
	defer pc.Close()
	c, err := vstp.Dial("auto", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, vstp.CarrierTCP, c.(*vstp.Conn).Carrier())
}

// What has worked is tried first the next time.
func TestAutoMemory(t *testing.T) {
	cc, sc := transport{network: "tcp"}.configs(t)
	inner, silent := bothPorts(t) // UDP is blocked
	defer silent.Close()
	ln, d := vstp.NewListener(inner, sc), &vstp.Dialer{Config: cc}
	defer ln.Close()
	go echoAll(ln)
	address := ln.Addr().String()
	dial := func(d *vstp.Dialer) (took time.Duration, datagrams int) {
		start := time.Now()
		c, err := d.Dial("auto", address)
		require.NoError(t, err)
		took = time.Since(start)
		require.NoError(t, c.Close())
		for b := make([]byte, 2000); ; datagrams++ {
			require.NoError(t, silent.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
			if _, _, err := silent.ReadFrom(b); err != nil {
				return took, datagrams
			}
		}
	}
	took, datagrams := dial(d)
	require.GreaterOrEqual(t, took, vstp.DefaultHeadStart)
	require.Positive(t, datagrams)
	again := *d // copies share what they know
	for _, d := range []*vstp.Dialer{d, &again} {
		took, datagrams = dial(d)
		require.Less(t, took, soon)
		require.Zero(t, datagrams, "nothing is tried on UDP")
	}
	_, datagrams = dial(&vstp.Dialer{})
	require.Positive(t, datagrams, "another Dialer knows nothing")

	memory := new(vstp.CarrierMemory)
	shared := &vstp.Config{Auto: vstp.AutoConfig{Memory: memory}}
	_, datagrams = dial(&vstp.Dialer{Config: shared})
	require.Positive(t, datagrams)
	_, datagrams = dial(&vstp.Dialer{Config: shared})
	require.Zero(t, datagrams)
	memory.Forget(address)
	_, datagrams = dial(&vstp.Dialer{Config: shared})
	require.Positive(t, datagrams)

	config := &vstp.Config{Auto: vstp.AutoConfig{PeerPreferenceTTL: -1}}
	fd := &vstp.Dialer{Config: config}
	for range 2 {
		_, datagrams = dial(fd)
		require.Positive(t, datagrams, "nothing is to be remembered")
	}
}

// An autoListener needs one port for both, and finds one.
func TestAutoListenPort(t *testing.T) {
	for range 50 {
		ln, err := vstp.Listen("auto", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		require.Equal(t, "tcp", ln.Addr().Network())
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		require.ErrorIs(t, err, syscall.EADDRINUSE, "UDP of the same port is the listener's")
		require.Nil(t, pc)
	}
	for _, c := range []struct{ network, address string }{
		{"auto4", "[::1]:0"}, {"auto6", "127.0.0.1:0"}, {"auto", "127.0.0.1:99999"}, {"auto", "[::1:5"},
	} {
		_, err := vstp.Listen(c.network, c.address)
		var oe *net.OpError
		require.True(t, errors.As(err, &oe), "%v", err)
		require.Equal(t, "listen", oe.Op)
		require.Equal(t, c.network, oe.Net)
	}
	pc := udpPort(t)
	defer pc.Close()
	_, err := vstp.Listen("auto", pc.LocalAddr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	tcp, err := net.Listen("tcp", pc.LocalAddr().String())
	require.NoError(t, err, "nothing is left of the listener")
	tcp.Close()
}

// NewAutoListener takes sockets that somebody else has opened.
func TestNewAutoListener(t *testing.T) {
	eachAutoTransport(t, func(t *testing.T, tr transport) {
		inner, pc := bothPorts(t)
		cc, sc := tr.configs(t)
		ln, err := vstp.NewAutoListener(pc, inner, sc)
		require.NoError(t, err)
		c, s := tr.dialAuto(t, ln, cc)
		require.NoError(t, c.Move(t.Context(), vstp.CarrierTCP))
		echoes(t, c, s)
		require.NoError(t, ln.Close())
		echoes(t, c, s)
		require.NoError(t, c.Move(t.Context(), vstp.CarrierUDP), "accepted connections have both")
		echoes(t, c, s)
	})
	inner, pc := bothPorts(t)
	_, err := vstp.NewAutoListener(pc, inner, &vstp.Config{Header: vstp.Header{{Key: "\x01"}}})
	require.ErrorIs(t, err, vstp.ErrReservedKey)
	_, err = inner.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// The local address of a dial is for both carriers, its port for the one of its kind.
func TestAutoLocalAddr(t *testing.T) {
	ln, err := vstp.Listen("auto", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go echoAll(ln)
	free := udpPort(t)
	port := free.LocalAddr().(*net.UDPAddr).Port
	require.NoError(t, free.Close())
	ip := net.IPv4(127, 0, 0, 1)
	for _, c := range []struct {
		local net.Addr
		pin   vstp.Carrier
		port  bool
	}{
		{&net.UDPAddr{IP: ip, Port: port}, vstp.CarrierUDP, true},
		{&net.UDPAddr{IP: ip}, vstp.CarrierTCP, false},
		{&net.TCPAddr{IP: ip, Port: port}, vstp.CarrierTCP, true},
		{&net.TCPAddr{IP: ip}, vstp.CarrierUDP, false},
	} {
		d := &vstp.Dialer{NetDialer: &net.Dialer{LocalAddr: c.local}, Config: &vstp.Config{Auto: vstp.AutoConfig{Pin: c.pin}}}
		conn, err := d.Dial("auto", ln.Addr().String())
		require.NoError(t, err)
		require.Equal(t, c.port, strings.HasSuffix(conn.LocalAddr().String(), fmt.Sprintf(":%d", port)))
		require.NoError(t, roundTrip(conn, []byte("hello")))
		require.NoError(t, conn.Close())
	}
	_, err = (&vstp.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.UnixAddr{Name: "x"}}}).Dial("auto", ln.Addr().String())
	var ae *net.AddrError
	require.True(t, errors.As(err, &ae), "%v", err)
}

// Names of carriers.
func TestCarrierString(t *testing.T) {
	for c, want := range map[vstp.Carrier]string{vstp.CarrierAny: "any", vstp.CarrierUDP: "udp", vstp.CarrierTCP: "tcp", 7: "Carrier(7)"} {
		require.Equal(t, want, c.String())
	}
}

// Both carriers at once, and whoever comes first: each dial is one connection, its standby
// what was begun with it. What a server has accepted that the client has given up ends at
// once.
func TestAutoBothAtOnce(t *testing.T) {
	eachAutoTransport(t, func(t *testing.T, tr transport) {
		ln, d := tr.start(t)
		config := *d.Config
		config.Auto.HeadStart, config.Auto.PeerPreferenceTTL = -1, -1
		const dials = 20
		ends := make(chan error, 2*dials)
		var g group
		accepted := 0
		g.Go(func() error {
			for {
				c, err := ln.Accept()
				if err != nil {
					return nil
				}
				accepted++
				g.Go(func() error {
					_, err := io.Copy(c, c)
					c.Close()
					ends <- err
					return nil
				})
			}
		})
		began := map[vstp.Carrier]int{}
		for range dials {
			nc, err := (&vstp.Dialer{Config: &config}).Dial("auto", ln.Addr().String())
			require.NoError(t, err)
			c := nc.(*vstp.Conn)
			began[c.Carrier()]++
			require.NoError(t, roundTrip(c, contentBytes(10_000)))
			require.NoError(t, c.Move(t.Context(), vstp.CarrierAny), "the standby")
			require.NoError(t, roundTrip(c, contentBytes(10_000)))
			require.NoError(t, c.CloseWrite())
			_, err = c.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err)
			require.NoError(t, c.Close())
			for err := error(errEcho); err != nil; { // that of a ghost is something
				err = receive(t, ends)
			}
		}
		require.NoError(t, ln.Close())
		g.Wait(t)
		t.Log(began, accepted)
	})
}
