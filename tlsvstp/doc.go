// Package tlsvstp makes the keys and the TLS configurations of vstp.
//
// # Usage
//
// Programs rarely need this package: setting vstp.Config.TLS is enough, and the
// root package calls [ClientConfig], [ServerConfig] and [VerifyState] by itself.
// What is left for programs are development certificates:
//
//	dev, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"localhost", "127.0.0.1"}})
//	server := &tls.Config{Certificates: []tls.Certificate{dev.Certificate}}
//	client := &tls.Config{RootCAs: dev.Pool}
//
// On datagrams TLS has no records: it makes keys, and vstp seals its own packets with
// them (PROTOCOL §8.4 to §8.9). [Handshake] runs crypto/tls for that, [Keys] are those
// of one direction and level, and [Protection] is what an association of package
// reliable needs. The root package uses them by itself too.
//
// # Guarantees
//
// A connection that passes VerifyState runs TLS 1.3 or later and both sides have
// agreed on the ALPN protocol "vstp/1", so that no other service that trusts the
// same certificates can be confused with this one (the ALPACA attacks).
// A derived configuration resumes sessions wherever the one it was derived from
// would, also when it is derived again for each connection.
//
// # Limitations
//
// A server that sets GetConfigForClient should be derived once for a listener,
// not once for a connection, if sessions are to be resumed: tickets for the
// configurations it returns are made with the keys set on them by
// SetSessionTicketKeys or, where there are none, with those of the derived one.
//
// A client that offers 0-RTT to a server that has come to want another key exchange
// than before (a HelloRetryRequest) fails, once: crypto/tls of Go 1.26 sends binders
// that are wrong then. The session is dropped from the cache, so that the next attempt
// succeeds.
//
// # Security
//
// [SelfSigned] is for development and tests. The key of its certification
// authority exists only in memory, so nothing more can be signed with it once the
// program has ended; the certificates are still worth as little as the care that
// is taken of the key file.
package tlsvstp
