package tlsvstp

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// handshake runs both sides over loopback (net.Pipe has no buffer: a side that
// sends an alert while the other still writes would block), sends one byte from
// the server, which makes the client take the session ticket, and returns what
// each side saw.
func handshake(t *testing.T, client, server *tls.Config) (c, s tls.ConnectionState, cerr, serr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	cp, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer cp.Close()
	sp, err := ln.Accept()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer sp.Close()
		sc := tls.Server(sp, server)
		if serr = sc.HandshakeContext(ctx); serr == nil {
			s = sc.ConnectionState()
			_, serr = sc.Write([]byte{1})
		}
	}()
	cc := tls.Client(cp, client)
	if cerr = cc.HandshakeContext(ctx); cerr == nil {
		_, cerr = io.ReadFull(cc, make([]byte, 1))
		c = cc.ConnectionState()
	}
	cp.Close()
	<-done
	return c, s, cerr, serr
}

func devCert(t *testing.T, opts DevOptions) *DevCert {
	t.Helper()
	d, err := SelfSigned(opts)
	require.NoError(t, err)
	return d
}

func TestHandshake(t *testing.T) {
	for _, opts := range []DevOptions{{}, {Ed25519: true}} {
		dev := devCert(t, opts)
		for _, name := range []string{"localhost", "127.0.0.1", "::1", "::1%lo"} {
			c, s, cerr, serr := handshake(t,
				ClientConfig(&tls.Config{RootCAs: dev.Pool}, name),
				ServerConfig(&tls.Config{Certificates: []tls.Certificate{dev.Certificate}}))
			require.NoError(t, cerr, name)
			require.NoError(t, serr, name)
			require.NoError(t, VerifyState(c))
			require.NoError(t, VerifyState(s))
		}
	}
}

func TestConfigsAreClones(t *testing.T) {
	protos := []string{"h2", ALPN}
	c := &tls.Config{NextProtos: protos, MinVersion: tls.VersionTLS12}
	for _, d := range []*tls.Config{ClientConfig(c, "host"), ServerConfig(c)} {
		require.Equal(t, []string{ALPN, "h2"}, d.NextProtos)
		require.EqualValues(t, tls.VersionTLS13, d.MinVersion)
	}
	require.Equal(t, []string{"h2", ALPN}, protos)
	require.EqualValues(t, tls.VersionTLS12, c.MinVersion)
	require.Empty(t, c.ServerName)
	require.Nil(t, c.WrapSession)

	require.Equal(t, "host", ClientConfig(nil, "host").ServerName)
	require.Equal(t, "mine", ClientConfig(&tls.Config{ServerName: "mine"}, "host").ServerName)
	require.Empty(t, ClientConfig(&tls.Config{InsecureSkipVerify: true}, "").ServerName)
	require.Equal(t, []string{ALPN}, ServerConfig(nil).NextProtos)
}

func TestCheckConfig(t *testing.T) {
	certs := []tls.Certificate{{}}
	tests := []struct {
		name   string
		c      *tls.Config
		server bool
		want   error
	}{
		{"nil client", nil, false, nil},
		{"nil server", nil, true, ErrNoCertificate},
		{"empty server", &tls.Config{}, true, ErrNoCertificate},
		{"certificates", &tls.Config{Certificates: certs}, true, nil},
		{"TLS 1.2 client", &tls.Config{MaxVersion: tls.VersionTLS12}, false, ErrMaxVersion},
		{"TLS 1.2 server", &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: certs}, true, ErrMaxVersion},
		{"TLS 1.3", &tls.Config{MaxVersion: tls.VersionTLS13}, false, nil},
		{"GetCertificate", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}, true, nil},
	}
	for _, tt := range tests {
		require.ErrorIs(t, CheckConfig(tt.c, tt.server), tt.want, tt.name)
	}
}

// "A connection that passes VerifyState runs TLS 1.3 or later and both sides have
// agreed on the ALPN protocol".
func TestStrangers(t *testing.T) {
	dev := devCert(t, DevOptions{})
	certs := []tls.Certificate{dev.Certificate}
	ours := &tls.Config{RootCAs: dev.Pool}

	t.Run("TLS 1.2 server", func(t *testing.T) {
		_, _, cerr, serr := handshake(t, ClientConfig(ours, "localhost"),
			&tls.Config{Certificates: certs, MaxVersion: tls.VersionTLS12})
		require.Error(t, cerr)
		require.Error(t, serr)
	})
	t.Run("TLS 1.2 client", func(t *testing.T) {
		_, _, cerr, serr := handshake(t,
			&tls.Config{RootCAs: dev.Pool, ServerName: "localhost", MaxVersion: tls.VersionTLS12},
			ServerConfig(&tls.Config{Certificates: certs}))
		require.Error(t, cerr)
		require.Error(t, serr)
	})
	t.Run("other protocol", func(t *testing.T) {
		_, _, cerr, serr := handshake(t,
			&tls.Config{RootCAs: dev.Pool, ServerName: "localhost", NextProtos: []string{"h2"}},
			ServerConfig(&tls.Config{Certificates: certs}))
		require.Error(t, cerr)
		require.Error(t, serr)
	})
	t.Run("client without protocol", func(t *testing.T) {
		_, s, cerr, serr := handshake(t,
			&tls.Config{RootCAs: dev.Pool, ServerName: "localhost"},
			ServerConfig(&tls.Config{Certificates: certs}))
		require.NoError(t, cerr)
		require.NoError(t, serr)
		require.ErrorIs(t, VerifyState(s), ErrALPN)
	})
	t.Run("server without protocol", func(t *testing.T) {
		c, _, cerr, _ := handshake(t, ClientConfig(ours, "localhost"), &tls.Config{Certificates: certs})
		require.NoError(t, cerr)
		require.ErrorIs(t, VerifyState(c), ErrALPN)
	})
	t.Run("version", func(t *testing.T) {
		require.ErrorIs(t, VerifyState(tls.ConnectionState{}), ErrVersion)
		require.ErrorIs(t, VerifyState(tls.ConnectionState{Version: tls.VersionTLS12, NegotiatedProtocol: ALPN}), ErrVersion)
	})
	t.Run("unknown authority", func(t *testing.T) {
		_, _, cerr, _ := handshake(t, ClientConfig(&tls.Config{RootCAs: devCert(t, DevOptions{}).Pool}, "localhost"),
			ServerConfig(&tls.Config{Certificates: certs}))
		var unknown x509.UnknownAuthorityError
		require.ErrorAs(t, cerr, &unknown)
	})
	t.Run("other name", func(t *testing.T) {
		_, _, cerr, _ := handshake(t, ClientConfig(ours, "example.org"), ServerConfig(&tls.Config{Certificates: certs}))
		var host x509.HostnameError
		require.ErrorAs(t, cerr, &host)
	})
	t.Run("expired", func(t *testing.T) {
		old := devCert(t, DevOptions{NotBefore: time.Now().Add(-48 * time.Hour), ValidFor: time.Hour})
		server := ServerConfig(&tls.Config{Certificates: []tls.Certificate{old.Certificate}})
		_, _, cerr, _ := handshake(t, ClientConfig(&tls.Config{RootCAs: old.Pool}, "localhost"), server)
		var invalid x509.CertificateInvalidError
		require.ErrorAs(t, cerr, &invalid)
		require.Equal(t, x509.Expired, invalid.Reason)

		then := func() time.Time { return time.Now().Add(-47*time.Hour - 30*time.Minute) }
		_, _, cerr, _ = handshake(t, ClientConfig(&tls.Config{RootCAs: old.Pool, Time: then}, "localhost"), server)
		require.NoError(t, cerr)
	})
}

func TestClientCertificates(t *testing.T) {
	dev := devCert(t, DevOptions{})
	alice, err := dev.Issue(DevOptions{Hosts: []string{"alice"}})
	require.NoError(t, err)
	mallory := devCert(t, DevOptions{Hosts: []string{"alice"}})
	server := ServerConfig(&tls.Config{
		Certificates: []tls.Certificate{dev.Certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: dev.Pool,
	})
	with := func(certs ...tls.Certificate) *tls.Config {
		return ClientConfig(&tls.Config{RootCAs: dev.Pool, Certificates: certs}, "localhost")
	}
	_, s, cerr, serr := handshake(t, with(alice.Certificate), server)
	require.NoError(t, cerr)
	require.NoError(t, serr)
	require.Equal(t, []string{"alice"}, s.PeerCertificates[0].DNSNames)

	_, _, _, serr = handshake(t, with(), server)
	require.Error(t, serr)
	_, _, _, serr = handshake(t, with(mallory.Certificate), server)
	require.Error(t, serr)
}

// "A derived configuration resumes sessions wherever the one it was derived from
// would, also when it is derived again for each connection."
func TestResumption(t *testing.T) {
	dev := devCert(t, DevOptions{})
	certs := []tls.Certificate{dev.Certificate}
	newClient := func() *tls.Config {
		return &tls.Config{RootCAs: dev.Pool, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	}
	resumes := func(t *testing.T, client *tls.Config, server func() *tls.Config) bool {
		t.Helper()
		for i := range 2 {
			c, s, cerr, serr := handshake(t, ClientConfig(client, "localhost"), server())
			require.NoError(t, cerr)
			require.NoError(t, serr)
			require.Equal(t, c.DidResume, s.DidResume)
			if i == 1 {
				return c.DidResume
			}
			require.False(t, c.DidResume)
		}
		panic("unreachable")
	}
	fixed := func(c *tls.Config) func() *tls.Config { return func() *tls.Config { return c } }

	t.Run("derived once", func(t *testing.T) {
		require.True(t, resumes(t, newClient(), fixed(ServerConfig(&tls.Config{Certificates: certs}))))
	})
	t.Run("derived each time", func(t *testing.T) {
		base := &tls.Config{Certificates: certs}
		require.True(t, resumes(t, newClient(), func() *tls.Config { return ServerConfig(base) }))
	})
	t.Run("disabled", func(t *testing.T) {
		base := &tls.Config{Certificates: certs, SessionTicketsDisabled: true}
		require.False(t, resumes(t, newClient(), fixed(ServerConfig(base))))
	})
	t.Run("keys changed on the original", func(t *testing.T) {
		base := &tls.Config{Certificates: certs}
		n := byte(0)
		require.False(t, resumes(t, newClient(), func() *tls.Config {
			n++
			base.SetSessionTicketKeys([][32]byte{{n}})
			return ServerConfig(base)
		}))
	})
	t.Run("keys shared between originals", func(t *testing.T) {
		require.True(t, resumes(t, newClient(), func() *tls.Config {
			base := &tls.Config{Certificates: certs}
			base.SetSessionTicketKeys([][32]byte{{7}})
			return ServerConfig(base)
		}))
	})
	t.Run("own sealing is kept", func(t *testing.T) {
		wrapped := 0
		keys := &tls.Config{}
		base := &tls.Config{Certificates: certs, UnwrapSession: keys.DecryptTicket,
			WrapSession: func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
				wrapped++
				return keys.EncryptTicket(cs, ss)
			}}
		require.True(t, resumes(t, newClient(), func() *tls.Config { return ServerConfig(base) }))
		require.Equal(t, 2, wrapped)
	})
	t.Run("GetConfigForClient, one config", func(t *testing.T) {
		inner := &tls.Config{Certificates: certs}
		d := ServerConfig(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return inner, nil }})
		require.True(t, resumes(t, newClient(), fixed(d)))
	})
	t.Run("GetConfigForClient, new configs", func(t *testing.T) {
		d := ServerConfig(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: certs}, nil
		}})
		require.True(t, resumes(t, newClient(), fixed(d)))
	})
	t.Run("GetConfigForClient, keys of its own", func(t *testing.T) {
		inner := &tls.Config{Certificates: certs}
		n := byte(0)
		d := ServerConfig(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			n++
			inner.SetSessionTicketKeys([][32]byte{{n}})
			return inner, nil
		}})
		require.False(t, resumes(t, newClient(), fixed(d)))
	})
	t.Run("GetConfigForClient, none", func(t *testing.T) {
		base := &tls.Config{Certificates: certs,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }}
		require.True(t, resumes(t, newClient(), func() *tls.Config { return ServerConfig(base) }))
	})
}

func TestGetConfigForClient(t *testing.T) {
	dev := devCert(t, DevOptions{})
	client := ClientConfig(&tls.Config{RootCAs: dev.Pool}, "localhost")
	var inner *tls.Config
	var innerErr error
	server := ServerConfig(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return inner, innerErr }})

	inner = &tls.Config{Certificates: []tls.Certificate{dev.Certificate}, NextProtos: []string{"h2"}}
	c, s, cerr, serr := handshake(t, client, server)
	require.NoError(t, cerr)
	require.NoError(t, serr)
	require.NoError(t, VerifyState(c))
	require.NoError(t, VerifyState(s))
	require.Equal(t, []string{"h2"}, inner.NextProtos)

	_, _, _, serr = handshake(t, &tls.Config{RootCAs: dev.Pool, ServerName: "localhost", MaxVersion: tls.VersionTLS12}, server)
	require.Error(t, serr)

	inner.MaxVersion = tls.VersionTLS12
	_, _, _, serr = handshake(t, client, server)
	require.ErrorIs(t, serr, ErrMaxVersion)

	innerErr = io.ErrNoProgress
	_, _, _, serr = handshake(t, client, server)
	require.ErrorIs(t, serr, io.ErrNoProgress)
}

// The handshake also works on a socket, where writes do not wait for reads.
func TestLoopback(t *testing.T) {
	dev := devCert(t, DevOptions{})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln := tls.NewListener(inner, ServerConfig(&tls.Config{Certificates: []tls.Certificate{dev.Certificate}}))
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	host, _, err := net.SplitHostPort(inner.Addr().String())
	require.NoError(t, err)
	c, err := tls.Dial("tcp", inner.Addr().String(), ClientConfig(&tls.Config{RootCAs: dev.Pool}, host))
	require.NoError(t, err)
	defer c.Close()
	want := bytes.Repeat([]byte("vstp"), 1000)
	_, err = c.Write(want)
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
