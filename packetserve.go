package vstp

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/vstp-go/vstp/internal/udpio"
)

// A PacketHandler is called by PacketConn.Serve for each message, one at a time for
// each peer, in the order in which they came, but for several peers at once. It may
// use pc, for answers and beyond its return. Its error is logged.
type PacketHandler func(ctx context.Context, pc *PacketConn, m *Message, addr net.Addr) error

// maxServing is how many messages Serve has in hand at a time. While it has so many,
// no more are received.
const maxServing = 256

// Serve calls handler for the messages that arrive, until ctx ends or pc is closed;
// then it closes pc, waits for the handlers, and returns the cause of ctx or an error
// with net.ErrClosed in it. It is the counterpart of the crate's server.run. The
// handler's ctx ends with Serve's.
func (pc *PacketConn) Serve(ctx context.Context, handler PacketHandler) error {
	ctx, cancel := context.WithCancel(ctx)
	s := newPacketServer(ctx, pc, handler)
	stop := context.AfterFunc(ctx, func() { pc.Close() })
	defer func() {
		cancel()
		stop()
		pc.Close()
		s.wg.Wait()
	}()
	return s.run()
}

// received is a message for a handler.
type received struct {
	m    *Message
	addr net.Addr
}

// A packetServer hands messages to handlers: a goroutine for each peer of which
// there are some.
type packetServer struct {
	pc      *PacketConn
	handler PacketHandler
	ctx     context.Context
	room    chan struct{} // an element for each message in hand
	wg      sync.WaitGroup

	mu    sync.Mutex
	peers map[netip.AddrPort][]received // waiting; has an entry while the peer has a goroutine
}

func newPacketServer(ctx context.Context, pc *PacketConn, handler PacketHandler) *packetServer {
	return &packetServer{
		pc: pc, handler: handler, ctx: ctx,
		room:  make(chan struct{}, maxServing),
		peers: make(map[netip.AddrPort][]received),
	}
}

// run receives messages until the context or the socket ends.
func (s *packetServer) run() error {
	for {
		select {
		case s.room <- struct{}{}:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		m, addr, err := s.pc.ReceiveMessage(s.ctx)
		if err != nil {
			if s.ctx.Err() != nil {
				return context.Cause(s.ctx)
			}
			return err
		}
		s.take(received{m, addr})
	}
}

// take queues r behind what its peer has sent before.
func (s *packetServer) take(r received) {
	addr, _ := udpio.AddrOf(r.addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting, busy := s.peers[addr.AddrPort]
	s.peers[addr.AddrPort] = append(waiting, r)
	if !busy {
		s.wg.Go(func() { s.work(addr.AddrPort) })
	}
}

// work handles what a peer has sent until nothing is left.
func (s *packetServer) work(peer netip.AddrPort) {
	for {
		s.mu.Lock()
		waiting := s.peers[peer]
		if len(waiting) == 0 {
			delete(s.peers, peer)
			s.mu.Unlock()
			return
		}
		r := waiting[0]
		s.peers[peer] = waiting[1:]
		s.mu.Unlock()
		if s.ctx.Err() == nil {
			if err := s.handler(s.ctx, s.pc, r.m, r.addr); err != nil && s.ctx.Err() == nil {
				s.pc.config.logger().Info("vstp: handler failed", "remote", r.addr, "err", err)
			}
		}
		<-s.room
	}
}
