package vstp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// A raceStep is how one step of a dial goes.
type raceStep struct {
	after time.Duration
	err   error
	deaf  bool // does not end with its context before after
}

// wait is the step.
func (s raceStep) wait(ctx context.Context) error {
	t := time.NewTimer(s.after)
	defer t.Stop()
	if s.deaf {
		<-t.C
		return s.err
	}
	select {
	case <-t.C:
		return s.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A raceLog is a carrierRace with carriers that do what they are told, and what it did.
type raceLog struct {
	carrierRace
	start time.Time

	mu     sync.Mutex
	events []string
}

func (l *raceLog) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, fmt.Sprintf("%d ", time.Since(l.start).Milliseconds())+fmt.Sprintf(format, args...))
}

// A closeNoter is a session that can be closed, and nothing else.
type closeNoter struct {
	connSession
	l    *raceLog
	name string
}

func (c *closeNoter) Close() error {
	c.l.note("close %s", c.name)
	return nil
}

func (l *raceLog) conn(name string) *Conn { return &Conn{s: &closeNoter{l: l, name: name}} }

// A raceCase is a dial. Of udp there is one for each attempt.
type raceCase struct {
	name      string
	first     Carrier
	only      bool
	headStart time.Duration // 0: 250 ms; negative: 0
	noStandby bool
	answered  time.Duration // when something comes on UDP; 0: never
	bound     time.Duration // of the context; 0: none
	udp       []raceStep
	tcp       raceStep
	hello     raceStep

	want string // whose connection it is: "udp 1", "tcp", or what is in the error
	log  string
}

func (c *raceCase) race() *raceLog {
	l := &raceLog{start: time.Now()}
	tries := 0
	l.carrierRace = carrierRace{
		first: c.first, only: c.only, headStart: 250 * time.Millisecond,
		udp: func(ctx context.Context) (*Conn, error) {
			tries++
			n := tries
			l.note("udp")
			if err := c.udp[n-1].wait(ctx); err != nil {
				if ctx.Err() != nil {
					l.note("udp ended")
				}
				return nil, err
			}
			return l.conn(fmt.Sprintf("udp %d", n)), nil
		},
		answered: func() bool { return c.answered > 0 && time.Since(l.start) >= c.answered },
		tcp: func(ctx context.Context) (*tcpStart, error) {
			l.note("tcp")
			if err := c.tcp.wait(ctx); err != nil {
				if ctx.Err() != nil {
					l.note("tcp ended")
				}
				return nil, err
			}
			return new(tcpStart), nil
		},
		commit: func(ctx context.Context, t *tcpStart) (*Conn, error) {
			l.note("hello")
			if err := c.hello.wait(ctx); err != nil {
				if ctx.Err() != nil {
					l.note("hello ended")
				}
				return nil, err
			}
			return l.conn("tcp"), nil
		},
		discard: func(*tcpStart) { l.note("discard") },
		standby: func(c *Conn, a *tcpAttempt) {
			a.unlink()
			l.note("standby")
			go func() {
				<-a.done
				if a.err == nil {
					l.note("attach")
				}
				a.cancel()
			}()
		},
	}
	if c.headStart != 0 {
		l.headStart = max(c.headStart, 0)
	}
	if c.noStandby || c.only {
		l.standby = nil
	}
	return l
}

const msec = time.Millisecond

var (
	errNoRoute   = errors.New("no route")
	errHungUp    = io.ErrUnexpectedEOF
	errNotWanted = &handshake.RemoteError{Code: CodeRefused, Reason: "not you"}
)

var neverStep = raceStep{after: time.Hour, err: errNoRoute}

// The head start of UDP, and of TCP where that is remembered, is RFC 8305's: to the
// millisecond, and over when the first one has failed. What happens after that is in
// DESIGN §5 and trap A3.
var raceCases = []raceCase{
	{name: "healthy", udp: []raceStep{{after: 80 * msec}}, want: "udp 1", log: "0 udp"},
	{name: "just in time", udp: []raceStep{{after: 249 * msec}}, want: "udp 1", log: "0 udp"},
	{name: "udp behind tcp's start", udp: []raceStep{{after: 280 * msec}}, tcp: raceStep{after: 80 * msec},
		want: "udp 1", log: "0 udp, 250 tcp, 280 standby, 330 attach"},
	{name: "without standby", noStandby: true, udp: []raceStep{{after: 280 * msec}}, tcp: raceStep{after: 80 * msec},
		want: "udp 1", log: "0 udp, 250 tcp, 280 tcp ended"},
	{name: "without standby, ready", noStandby: true, headStart: -1, answered: 10 * msec,
		udp: []raceStep{{after: 30 * msec}}, tcp: raceStep{after: 20 * msec},
		want: "udp 1", log: "0 udp, 0 tcp, 30 discard"},
	{name: "udp is blocked", udp: []raceStep{neverStep}, tcp: raceStep{after: 40 * msec}, hello: raceStep{after: 40 * msec},
		want: "tcp", log: "0 udp, 250 tcp, 290 udp ended, 290 hello"},
	{name: "nobody on udp", udp: []raceStep{{after: 3 * msec, err: syscall.ECONNREFUSED}}, tcp: raceStep{after: 2 * msec}, hello: raceStep{after: 2 * msec},
		want: "tcp", log: "0 udp, 3 tcp, 5 hello"},
	{name: "udp fails while tcp connects", udp: []raceStep{{after: 260 * msec, err: errNoRoute}}, tcp: raceStep{after: 20 * msec}, hello: raceStep{after: 20 * msec},
		want: "tcp", log: "0 udp, 250 tcp, 270 hello"},
	{name: "udp answers late", answered: 200 * msec, udp: []raceStep{{after: 400 * msec}}, tcp: raceStep{after: 100 * msec},
		want: "udp 1", log: "0 udp, 250 tcp, 400 standby, 400 attach"},
	{name: "udp answers and no more", answered: 200 * msec, udp: []raceStep{neverStep}, tcp: raceStep{after: 100 * msec}, hello: raceStep{after: 100 * msec},
		want: "tcp", log: "0 udp, 250 tcp, 600 udp ended, 600 hello"},
	{name: "udp answers and fails", answered: 200 * msec, udp: []raceStep{{after: 380 * msec, err: errNoRoute}}, tcp: raceStep{after: 100 * msec}, hello: raceStep{after: 10 * msec},
		want: "tcp", log: "0 udp, 250 tcp, 380 hello"},
	{name: "udp is done when it is given up", udp: []raceStep{{after: 300 * msec, deaf: true}}, tcp: raceStep{after: 40 * msec},
		want: "udp 1", log: "0 udp, 250 tcp, 300 standby, 300 attach"},
	{name: "both at once", headStart: -1, udp: []raceStep{{after: 40 * msec}}, tcp: raceStep{after: 60 * msec},
		want: "udp 1", log: "0 udp, 0 tcp, 40 standby, 60 attach"},
	{name: "a longer head start", headStart: time.Second, udp: []raceStep{{after: 999 * msec}}, want: "udp 1", log: "0 udp"},

	// TCP accepts, and nobody is behind it.
	{name: "tcp hangs", udp: []raceStep{neverStep, {after: 50 * msec}}, tcp: raceStep{after: 10 * msec}, hello: neverStep,
		want: "udp 2", log: "0 udp, 250 tcp, 260 udp ended, 260 hello, 1260 udp, 1310 hello ended"},
	{name: "tcp hangs up", udp: []raceStep{neverStep, {after: 50 * msec}}, tcp: raceStep{after: 10 * msec}, hello: raceStep{after: 10 * msec, err: errHungUp},
		want: "udp 2", log: "0 udp, 250 tcp, 260 udp ended, 260 hello, 270 udp"},
	{name: "tcp verifies slowly", udp: []raceStep{neverStep, neverStep}, tcp: raceStep{after: 10 * msec}, hello: raceStep{after: 2000 * msec},
		want: "tcp", log: "0 udp, 250 tcp, 260 udp ended, 260 hello, 1260 udp, 2260 udp ended"},
	{name: "tcp is far away", udp: []raceStep{neverStep}, tcp: raceStep{after: 2000 * msec}, hello: raceStep{after: 2000 * msec},
		want: "tcp", log: "0 udp, 250 tcp, 2250 udp ended, 2250 hello"},
	{name: "tcp hangs, udp is dead", bound: 3 * time.Second, udp: []raceStep{neverStep, {after: time.Second, err: errNoRoute}}, tcp: raceStep{after: 10 * msec}, hello: neverStep,
		want: "on udp: no route; on tcp: context deadline exceeded", log: "0 udp, 250 tcp, 260 udp ended, 260 hello, 1260 udp, 3000 hello ended"},

	// TCP is remembered, or preferred.
	{name: "tcp first", first: CarrierTCP, tcp: raceStep{after: 40 * msec}, hello: raceStep{after: 40 * msec}, want: "tcp", log: "0 tcp, 40 hello"},
	{name: "tcp first, slow", first: CarrierTCP, udp: []raceStep{neverStep}, tcp: raceStep{after: 400 * msec}, hello: raceStep{after: 400 * msec},
		want: "tcp", log: "0 tcp, 250 udp, 400 udp ended, 400 hello"},
	{name: "tcp first, blocked", first: CarrierTCP, udp: []raceStep{{after: 40 * msec}}, tcp: neverStep, noStandby: true,
		want: "udp 1", log: "0 tcp, 250 udp, 290 tcp ended"},
	{name: "tcp first, refused", first: CarrierTCP, udp: []raceStep{{after: 40 * msec}}, tcp: raceStep{after: 5 * msec, err: syscall.ECONNREFUSED},
		want: "udp 1", log: "0 tcp, 5 udp"},
	{name: "tcp first, hangs", first: CarrierTCP, udp: []raceStep{{after: 40 * msec}}, tcp: raceStep{after: 5 * msec}, hello: neverStep,
		want: "udp 1", log: "0 tcp, 5 hello, 1005 udp, 1045 hello ended"},

	// A pin.
	{name: "only udp", first: CarrierUDP, only: true, udp: []raceStep{{after: 5 * time.Second}}, want: "udp 1", log: "0 udp"},
	{name: "only udp, dead", first: CarrierUDP, only: true, udp: []raceStep{{after: time.Second, err: errNoRoute}}, want: "no route", log: "0 udp"},
	{name: "only tcp", first: CarrierTCP, only: true, tcp: raceStep{after: 2 * time.Second}, hello: raceStep{after: 3 * time.Second}, want: "tcp", log: "0 tcp, 2000 hello"},
	{name: "only tcp, dead", first: CarrierTCP, only: true, tcp: raceStep{after: time.Second, err: errNoRoute}, want: "no route", log: "0 tcp"},
	{name: "only tcp, hangs up", first: CarrierTCP, only: true, hello: raceStep{after: time.Second, err: errHungUp}, want: "unexpected EOF", log: "0 tcp, 0 hello"},

	// Both are dead: one error, in time. Trap A3.
	{name: "nobody there", udp: []raceStep{{after: msec, err: syscall.ECONNREFUSED}}, tcp: raceStep{after: msec, err: syscall.ECONNREFUSED},
		want: "on udp and tcp: connection refused", log: "0 udp, 1 tcp"},
	{name: "silence", bound: time.Second, udp: []raceStep{neverStep}, tcp: neverStep,
		want: "on udp and tcp: context deadline exceeded", log: "0 udp, 250 tcp, 1000 tcp ended, 1000 udp ended"},
	{name: "silence, patience over", udp: []raceStep{{after: 10 * time.Second, err: session.ErrHandshakeTimeout}}, tcp: raceStep{after: 10 * time.Second, err: errNoRoute},
		want: "on udp: vstp: handshake timeout; on tcp: no route", log: "0 udp, 250 tcp"},
	{name: "context ends in the head start", bound: 100 * msec, udp: []raceStep{neverStep}, tcp: neverStep, want: "context deadline exceeded", log: "0 udp, 100 udp ended"},
	{name: "tcp fails first", udp: []raceStep{{after: time.Second, err: errNoRoute}}, tcp: raceStep{after: msec, err: syscall.ECONNREFUSED},
		want: "on udp: no route; on tcp: connection refused", log: "0 udp, 250 tcp"},

	// What the server says, it would only repeat.
	{name: "refused on udp", udp: []raceStep{{after: 40 * msec, err: errNotWanted}}, want: "not you", log: "0 udp"},
	{name: "refused on udp beside tcp", udp: []raceStep{{after: 260 * msec, err: errNotWanted}}, tcp: raceStep{after: 40 * msec}, want: "not you", log: "0 udp, 250 tcp, 260 tcp ended"},
	{name: "refused on tcp", udp: []raceStep{neverStep}, tcp: raceStep{after: 10 * msec}, hello: raceStep{after: 10 * msec, err: errNotWanted},
		want: "not you", log: "0 udp, 250 tcp, 260 udp ended, 260 hello"},
	{name: "the certificate is no good", udp: []raceStep{{after: 40 * msec, err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "example.com"}}}, want: "x509", log: "0 udp"},
	{name: "no TLS on tcp", udp: []raceStep{neverStep}, tcp: raceStep{after: 10 * msec, err: session.ErrNotTLS}, want: "does not speak it", log: "0 udp, 250 tcp, 260 udp ended"},
	{name: "messages only on udp", udp: []raceStep{{after: 40 * msec, err: &handshake.RemoteError{Code: CodeRefused, Reason: noStreams}}}, tcp: raceStep{after: 20 * msec}, hello: raceStep{after: 20 * msec},
		want: "tcp", log: "0 udp, 40 tcp, 60 hello"},
}

func TestCarrierRace(t *testing.T) {
	for _, c := range raceCases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which also finds what is left behind
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if c.bound > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.bound)
				}
				defer cancel()
				l := c.race()
				conn, err := l.run(ctx)
				if err == nil {
					require.Equal(t, c.want, conn.s.(*closeNoter).name)
				} else {
					require.Nil(t, conn)
					require.Contains(t, err.Error(), c.want)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				l.mu.Lock()
				defer l.mu.Unlock()
				requireEvents(t, c.log, l.events)
			})
		})
	}
}

// requireEvents compares what happened. At the same instant, the order is anybody's guess.
func requireEvents(t *testing.T, want string, got []string) {
	t.Helper()
	require.ElementsMatch(t, strings.Split(want, ", "), got)
}

// When the caller gives up, nothing is left.
func TestCarrierRaceCancel(t *testing.T) {
	for at := time.Duration(0); at <= 700*msec; at += 50 * msec {
		synctest.Test(t, func(t *testing.T) {
			c := raceCase{udp: []raceStep{{after: 400 * msec, err: errNoRoute}}, tcp: raceStep{after: 200 * msec}, hello: raceStep{after: 500 * msec}}
			l := c.race()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(at+msec, cancel)
			conn, err := l.run(ctx)
			require.Nil(t, conn)
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, at+msec, time.Since(l.start))
		})
	}
}

// A connection that comes when the other one has won is closed.
func TestCarrierRaceLoser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raceCase{udp: []raceStep{neverStep, {after: 200 * msec, deaf: true}}, tcp: raceStep{after: 10 * msec}, hello: raceStep{after: 1100 * msec}}
		l := c.race()
		conn, err := l.run(t.Context())
		require.NoError(t, err)
		require.Equal(t, "tcp", conn.s.(*closeNoter).name)
		time.Sleep(time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		require.Contains(t, l.events, "1460 close udp 2")
	})
}

// One error has both reasons, and says so.
func TestCarriersError(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	err := error(&net.OpError{Op: "dial", Net: "auto", Err: joinCarriers(session.ErrHandshakeTimeout, refused)})
	require.ErrorIs(t, err, ErrHandshakeTimeout)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.EqualError(t, err, "dial auto: on udp: vstp: handshake timeout; on tcp: dial: connection refused")
	require.False(t, err.(net.Error).Timeout())
	err = &net.OpError{Err: joinCarriers(session.ErrHandshakeTimeout, context.DeadlineExceeded)}
	require.True(t, err.(net.Error).Timeout())
	require.Equal(t, errNoRoute, joinCarriers(nil, errNoRoute))
	require.Equal(t, errNoRoute, joinCarriers(errNoRoute, nil))
}
