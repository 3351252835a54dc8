package tlsvstp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// TestMain fails a run that leaves goroutines behind (trap C7).
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An end of a handshake, with all that came out of it.
type end struct {
	t           testing.TB
	h           *Handshake
	kinds       []EventKind
	out         []Event // data to send
	sent        [4][]byte
	read, write [4]*Keys
	params      []byte
	resumed     []byte
	err         error
}

func newEnd(t testing.TB, h *Handshake, err error) *end {
	t.Helper()
	require.NoError(t, err)
	t.Cleanup(h.Close)
	e := &end{t: t, h: h}
	e.collect()
	return e
}

func newClient(t testing.TB, c HandshakeConfig) *end {
	t.Helper()
	h, err := NewClientHandshake(t.Context(), c)
	return newEnd(t, h, err)
}

func newServer(t testing.TB, c HandshakeConfig) *end {
	t.Helper()
	h, err := NewServerHandshake(t.Context(), c)
	return newEnd(t, h, err)
}

func (e *end) has(k EventKind) bool {
	return bytes.Contains(kindBytes(e.kinds), kindBytes([]EventKind{k}))
}

func kindBytes(ks []EventKind) (b []byte) {
	for _, k := range ks {
		b = append(b, byte(k))
	}
	return b
}

func (e *end) collect() {
	for {
		ev := e.h.NextEvent()
		if ev.Kind == EventNone {
			return
		}
		e.kinds = append(e.kinds, ev.Kind)
		switch ev.Kind {
		case EventData:
			e.out = append(e.out, ev)
			e.sent[ev.Level] = append(e.sent[ev.Level], ev.Data...)
		case EventReadKeys:
			e.read[ev.Level] = ev.Keys
		case EventWriteKeys:
			e.write[ev.Level] = ev.Keys
		case EventParams:
			e.params = ev.Data
		case EventResumed:
			e.resumed = ev.Data
		case EventError:
			e.err = ev.Err
		}
	}
}

// pass gives what a has sent to b, in pieces of n bytes, and reports whether there was
// any.
func pass(a, b *end, n int) bool {
	out := a.out
	a.out = nil
	for _, ev := range out {
		for d := ev.Data; len(d) > 0 && b.err == nil; {
			piece := bytes.Clone(d[:min(n, len(d))])
			d = d[len(piece):]
			err := b.h.Receive(ev.Level, piece)
			clear(piece) // borrowed for the call only
			b.collect()
			require.ErrorIs(a.t, err, b.err)
		}
	}
	return len(out) > 0
}

func run(a, b *end, n int) {
	for pass(a, b, n) || pass(b, a, n) {
	}
}

// requireDone checks that both ends are done and agree on everything.
func requireDone(t testing.TB, c, s *end) {
	t.Helper()
	require.NoError(t, c.err)
	require.NoError(t, s.err)
	require.True(t, c.has(EventDone))
	require.True(t, s.has(EventDone))
	require.Equal(t, []byte("server's"), c.params)
	require.Equal(t, []byte("client's"), s.params)
	require.NoError(t, VerifyState(c.h.State()))
	require.NoError(t, VerifyState(s.h.State()))
	require.Equal(t, c.h.State().DidResume, s.h.State().DidResume)
	for _, level := range []Level{LevelHandshake, LevelApplication} {
		requireKeys(t, c.write[level], s.read[level])
		requireKeys(t, s.write[level], c.read[level])
	}
	require.Nil(t, c.write[LevelInitial])
	require.Nil(t, s.write[LevelInitial])
}

func requireKeys(t testing.TB, w, r *Keys) {
	t.Helper()
	require.NotNil(t, w)
	require.NotNil(t, r)
	_, chunks, err := r.OpenPacket(w.SealPacket(packet([]byte("chunks"), 7), 0, 7), 7)
	require.NoError(t, err)
	require.Equal(t, "chunks", string(chunks))
}

func clientSide(c *tls.Config) HandshakeConfig {
	return HandshakeConfig{TLS: ClientConfig(c, "localhost"), Params: []byte("client's")}
}

func serverSide(c *tls.Config) HandshakeConfig {
	return HandshakeConfig{TLS: ServerConfig(c), ServerParams: func(peer []byte) ([]byte, error) {
		if string(peer) != "client's" {
			return nil, errors.New("wrong parameters")
		}
		return []byte("server's"), nil
	}}
}

// testPair are configurations that work together.
func testPair(t testing.TB) (client, server *tls.Config) {
	t.Helper()
	d, err := SelfSigned(DevOptions{})
	require.NoError(t, err)
	return &tls.Config{RootCAs: d.Pool}, &tls.Config{Certificates: []tls.Certificate{d.Certificate}}
}

var rsaCert = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rsa"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	c, err = x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: c}, err
})

func TestHandshakeCertificates(t *testing.T) {
	pairs := make(map[string][2]*tls.Config)
	c, s := testPair(t)
	pairs["ECDSA"] = [2]*tls.Config{c, s}
	ed := devCert(t, DevOptions{Ed25519: true})
	pairs["Ed25519"] = [2]*tls.Config{{RootCAs: ed.Pool}, {Certificates: []tls.Certificate{ed.Certificate}}}
	rc, err := rsaCert()
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(rc.Leaf)
	pairs["RSA"] = [2]*tls.Config{{RootCAs: pool}, {Certificates: []tls.Certificate{rc}}}
	for name, p := range pairs {
		t.Run(name, func(t *testing.T) {
			c, s := newClient(t, clientSide(p[0])), newServer(t, serverSide(p[1]))
			require.Equal(t, []EventKind{EventData}, c.kinds)
			require.Empty(t, s.kinds)
			run(c, s, 1<<16)
			requireDone(t, c, s)
			require.Equal(t, []EventKind{EventData, EventWriteKeys, EventReadKeys, EventParams, EventData, EventWriteKeys, EventDone, EventReadKeys}, c.kinds)
			require.False(t, c.h.EarlyAccepted())
			require.False(t, s.h.EarlyAccepted())
			require.NotEmpty(t, c.h.State().PeerCertificates)
			require.Equal(t, "localhost", s.h.State().ServerName)
			require.Empty(t, c.sent[LevelApplication])
		})
	}
}

// "bytes in order, in pieces of any size"
func TestHandshakeByteByByte(t *testing.T) {
	cc, sc := testPair(t)
	for _, n := range []int{1, 2, 7, 100} {
		c, s := newClient(t, clientSide(cc)), newServer(t, serverSide(sc))
		run(c, s, n)
		requireDone(t, c, s)
	}
}

func TestHandshakeClientCertificates(t *testing.T) {
	d := devCert(t, DevOptions{})
	alice, err := d.Issue(DevOptions{Hosts: []string{"alice"}})
	require.NoError(t, err)
	sc := &tls.Config{Certificates: []tls.Certificate{d.Certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: d.Pool}
	c := newClient(t, clientSide(&tls.Config{RootCAs: d.Pool, Certificates: []tls.Certificate{alice.Certificate}}))
	s := newServer(t, serverSide(sc))
	run(c, s, 1<<16)
	requireDone(t, c, s)
	require.Equal(t, []string{"alice"}, s.h.State().PeerCertificates[0].DNSNames)

	// The client is done by then; only the server knows better.
	for _, certs := range [][]tls.Certificate{nil, {devCert(t, DevOptions{Hosts: []string{"alice"}}).Certificate}} {
		c = newClient(t, clientSide(&tls.Config{RootCAs: d.Pool, Certificates: certs}))
		s = newServer(t, serverSide(sc))
		run(c, s, 1<<16)
		require.True(t, c.has(EventDone))
		requireFailed(t, s)
	}
}

func requireFailed(t testing.TB, e *end) {
	t.Helper()
	require.Error(t, e.err)
	require.False(t, e.has(EventDone))
	require.Equal(t, EventError, e.kinds[len(e.kinds)-1])
	var alert tls.AlertError
	require.ErrorAs(t, e.err, &alert)
	require.Equal(t, e.err, e.h.Receive(LevelInitial, []byte{1}))
	require.Equal(t, Event{}, e.h.NextEvent())
}

func TestHandshakeErrors(t *testing.T) {
	cc, sc := testPair(t)
	other := devCert(t, DevOptions{})
	for _, tt := range []struct {
		name           string
		client, server HandshakeConfig
		byServer       bool
		alert          tls.AlertError // RFC 8446 §6
	}{
		{"unknown authority", clientSide(&tls.Config{RootCAs: other.Pool}), serverSide(sc), false, 42},
		{"wrong name", HandshakeConfig{TLS: ClientConfig(cc, "example.org"), Params: []byte("client's")}, serverSide(sc), false, 42},
		{"client without ALPN", HandshakeConfig{TLS: &tls.Config{RootCAs: cc.RootCAs, ServerName: "localhost", MinVersion: tls.VersionTLS13},
			Params: []byte("client's")}, serverSide(sc), true, 120},
		{"another ALPN", HandshakeConfig{TLS: &tls.Config{RootCAs: cc.RootCAs, ServerName: "localhost", MinVersion: tls.VersionTLS13,
			NextProtos: []string{"h3"}}, Params: []byte("client's")}, serverSide(sc), true, 120},
		{"server without ALPN", clientSide(cc), HandshakeConfig{TLS: &tls.Config{Certificates: sc.Certificates, MinVersion: tls.VersionTLS13},
			ServerParams: serverSide(sc).ServerParams}, false, 120},
		{"both without ALPN", HandshakeConfig{TLS: &tls.Config{RootCAs: cc.RootCAs, ServerName: "localhost", MinVersion: tls.VersionTLS13},
			Params: []byte("client's")}, HandshakeConfig{TLS: &tls.Config{Certificates: sc.Certificates, MinVersion: tls.VersionTLS13},
			ServerParams: serverSide(sc).ServerParams}, false, alertIllegalParameter},
		{"parameters refused", HandshakeConfig{TLS: ClientConfig(cc, "localhost"), Params: []byte("bad")}, serverSide(sc), true, alertIllegalParameter},
		{"no certificate", clientSide(cc), serverSide(&tls.Config{}), true, 0},
		{"VerifyConnection", clientSide(&tls.Config{RootCAs: cc.RootCAs, VerifyConnection: func(tls.ConnectionState) error {
			return errors.New("no")
		}}), serverSide(sc), false, 42},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := newClient(t, tt.client), newServer(t, tt.server)
			run(c, s, 1<<16)
			failed := c
			if tt.byServer {
				failed = s
			}
			requireFailed(t, failed)
			var alert tls.AlertError
			if require.ErrorAs(t, failed.err, &alert); tt.alert != 0 {
				require.Equal(t, tt.alert, alert, failed.err)
			}
		})
	}
}

func TestHandshakeStartErrors(t *testing.T) {
	_, err := NewClientHandshake(t.Context(), HandshakeConfig{TLS: &tls.Config{MinVersion: tls.VersionTLS13}})
	require.Error(t, err) // no name
	_, err = NewClientHandshake(t.Context(), HandshakeConfig{TLS: &tls.Config{ServerName: "localhost"}})
	require.Error(t, err) // MinVersion
	_, err = NewServerHandshake(t.Context(), HandshakeConfig{TLS: &tls.Config{}})
	require.Error(t, err)
}

// "An end fails the handshake if [...] the extension is missing" (PROTOCOL §8.6): a
// hello that was made for streams.
func TestHandshakeMissingExtension(t *testing.T) {
	cc, sc := testPair(t)
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- tls.Client(a, ClientConfig(cc, "localhost")).HandshakeContext(t.Context()) }()
	head := make([]byte, 5)
	_, err := b.Read(head)
	require.NoError(t, err)
	hello := make([]byte, int(head[3])<<8|int(head[4]))
	_, err = b.Read(hello)
	require.NoError(t, err)
	b.Close()
	require.Error(t, <-done)

	// Without the legacy session id, which alone would be refused already.
	n := int(hello[4+2+32])
	hello = append(hello[:4+2+32:4+2+32], append([]byte{0}, hello[4+2+32+1+n:]...)...)
	size := len(hello) - 4
	hello[1], hello[2], hello[3] = byte(size>>16), byte(size>>8), byte(size)
	s := newServer(t, serverSide(sc))
	require.Error(t, s.h.Receive(LevelInitial, hello))
	s.collect()
	requireFailed(t, s)
	require.ErrorIs(t, s.err, tls.AlertError(109))
}

func TestHandshakeRetryRequest(t *testing.T) {
	cc, sc := testPair(t)
	cc.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}
	sc.CurvePreferences = []tls.CurveID{tls.CurveP384}
	for _, n := range []int{1, 1 << 16} {
		c, s := newClient(t, clientSide(cc)), newServer(t, serverSide(sc))
		run(c, s, n)
		requireDone(t, c, s)
		require.True(t, c.h.State().HelloRetryRequest)
	}
}

func TestHandshakeGetConfigForClient(t *testing.T) {
	cc, sc := testPair(t)
	asked := ""
	c := newClient(t, clientSide(cc))
	s := newServer(t, serverSide(&tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked = hello.ServerName
		return sc, hello.Context().Err()
	}}))
	run(c, s, 1<<16)
	requireDone(t, c, s)
	require.Equal(t, "localhost", asked)

	c = newClient(t, clientSide(cc))
	s = newServer(t, serverSide(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, net.ErrClosed
	}}))
	run(c, s, 1<<16)
	requireFailed(t, s)
	require.ErrorIs(t, s.err, net.ErrClosed)
}

func TestHandshakeKeyLog(t *testing.T) {
	cc, sc := testPair(t)
	var log bytes.Buffer
	cc.KeyLogWriter = &log
	c, s := newClient(t, clientSide(cc)), newServer(t, serverSide(sc))
	run(c, s, 1<<16)
	requireDone(t, c, s)
	require.Contains(t, log.String(), "CLIENT_TRAFFIC_SECRET_0")
}

// Close at any moment ends the goroutine (trap C7; TestMain looks).
func TestHandshakeClose(t *testing.T) {
	cc, sc := testPair(t)
	for stop := 0; ; stop++ {
		c, s := newClient(t, clientSide(cc)), newServer(t, serverSide(sc))
		steps := 0
		for steps < stop && (pass(c, s, 1<<16) || pass(s, c, 1<<16)) {
			steps++
		}
		for _, e := range []*end{c, s} {
			done := e.has(EventDone)
			e.h.Close()
			e.h.Close()
			require.Error(t, e.h.Receive(LevelInitial, []byte{1}))
			require.Equal(t, done, e.h.State().HandshakeComplete)
		}
		require.Error(t, s.h.SendTicket())
		if steps < stop {
			return
		}
	}
}

// Close inside of callbacks is not possible, but after a part of a message it is.
func TestHandshakeCloseInMessage(t *testing.T) {
	cc, sc := testPair(t)
	c := newClient(t, clientSide(cc))
	hello := c.sent[LevelInitial]
	for n := 1; n < len(hello); n += 97 {
		s := newServer(t, serverSide(sc))
		require.NoError(t, s.h.Receive(LevelInitial, hello[:n]))
		s.h.Close()
	}
}

func TestHandshakeContext(t *testing.T) {
	cc, sc := testPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	h, err := NewServerHandshake(ctx, serverSide(sc))
	s := newEnd(t, h, err)
	c := newClient(t, clientSide(cc))
	cancel()
	run(c, s, 1<<16)
	requireFailed(t, s)
	require.ErrorIs(t, s.err, context.Canceled)

	// A client notices when it has waited for the server.
	h, err = NewClientHandshake(ctx, clientSide(cc))
	c = newEnd(t, h, err)
	run(c, newServer(t, serverSide(sc)), 1<<16)
	requireFailed(t, c)
	require.ErrorIs(t, c.err, context.Canceled)

	// After the handshake it means nothing.
	ctx, cancel = context.WithCancel(t.Context())
	cc.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	h, err = NewClientHandshake(ctx, clientSide(cc))
	c, s = newEnd(t, h, err), newServer(t, serverSide(sc))
	run(c, s, 1<<16)
	cancel()
	require.NoError(t, s.h.SendTicket())
	s.collect()
	run(s, c, 1<<16)
	requireDone(t, c, s)
}

func TestHandshakeBubble(t *testing.T) {
	cc, sc := testPair(t)
	synctest.Test(t, func(t *testing.T) {
		// The time inside is years ago.
		clock := func() time.Time { return sc.Certificates[0].Leaf.NotBefore.Add(time.Hour) }
		cc.Time, sc.Time = clock, clock
		c, s := newClient(t, clientSide(cc)), newServer(t, serverSide(sc))
		run(c, s, 50)
		requireDone(t, c, s)
		synctest.Wait()
	})
}

func TestLevelString(t *testing.T) {
	for l := LevelInitial; l <= LevelApplication; l++ {
		require.Equal(t, tls.QUICEncryptionLevel(l).String(), l.String())
	}
	require.Equal(t, "Level(9)", Level(9).String())
	require.Equal(t, "Done", EventDone.String())
	require.Equal(t, "EventKind(99)", EventKind(99).String())
}
