package vstp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/tlsvstp"
)

// names returns n host names: a certificate with them is as long as one likes.
func names(n int) []string {
	hosts := []string{"127.0.0.1", "long.test"}
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("%s%d.test", strings.Repeat("x", 50), i))
	}
	return hosts
}

// Certificates of many datagrams go through in both directions, within what a server may
// send to an address that has shown nothing; of those that are longer than TLS bytes may
// be, Dial tells.
func TestTLSLongCertificates(t *testing.T) {
	a := newAuthority(t)
	for _, n := range []int{100, 400, 900} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			long := a.issue(tlsvstp.DevOptions{Hosts: names(n)})
			t.Log(len(long.Certificate[0]), "bytes")
			for _, unvalidated := range []int{0, -1} { // with a cookie, and without
				sc := &tls.Config{Certificates: []tls.Certificate{long}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.cert.Pool}
				addr := serveEcho(t, "rudp", &vstp.Config{TLS: sc, MaxUnvalidatedHandshakes: unvalidated})
				cc := a.client()
				cc.Certificates = []tls.Certificate{long}
				begin := time.Now()
				answers(t, dialed(t, "rudp", addr, &vstp.Config{TLS: cc}))
				require.Less(t, time.Since(begin), soon)
			}
		})
	}
}

// A callback of the configuration that takes its time holds up nobody else, and not the
// end of the listener.
func TestTLSSlowCallbacks(t *testing.T) {
	a := newAuthority(t)
	stuck, release := make(chan struct{}, 16), make(chan struct{})
	config := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName == "localhost" {
			stuck <- struct{}{}
			<-release
		}
		return &a.cert.Certificate, nil
	}}
	ln, err := (&vstp.ListenConfig{Config: &vstp.Config{TLS: config}}).Listen(t.Context(), "rudp", "127.0.0.1:0")
	require.NoError(t, err)
	go echoAll(ln)
	slow := a.client()
	slow.ServerName = "localhost"
	ctx, cancel := context.WithCancel(t.Context())
	failed := async(func() error {
		c, err := (&vstp.Dialer{Config: &vstp.Config{TLS: slow}}).DialContext(ctx, "rudp", ln.Addr().String())
		if err == nil {
			c.Close()
		}
		return err
	})
	receive(t, stuck)
	for range 5 {
		answers(t, dialed(t, "rudp", ln.Addr().String(), &vstp.Config{TLS: a.client()}))
	}
	cancel()
	require.ErrorIs(t, receive(t, failed), context.Canceled)
	closed := async(ln.Close)
	require.NoError(t, receive(t, closed))
	close(release)
}

// The same at the client: VerifyConnection may ask somebody else.
func TestTLSSlowClient(t *testing.T) {
	a := newAuthority(t)
	addr := serveEcho(t, "udp", &vstp.Config{TLS: a.server()})
	cc := a.client()
	release := make(chan struct{})
	asked := make(chan struct{}, 1)
	cc.VerifyConnection = func(tls.ConnectionState) error {
		asked <- struct{}{}
		<-release
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := async(func() error {
		_, err := (&vstp.Dialer{Config: &vstp.Config{TLS: cc}}).DialContext(ctx, "udp", addr)
		return err
	})
	receive(t, asked)
	cancel()
	require.ErrorIs(t, receive(t, failed), context.Canceled)
	close(release)

	// It may take longer than repetitions do.
	cc = a.client()
	cc.VerifyConnection = func(tls.ConnectionState) error {
		time.Sleep(400 * time.Millisecond)
		return nil
	}
	answers(t, dialed(t, "udp", addr, &vstp.Config{TLS: cc}))
}

// Nobody there, or something else: errors in time, and nothing is left behind (TestMain).
func TestTLSNobody(t *testing.T) {
	a := newAuthority(t)
	silent := newRawUDP(t)
	datagramNetworks(t, func(t *testing.T, network string) {
		d := &vstp.Dialer{Config: &vstp.Config{TLS: a.client(), HandshakeTimeout: 50 * time.Millisecond}}
		_, err := d.Dial(network, silent.LocalAddr().String())
		require.ErrorIs(t, err, vstp.ErrHandshakeTimeout)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err = (&vstp.Dialer{Config: &vstp.Config{TLS: a.client()}}).DialContext(ctx, network, silent.LocalAddr().String())
		require.Error(t, err)
		ne, ok := err.(net.Error)
		require.True(t, ok && ne.Timeout(), "%v", err)
	})
	gone := newRawUDP(t)
	gone.Close()
	require.Error(t, refused(t, "rudp", gone.LocalAddr().String(), &vstp.Config{TLS: a.client()}))
}

// Whoever sends garbage in place of TLS is refused, and costs others nothing.
func TestTLSGarbage(t *testing.T) {
	a := newAuthority(t)
	pc := listenPacket("udp", "127.0.0.1:0")(t, &vstp.Config{TLS: a.server()})
	defer pc.Close()
	raw := newRawUDP(t)
	hello := unhex(t, "56540101021000000004910108"+"18c0c1c2c3c4c5c6c7"+"01021f0008"+"0100000474"+"6c7321")
	hello = append(hello, make([]byte, 1196-len(hello))...)
	for range 3 {
		_, err := raw.WriteTo(binary.BigEndian.AppendUint32(hello, framing.Checksum(0, hello)), pc.LocalAddr())
		require.NoError(t, err)
	}
	b := make([]byte, 65536)
	n, _, err := raw.ReadFrom(b)
	require.NoError(t, err)
	require.Equal(t, byte(8), b[3], "ERR")
	require.LessOrEqual(t, n, 3*1200)
	require.Eventually(t, func() bool { return pc.Stats().Refused >= 1 }, patience, time.Millisecond)
	answers(t, messagesOf(t, pc, a))
}

// messagesOf dials pc and lets it echo.
func messagesOf(t testing.TB, pc *vstp.PacketConn, a authority) net.Conn {
	t.Helper()
	limited(t, pc)
	go func() {
		b := make([]byte, 1000)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	}()
	return dialed(t, "udp", pc.LocalAddr().String(), &vstp.Config{TLS: a.client()})
}

// A connection that does nothing has no goroutine, crypto/tls's included: neither end's,
// with a session cache or without.
func TestTLSIdleGoroutines(t *testing.T) {
	a := newAuthority(t)
	ln, err := (&vstp.ListenConfig{Config: &vstp.Config{TLS: a.server()}}).Listen(t.Context(), "rudp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	cc := a.client()
	cc.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	pc := listenPacket("udp", "127.0.0.1:0")(t, &vstp.Config{TLS: cc}) // one socket for all of them
	defer pc.Close()
	before := runtime.NumGoroutine()
	const n = 50
	for range n {
		c, err := pc.DialStream(t.Context(), ln.Addr())
		require.NoError(t, err)
		defer c.Close()
		s, err := ln.Accept()
		require.NoError(t, err)
		defer s.Close()
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() < before+n/5 }, patience, 10*time.Millisecond, "%d", runtime.NumGoroutine()-before)
}

// Many clients at once, and a listener that closes amid them: each gets a connection or
// an error.
func TestTLSManyAtOnce(t *testing.T) {
	a := newAuthority(t)
	addr := serveEcho(t, "rudp", &vstp.Config{TLS: a.server()})
	ln, err := (&vstp.ListenConfig{Config: &vstp.Config{TLS: a.server()}}).Listen(t.Context(), "rudp", "127.0.0.1:0")
	require.NoError(t, err)
	go echoAll(ln)
	var g group
	for i := range 40 {
		g.Go(func() error {
			c, err := (&vstp.Dialer{Config: &vstp.Config{TLS: a.client()}}).Dial("rudp", addr)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = io.WriteString(c, "hi")
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, 2))
			}
			return err
		})
		g.Go(func() error {
			d := &vstp.Dialer{Config: &vstp.Config{TLS: a.client(), HandshakeTimeout: 2 * time.Second}}
			if c, err := d.Dial("rudp", ln.Addr().String()); err == nil {
				c.Close()
			}
			if i == 10 {
				ln.Close()
			}
			return nil
		})
	}
	g.Wait(t)
	ln.Close()
}

// A refused client that begins again at once, from the same socket, is looked at again.
func TestTLSRefusedTwice(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	to, err := net.ResolveUDPAddr("udp", serveEcho(t, "udp", &vstp.Config{TLS: other.server()}))
	require.NoError(t, err)
	cc := a.client()
	var trust bool // changes between dials only
	cc.InsecureSkipVerify = true
	cc.VerifyConnection = func(cs tls.ConnectionState) error {
		if !trust {
			return x509.UnknownAuthorityError{Cert: cs.PeerCertificates[0]}
		}
		return nil
	}
	pc := listenPacket("udp", "127.0.0.1:0")(t, &vstp.Config{TLS: cc})
	defer pc.Close()
	limited(t, pc)
	m := &vstp.Message{Payload: []byte("x"), RequireAck: true}
	for range 2 {
		err := pc.SendMessage(t.Context(), m, to)
		var ua x509.UnknownAuthorityError
		require.True(t, errors.As(err, &ua), "%v", err)
	}
	trust = true
	require.NoError(t, pc.SendMessage(t.Context(), m, to))
}

// Callbacks that ask for the addresses of a client get them, as on streams: crypto/tls
// itself has no connection to show on datagrams.
func TestTLSHelloConn(t *testing.T) {
	a := newAuthority(t)
	asked := make(chan string, 16)
	ask := func(h *tls.ClientHelloInfo) {
		asked <- h.Conn.RemoteAddr().String() + " to " + h.Conn.LocalAddr().String()
	}
	get := func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		ask(h)
		return &a.cert.Certificate, nil
	}
	config := &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		ask(h)
		return &tls.Config{GetCertificate: get}, nil
	}}
	for _, network := range []string{"tcp", "rudp", "udp"} {
		for _, config := range []*tls.Config{config, {GetCertificate: get}} {
			addr := serveEcho(t, network, &vstp.Config{TLS: config})
			c := dialed(t, network, addr, &vstp.Config{TLS: a.client()})
			answers(t, c)
			want := c.LocalAddr().String() + " to " + addr
			require.Equal(t, want, receive(t, asked))
			if config.GetConfigForClient != nil {
				require.Equal(t, want, receive(t, asked))
			}
		}
	}
}

// Both ends derive the same secrets for what is bound to the connection. RFC 8446 §7.5.
func TestTLSExporter(t *testing.T) {
	a := newAuthority(t)
	ln, err := (&vstp.ListenConfig{Config: &vstp.Config{TLS: a.server()}}).Listen(t.Context(), "rudp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	var seen [][]byte
	for range 2 {
		c, s := connect(t, ln, &vstp.Dialer{Config: &vstp.Config{TLS: a.client()}})
		for _, end := range []*vstp.Conn{c, s} {
			b, err := end.ConnectionState().TLS.ExportKeyingMaterial("EXPORTER-test", []byte("context"), 32)
			require.NoError(t, err)
			seen = append(seen, b)
		}
	}
	require.Equal(t, seen[0], seen[1])
	require.Equal(t, seen[2], seen[3])
	require.NotEqual(t, seen[0], seen[2])
}
