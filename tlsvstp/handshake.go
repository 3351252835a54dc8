package tlsvstp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
)

// A Level is one of those at which TLS sends and receives, each with its own keys.
// RFC 9001 §4.
type Level uint8

// The levels, in their order. Early is 0-RTT, and has no handshake messages.
const (
	LevelInitial Level = iota
	LevelEarly
	LevelHandshake
	LevelApplication
)

func (l Level) String() string {
	switch l {
	case LevelInitial:
		return "Initial"
	case LevelEarly:
		return "Early"
	case LevelHandshake:
		return "Handshake"
	case LevelApplication:
		return "Application"
	}
	return "Level(" + strconv.Itoa(int(l)) + ")"
}

// An EventKind says what an Event is about.
type EventKind uint8

// The kinds of events.
const (
	// EventNone: there is no event.
	EventNone EventKind = iota

	// EventData: Data has to be sent at Level.
	EventData

	// EventReadKeys and EventWriteKeys: Keys are those of Level.
	EventReadKeys
	EventWriteKeys

	// EventParams: Data are the peer's transport parameters. A server can rely on
	// them, and on the rest of the handshake, after EventDone only.
	EventParams

	// EventResumed: a client offers 0-RTT; Data are the server's transport parameters
	// of the session that it resumes. EventWriteKeys at LevelEarly follows.
	EventResumed

	// EventEarlyRejected: the server has not accepted 0-RTT.
	EventEarlyRejected

	// EventDone: the handshake is over, and State can be relied on.
	EventDone

	// EventError: the handshake has failed with Err, and nothing follows.
	EventError
)

func (k EventKind) String() string {
	names := [...]string{"None", "Data", "ReadKeys", "WriteKeys", "Params", "Resumed", "EarlyRejected", "Done", "Error"}
	if int(k) < len(names) {
		return names[k]
	}
	return "EventKind(" + strconv.Itoa(int(k)) + ")"
}

// An Event of a Handshake. Data and Keys belong to the receiver.
type Event struct {
	Kind  EventKind
	Level Level
	Data  []byte
	Keys  *Keys
	Err   error
}

// A HandshakeConfig configures one Handshake.
type HandshakeConfig struct {
	// TLS comes from ClientConfig or ServerConfig.
	TLS *tls.Config

	// Params are the transport parameters of a client.
	Params []byte

	// ServerParams returns the transport parameters of a server. It is called once,
	// by Receive, with those of the client. An error fails the handshake.
	ServerParams func(peer []byte) ([]byte, error)

	// EarlyData permits 0-RTT. A client offers it then if the session that it resumes
	// allows it, and a server accepts it, and makes such sessions.
	EarlyData bool

	// AcceptEarly is asked by a server, with EarlyData, before it accepts 0-RTT: peer
	// are the client's transport parameters, and sent those of the server in the
	// session that is resumed, whose limits the client keeps to. If nil, 0-RTT is
	// accepted.
	AcceptEarly func(peer, sent, note []byte) bool

	// Note is kept in the session tickets that a server with EarlyData makes, where
	// only servers with the ticket keys read it: AcceptEarly gets it back.
	Note []byte
}

var errHandshakeClosed = errors.New("tlsvstp: the handshake is closed")

// alertIllegalParameter is of RFC 8446 §6.
const alertIllegalParameter = tls.AlertError(47)

// A Handshake is one end of the handshake of TLS 1.3 without record layer and without
// I/O, as RFC 9001 §4 has it: what the peer sends goes into Receive, and what comes out
// of NextEvent is to be done. It is used by one goroutine at a time.
//
// crypto/tls runs in a goroutine of its own, but only while a method of Handshake waits
// for it. That goroutine ends with the handshake, or by Close, which has to be called.
type Handshake struct {
	c      HandshakeConfig
	ctx    context.Context
	conn   *tls.QUICConn
	client bool
	cache  *earlyCache // of a client, if it has one

	events []Event
	err    error // nothing goes on after it
	closed bool
	done   bool

	peerParams, ownParams []byte

	resumed       []byte // of the session that is being resumed, if it may have 0-RTT
	earlyKeys     bool
	earlyRejected bool
	handshakeKeys bool
}

// NewClientHandshake starts the handshake of a client. Its first events are there at
// once. The context is given to the callbacks of the configuration; when it is done,
// Receive fails as long as the handshake is not over.
func NewClientHandshake(ctx context.Context, c HandshakeConfig) (*Handshake, error) {
	h := &Handshake{c: c, ctx: ctx, client: true, ownParams: c.Params}
	config := c.TLS
	if config.ClientSessionCache != nil {
		config = config.Clone()
		h.cache = &earlyCache{ClientSessionCache: config.ClientSessionCache, early: c.EarlyData}
		config.ClientSessionCache = h.cache
	}
	h.conn = tls.QUICClient(&tls.QUICConfig{TLSConfig: config, EnableSessionEvents: true})
	h.conn.SetTransportParameters(c.Params)
	return h.start()
}

// NewServerHandshake starts the handshake of a server. The context is as that of
// NewClientHandshake.
func NewServerHandshake(ctx context.Context, c HandshakeConfig) (*Handshake, error) {
	h := &Handshake{c: c, ctx: ctx}
	h.conn = tls.QUICServer(&tls.QUICConfig{TLSConfig: c.TLS, EnableSessionEvents: true})
	return h.start()
}

func (h *Handshake) start() (*Handshake, error) {
	err := h.conn.Start(h.ctx)
	if err == nil {
		h.drain()
		err = h.err
	}
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("tlsvstp: %w", h.because(err))
	}
	return h, nil
}

// Receive takes bytes of the peer, of one level and in their order, in pieces of any
// size. It takes as long as the callbacks of the configuration do. An error wraps
// [tls.AlertError], except after Close, and comes as EventError too.
func (h *Handshake) Receive(level Level, data []byte) error {
	if h.err != nil {
		return h.err
	}
	if len(data) == 0 {
		return nil
	}
	err := h.conn.HandleData(tls.QUICEncryptionLevel(level), data)
	h.drain()
	if err != nil {
		h.fail(err)
	}
	return h.err
}

// NextEvent returns the next event. Events of what happened before a failure may be
// lost by it.
func (h *Handshake) NextEvent() Event {
	if len(h.events) == 0 {
		h.events = nil
		return Event{}
	}
	e := h.events[0]
	h.events[0] = Event{}
	h.events = h.events[1:]
	return e
}

// SendTicket gives, as EventData at LevelApplication, the message with which the client
// may resume this session. It is for servers, once, after EventDone. Nothing comes of
// it if tickets are disabled.
func (h *Handshake) SendTicket() error {
	if h.err != nil {
		return h.err
	}
	o := tls.QUICSessionTicketOptions{EarlyData: h.c.EarlyData}
	if h.c.EarlyData {
		o.Extra = [][]byte{append([]byte(extraSent), h.ownParams...), append([]byte(extraNote), h.c.Note...)}
	}
	if err := h.conn.SendSessionTicket(o); err != nil {
		return fmt.Errorf("tlsvstp: %w", err)
	}
	h.drain()
	return h.err
}

// State returns what crypto/tls knows of the connection.
func (h *Handshake) State() tls.ConnectionState { return h.conn.ConnectionState() }

// EarlyAccepted reports whether 0-RTT was offered and accepted, for clients after
// EventDone.
func (h *Handshake) EarlyAccepted() bool {
	return h.earlyKeys && !h.earlyRejected && (h.done || !h.client)
}

// Close ends the handshake, and the goroutine of crypto/tls. Events that are there
// already can still be read. It may be called more than once.
func (h *Handshake) Close() {
	if h.closed {
		return
	}
	h.closed = true
	h.conn.Close()
	if h.err == nil {
		h.err = errHandshakeClosed
	}
}

// fail ends the handshake because of err.
func (h *Handshake) fail(err error) {
	if h.err != nil {
		return
	}
	var alert tls.AlertError
	if err = h.because(err); !errors.As(err, &alert) {
		err = fmt.Errorf("%w%.0w", err, alertIllegalParameter)
	}
	h.err = fmt.Errorf("tlsvstp: %w", err)
	h.events = append(h.events, Event{Kind: EventError, Err: h.err})
	h.Close()
}

// because adds to an error why crypto/tls gave up, if that was the context's end.
func (h *Handshake) because(err error) error {
	if cause := context.Cause(h.ctx); cause != nil && !h.done && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// drain takes all events of crypto/tls.
func (h *Handshake) drain() {
	for h.err == nil {
		e := h.conn.NextEvent()
		switch e.Kind {
		case tls.QUICNoEvent:
			return
		case tls.QUICErrorEvent:
			h.fail(e.Err)
		default:
			if err := h.handle(e); err != nil {
				h.fail(err)
			}
		}
	}
}

func (h *Handshake) handle(e tls.QUICEvent) error {
	level := Level(e.Level)
	switch e.Kind {
	case tls.QUICSetReadSecret:
		return h.setKeys(EventReadKeys, level, e)
	case tls.QUICSetWriteSecret:
		return h.setKeys(EventWriteKeys, level, e)
	case tls.QUICWriteData:
		h.events = append(h.events, Event{Kind: EventData, Level: level, Data: bytes.Clone(e.Data)})
	case tls.QUICTransportParameters:
		h.peerParams = append([]byte{}, e.Data...)
		h.events = append(h.events, Event{Kind: EventParams, Data: bytes.Clone(h.peerParams)})
	case tls.QUICTransportParametersRequired:
		return h.askParams()
	case tls.QUICResumeSession:
		h.resume(e.SessionState)
	case tls.QUICStoreSession:
		return h.store(e.SessionState)
	case tls.QUICRejectedEarlyData:
		h.earlyRejected = true
		h.forget()
		h.events = append(h.events, Event{Kind: EventEarlyRejected})
	case tls.QUICHandshakeDone:
		if err := VerifyState(h.conn.ConnectionState()); err != nil {
			return err
		}
		h.done = true
		h.events = append(h.events, Event{Kind: EventDone})
	}
	return nil
}

func (h *Handshake) setKeys(kind EventKind, level Level, e tls.QUICEvent) error {
	k, err := NewKeys(e.Suite, e.Data)
	if err != nil {
		return err
	}
	h.handshakeKeys = h.handshakeKeys || level == LevelHandshake
	if level == LevelEarly {
		h.earlyKeys = true
		if h.client {
			h.events = append(h.events, Event{Kind: EventResumed, Data: bytes.Clone(h.resumed)})
		}
	}
	h.events = append(h.events, Event{Kind: kind, Level: level, Keys: k})
	return nil
}

// askParams answers crypto/tls, which waits for the parameters of a server.
func (h *Handshake) askParams() error {
	if h.c.ServerParams != nil {
		var err error
		if h.ownParams, err = h.c.ServerParams(bytes.Clone(h.peerParams)); err != nil {
			return err
		}
	}
	h.conn.SetTransportParameters(h.ownParams)
	return nil
}
