package tlsvstp

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// streamStates are both ends' views of a TLS connection over a stream.
func streamStates(t testing.TB) (client, server *tls.ConnectionState) {
	t.Helper()
	cc, sc := testPair(t)
	a, b := net.Pipe()
	c, s := tls.Client(a, ClientConfig(cc, "localhost")), tls.Server(b, ServerConfig(sc))
	done := make(chan error, 1)
	go func() { done <- s.HandshakeContext(t.Context()) }()
	require.NoError(t, c.HandshakeContext(t.Context()))
	require.NoError(t, <-done)
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	cs, ss := c.ConnectionState(), s.ConnectionState()
	return &cs, &ss
}

// TestSessionSecret: both ends have the same, of each connection another, and with another
// label another. PROTOCOL §8.11.
func TestSessionSecret(t *testing.T) {
	c1, s1 := streamStates(t)
	c2, s2 := streamStates(t)
	cc, sc := testPair(t)
	ch, sh := newClient(t, clientSide(cc)), newServer(t, serverSide(sc)) // without a record layer
	run(ch, sh, 1<<20)
	requireDone(t, ch, sh)
	c3, s3 := ch.h.State(), sh.h.State()

	seen := map[string]bool{}
	for _, pair := range [][2]*tls.ConnectionState{{c1, s1}, {c2, s2}, {&c3, &s3}} {
		for label, f := range map[string]func(*tls.ConnectionState) ([]byte, error){"EXPORTER-vstp session": SessionSecret, "EXPORTER-vstp attach": AttachBinding} {
			c, err := f(pair[0])
			require.NoError(t, err)
			s, err := f(pair[1])
			require.NoError(t, err)
			require.Equal(t, c, s)
			require.Len(t, c, 32)
			require.False(t, seen[string(c)])
			seen[string(c)] = true
			want, err := pair[0].ExportKeyingMaterial(label, nil, 32)
			require.NoError(t, err)
			require.Equal(t, want, c)
		}
	}
}

// TestSessionProtection: what one end seals the other opens, with the hash and the AEAD of
// every cipher suite, and nobody else.
func TestSessionProtection(t *testing.T) {
	for _, suite := range []uint16{0, tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256} {
		cs, ss := streamStates(t)
		if suite != 0 { // crypto/tls lets nobody choose
			cs.CipherSuite, ss.CipherSuite = suite, suite
		}
		c, err := SessionProtection(cs, true)
		require.NoError(t, err)
		s, err := SessionProtection(ss, false)
		require.NoError(t, err)
		for pn := range uint64(3) {
			p := c.Seal(packet([]byte("from the client"), pn), 0, pn)
			_, chunks, ok := s.Open(p, pn)
			require.True(t, ok)
			require.Equal(t, "from the client", string(chunks))
			p = s.Seal(packet([]byte("from the server"), pn), 0, pn)
			_, chunks, ok = c.Open(p, pn)
			require.True(t, ok)
			require.Equal(t, "from the server", string(chunks))
		}
		other, _ := streamStates(t)
		o, err := SessionProtection(other, true)
		require.NoError(t, err)
		_, _, ok := s.Open(o.Seal(packet([]byte("x"), 9), 0, 9), 3)
		require.False(t, ok)
		_, _, ok = c.Open(c.Seal(packet([]byte("its own"), 9), 0, 9), 3)
		require.False(t, ok)
	}
	// The secrets are those of the exporter, as long as the hash.
	cs, _ := streamStates(t)
	cs.CipherSuite = tls.TLS_AES_256_GCM_SHA384
	p, err := SessionProtection(cs, true)
	require.NoError(t, err)
	want, err := cs.ExportKeyingMaterial("EXPORTER-vstp datagrams client", nil, 48)
	require.NoError(t, err)
	require.Equal(t, want, p.write.secret())
	want, err = cs.ExportKeyingMaterial("EXPORTER-vstp datagrams server", nil, 48)
	require.NoError(t, err)
	require.Equal(t, want, p.read.secret())
}

// TestExportErrors: nothing is taken from what is not TLS 1.3 with our ALPN, and over.
func TestExportErrors(t *testing.T) {
	good, _ := streamStates(t)
	for name, change := range map[string]func(*tls.ConnectionState){
		"TLS 1.2":        func(s *tls.ConnectionState) { s.Version = tls.VersionTLS12 },
		"no ALPN":        func(s *tls.ConnectionState) { s.NegotiatedProtocol = "" },
		"not over":       func(s *tls.ConnectionState) { s.HandshakeComplete = false },
		"nothing at all": func(s *tls.ConnectionState) { *s = tls.ConnectionState{} },
	} {
		s := *good
		change(&s)
		_, err := SessionSecret(&s)
		require.Error(t, err, name)
		_, err = AttachBinding(&s)
		require.Error(t, err, name)
		_, err = SessionProtection(&s, true)
		require.Error(t, err, name)
	}
	s := *good
	s.CipherSuite = tls.TLS_RSA_WITH_AES_128_CBC_SHA
	_, err := SessionProtection(&s, true)
	require.Error(t, err)
}
