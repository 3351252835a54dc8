package vstp

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/stream"
)

// Dial connects to the address on the named network and runs the handshake, with
// the default configuration. The networks are
//
//	tcp, tcp4, tcp6, unix   a byte stream
//	rudp, rudp4, rudp6      a reliable byte stream on UDP
//	auto, auto4, auto6      the same, on UDP or TCP, whichever is better, moving while open
//	udp, udp4, udp6         messages on UDP: each Write sends one, each Read gets one
//
// Addresses are as for [net.Dial]; where one names no port it is 6969. The dynamic
// type of the net.Conn is always *Conn. Unlike net.Dial, Dial of "udp" talks to the
// peer: it fails where none answers.
func Dial(network, address string) (net.Conn, error) {
	return (&Dialer{}).Dial(network, address)
}

// DialTimeout is Dial with a bound on the time that connecting and handshake take.
func DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	return (&Dialer{NetDialer: &net.Dialer{Timeout: timeout}}).Dial(network, address)
}

// A Dialer holds the options for connecting to an address. Its zero value is what
// Dial uses. It may be used concurrently.
type Dialer struct {
	// Config holds the options of the connections; nil means the defaults.
	Config *Config

	// NetDialer makes the carriers; nil means the zero net.Dialer. Its Timeout and
	// Deadline bound the handshake too. On "auto" a LocalAddr of either kind is for both
	// carriers, but for its port. On datagrams, Resolver, LocalAddr, FallbackDelay,
	// Control and ControlContext have their meaning: each address of a host is tried with
	// a connected socket of its own, but for a LocalAddr with a port, which means one
	// socket for all of them.
	NetDialer *net.Dialer

	memory  *CarrierMemory // see carrierMemory
	sockets *autoSockets   // for "auto", of tests
}

// dialTokens is what servers have given to any Dialer for the next dial: with it, one without
// TLS takes a round trip less. Nobody has to keep a Dialer for that. It is bounded, and a
// token is good at the address that it was given to.
var dialTokens endpoint.Tokens

// tokens returns where those for d are; sockets that are none of the system's have their own.
func (d *Dialer) tokens() *endpoint.Tokens {
	if d.sockets != nil {
		return &d.sockets.tokens
	}
	return &dialTokens
}

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to the address on the named network and runs the handshake,
// both within ctx; see [Dial] for the networks. Once the connection is returned,
// the end of ctx has no effect on it. Every error is a *net.OpError; if the server
// has refused the client there is a *RefusedError in it.
//
// On datagrams, a host with several addresses is tried at all of them, the next one
// 300 ms (net.Dialer.FallbackDelay, if set) after the one before or as soon as that
// has failed, as where nobody listens; the first that answers is taken. Without a bound in ctx or NetDialer,
// Config.HandshakeTimeout bounds each attempt.
//
// "auto" does so too, and tries TCP when AutoConfig.HeadStart is over or UDP has failed; the
// first good one is what the connection begins on. TCP alone being tried first, because it is
// preferred or has been what works, it is the other way round. If both fail, the
// error has both reasons in it: errors.Is and errors.As find either. What the
// server says, such as a refusal, or a certificate that is no good, ends the dial at once.
// With Config.Legacy "auto" is TCP.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	nd := d.NetDialer
	if nd == nil {
		nd = &net.Dialer{}
	}
	switch kindOf(network) {
	case streamNetwork:
		return d.dialStream(ctx, nd, network, address)
	case messageNetwork, reliableNetwork:
		return d.dialDatagram(ctx, nd, network, address)
	case autoNetwork:
		return d.dialAuto(ctx, nd, network, address)
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
}

// dialStream is DialContext for the networks of streams, and for "auto" where it is TCP.
func (d *Dialer) dialStream(ctx context.Context, nd *net.Dialer, network, address string) (net.Conn, error) {
	address, host := dialAddress(network, address)
	config, err := d.Config.session(true, host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	ctx, cancel := boundContext(ctx, nd)
	defer cancel()
	carrier := network
	if kindOf(network) == autoNetwork {
		carrier = tcpNetwork(network)
	}
	conn, err := nd.DialContext(ctx, carrier, address)
	if err != nil {
		return nil, err
	}
	c := newConn(stream.New(conn, config), network)
	if err := c.s.Handshake(ctx); err != nil {
		conn.Close()
		return nil, c.opError("dial", err)
	}
	return c, nil
}

// boundContext applies the Timeout and Deadline of nd to all of a dial.
func boundContext(ctx context.Context, nd *net.Dialer) (context.Context, context.CancelFunc) {
	limit := nd.Deadline
	if nd.Timeout > 0 {
		if t := time.Now().Add(nd.Timeout); limit.IsZero() || t.Before(limit) {
			limit = t
		}
	}
	if limit.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, limit)
}

// dialAddress adds the default port to address if it names a host without a port,
// and returns the host.
func dialAddress(network, address string) (addr, host string) {
	if network == "unix" || address == "" {
		return address, ""
	}
	host, _, err := net.SplitHostPort(address)
	if err == nil {
		return address, host
	}
	if ae, ok := err.(*net.AddrError); ok && ae.Err == "missing port in address" ||
		strings.Count(address, ":") > 1 && !strings.HasPrefix(address, "[") {
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		return net.JoinHostPort(host, DefaultPort), host
	}
	return address, "" // for package net to complain about
}
