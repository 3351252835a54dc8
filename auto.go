package vstp

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/auto"
	"github.com/vstp-go/vstp/reliable"
)

// Defaults of an AutoConfig.
const (
	DefaultHeadStart       = 250 * time.Millisecond
	DefaultStandbyInterval = 90 * time.Second

	DefaultProbeAttempts                = 2
	DefaultProbeTimeout                 = 600 * time.Millisecond
	DefaultSwitchCooldown               = 3 * time.Second
	DefaultMinDwellTime                 = 2 * time.Second
	DefaultConsecutiveFailuresThreshold = 3
	DefaultMinScoreMargin               = 5 * time.Millisecond
	DefaultAckTimeoutPenalty            = 25 * time.Millisecond
	DefaultIOErrorPenalty               = 35 * time.Millisecond
	DefaultPeerPreferenceTTL            = 120 * time.Second
)

// A Carrier is what the packets of a connection of "auto" travel in.
type Carrier uint8

const (
	CarrierAny Carrier = iota // no particular one
	CarrierUDP                // datagrams
	CarrierTCP                // a TCP connection, inside TLS if Config.TLS is set
)

// String returns "any", "udp" or "tcp".
func (c Carrier) String() string {
	switch c {
	case CarrierAny:
		return "any"
	case CarrierUDP:
		return "udp"
	case CarrierTCP:
		return "tcp"
	}
	return "Carrier(" + strconv.Itoa(int(c)) + ")"
}

// lower returns what the packages below call c, and whether it is one of the two.
func (c Carrier) lower() (reliable.Carrier, bool) {
	switch c {
	case CarrierUDP:
		return reliable.Datagrams, true
	case CarrierTCP:
		return reliable.ByteStream, true
	}
	return reliable.Datagrams, false
}

// liftCarrier is the reverse of lower.
func liftCarrier(c reliable.Carrier) Carrier {
	if c == reliable.ByteStream {
		return CarrierTCP
	}
	return CarrierUDP
}

// An AutoConfig holds the options of connections of "auto". The zero value means the
// defaults. Those from ProbeAttempts to PeerPreferenceTTL are those of the crate's
// AutoSwitchConfig. Where nothing else is said they are for a client: of a server, it is
// the clients that decide where their connections are, and the server leaves a carrier
// only when nothing comes on it any more.
type AutoConfig struct {
	// HeadStart is how long a dial tries UDP alone before it tries TCP too, and how
	// long TCP alone where Prefer or what was remembered says so. When the first one
	// has failed it is over. If zero, 250 ms; if negative, both are tried at once.
	HeadStart time.Duration

	// NoStandby leaves out the TCP connection that waits beside UDP for the case that
	// UDP fails: it is made when it is needed, which takes some round trips then. A
	// server needs one socket and some KiB less for each connection.
	NoStandby bool

	// StandbyInterval is how often the carrier that is not in use is asked for a sign
	// of life, so that its end is noticed before it is needed, and that NATs keep it. If
	// zero, 90 s; if negative, never. On TCP, a question and its answer are about 200 bytes
	// with TLS and all headers: 140 bytes a minute.
	StandbyInterval time.Duration

	// Prefer is the carrier that a connection begins on, if it works, and to which it
	// returns when it works again. If CarrierAny, UDP.
	Prefer Carrier

	// Pin is the only carrier that is used, as with Conn.Pin.
	Pin Carrier

	// ProbeAttempts is how often in a row the carrier that is not in use has to answer
	// before a connection moves to it for any other reason than that the one in use has
	// failed. If zero, 2.
	ProbeAttempts int

	// ProbeTimeout is how long it has for an answer. If zero, 600 ms.
	ProbeTimeout time.Duration

	// SwitchCooldown is how long a connection stays after a move, and MinDwellTime how
	// long it stays on a carrier that still works. If zero, 3 s and 2 s.
	SwitchCooldown time.Duration
	MinDwellTime   time.Duration

	// ConsecutiveFailuresThreshold is how many probe timeouts or failed probes in a row make a carrier
	// a dead one. If zero, 3. This is for servers too.
	ConsecutiveFailuresThreshold int

	// A carrier's score is its smoothed round-trip time with what failed on it added:
	// AckTimeoutPenalty for what was not acknowledged in time, and IOErrorPenalty for
	// what the system did not send, both of which fade. The other one has to be better by
	// a quarter and MinScoreMargin. If zero, 5 ms, 25 ms and 35 ms.
	MinScoreMargin    time.Duration
	AckTimeoutPenalty time.Duration
	IOErrorPenalty    time.Duration

	// PeerPreferenceTTL is how long a Dialer remembers which carrier has worked for an
	// address. If zero, 120 s; if negative, it remembers nothing.
	PeerPreferenceTTL time.Duration

	// Memory is where that is remembered. If nil, each Dialer has one, which its copies
	// share.
	Memory *CarrierMemory

	// OnMove, if not nil, is called after each move of a connection, in order for each,
	// in a goroutine of its own. It is for servers too.
	OnMove func(c *Conn, m Move)

	onConn func(c *Conn) // for tests: is told of each connection
}

// decide returns what the decision between carriers is made with.
func (a *AutoConfig) decide() auto.Config {
	return auto.Config{
		ProbeAttempts:                cmp.Or(max(a.ProbeAttempts, 0), DefaultProbeAttempts),
		ProbeTimeout:                 cmp.Or(max(a.ProbeTimeout, 0), DefaultProbeTimeout),
		SwitchCooldown:               cmp.Or(max(a.SwitchCooldown, 0), DefaultSwitchCooldown),
		MinDwellTime:                 cmp.Or(max(a.MinDwellTime, 0), DefaultMinDwellTime),
		ConsecutiveFailuresThreshold: cmp.Or(max(a.ConsecutiveFailuresThreshold, 0), DefaultConsecutiveFailuresThreshold),
		MinScoreMargin:               cmp.Or(max(a.MinScoreMargin, 0), DefaultMinScoreMargin),
		AckTimeoutPenalty:            cmp.Or(max(a.AckTimeoutPenalty, 0), DefaultAckTimeoutPenalty),
		IOErrorPenalty:               cmp.Or(max(a.IOErrorPenalty, 0), DefaultIOErrorPenalty),
		PeerPreferenceTTL:            a.preferenceTTL(),
	}
}

func (a *AutoConfig) headStart() time.Duration { return positive(a.HeadStart, DefaultHeadStart) }

func (a *AutoConfig) preferenceTTL() time.Duration {
	return positive(a.PeerPreferenceTTL, DefaultPeerPreferenceTTL)
}

func (a *AutoConfig) standbyInterval() time.Duration {
	if a.StandbyInterval < 0 {
		return never
	}
	return cmp.Or(a.StandbyInterval, DefaultStandbyInterval)
}

// A CarrierMemory remembers which carrier has worked for an address, for dials of "auto":
// where it was TCP, the next one begins there. It holds 1,024 addresses and drops the
// oldest. The zero value is ready for use, by any number of Dialers at once.
type CarrierMemory struct{ m auto.Memory }

// Forget drops what is known about an address, which is as it was dialed.
func (m *CarrierMemory) Forget(address string) {
	key, _ := dialAddress("auto", address)
	m.m.Forget(key)
}

// remembered returns the carrier that has worked for an address, or CarrierAny.
func (m *CarrierMemory) remembered(address string) Carrier {
	c, ok := m.m.Get(address, time.Now())
	if !ok {
		return CarrierAny
	}
	return liftCarrier(c)
}

// worked remembers that c has worked for an address.
func (m *CarrierMemory) worked(address string, c Carrier, ttl time.Duration) {
	if l, ok := c.lower(); ok && ttl > 0 {
		m.m.Put(address, l, time.Now(), ttl)
	}
}

// memoryMu guards Dialer.memory, which is made when it is needed first.
var memoryMu sync.Mutex

// carrierMemory returns where d remembers which carriers have worked.
func (d *Dialer) carrierMemory() *CarrierMemory {
	if d.Config != nil && d.Config.Auto.Memory != nil {
		return d.Config.Auto.Memory
	}
	memoryMu.Lock()
	defer memoryMu.Unlock()
	if d.memory == nil {
		d.memory = new(CarrierMemory)
	}
	return d.memory
}

var errNoSuchCarrier = errors.New("vstp: no such carrier")

// A mover is a session that can move between carriers, an *endpoint.Session.
type mover interface {
	Carrier() reliable.Carrier
	Move(ctx context.Context, c reliable.Carrier) error
	Pin(c *reliable.Carrier) error
	Moves() bool
}

// mover returns what moves c, nil if nothing does.
func (c *Conn) mover() mover {
	if kindOf(c.network) != autoNetwork {
		return nil
	}
	m, _ := c.s.(mover)
	return m
}

// Carrier returns what the packets of the connection are sent in now. On other networks
// than "auto" it is always the same, and CarrierAny on a Unix socket.
func (c *Conn) Carrier() Carrier {
	if m := c.mover(); m != nil {
		return liftCarrier(m.Carrier())
	}
	switch c.laddr.Network() {
	case "udp":
		return CarrierUDP
	case "tcp":
		return CarrierTCP
	}
	return CarrierAny
}

// Move moves both directions of the connection to a carrier, and returns as soon as this
// side sends there. A client whose carrier is not there yet, as TCP with NoStandby, waits
// for it; if ctx ends first, or the carrier cannot be used, the connection stays where it
// is. What is in flight is sent again, and nothing is lost, repeated or reordered for the
// application. CarrierAny is the one that is not in use.
//
// The connection is left there for ten times MinDwellTime, unless the carrier fails. Then
// the client decides again, as it does at once where the connection is pinned: see Pin for
// staying somewhere. The error is ErrNotSupported on other networks than "auto" and where
// the peer does not move, and ErrNoCarrier at a server whose client has not attached it.
func (c *Conn) Move(ctx context.Context, to Carrier) error {
	m := c.mover()
	if m == nil {
		return c.opError("move", ErrNotSupported)
	}
	if to == CarrierAny {
		to = CarrierUDP + CarrierTCP - c.Carrier()
	}
	l, ok := to.lower()
	if !ok {
		return c.opError("move", errNoSuchCarrier)
	}
	return c.opError("move", noEOF(m.Move(ctx, l)))
}

// Pin keeps the connection on one carrier from now on, to which it moves as soon as that
// works, and where it stays even if it does not work any more. CarrierAny ends that. See
// Move for the errors. A peer may still move the connection: pin both sides, or the client, whose
// word counts.
func (c *Conn) Pin(to Carrier) error {
	m := c.mover()
	if m == nil {
		return c.opError("pin", ErrNotSupported)
	}
	if to == CarrierAny {
		return c.opError("pin", m.Pin(nil))
	}
	l, ok := to.lower()
	if !ok {
		return c.opError("pin", errNoSuchCarrier)
	}
	return c.opError("pin", m.Pin(&l))
}
