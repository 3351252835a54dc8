package vstp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// TLS 1.3 on datagrams: Config.TLS means there what it means on streams. PROTOCOL §8.4
// to §8.8.

// soon is how long what fails at once may take, on a machine that is busy.
const soon = 5 * time.Second

// An authority makes certificates for tests. Each is good for both roles.
type authority struct {
	t    testing.TB
	cert *tlsvstp.DevCert
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	cert, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"localhost", "127.0.0.1"}})
	require.NoError(t, err)
	return authority{t, cert}
}

func (a authority) issue(o tlsvstp.DevOptions) tls.Certificate {
	a.t.Helper()
	cert, err := a.cert.Issue(o)
	require.NoError(a.t, err)
	return cert.Certificate
}

// server returns what a server needs, client what a client does.
func (a authority) server() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.cert.Certificate}}
}

func (a authority) client() *tls.Config { return &tls.Config{RootCAs: a.cert.Pool} }

// peer returns what serves for both roles: ends with it know each other by certificates.
func (a authority) peer(name string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{a.issue(tlsvstp.DevOptions{Hosts: []string{name, "127.0.0.1"}})},
		RootCAs:      a.cert.Pool,
		ClientCAs:    a.cert.Pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}
}

// serveEcho echoes on network, bytes or messages, until the test is over.
func serveEcho(t testing.TB, network string, config *vstp.Config) (addr string) {
	t.Helper()
	lc := &vstp.ListenConfig{Config: config}
	if strings.HasPrefix(network, "udp") {
		pc, err := lc.ListenPacket(t.Context(), network, "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			pc.(*vstp.PacketConn).Serve(context.Background(), func(ctx context.Context, pc *vstp.PacketConn, m *vstp.Message, from net.Addr) error {
				return pc.SendMessage(ctx, &vstp.Message{Header: m.Header, Payload: m.Payload, Repair: true}, from)
			})
		}()
		t.Cleanup(func() { pc.Close(); <-done })
		return pc.LocalAddr().String()
	}
	ln, err := lc.Listen(t.Context(), network, "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); echoAll(ln) }()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// dialed returns a connection that is closed when the test is over.
func dialed(t testing.TB, network, addr string, config *vstp.Config) *vstp.Conn {
	t.Helper()
	c, err := (&vstp.Dialer{Config: config}).DialContext(t.Context(), network, addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*vstp.Conn)
}

// refused dials, which must fail soon.
func refused(t testing.TB, network, addr string, config *vstp.Config) error {
	t.Helper()
	begin := time.Now()
	c, err := (&vstp.Dialer{Config: config}).DialContext(t.Context(), network, addr)
	if err == nil {
		c.Close()
	}
	require.Error(t, err)
	var oe *net.OpError
	require.ErrorAs(t, err, &oe)
	require.Equal(t, "dial", oe.Op)
	require.Less(t, time.Since(begin), soon, err)
	return err
}

// answers sends a few bytes and gets them back.
func answers(t testing.TB, c net.Conn) {
	t.Helper()
	_, err := io.WriteString(c, "hello")
	require.NoError(t, err)
	b := make([]byte, 5)
	_, err = io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b))
}

// datagramNetworks runs f on both kinds.
func datagramNetworks(t *testing.T, f func(t *testing.T, network string)) {
	for _, network := range []string{"rudp", "udp"} {
		t.Run(network, func(t *testing.T) { f(t, network) })
	}
}

// A logBuffer is where a logger writes.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// logged waits until the log says what it has to.
func (l *logBuffer) logged(t testing.TB, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(l.String(), want) }, patience, time.Millisecond, "%q", want)
}

// Messages from a byte to 10 MB, in both directions, over Dial of "udp".
func TestTLSDialMessages(t *testing.T) {
	a := newAuthority(t)
	addr := serveEcho(t, "udp", &vstp.Config{TLS: a.server()})
	c := dialed(t, "udp", addr, &vstp.Config{TLS: a.client()})
	cs := c.ConnectionState()
	require.Equal(t, "udp", cs.Network)
	require.Equal(t, "udp+tls", cs.Carrier)
	require.False(t, cs.Checksum)
	require.NotZero(t, cs.SessionID)
	require.Equal(t, uint16(tls.VersionTLS13), cs.TLS.Version)
	require.Equal(t, tlsvstp.ALPN, cs.TLS.NegotiatedProtocol)
	require.NotEmpty(t, cs.TLS.VerifiedChains)
	for _, n := range []int{0, 1, 1200, 65_000, 1 << 20, sized(10_000_000, 3_000_000)} {
		p := contentBytes(n)
		h := vstp.Header{{Key: "n", Value: fmt.Sprint(n)}}
		require.NoError(t, c.SendMessage(t.Context(), &vstp.Message{Header: h, Payload: p, RequireAck: true}))
		m, err := c.ReceiveMessage(t.Context())
		require.NoError(t, err)
		require.Equal(t, h, m.Header)
		require.True(t, bytes.Equal(p, m.Payload), n)
	}
	answers(t, c)
	require.NoError(t, c.Close())
}

// PacketConns that know each other by certificates; either may begin. Byte streams share
// their sockets.
func TestTLSPacketConn(t *testing.T) {
	a := newAuthority(t)
	var mu sync.Mutex
	seen := map[string]bool{}
	open := func(name string) *vstp.PacketConn {
		pc := listenPacket("udp", "127.0.0.1:0")(t, &vstp.Config{
			TLS:    a.peer(name),
			Header: vstp.Header{{Key: "i-am", Value: name}},
			VerifyHello: func(_ context.Context, h *vstp.HelloInfo) (vstp.Header, error) {
				mu.Lock()
				defer mu.Unlock()
				seen[h.TLS.PeerCertificates[0].DNSNames[0]+h.Header.Get("i-am")] = true
				return nil, nil
			},
		})
		t.Cleanup(func() { pc.Close() })
		limited(t, pc)
		return pc
	}
	x, y, z := open("x.test"), open("y.test"), open("z.test")
	for _, n := range []int{0, 1, 5000, sized(10_000_000, 3_000_000)} {
		for _, way := range [][2]*vstp.PacketConn{{x, y}, {y, x}, {z, x}, {y, z}} {
			from, to := way[0], way[1]
			p := contentBytes(n)
			sent := async(func() error {
				return from.SendMessage(t.Context(), &vstp.Message{Payload: p, RequireAck: true}, to.LocalAddr())
			})
			m, addr, err := to.ReceiveMessage(t.Context())
			require.NoError(t, err)
			require.True(t, bytes.Equal(p, m.Payload))
			require.Equal(t, from.LocalAddr().String(), addr.String())
			require.NoError(t, receive(t, sent))
		}
	}
	// The peers are those of the associations there are, one for each pair.
	mu.Lock()
	require.Equal(t, map[string]bool{"x.testx.test": true, "z.testz.test": true, "y.testy.test": true}, seen)
	mu.Unlock()

	ln, err := y.ListenStream()
	require.NoError(t, err)
	defer ln.Close()
	go echoAll(ln)
	for _, pc := range []*vstp.PacketConn{x, z} {
		c, err := pc.DialStream(t.Context(), y.LocalAddr())
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		require.Equal(t, "rudp", c.(*vstp.Conn).ConnectionState().Network)
		require.Equal(t, "y.test", c.(*vstp.Conn).ConnectionState().TLS.PeerCertificates[0].DNSNames[0])
		var g group
		n := int64(1_000_000)
		g.Go(func() error {
			if _, err := io.Copy(c, content(n)); err != nil {
				return err
			}
			return c.(*vstp.Conn).CloseWrite()
		})
		g.Go(func() error {
			d, err := digestOf(c)
			if err == nil && d != contentDigest(n) {
				err = errors.New("other bytes")
			}
			return err
		})
		g.Wait(t)
		require.NoError(t, c.Close())
	}
}

// A PacketConn without a certificate of its own can begin, and nobody can begin with it.
func TestTLSPacketConnWithoutCertificate(t *testing.T) {
	a := newAuthority(t)
	addr := serveEcho(t, "udp", &vstp.Config{TLS: a.server()})
	pc := listenPacket("udp", "127.0.0.1:0")(t, &vstp.Config{TLS: a.client()})
	defer pc.Close()
	limited(t, pc)
	to, err := net.ResolveUDPAddr("udp", addr)
	require.NoError(t, err)
	require.NoError(t, pc.SendMessage(t.Context(), &vstp.Message{Payload: []byte("hi"), RequireAck: true}, to))
	m, from, err := pc.ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.Equal(t, "hi", string(m.Payload))
	require.Equal(t, addr, from.String())

	err = refused(t, "udp", pc.LocalAddr().String(), &vstp.Config{TLS: a.client()})
	var re *vstp.RefusedError
	require.ErrorAs(t, err, &re)
	require.ErrorIs(t, refused(t, "udp", pc.LocalAddr().String(), nil), vstp.ErrTLSRequired)
}

// A message to somebody whose certificate is no good is not sent, and says why.
func TestTLSPacketConnStranger(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	addr, err := net.ResolveUDPAddr("udp", serveEcho(t, "udp", &vstp.Config{TLS: b.server()}))
	require.NoError(t, err)
	pc := listenPacket("udp", "127.0.0.1:0")(t, &vstp.Config{TLS: a.client()})
	defer pc.Close()
	err = pc.SendMessage(t.Context(), &vstp.Message{Payload: []byte("secret"), RequireAck: true}, addr)
	var ve *tls.CertificateVerificationError
	require.ErrorAs(t, err, &ve)
}

// The hook decides by the client's certificate and metadata, and the client learns why.
func TestTLSVerifyHello(t *testing.T) {
	a := newAuthority(t)
	sc := a.server()
	sc.ClientAuth, sc.ClientCAs = tls.VerifyClientCertIfGiven, a.cert.Pool
	datagramNetworks(t, func(t *testing.T, network string) {
		addr := serveEcho(t, network, &vstp.Config{TLS: sc, VerifyHello: func(_ context.Context, h *vstp.HelloInfo) (vstp.Header, error) {
			if h.TLS == nil || !h.TLS.HandshakeComplete || h.MessagesOnly != (network == "udp") || h.RemoteAddr == nil || h.Legacy {
				t.Errorf("%+v", h)
			}
			if len(h.TLS.PeerCertificates) == 0 {
				return nil, &vstp.RefusedError{Reason: "who are you?", Header: vstp.Header{{Key: "ask", Value: "admin"}}}
			}
			switch name := h.TLS.PeerCertificates[0].DNSNames[0]; {
			case name == "alice.test" && h.Header.Get("token") == "t0ken":
				return vstp.Header{{Key: "hello", Value: name}}, nil
			case name == "alice.test":
				return nil, errors.New("not for the client's eyes")
			}
			return nil, &vstp.RefusedError{Reason: "not you"}
		}})
		with := func(name, token string) *vstp.Config {
			c := a.client()
			if name != "" {
				c.Certificates = []tls.Certificate{a.issue(tlsvstp.DevOptions{Hosts: []string{name}})}
			}
			return &vstp.Config{TLS: c, Header: vstp.Header{{Key: "token", Value: token}}}
		}
		c := dialed(t, network, addr, with("alice.test", "t0ken"))
		require.Equal(t, "alice.test", c.ConnectionState().PeerHeader.Get("hello"))
		answers(t, c)

		var re *vstp.RefusedError
		require.ErrorAs(t, refused(t, network, addr, with("", "t0ken")), &re)
		require.Equal(t, "who are you?", re.Reason)
		require.Equal(t, "admin", re.Header.Get("ask"))
		require.ErrorAs(t, refused(t, network, addr, with("bob.test", "t0ken")), &re)
		require.Equal(t, "not you", re.Reason)
		require.ErrorAs(t, refused(t, network, addr, with("alice.test", "guess")), &re)
		require.Empty(t, re.Reason)
		answers(t, c)
	})
}

// A certificate that is no good is a *tls.CertificateVerificationError at once. The
// server logs that the client has gone, and serves others.
func TestTLSBadServerCertificate(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	old := a.issue(tlsvstp.DevOptions{Hosts: []string{"127.0.0.1"}, NotBefore: time.Now().Add(-48 * time.Hour), ValidFor: time.Hour})
	datagramNetworks(t, func(t *testing.T, network string) {
		var log logBuffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		addr := serveEcho(t, network, &vstp.Config{TLS: a.server(), Logger: logger})
		expired := serveEcho(t, network, &vstp.Config{TLS: &tls.Config{Certificates: []tls.Certificate{old}}})
		verification := func(err error) *tls.CertificateVerificationError {
			t.Helper()
			var ve *tls.CertificateVerificationError
			require.ErrorAs(t, err, &ve)
			require.NotEmpty(t, ve.UnverifiedCertificates)
			return ve
		}
		var unknown x509.UnknownAuthorityError
		require.ErrorAs(t, verification(refused(t, network, addr, &vstp.Config{TLS: other.client()})), &unknown)
		log.logged(t, "TLS handshake failed")
		require.NotContains(t, log.String(), "panic")

		var host x509.HostnameError
		wrong := a.client()
		wrong.ServerName = "elsewhere.test"
		require.ErrorAs(t, verification(refused(t, network, addr, &vstp.Config{TLS: wrong})), &host)

		var invalid x509.CertificateInvalidError
		require.ErrorAs(t, verification(refused(t, network, expired, &vstp.Config{TLS: a.client()})), &invalid)
		require.Equal(t, x509.Expired, invalid.Reason)

		veto := a.client()
		errVeto := errors.New("veto")
		veto.VerifyConnection = func(tls.ConnectionState) error { return errVeto }
		require.ErrorIs(t, refused(t, network, addr, &vstp.Config{TLS: veto}), errVeto)

		answers(t, dialed(t, network, addr, &vstp.Config{TLS: a.client()}))
	})
}

// A client whose certificate is missing, or not to the server's liking, learns it from
// Dial: TLS 1.3 tells only when the client's own handshake is over.
func TestTLSBadClientCertificate(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	sc := a.server()
	sc.ClientAuth, sc.ClientCAs = tls.RequireAndVerifyClientCert, a.cert.Pool
	byName := a.server()
	byName.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return sc, nil }
	for name, config := range map[string]*tls.Config{"ClientAuth": sc, "GetConfigForClient": byName} {
		t.Run(name, func(t *testing.T) {
			datagramNetworks(t, func(t *testing.T, network string) {
				addr := serveEcho(t, network, &vstp.Config{TLS: config})
				var pe *vstp.ProtocolError
				require.ErrorAs(t, refused(t, network, addr, &vstp.Config{TLS: a.client()}), &pe)
				require.True(t, pe.Remote)
				require.Equal(t, vstp.CodeAlert, pe.Code)
				require.Contains(t, pe.Reason, "certificate required")

				strange := a.client()
				strange.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &other.cert.Certificate, nil
				}
				require.ErrorAs(t, refused(t, network, addr, &vstp.Config{TLS: strange}), &pe)
				require.Equal(t, vstp.CodeAlert, pe.Code)
				require.Contains(t, pe.Reason, "certificate")

				good := a.client()
				good.Certificates = []tls.Certificate{a.cert.Certificate}
				answers(t, dialed(t, network, addr, &vstp.Config{TLS: good}))
			})
		})
	}
}

// One socket serves several names: by GetCertificate, or by GetConfigForClient.
func TestTLSServerNames(t *testing.T) {
	a := newAuthority(t)
	certs := map[string]*tls.Certificate{}
	for _, name := range []string{"one.test", "two.test"} {
		c := a.issue(tlsvstp.DevOptions{Hosts: []string{name}})
		certs[name] = &c
	}
	pick := func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if c := certs[h.ServerName]; c != nil {
			return c, nil
		}
		return nil, errors.New("no such name")
	}
	for name, config := range map[string]*tls.Config{
		"GetCertificate": {GetCertificate: pick},
		"GetConfigForClient": {GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := pick(h)
			if err != nil {
				return nil, err
			}
			return &tls.Config{Certificates: []tls.Certificate{*c}}, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			datagramNetworks(t, func(t *testing.T, network string) {
				addr := serveEcho(t, network, &vstp.Config{TLS: config})
				for name := range certs {
					cc := a.client()
					cc.ServerName = name
					c := dialed(t, network, addr, &vstp.Config{TLS: cc})
					require.Equal(t, name, c.ConnectionState().TLS.PeerCertificates[0].DNSNames[0])
					answers(t, c)
				}
				cc := a.client()
				cc.ServerName = "three.test"
				var pe *vstp.ProtocolError
				require.ErrorAs(t, refused(t, network, addr, &vstp.Config{TLS: cc}), &pe)
				require.True(t, pe.Remote)
			})
		})
	}
}

// One end with TLS and one without part at once, and know why; nothing goes on in
// plaintext. PROTOCOL §8.5, trap S8.
func TestTLSMismatchDatagrams(t *testing.T) {
	a := newAuthority(t)
	datagramNetworks(t, func(t *testing.T, network string) {
		plain := serveEcho(t, network, nil)
		sealed := serveEcho(t, network, &vstp.Config{TLS: a.server()})
		require.ErrorIs(t, refused(t, network, sealed, nil), vstp.ErrTLSRequired)
		require.ErrorIs(t, refused(t, network, plain, &vstp.Config{TLS: a.client()}), vstp.ErrNotTLS)
		answers(t, dialed(t, network, plain, nil))
		answers(t, dialed(t, network, sealed, &vstp.Config{TLS: a.client()}))
	})
	// The same where a PacketConn begins.
	to, err := net.ResolveUDPAddr("udp", serveEcho(t, "udp", nil))
	require.NoError(t, err)
	pc := listenPacket("udp", "127.0.0.1:0")(t, &vstp.Config{TLS: a.client()})
	defer pc.Close()
	err = pc.SendMessage(t.Context(), &vstp.Message{Payload: []byte("x"), RequireAck: true}, to)
	require.ErrorIs(t, err, vstp.ErrNotTLS)
}

// A peer of the crate gets nothing from a socket with TLS: no message reaches the
// application, no ACK comes back.
func TestTLSCratePeer(t *testing.T) {
	a := newAuthority(t)
	for name, config := range map[string]*tls.Config{"server": a.server(), "client": a.client()} {
		t.Run(name, func(t *testing.T) {
			pc := listenPacket("udp", "127.0.0.1:0")(t, &vstp.Config{TLS: config})
			defer pc.Close()
			crate := newRawUDP(t)
			crate.send(pc.LocalAddr(), crateHi, crateReqAck, crateProbe, crateFrag77a, crateFrag77b)
			require.Eventually(t, func() bool { return pc.Stats().Refused >= 5 }, patience, time.Millisecond)
			require.NoError(t, pc.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
			_, _, err := pc.ReadFrom(make([]byte, 100))
			isTimeoutOf(t, err)
			require.NoError(t, crate.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
			_, _, err = crate.ReadFrom(make([]byte, 100))
			isTimeoutOf(t, err)
		})
	}
}
