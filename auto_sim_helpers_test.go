package vstp_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// Connections of "auto" over simulated UDP and TCP, in virtual time, whose paths fail in
// all the ways that there are.

const (
	autoPort  = 6969
	autoDelay = 20 * ms
	autoRTT   = 2 * autoDelay
)

// autoRate is that of either carrier, in bytes per second.
var autoRate = sized[int64](2_000_000, 400_000)

// An autoSim is a client, a server, and paths between them.
type autoSim struct {
	t      testing.TB
	net    *simnet.Net
	sealed bool
	ch, sh *simnet.Host

	dialer *vstp.Dialer
	config *vstp.Config // of the server
	ln     *vstp.Listener

	mu    sync.Mutex
	socks []*simnet.Conn // of the client's dials
	tcpTo netip.AddrPort // where connections really go; zero: as dialed
	dials int            // attempts to connect by TCP
	conns []*vstp.Conn
}

// autoOptions are a path for each carrier and configurations. The zero value has paths
// of autoDelay and autoRate.
type autoOptions struct {
	seed           uint64
	udp            *simnet.Path
	tcp            *simnet.TCPPath
	buffer         int // simnet.Options.TCPBuffer; if zero, an eighth of a second
	client, server *vstp.Config
}

// newAutoSim must be called in a bubble.
func newAutoSim(t testing.TB, o autoOptions, sealed bool) *autoSim {
	t.Helper()
	udp := simnet.Path{Delay: autoDelay, Rate: autoRate, Queue: int(autoRate / 20)}
	tcp := simnet.TCPPath{Delay: autoDelay, Rate: autoRate}
	if o.udp != nil {
		udp = *o.udp
	}
	if o.tcp != nil {
		tcp = *o.tcp
	}
	n := simnet.New(t, simnet.Options{Seed: cmp.Or(o.seed, 1), Path: udp, TCP: tcp, TCPBuffer: cmp.Or(o.buffer, int(autoRate/8))})
	a := &autoSim{t: t, net: n, sealed: sealed, ch: n.Host("10.0.0.1"), sh: n.Host("10.0.0.2")}
	a.config = a.seal(o.server)
	a.dialer = a.newDialer(o.client)
	a.listen()
	t.Cleanup(func() { // also after a failure, whatever hangs then
		a.ln.Close()
		a.end(a.conns...)
	})
	return a
}

// seal returns config with TLS if that is what is tested.
func (a *autoSim) seal(config *vstp.Config) *vstp.Config {
	if a.sealed {
		return sealedConfig(config)
	}
	return config
}

// newDialer returns a Dialer that dials from a.ch.
func (a *autoSim) newDialer(config *vstp.Config) *vstp.Dialer {
	d := &vstp.Dialer{Config: a.seal(config)}
	vstp.SetAutoSockets(d, a.listenUDP, a.dialTCP)
	return d
}

func (a *autoSim) listenUDP() (net.PacketConn, error) {
	a.mu.Lock()
	h := a.ch
	a.mu.Unlock()
	pc, err := h.Listen(0)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.socks = append(a.socks, pc)
	a.mu.Unlock()
	return pc, nil
}

func (a *autoSim) dialTCP(ctx context.Context, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	if a.tcpTo.IsValid() {
		to = a.tcpTo
	}
	h := a.ch
	a.dials++
	a.mu.Unlock()
	c, err := h.DialTCP(ctx, to)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// tcpDials returns how often somebody has tried to connect by TCP.
func (a *autoSim) tcpDials() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dials
}

// udpSock returns the socket of the last dial.
func (a *autoSim) udpSock() *simnet.Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.socks[len(a.socks)-1]
}

// listen starts the server.
func (a *autoSim) listen() {
	a.t.Helper()
	a.ln = a.listenOn(a.sh, a.config)
}

// listenOn starts a server.
func (a *autoSim) listenOn(h *simnet.Host, config *vstp.Config) *vstp.Listener {
	a.t.Helper()
	ln, err := h.ListenTCP(autoPort)
	require.NoError(a.t, err)
	l, err := vstp.NewAutoListener(h.ListenPacket(autoPort), ln, config)
	require.NoError(a.t, err)
	return l
}

// restart ends the server without a word to anybody, and starts another one in its place.
func (a *autoSim) restart() {
	a.t.Helper()
	a.sh.Crash()
	a.ln.Close()
	a.listen()
}

func (a *autoSim) address() string { return fmt.Sprintf("%v:%d", a.sh.Addr(), autoPort) }

// dial returns both ends of a connection.
func (a *autoSim) dial() (c, s *vstp.Conn) {
	a.t.Helper()
	cc, err := a.dialer.Dial("auto", a.address())
	require.NoError(a.t, err)
	c = cc.(*vstp.Conn)
	a.conns = append(a.conns, c)
	for s == nil || s.ConnectionState().SessionID != c.ConnectionState().SessionID {
		// One before it is of a handshake of this dial that the client knows nothing of.
		ss, err := a.ln.Accept()
		require.NoError(a.t, err)
		s = ss.(*vstp.Conn)
		a.conns = append(a.conns, s)
	}
	return c, s
}

// dialWarm is dial and the time that the standby needs to be there.
func (a *autoSim) dialWarm() (c, s *vstp.Conn) {
	a.t.Helper()
	c, s = a.dial()
	time.Sleep(5 * time.Second)
	return c, s
}

// udp changes the path of datagrams, both ways.
func (a *autoSim) udp(f func(*simnet.Path)) {
	a.net.Path(a.ch, a.sh).Update(f)
	a.net.Path(a.sh, a.ch).Update(f)
}

// tcp changes the path of TCP, both ways.
func (a *autoSim) tcp(f func(*simnet.TCPPath)) {
	a.net.TCP(a.ch, a.sh).Update(f)
	a.net.TCP(a.sh, a.ch).Update(f)
}

func (a *autoSim) blockUDP(on bool) { a.udp(func(p *simnet.Path) { p.Down = on }) }
func (a *autoSim) blockTCP(on bool) { a.tcp(func(p *simnet.TCPPath) { p.Blocked = on }) }
func (a *autoSim) stallTCP(on bool) { a.tcp(func(p *simnet.TCPPath) { p.Stalled = on }) }

// close ends connections and the server.
func (a *autoSim) close(conns ...*vstp.Conn) {
	a.t.Helper()
	a.end(conns...)
	a.ln.Close()
}

// end closes connections at the same time.
func (a *autoSim) end(conns ...*vstp.Conn) {
	var done []<-chan error
	for _, c := range conns {
		done = append(done, async(c.Close))
	}
	for _, d := range done {
		<-d
	}
}

// eachAuto runs f in bubbles, without TLS and with it.
func eachAuto(t *testing.T, o autoOptions, f func(t *testing.T, a *autoSim)) {
	t.Helper()
	for _, sealed := range []bool{false, true} {
		if raceEnabled && !sealed {
			continue // virtual time costs much there; the run without -race has both
		}
		name := "plain"
		if sealed {
			name = "TLS"
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newAutoSim(t, o, sealed)) })
		})
	}
}

// story tells moves in a line: "udp>tcp silence, tcp>udp preferred again".
func story(moves []vstp.Move) string {
	var s []string
	for _, m := range moves {
		s = append(s, fmt.Sprintf("%s>%s %s", m.From, m.To, m.Reason))
	}
	return strings.Join(s, ", ")
}

// movesOf returns the moves of c.
func movesOf(c *vstp.Conn) []vstp.Move { return c.Stats().RecentMoves }

// movedTo returns the last move of c to a carrier.
func movedTo(t testing.TB, c *vstp.Conn, to string) vstp.Move {
	t.Helper()
	moves := movesOf(c)
	for i := len(moves) - 1; i >= 0; i-- {
		if moves[i].To == to {
			return moves[i]
		}
	}
	require.Fail(t, "it never moved to "+to, story(moves))
	return vstp.Move{}
}

// An autoFlow is a transfer whose progress is taken down.
type autoFlow struct {
	t    testing.TB
	size int64 // negative: until stop

	sent chan error
	done chan struct{}
	stop chan struct{}

	mu    sync.Mutex
	marks []mark
	got   int64
	hash  hash.Hash
	err   error
	sum   int64 // of all that was sent
}

// mark is how much had arrived when.
type mark struct {
	at  time.Time
	got int64
}

// flow sends size bytes from w to r, and then ends that direction. If size is negative,
// it goes on until finish. pause is between writes of chunk bytes, if it is not zero.
func (a *autoSim) flow(w io.Writer, r io.Reader, size int64) *autoFlow {
	return a.slowFlow(w, r, size, 32<<10, 0)
}

func (a *autoSim) slowFlow(w io.Writer, r io.Reader, size int64, chunk int, pause time.Duration) *autoFlow {
	f := &autoFlow{
		t: a.t, size: size, hash: sha256.New(),
		sent: make(chan error, 1), done: make(chan struct{}), stop: make(chan struct{}),
	}
	go func() { f.sent <- f.send(w, chunk, pause) }()
	go f.receive(r)
	return f
}

func (f *autoFlow) send(w io.Writer, chunk int, pause time.Duration) error {
	src, buf := &contentReader{}, make([]byte, chunk)
	n := int64(0)
	for f.more(n) {
		b := buf
		if f.size >= 0 {
			b = buf[:min(int64(len(buf)), f.size-n)]
		}
		io.ReadFull(src, b)
		k, err := w.Write(b)
		n += int64(k)
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	f.mu.Lock()
	f.sum = n
	f.mu.Unlock()
	if c, ok := w.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// more reports whether to go on after n bytes.
func (f *autoFlow) more(n int64) bool {
	if f.size >= 0 {
		return n < f.size
	}
	select {
	case <-f.stop:
		return false
	default:
		return true
	}
}

func (f *autoFlow) receive(r io.Reader) {
	defer close(f.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		f.mu.Lock()
		if n > 0 {
			f.got += int64(n)
			f.hash.Write(buf[:n])
			if now := time.Now(); len(f.marks) > 0 && f.marks[len(f.marks)-1].at.Equal(now) {
				f.marks[len(f.marks)-1].got = f.got
			} else {
				f.marks = append(f.marks, mark{now, f.got})
			}
		}
		if err != nil {
			if err != io.EOF {
				f.err = err
			}
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
	}
}

// gap returns the longest time without anything arriving between two instants.
func (f *autoFlow) gap(from, to time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, longest := from, time.Duration(0)
	for _, m := range f.marks {
		if !m.at.After(from) {
			continue
		}
		if m.at.After(to) {
			break
		}
		longest = max(longest, m.at.Sub(last))
		last = m.at
	}
	if n := len(f.marks); n > 0 && f.marks[n-1].at.Before(to) && f.over() {
		to = f.marks[n-1].at // there is no more
	}
	return max(longest, to.Sub(last))
}

func (f *autoFlow) over() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// rate returns how many bytes arrived in a second between two instants.
func (f *autoFlow) rate(from, to time.Time) float64 {
	return float64(f.upTo(to)-f.upTo(from)) / to.Sub(from).Seconds()
}

// upTo returns how much had arrived at an instant.
func (f *autoFlow) upTo(at time.Time) (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.marks {
		if m.at.After(at) {
			break
		}
		n = m.got
	}
	return n
}

// finish waits for the end, of which everything has to have arrived as it was sent.
func (f *autoFlow) finish() {
	f.t.Helper()
	close(f.stop)
	require.NoError(f.t, <-f.sent, "sending")
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	require.NoError(f.t, f.err, "receiving")
	require.Equal(f.t, f.sum, f.got, "bytes")
	var d digest
	d.n = f.got
	f.hash.Sum(d.sum[:0])
	require.Equal(f.t, contentDigest(f.got), d)
}
