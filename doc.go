// Package vstp puts VSTP, a binary frame protocol with metadata, checksums and
// acknowledgements, behind the types of package net. Code written for net.Dial and
// net.Listen runs over it by changing the package name:
//
//	ln, err := vstp.Listen("tcp", ":6969")
//	http.Serve(ln, handler)
//
//	tr := &http.Transport{DialContext: (&vstp.Dialer{}).DialContext}
//
// # Usage
//
// [Dial], [Listen], [Dialer] and [ListenConfig] are shaped like those of package
// net, and [Client], [Server] and [NewListener] like those of crypto/tls, for
// wrapping a net.Conn or a net.Listener that the caller has. A [Config] holds the
// options; nil is fine. With Config.TLS everything runs inside TLS 1.3.
//
// A [Conn] is a net.Conn. Beside its byte stream it carries messages with metadata:
// [Conn.SendMessage] and [Conn.ReceiveMessage], or [Listener.Serve] for a server
// that is a function. Metadata of the connection itself travels with the handshake
// (Config.Header), where a server can refuse a client (Config.VerifyHello).
//
// # Guarantees
//
//   - Deadlines are those of package net on every carrier, TLS included: a call that
//     one cuts short leaves the connection whole, and it works on afterwards.
//   - io.EOF is only returned after the peer has said that it has ended. A carrier
//     that ends otherwise is io.ErrUnexpectedEOF: truncation is visible.
//   - What Write accepted before Close arrives, and Close ends in bounded time.
//   - A message arrives whole and verified or not at all. SendMessage with RequireAck
//     returns nil only when the peer's end has queued it for its application.
//   - Accept returns connections, never one client's failure.
//   - A connection without work has no goroutine, and Read and Write do not allocate.
//   - Peers of the original Rust crate are recognised and served.
//
// # Limitations
//
// The networks are "tcp", "tcp4", "tcp6" and "unix". One carrier is one TCP
// connection: what is lost on it delays what comes after. A side that never reads
// (Read, ReceiveMessage, Ping, waiting for an ACK) does not notice what its peer
// says, except for PINGs while an idle timeout is agreed upon.
//
// # Security
//
// Without Config.TLS nothing is secret or authenticated; the CRC finds accidents, not
// attackers. With it, what holds is what TLS 1.3 and the given tls.Config promise.
// What a peer sends never panics, and never makes this package take memory for a
// length that is only claimed; every queue that a peer can fill has a bound. See
// docs/PROTOCOL.md §9.
package vstp
