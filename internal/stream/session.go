// Package stream is one session over a byte stream: the stream profile of the
// protocol (PROTOCOL §5) and, towards peers that negotiate nothing, the crate
// profile (§6). It gives a byte stream and messages beside it, each in order.
//
// A Session has no goroutine while nothing happens. Whoever waits for something
// from the peer (bytes, a message, an ACK, a PONG) takes the read token and reads
// the carrier for everybody: what is not for itself it queues, within bounds, and
// wakes the others. Whoever has something to say takes the write token. Control
// frames that answer the peer are queued and leave with the next holder of the
// write token, or with a short-lived goroutine, so that reading never waits for
// writing.
//
//	Read, ReceiveMessage,      rtok     framing.Reader ◀─┐
//	waiting for ACK or PONG  ───────▶   dispatch         │
//	                                       │ queue       │ carrier.Carrier ◀─▶ net.Conn
//	                                       ▼ answers     │
//	Write, SendMessage         wtok     WriteFrame  ─────┘
//
// Bounds on what a peer can make a Session keep are the constants below.
//
// A byte stream can carry the packets of a session that moves between carriers instead
// (PROTOCOL §7.14). Then a Session does the handshake, or attaches the stream to a session
// that is there already, and gives it away as a Bearer, which only moves packets.
package stream

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/carrier"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

const (
	// maxDataPayload is how much payload one DATA frame gets from Write. It is
	// what a receiver must have whole before it can check a CRC, and what a write
	// deadline may leave to be sent later.
	maxDataPayload = 64 << 10

	// maxFragment is the same for a part of a message.
	maxFragment = 64 << 10

	// maxFileFrame is the payload of a frame that sendfile fills. Should the
	// deadline pass inside, so much is read into memory.
	maxFileFrame = 256 << 10

	// maxBufferedStream is how much of the byte stream is kept for Read while
	// somebody else waits for what comes behind it.
	maxBufferedStream = 256 << 10

	// maxQueuedMessages and maxQueuedBytes bound the messages that wait for
	// ReceiveMessage. The peer is not read from while either is reached, so what
	// is kept is at most maxQueuedBytes and two messages more.
	maxQueuedMessages = 1024
	maxQueuedBytes    = 4 << 20

	// maxPendingAcks is how many ACKs wait for a peer that does not read.
	maxPendingAcks = 1024

	// maxControlPayload bounds the payload of every frame that is not DATA.
	maxControlPayload = 4 << 10

	// maxPingToken is the longest token a PING may have. PROTOCOL §5.6.
	maxPingToken = 16

	// serviceSlice is how long the service timer reads for what has already
	// arrived when nobody else reads.
	serviceSlice = time.Millisecond
)

// A Config is what a Session is made with. All fields are resolved: no defaults
// apply here. It is shared by sessions and never written.
type Config struct {
	Client bool
	Legacy bool        // client: the crate profile from the start
	TLS    *tls.Config // ready for use; nil for plaintext

	Params handshake.Params

	// Auto, if not nil, is what a client offers who would move between carriers. Its
	// Params are taken from the field above. As it holds a connection id, such a Config
	// is for one session.
	Auto *handshake.DatagramParams

	// AutoServer, if not nil, is asked by a server.
	AutoServer AutoServer

	// Verify, if not nil, is asked by a server before it welcomes.
	Verify func(ctx context.Context, s *Session, hello *handshake.Hello) (framing.Header, error)

	// NewSessionID returns 128 random bits.
	NewSessionID func() [16]byte

	HandshakeTimeout time.Duration // 0: none
	KeepAlive        time.Duration // 0: off
	Linger           time.Duration // 0: none
	AckTimeout       time.Duration // 0: none

	// Err, if not nil, fails every handshake: the configuration cannot work.
	Err error
}

// A Session is safe for concurrent use.
type Session struct {
	cfg *Config
	car *carrier.Carrier // apart: a Bearer goes on with it, without the rest

	// Handshake.
	hsStarted atomic.Bool
	hsDone    atomic.Bool   // finished without error: result is valid
	hsCh      chan struct{} // closed when the handshake has ended
	hsErr     error         // valid once hsCh is closed
	hsCtx     context.Context
	hsEnd     context.CancelCauseFunc // ends hsCtx
	result    handshake.Result
	sum       bool // every frame of ours has the CRC

	// Carriers, PROTOCOL §7.14.
	connected bool                     // Connect has done its part
	attach    *handshake.AttachRequest // client: attach in place of a handshake
	auto      *AutoResult              // packets follow; nil in an ordinary session
	detached  bool                     // the byte stream was given away; mu guards it

	done chan struct{} // closed by Close

	// Reading. The holder of rtok owns this part.
	rtok    chan struct{} // holds an element while somebody holds the token
	rd      framing.Reader
	cur     current
	partial partial
	sbuf    byteQueue // stream bytes read by others than Read
	dec     decompressor
	lastID  uint64 // of the last message begun by the peer, plus one

	// Writing. The holder of wtok owns this part.
	wtok   chan struct{}
	stok   chan struct{} // held by a Write for all of its frames: those of two do not mix
	head   []byte        // header of the frame being made
	nextID uint64        // of our next message
	com    compressor
	bigtok chan struct{} // held by the one who sends a fragmented message

	mu        sync.Mutex
	closed    bool
	draining  bool  // what still comes is read and dropped
	rerr      error // ends reading; final
	werr      error // ends writing; final
	rdl, wdl  deadline
	rheld     *op       // who holds rtok and may be blocked in the carrier
	readsWait int       // calls of Read that wait for rtok
	buffered  bool      // sbuf has bytes
	wheld     *op       // the same for wtok
	rarmed    time.Time // deadlines set on the carrier
	warmed    time.Time
	ev        chan struct{} // closed at the next change; nil while nobody waits
	peerBye   bool          // the peer has ended its stream
	peerGone  bool          // and reads no more: it has closed
	byeSent   bool          // we have ended ours, or are about to
	msgs      []*session.Message
	msgBytes  int
	ctl       control
	acks      map[uint64]*ackWait
	pings     uint64 // tokens sent
	pongs     uint64 // highest token that came back
	pingSent  map[uint64]time.Time
	rtt       time.Duration
	service   *time.Timer

	readOp, writeOp, flushOp op // of Read, Write and the flusher: shared, so that they cost no allocation

	readEnded atomic.Bool  // rerr is set: the carrier must not be read any more
	epoch     time.Time    // when the service began; has a monotonic clock
	lastSeen  atomic.Int64 // nanoseconds from epoch to the last bytes from the peer
	serviced  atomic.Bool
	ending    chan struct{} // closed when the carrier has been ended; nil before
	stats     counters
}

// counters are the numbers of Stats.
type counters struct {
	bytesOut, bytesIn   atomic.Uint64
	wireOut, wireIn     atomic.Uint64
	framesOut, framesIn atomic.Uint64
	msgsOut, msgsIn     atomic.Uint64
}

// New returns a session over conn, which it owns from now on.
func New(conn net.Conn, cfg *Config) *Session {
	s := &Session{
		cfg:  cfg,
		car:  carrier.New(conn),
		hsCh: make(chan struct{}),
		done: make(chan struct{}),
		rtok: make(chan struct{}, 1),
		wtok: make(chan struct{}, 1),
		stok: make(chan struct{}, 1),
	}
	s.hsCtx, s.hsEnd = context.WithCancelCause(context.Background())
	s.readOp = op{dl: &s.rdl}
	s.writeOp = op{dl: &s.wdl}
	return s
}

// NetConn returns the carrier's connection.
func (s *Session) NetConn() net.Conn { return s.car.NetConn() }

// TLSState returns the state of the TLS connection, nil in plaintext. It may be
// called once the handshake is finished, and by Config.Verify.
func (s *Session) TLSState() *tls.ConnectionState { return tlsState(s.car) }

func tlsState(car *carrier.Carrier) *tls.ConnectionState {
	c := car.TLS()
	if c == nil {
		return nil
	}
	state := c.ConnectionState()
	return &state
}

// Result returns what the handshake agreed upon, and whether it is finished.
func (s *Session) Result() (handshake.Result, bool) {
	if !s.hsDone.Load() {
		return handshake.Result{}, false
	}
	return s.result, true
}

// LocalAddr returns the address of the carrier.
func (s *Session) LocalAddr() net.Addr { return s.car.LocalAddr() }

// RemoteAddr returns the peer's address on the carrier.
func (s *Session) RemoteAddr() net.Addr { return s.car.RemoteAddr() }

// Stats returns a snapshot; the numbers in it are not of one instant.
func (s *Session) Stats() session.Stats {
	s.mu.Lock()
	rtt := s.rtt
	s.mu.Unlock()
	c := &s.stats
	return session.Stats{
		BytesSent:        c.bytesOut.Load(),
		BytesReceived:    c.bytesIn.Load(),
		WireSent:         c.wireOut.Load(),
		WireReceived:     c.wireIn.Load(),
		FramesSent:       c.framesOut.Load(),
		FramesReceived:   c.framesIn.Load(),
		MessagesSent:     c.msgsOut.Load(),
		MessagesReceived: c.msgsIn.Load(),
		RTT:              rtt,
	}
}

// source is what the frame reader reads from: the carrier, counted.
type source Session

func (s *source) Read(p []byte) (int, error) {
	n, err := s.car.Read(p)
	(*Session)(s).arrived(n)
	return n, err
}

func (s *source) CanReadv() bool { return s.car.CanReadv() }

func (s *source) Readv(a, b []byte) (int, error) {
	n, err := s.car.Readv(a, b)
	(*Session)(s).arrived(n)
	return n, err
}

func (s *Session) arrived(n int) {
	if n <= 0 {
		return
	}
	s.stats.wireIn.Add(uint64(n))
	if s.serviced.Load() {
		s.lastSeen.Store(int64(time.Since(s.epoch)))
	}
}
