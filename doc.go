// Package vstp puts VSTP, a binary frame protocol with metadata, checksums and
// acknowledgements, behind the types of package net. Code written for net.Dial and
// net.Listen runs over it by changing the package name:
//
//	ln, err := vstp.Listen("tcp", ":6969")
//	http.Serve(ln, handler)
//
//	tr := &http.Transport{DialContext: (&vstp.Dialer{}).DialContext}
//
// # Networks
//
//	tcp, tcp4, tcp6, unix   Dial, Listen        a byte stream on one of the operating system
//	rudp, rudp4, rudp6      Dial, Listen        a reliable byte stream on UDP
//	auto, auto4, auto6      Dial, Listen        the same on UDP or TCP, moving while open
//	udp, udp4, udp6         Dial, ListenPacket  messages of any size on UDP
//
// # Usage
//
// [Dial], [Listen], [Dialer] and [ListenConfig] are shaped like those of package
// net, and [Client], [Server] and [NewListener] like those of crypto/tls, for
// wrapping a net.Conn or a net.Listener that the caller has. A [Config] holds the
// options; nil is fine. With Config.TLS everything runs inside TLS 1.3, on every network.
//
// A [PacketConn] is a net.PacketConn of which each packet is a message of up to
// Config.MaxMessageSize bytes: what does not fit one datagram is split, and what of it is
// lost is repeated. [PacketConn.SendMessage] adds metadata and says when and how hard to
// try: RequireAck, Repair, Ordered, Priority, Lifetime. [NewPacketConn] takes any
// net.PacketConn, and byte streams can share it: [PacketConn.DialStream],
// [PacketConn.ListenStream].
//
// A [Conn] is a net.Conn. Beside its byte stream it carries messages with metadata:
// [Conn.SendMessage] and [Conn.ReceiveMessage], or [Listener.Serve] and
// [PacketConn.Serve] for a server that is a function. Metadata of the connection itself
// travels with the handshake (Config.Header), where a server can refuse a client
// (Config.VerifyHello).
//
// # Carriers
//
// A connection of "auto" belongs to no carrier: its packets travel in UDP or in TCP, in
// TLS on both or on neither, and it moves between them while it is open. Nothing that was written is lost,
// repeated or reordered by that. Dial begins on UDP, or on TCP where UDP is blocked, which
// costs the head start of [AutoConfig] once: a [Dialer] remembers it. The carrier that is not
// in use stands by, and the connection moves there when the one in use fails or is
// clearly worse, and comes back. A TCP connection that breaks is replaced. [Conn.Carrier]
// tells where it is, [Stats] where it was and why; [Conn.Move] and [Conn.Pin] decide. A
// listener of "auto" serves clients of "tcp" and "rudp" as well, and a client of "auto"
// servers of them.
//
// # Guarantees
//
//   - Deadlines are those of package net on every carrier, TLS included: a call that
//     one cuts short leaves the connection whole, and it works on afterwards.
//   - io.EOF is only returned after the peer has said that it has ended. A carrier
//     that ends otherwise is io.ErrUnexpectedEOF: truncation is visible.
//   - What Write accepted before Close arrives, and Close ends in bounded time.
//   - A message arrives whole and verified or not at all. SendMessage with RequireAck
//     returns nil only when the peer's end has queued it for its application, once.
//   - On datagrams, a peer that has not shown that it can receive at its address makes
//     this package keep nothing, and send no more than it was sent.
//   - Accept returns connections, never one client's failure.
//   - A connection without work has no goroutine, but for the one that reads each UDP
//     socket and, on "auto", each TCP connection; Read and Write do not allocate.
//   - Peers of the original Rust crate are recognised and served.
//
// # Limitations
//
// On streams, one carrier is one TCP connection: what is lost on it delays what comes
// after; and a side that never reads (Read, ReceiveMessage, Ping, waiting for an ACK) does
// not notice what its peer says, except for PINGs while an idle timeout is agreed upon.
// Neither is so on datagrams. There, the address of a client may change and that of a
// server may not, there is no compression, and a Conn of "rudp" has one byte stream. A
// connection of "auto" needs the server's host and port on both carriers: behind a load balancer
// that sends TCP and UDP of a client to different hosts, it stays where it began. When it
// has lost both, it ends after Config.IdleTimeout.
//
// # Security
//
// Without Config.TLS nothing is secret or authenticated; the CRC finds accidents, not
// attackers. With it, what holds is what TLS 1.3 and the given tls.Config promise: on
// streams by crypto/tls, on datagrams by packets that are sealed with its keys as those of
// QUIC are. Config.EarlyData is an exception, and off by default: 0-RTT data can be sent
// again by anyone. What a peer sends never panics, and never makes this package take
// memory for a length that is only claimed; every queue that a peer can fill has a bound.
// See docs/SECURITY.md.
package vstp
