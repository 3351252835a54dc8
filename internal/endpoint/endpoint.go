// Package endpoint is one UDP socket with many associations on it: it finds the
// association of each datagram, answers handshakes (PROTOCOL §7.3) without keeping
// anything of clients that have not shown their address, and gives each association
// the blocking calls of a net.Conn.
//
// There is one goroutine per socket, which reads, and none per association. Whatever
// an association has to do in time, its timer does; what a call has made it want to
// send, the call sends.
//
//	calls of the application ──▶ Session ──▶ reliable.Assoc ──▶ Session.flush ──▶ udpio.Conn
//	                                ▲ timer        ▲
//	udpio.Conn ──▶ Endpoint.read ───┴── by id ─────┘
//	                    ├── HELLO, WELCOME, ERR: server.go, clients.go, dial.go
//	                    └── everything else: crate.go
//
// Locks are taken in the order deadline, Session.mu, Endpoint.mu; none is held during
// a system call or a wait.
package endpoint

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// A peerKey finds a session by what its peer calls itself.
type peerKey struct {
	addr netip.AddrPort
	id   reliable.ConnID
}

// An Endpoint is one socket and its associations. It is safe for concurrent use.
type Endpoint struct {
	sock        *udpio.Conn // of the first lane
	lanes       []*lane
	spread      *Spread      // chooses a lane for each id; nil: the addresses do
	next        int          // lane for the next id; mu guards it
	reading     atomic.Int32 // lanes that are read
	cfg         *Config
	epoch       time.Time
	segments    int // most datagrams of one write
	maxDatagram int
	cookies     cookieKeys
	issuer      tokenIssuer
	ownTokens   Tokens // of servers
	resetKey    [32]byte
	instance    [16]byte      // random: names this socket in session tickets
	done        chan struct{} // closed when the goroutines that read have ended
	ctx         context.Context
	cancel      context.CancelFunc

	mu        sync.Mutex
	closed    bool
	whenIdle  bool  // the socket is closed with the last session
	failed    error // the socket is of no use any more
	listening bool
	listened  bool // has been listening
	sessions  map[reliable.ConnID]*Session
	byPeer    map[peerKey]*Session
	shared    map[netip.AddrPort]*Session // for messages
	replays   replayFilter                // of 0-RTT
	clients   clientSet                   // who has sent HELLO
	prefixes  prefixCount                 // of clients and of sessions that they began
	rate      rateLimit                   // of new handshakes
	resets    resetLimit
	backlog   []*Session
	waiting   int       // streams that are being verified; they have a place in backlog
	silent    []*client // of those, with TLS: who may not have said yet what to verify; by age
	accepts   waitq
	inbox     inbox

	reroute reroute

	rdl, wdl deadline
	crate    crateState
	stats    endpointCounters
	noise    atomic.Int64 // when something was logged last
}

type endpointCounters struct {
	datagramsOut, bytesOut, sendErrors                                                        atomic.Uint64
	malformed, unknownID, resets, overloaded, refused, badCookies, dropped, lost, pathChanges atomic.Uint64
}

// New begins to serve sock, which the endpoint owns from now on.
func New(sock *udpio.Conn, cfg *Config) *Endpoint {
	return NewOnSockets([]*udpio.Conn{sock}, nil, cfg)
}

// NewOnSockets is New for several sockets with one port. The system is to choose one of them
// for each connection id as spread says; a nil spread is for one that does not.
func NewOnSockets(socks []*udpio.Conn, spread *Spread, cfg *Config) *Endpoint {
	sock := socks[0]
	e := &Endpoint{
		sock:        sock,
		spread:      spread,
		cfg:         cfg,
		epoch:       time.Now(),
		segments:    sock.MaxSegments(),
		maxDatagram: sock.MaxDatagram(),
		done:        make(chan struct{}),
		sessions:    make(map[reliable.ConnID]*Session),
		byPeer:      make(map[peerKey]*Session),
		shared:      make(map[netip.AddrPort]*Session),
		prefixes:    make(prefixCount),
	}
	for i, sock := range socks {
		e.lanes = append(e.lanes, newLane(e, i, sock))
		e.segments = min(e.segments, sock.MaxSegments())
		e.maxDatagram = min(e.maxDatagram, sock.MaxDatagram())
	}
	if cfg.MaxDatagram > 0 {
		e.maxDatagram = min(e.maxDatagram, cfg.MaxDatagram)
	}
	e.maxDatagram = min(max(e.maxDatagram, reliable.BaseMTU), reliable.MaxMTU)
	e.cookies.init(e.epoch, cfg.random)
	e.issuer.init(cfg.random)
	if cfg.ResetKey != nil && cfg.ServerTLS != nil { // who only dials comes back from another port
		e.resetKey = *cfg.ResetKey
	} else {
		cfg.random(e.resetKey[:])
	}
	cfg.random(e.instance[:])
	e.rate.init(cfg.handshakeRate())
	e.clients.init(e)
	e.crate.init(e)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.rdl.init(e.epoch, e.wakeReceivers)
	e.wdl.init(e.epoch, e.wakeSenders)
	sock.OnRefused(e.peerRefused)
	e.reading.Store(int32(len(e.lanes)))
	for _, l := range e.lanes {
		go l.read()
	}
	return e
}

// LocalAddr returns the address of the socket.
func (e *Endpoint) LocalAddr() net.Addr { return e.sock.LocalAddr() }

// write sends a datagram that belongs to no engine.
func (e *Endpoint) write(b []byte, to udpio.Addr, from udpio.Local) error {
	err := e.sock.Write(b, 0, to, from)
	e.wrote(1, len(b), err)
	return err
}

// writeAll sends datagrams of a handshake, with as few writes as they have runs of equal
// size. It returns the first error, after which nothing more is sent.
func (e *Endpoint) writeAll(datagrams [][]byte, to udpio.Addr, from udpio.Local) error {
	for len(datagrams) > 0 {
		size, n := len(datagrams[0]), 1
		for n < min(len(datagrams), e.segments) && len(datagrams[n]) <= size {
			n++
			if len(datagrams[n-1]) < size {
				break // the last one may be smaller
			}
		}
		b := datagrams[0]
		if n > 1 {
			b = slices.Concat(datagrams[:n]...)
		}
		err := e.sock.Write(b, size, to, from)
		e.wrote(n, len(b), err)
		if err != nil {
			return err
		}
		datagrams = datagrams[n:]
	}
	return nil
}

// wrote counts a write of n datagrams.
func (e *Endpoint) wrote(n, size int, err error) {
	if err != nil {
		e.stats.sendErrors.Add(1)
		return
	}
	e.stats.datagramsOut.Add(uint64(n))
	e.stats.bytesOut.Add(uint64(size))
}

// newID returns a connection id that is not in use; where ids choose lanes, one of the lane
// whose turn it is. Endpoint.mu is held.
func (e *Endpoint) newID() reliable.ConnID {
	var id reliable.ConnID
	if e.spread != nil {
		e.next = (e.next + 1) % len(e.lanes)
	}
	for {
		e.cfg.random(id[:])
		if e.sessions[id] == nil && (e.spread == nil || e.spread.Of(id) == e.next) {
			return id
		}
	}
}

// usable returns why nothing new can begin, or nil. Endpoint.mu is held.
func (e *Endpoint) usable() error {
	switch {
	case e.closed:
		return net.ErrClosed
	case e.failed != nil:
		return e.failed
	case e.whenIdle:
		return net.ErrClosed
	}
	return nil
}

// remove forgets s. Trap C8: what has its place by now stays.
func (e *Endpoint) remove(s *Session) {
	e.mu.Lock()
	if e.sessions[s.id] == s {
		delete(e.sessions, s.id)
	}
	key := peerKey{s.remote.AddrPort, s.peerID}
	if e.byPeer[key] == s {
		delete(e.byPeer, key)
	}
	if e.shared[s.remote.AddrPort] == s {
		delete(e.shared, s.remote.AddrPort)
	}
	e.clients.ended(s)
	if s.counted {
		s.counted = false
		e.prefixes.remove(s.prefix)
	}
	if c := s.admission; c != nil {
		e.freePlace(c)
	}
	e.inbox.orphan(s)
	last := e.whenIdle && len(e.sessions) == 0
	e.mu.Unlock()
	s.rdl.end()
	s.wdl.end()
	if t := s.sealed; t != nil {
		t.cancel() // tickets that have not come are of no use any more
	}
	if last {
		e.shut()
	}
}

// shut closes the socket, which ends the reader.
func (e *Endpoint) shut() {
	e.cancel()
	e.rdl.end()
	e.wdl.end()
	e.crate.end()
	e.closeSockets()
}

// Close sends within Config.Linger what has to arrive, ends all associations and
// closes the socket. Blocked calls return net.ErrClosed.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		<-e.done
		return nil
	}
	e.closed = true
	e.listening = false
	e.accepts.wake()
	e.inbox.waiters.wake()
	all := make([]*Session, 0, len(e.sessions))
	for _, s := range e.sessions {
		all = append(all, s)
	}
	e.mu.Unlock()
	e.cancel()
	e.crate.end()
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() {
			s.Close()
			s.awaitEnd()
		})
	}
	wg.Wait()
	for _, s := range all {
		s.forget(net.ErrClosed)
	}
	e.shut()
	<-e.done
	return nil
}

// CloseWhenIdle ends listening as CloseListen does. The socket is closed when the
// last session has ended.
func (e *Endpoint) CloseWhenIdle() error {
	err := e.CloseListen()
	e.mu.Lock()
	e.whenIdle = true
	e.inbox.waiters.wake()
	var shared []*Session
	for _, s := range e.sessions {
		if s.shared {
			shared = append(shared, s)
		}
	}
	last := len(e.sessions) == 0
	e.mu.Unlock()
	for _, s := range shared {
		s.retire(time.Now())
	}
	if last {
		e.shut()
	}
	return err
}

// Stats returns a snapshot; the numbers in it are not of one instant.
func (e *Endpoint) Stats() Stats {
	c := &e.stats
	e.mu.Lock()
	associations, handshakes := len(e.sessions), e.clients.halfOpen
	e.mu.Unlock()
	var datagramsIn, bytesIn, strays uint64
	for _, l := range e.lanes {
		datagramsIn += l.datagramsIn.Load()
		bytesIn += l.bytesIn.Load()
		strays += l.strays.Load()
	}
	return Stats{
		Socket:            e.socketStats(),
		Sockets:           len(e.lanes),
		Associations:      associations,
		Handshakes:        handshakes,
		DatagramsReceived: datagramsIn,
		BytesReceived:     bytesIn,
		DatagramsSent:     c.datagramsOut.Load(),
		BytesSent:         c.bytesOut.Load(),
		SendErrors:        c.sendErrors.Load(),
		Malformed:         c.malformed.Load(),
		UnknownID:         c.unknownID.Load(),
		Resets:            c.resets.Load(),
		Overloaded:        c.overloaded.Load(),
		Refused:           c.refused.Load(),
		BadCookies:        c.badCookies.Load(),
		Dropped:           c.dropped.Load(),
		Lost:              c.lost.Load(),
		PathChanges:       c.pathChanges.Load(),
		Strays:            strays,
	}
}

// logEvery bounds how often something that a peer can cause is logged. Trap S12.
const logEvery = 10 * time.Second

// warn logs something that a peer has caused, seldom.
func (e *Endpoint) warn(msg string, args ...any) { e.note(slog.LevelWarn, msg, args...) }

// note is warn with a level. Locks may be held, and the reader of the socket may be who
// calls: what a Logger does, and for how long, is nothing that they wait for. Trap S11.
func (e *Endpoint) note(level slog.Level, msg string, args ...any) {
	if e.cfg.Logger == nil {
		return
	}
	now := int64(time.Since(e.epoch)) + 1
	last := e.noise.Load()
	if last != 0 && now-last < int64(logEvery) || !e.noise.CompareAndSwap(last, now) {
		return
	}
	go e.cfg.Logger.LogAttrs(context.Background(), level, msg, slog.Group("", args...))
}
