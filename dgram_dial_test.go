package vstp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// Dial of "udp": each Write is a message, each Read gets one.
func TestDialMessages(t *testing.T) {
	tr := packetTransport{listen: listenPacket("udp", "127.0.0.1:0")}
	server := tr.open(t)
	limited(t, server)
	nc, err := vstp.Dial("udp", server.LocalAddr().String())
	require.NoError(t, err)
	defer nc.Close()
	c := nc.(*vstp.Conn)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	require.Equal(t, server.LocalAddr().String(), c.RemoteAddr().String())
	cs := c.ConnectionState()
	require.True(t, cs.HandshakeComplete)
	require.Equal(t, "udp", cs.Network)
	require.Equal(t, "udp", cs.Carrier)
	buf := make([]byte, 1<<20)
	for _, n := range []int{1, 0, 1200, 100_000} {
		p := contentBytes(n)
		k, err := c.Write(p)
		require.NoError(t, err)
		require.Equal(t, n, k)
		k, from, err := server.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, p, buf[:k])
		_, err = server.WriteTo(p, from)
		require.NoError(t, err)
		k, err = c.Read(buf)
		require.NoError(t, err)
		require.Equal(t, p, buf[:k])

		if n > 1 { // N7
			_, err = server.WriteTo(p, from)
			require.NoError(t, err)
			_, err = server.WriteTo([]byte("next"), from)
			require.NoError(t, err)
			short := 0
			for range 2 { // a small one may overtake a large one
				k, err = c.Read(buf[:10])
				require.NoError(t, err)
				if k == 4 {
					require.Equal(t, "next", string(buf[:k]))
				} else {
					require.Equal(t, p[:10], buf[:k])
					short++
				}
			}
			require.Equal(t, 1, short)
		}
	}
	h := vstp.Header{{Key: "k", Value: "v"}}
	require.NoError(t, c.SendMessage(t.Context(), &vstp.Message{Header: h, RequireAck: true}))
	m, _, err := server.ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.Equal(t, h, m.Header)
	require.NoError(t, c.Close())
	_, err = c.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
}

// The sockets of Dial and Listen go with the last connection (N11), those of failed
// dials at once.
func TestDatagramSockets(t *testing.T) {
	descriptors := openDescriptors(t)
	ln, err := vstp.Listen("rudp", "127.0.0.1:0")
	require.NoError(t, err)
	address := ln.Addr().String()
	require.IsType(t, &net.UDPAddr{}, ln.Addr())
	c, err := vstp.Dial("rudp", address)
	require.NoError(t, err)
	s, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	echoed := async(func() error { _, err := io.CopyN(s, s, 5); return err })
	require.NoError(t, roundTrip(c, []byte("hello")))
	require.NoError(t, receive(t, echoed))
	_, err = net.ListenPacket("udp", address)
	require.Error(t, err, "the connection still uses it")
	require.NoError(t, c.Close())
	require.NoError(t, s.Close())
	requireFree(t, address)
	_, err = vstp.DialTimeout("rudp", address, 100*time.Millisecond)
	ne, ok := err.(net.Error)
	require.True(t, ok && (ne.Timeout() || errors.Is(err, syscall.ECONNREFUSED)), "%v", err)
	require.Eventually(t, func() bool { return openDescriptors(t) <= descriptors }, patience, 10*time.Millisecond)
}

// What the networks are called, and what is wrong with others.
func TestDatagramNetworks(t *testing.T) {
	for _, network := range []string{"udp", "udp4", "udp6", "auto5", "", "unixgram", "ip"} {
		_, err := vstp.Listen(network, "127.0.0.1:0")
		require.ErrorIs(t, err, net.UnknownNetworkError(network))
	}
	for _, network := range []string{"rudp", "rudp4", "tcp", "unix", "auto", ""} {
		_, err := vstp.ListenPacket(network, "127.0.0.1:0")
		var oe *net.OpError
		require.True(t, errors.As(err, &oe) && oe.Op == "listen" && oe.Net == network)
		require.ErrorIs(t, err, net.UnknownNetworkError(network))
	}
	for _, network := range []string{"auto5", "rudp5", "udp7", ""} {
		_, err := vstp.Dial(network, "127.0.0.1:1")
		require.ErrorIs(t, err, net.UnknownNetworkError(network))
	}
	for _, c := range []struct{ network, address string }{
		{"rudp4", "[::1]:1"}, {"udp6", "127.0.0.1:1"}, {"rudp", "127.0.0.1:99999"}, {"udp", "[::1:5"}, {"rudp", "no such host.invalid:1"},
	} {
		_, err := vstp.DialTimeout(c.network, c.address, 10*time.Second)
		var oe *net.OpError
		require.True(t, errors.As(err, &oe), "%v", err)
		require.Equal(t, "dial", oe.Op)
		require.Equal(t, c.network, oe.Net)
	}
	ln, err := vstp.Listen("rudp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, err = vstp.Listen("rudp4", ln.Addr().String())
	var oe *net.OpError
	require.True(t, errors.As(err, &oe))
	require.Equal(t, "listen", oe.Op)
	require.Equal(t, "rudp4", oe.Net)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

// Config.TLS is never ignored: without a certificate there is no listening, and nothing
// leaves in plaintext.
func TestDatagramTLSNeedsCertificate(t *testing.T) {
	config := &vstp.Config{TLS: &tls.Config{InsecureSkipVerify: true}, HandshakeTimeout: time.Second}
	lc := &vstp.ListenConfig{Config: config}
	_, err := lc.Listen(t.Context(), "rudp", "127.0.0.1:0")
	require.ErrorIs(t, err, tlsvstp.ErrNoCertificate)
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	pc := vstp.NewPacketConn(inner, config)
	defer pc.Close()
	_, err = pc.ListenStream()
	require.ErrorIs(t, err, tlsvstp.ErrNoCertificate)

	tap, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer tap.Close()
	_, err = pc.WriteTo([]byte("a secret"), tap.LocalAddr())
	require.NoError(t, err)
	b := make([]byte, 2048)
	for range 2 { // the two datagrams of a ClientHello
		n, _, err := tap.ReadFrom(b)
		require.NoError(t, err)
		require.NotContains(t, string(b[:n]), "a secret")
	}

	legacy := &vstp.Dialer{Config: &vstp.Config{TLS: config.TLS, Legacy: true}}
	_, err = legacy.Dial("udp", tap.LocalAddr().String())
	require.ErrorContains(t, err, "exclude")
}

// net.Dialer's fields have their meaning.
func TestDatagramDialer(t *testing.T) {
	ln, err := vstp.Listen("rudp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go echoAll(ln)
	controlled := 0
	d := &vstp.Dialer{NetDialer: &net.Dialer{
		LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)},
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			controlled++
			require.Equal(t, "udp4", network)
			return nil
		},
	}}
	c, err := d.Dial("rudp", ln.Addr().String())
	require.NoError(t, err)
	require.Equal(t, 1, controlled)
	require.Equal(t, "127.0.0.1", c.LocalAddr().(*net.UDPAddr).IP.String())
	require.NoError(t, roundTrip(c, contentBytes(100_000)))
	require.NoError(t, c.Close())

	broken := errors.New("no")
	d.NetDialer.ControlContext = func(context.Context, string, string, syscall.RawConn) error { return broken }
	_, err = d.Dial("rudp", ln.Addr().String())
	require.ErrorIs(t, err, broken)

	d.NetDialer = &net.Dialer{LocalAddr: &net.TCPAddr{}}
	_, err = d.Dial("udp", ln.Addr().String())
	var ae *net.AddrError
	require.True(t, errors.As(err, &ae), "%v", err)

	// A name with an address that nobody answers at, if there is one.
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	start := time.Now()
	c, err = vstp.Dial("rudp", "localhost:"+port)
	require.NoError(t, err)
	require.Less(t, time.Since(start), 5*time.Second)
	require.NoError(t, roundTrip(c, []byte("hello")))
	require.NoError(t, c.Close())

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = (&vstp.Dialer{}).DialContext(ctx, "rudp", ln.Addr().String())
	require.ErrorIs(t, err, context.Canceled)
}

// The crate has no byte stream on datagrams.
func TestDatagramLegacy(t *testing.T) {
	d := &vstp.Dialer{Config: &vstp.Config{Legacy: true}}
	_, err := d.Dial("rudp", "127.0.0.1:1")
	require.ErrorIs(t, err, vstp.ErrNotSupported)
}

// A listener for streams receives no messages: who sends it some learns that, instead of
// having them acknowledged for nobody.
func TestDialMessagesToStreams(t *testing.T) {
	ln, err := vstp.Listen("rudp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	_, err = vstp.Dial("udp", ln.Addr().String())
	var refused *vstp.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Contains(t, err.Error(), "nobody receives messages")

	c, err := vstp.Dial("rudp", ln.Addr().String())
	require.NoError(t, err)
	require.NoError(t, c.Close())

	crate := &vstp.Dialer{Config: &vstp.Config{Legacy: true, MaxRetries: 1, AckTimeout: 20 * time.Millisecond}}
	m, err := crate.Dial("udp", ln.Addr().String())
	require.NoError(t, err)
	defer m.Close()
	require.ErrorIs(t, m.(*vstp.Conn).SendMessage(t.Context(), &vstp.Message{Payload: []byte("x"), RequireAck: true}), vstp.ErrAckTimeout)
}
