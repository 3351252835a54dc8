package vstp

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/vstp-go/vstp/internal/endpoint"
)

// ListenPacket announces on the local network address with the default
// configuration. The networks are "udp", "udp4" and "udp6", addresses as for
// [net.ListenPacket]; where one names a host and no port it is 6969. The dynamic type
// is always *PacketConn.
func ListenPacket(network, address string) (net.PacketConn, error) {
	return (&ListenConfig{}).ListenPacket(context.Background(), network, address)
}

// ListenPacket announces on the local network address; see the function
// [ListenPacket]. ctx bounds the resolution of the address, not the PacketConn.
func (lc *ListenConfig) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if kindOf(network) != messageNetwork {
		return nil, listenError(network, net.UnknownNetworkError(network))
	}
	e, err := lc.listenEndpoint(ctx, network, address, false)
	if err != nil {
		return nil, err
	}
	return newPacketConn(e, network, lc.Config), nil
}

// listenReliable is Listen for a byte stream on UDP.
func (lc *ListenConfig) listenReliable(ctx context.Context, network, address string) (net.Listener, error) {
	e, err := lc.listenEndpoint(ctx, network, address, true)
	if err != nil {
		return nil, err
	}
	if err := e.Listen(); err != nil {
		e.Close()
		return nil, listenError(network, publicError(err))
	}
	return newListener(newEndpointSource(e, network, e.CloseWhenIdle), network, lc.Config), nil
}

// listenEndpoint returns an endpoint on new sockets, for streams only or for messages
// too. Its error is a *net.OpError.
func (lc *ListenConfig) listenEndpoint(ctx context.Context, network, address string, streamsOnly bool) (*endpoint.Endpoint, error) {
	role := meeting
	if streamsOnly {
		role = listening
	}
	config, err := lc.Config.endpoint(role, "")
	if err != nil {
		return nil, listenError(network, err)
	}
	n, err := lc.sockets()
	if err != nil {
		return nil, listenError(network, err)
	}
	address, _ = dialAddress(network, address)
	pcs, err := lc.listenPackets(ctx, udpNetwork(network), address, n)
	if err != nil {
		var oe *net.OpError
		if errors.As(err, &oe) {
			named := *oe
			named.Net = network
			err = &named
		}
		return nil, err
	}
	return newSpreadEndpoint(pcs, config), nil
}

// An endpointSource accepts the byte streams of an endpoint.
type endpointSource struct {
	e       *endpoint.Endpoint
	network string
	laddr   net.Addr
	end     func() error // stops accepting
	once    sync.Once
}

func newEndpointSource(e *endpoint.Endpoint, network string, end func() error) *endpointSource {
	return &endpointSource{e: e, network: network, laddr: addrOf(e.LocalAddr()), end: end}
}

func (l *endpointSource) accept(ctx context.Context) (*Conn, error) {
	s, err := l.e.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(s, l.network), nil
}

func (l *endpointSource) close() (err error) {
	l.once.Do(func() { err = l.end() })
	return err
}

func (l *endpointSource) addr() net.Addr { return l.laddr }
