package vstp

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"runtime"
	"syscall"

	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/udpio"
)

var errSockets = errors.New("vstp: ListenConfig.Sockets is negative")

// coresForASocket is how many cores there are for each socket by default: who reads keeps
// one busy at most, and the application has work to do, too. With few cores there is one.
const (
	coresForASocket   = 4
	maxDefaultSockets = 16
)

// sockets returns how many sockets to listen with.
func (lc *ListenConfig) sockets() (int, error) {
	switch n := lc.Sockets; {
	case n < 0:
		return 0, errSockets
	case !udpio.CanSteer():
		return 1, nil
	case n > 0:
		return min(n, endpoint.MaxSockets), nil
	}
	return defaultSockets(runtime.GOMAXPROCS(0)), nil
}

func defaultSockets(cores int) int {
	return min(max(cores/coresForASocket, 1), maxDefaultSockets)
}

// listenPackets returns up to n sockets with one port, one at least. The first is bound as
// if it were alone, so that a port that somebody else has is in use, and only then shared
// with the others.
func (lc *ListenConfig) listenPackets(ctx context.Context, network, address string, n int) ([]net.PacketConn, error) {
	nlc := lc.netListenConfig()
	first, err := nlc.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	pcs := []net.PacketConn{first}
	u, ok := first.(*net.UDPConn)
	if n == 1 || !ok {
		return pcs, nil
	}
	log := lc.Config.logger()
	raw, err := u.SyscallConn()
	switch {
	case err != nil:
	case udpio.SharesPort(raw):
		log.Info("vstp: one socket, as the port is shared already", "addr", first.LocalAddr())
		return pcs, nil
	default:
		err = udpio.SharePort(raw)
	}
	shared := *nlc
	shared.Control = func(network, address string, raw syscall.RawConn) error {
		if nlc.Control != nil {
			if err := nlc.Control(network, address, raw); err != nil {
				return err
			}
		}
		return udpio.SharePort(raw)
	}
	for err == nil && len(pcs) < n {
		var pc net.PacketConn
		if pc, err = shared.ListenPacket(ctx, network, first.LocalAddr().String()); err == nil {
			pcs = append(pcs, pc)
		}
	}
	if err != nil { // then without
		closeAll(pcs[1:])
		udpio.KeepPort(raw)
		log.Warn("vstp: one socket instead of several", "addr", first.LocalAddr(), "err", err)
		return pcs[:1], nil
	}
	return pcs, nil
}

// Stats returns the counters so far of the UDP sockets of the listener and of its
// connections, zero where there are none. They are not of one instant.
func (l *Listener) Stats() PacketStats {
	switch src := l.src.(type) {
	case *endpointSource:
		return packetStats(src.e)
	case *autoSource:
		return packetStats(src.e)
	}
	return PacketStats{}
}

func closeAll(pcs []net.PacketConn) {
	for _, pc := range pcs {
		pc.Close()
	}
}

// newSpreadEndpoint returns an endpoint on sockets with one port.
func newSpreadEndpoint(pcs []net.PacketConn, config *endpoint.Config) *endpoint.Endpoint {
	if len(pcs) == 1 {
		return newEndpoint(pcs[0], config)
	}
	spread := endpoint.NewSpread(len(pcs), func(b []byte) { rand.Read(b) })
	if err := spread.Attach(pcs[0]); err != nil {
		spread = nil
		if config.Logger != nil {
			config.Logger.Warn("vstp: datagrams are not steered by their connection id", "addr", pcs[0].LocalAddr(), "err", err)
		}
	}
	socks := make([]*udpio.Conn, len(pcs))
	for i, pc := range pcs {
		socks[i] = newSocket(pc, config)
	}
	return endpoint.NewOnSockets(socks, spread, config)
}
