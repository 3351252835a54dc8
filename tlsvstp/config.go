package tlsvstp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
)

// ALPN is the application protocol that both sides of a TLS connection agree on.
const ALPN = "vstp/1"

// Errors of CheckConfig and VerifyState; compare with [errors.Is].
var (
	// ErrMaxVersion says that a configuration forbids TLS 1.3.
	ErrMaxVersion = errors.New("tlsvstp: MaxVersion is below TLS 1.3, which vstp needs")

	// ErrNoCertificate says that a server has nothing to identify itself with.
	ErrNoCertificate = errors.New("tlsvstp: a server needs Certificates, GetCertificate or GetConfigForClient")

	// ErrVersion says that an older TLS version than 1.3 was negotiated.
	ErrVersion = errors.New("tlsvstp: the connection does not run TLS 1.3")

	// ErrALPN says that the peer did not agree on the protocol "vstp/1".
	ErrALPN = errors.New(`tlsvstp: the peer did not negotiate the ALPN protocol "` + ALPN + `"`)
)

// CheckConfig reports what makes c unusable for a server or for a client, before
// a connection is tried: ErrMaxVersion or ErrNoCertificate. What only a handshake
// can show is left to the handshake. A nil c is an empty one.
func CheckConfig(c *tls.Config, server bool) error {
	if c != nil && c.MaxVersion != 0 && c.MaxVersion < tls.VersionTLS13 {
		return ErrMaxVersion
	}
	if server && (c == nil || len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil) {
		return ErrNoCertificate
	}
	return nil
}

// ClientConfig returns a copy of c for one vstp client: with TLS 1.3 as the least
// version, the ALPN protocol, and serverName (a host name or an IP address) where
// c has no ServerName. A nil c is an empty one. The copy shares the session cache
// of c, and so resumes sessions of other copies.
func ClientConfig(c *tls.Config, serverName string) *tls.Config {
	d := derive(c)
	if d.ServerName == "" {
		// A zone has a meaning on this machine only; no certificate carries one.
		d.ServerName, _, _ = strings.Cut(serverName, "%")
	}
	return d
}

// ServerConfig returns a copy of c for vstp servers: with TLS 1.3 as the least
// version and the ALPN protocol. What GetConfigForClient returns gets the same
// treatment. A nil c is an empty one, which no handshake succeeds with.
//
// The copy seals session tickets with the keys of c, whether set or made and
// rotated by crypto/tls, so that any number of copies resume each other's
// sessions and a later c.SetSessionTicketKeys holds for all of them.
func ServerConfig(c *tls.Config) *tls.Config {
	d := derive(c)
	if c == nil {
		return d
	}
	if c.WrapSession == nil && c.UnwrapSession == nil {
		// A clone made before the first handshake has no ticket keys yet and would
		// make its own: sessions of one clone could not be resumed with another.
		d.WrapSession, d.UnwrapSession = c.EncryptTicket, c.DecryptTicket
	}
	withConn(d)
	if get := c.GetConfigForClient; get != nil {
		d.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			setConn(hello)
			picked, err := get(hello)
			if picked == nil || err != nil {
				return nil, err
			}
			if err := CheckConfig(picked, false); err != nil {
				return nil, err
			}
			// Not kept: a clone is cheap beside a handshake, carries the ticket keys
			// set on picked by now, and leaves those of d to serve where there are none.
			own := derive(picked)
			withConn(own)
			return own, nil
		}
	}
	return d
}

// connKey is the key of WithConn.
type connKey struct{}

// WithConn returns a context for [NewServerHandshake] with which callbacks of a
// configuration of [ServerConfig] find c in [tls.ClientHelloInfo.Conn]. Without it there
// is nothing in it, where they expect to ask for addresses.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// setConn does what WithConn promises.
func setConn(hello *tls.ClientHelloInfo) {
	if c, ok := hello.Context().Value(connKey{}).(net.Conn); ok && hello.Conn == nil {
		hello.Conn = c
	}
}

// withConn has setConn called before GetCertificate.
func withConn(c *tls.Config) {
	if get := c.GetCertificate; get != nil {
		c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			setConn(hello)
			return get(hello)
		}
	}
}

// derive clones c and applies what holds for both sides.
func derive(c *tls.Config) *tls.Config {
	if c == nil {
		c = &tls.Config{}
	}
	d := c.Clone()
	d.MinVersion = max(d.MinVersion, tls.VersionTLS13)
	// First, since crypto/tls servers choose by their own order, and any other
	// choice would end in ErrALPN.
	if len(d.NextProtos) == 0 || d.NextProtos[0] != ALPN {
		protos := slices.DeleteFunc(slices.Clone(d.NextProtos), func(p string) bool { return p == ALPN })
		d.NextProtos = append([]string{ALPN}, protos...)
	}
	return d
}

// VerifyState reports whether a finished handshake gave what vstp needs: nil,
// ErrVersion or ErrALPN. A server must ask: crypto/tls accepts clients that offer
// no ALPN protocol at all.
func VerifyState(cs tls.ConnectionState) error {
	if cs.Version < tls.VersionTLS13 {
		return ErrVersion
	}
	if cs.NegotiatedProtocol != ALPN {
		return ErrALPN
	}
	return nil
}
