package vstp_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vstp-go/vstp"
)

// A process in a network namespace: this test binary, executed again, so that whatever a
// goroutine of it does happens there. It does what it is told by package rpc over a pair of
// unix sockets, and ends when that does.

const netnsPeerEnv = "VSTP_NETNS_PEER"

// A netnsPeer is such a process, seen by the test.
type netnsPeer struct {
	t      testing.TB
	cmd    *exec.Cmd
	rpc    *rpc.Client
	out    bytes.Buffer
	ended  chan struct{}
	killed bool
}

func (p *netnsPlace) peer(t testing.TB) *netnsPeer {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	near, far := os.NewFile(uintptr(fds[0]), "peer"), os.NewFile(uintptr(fds[1]), "peer")
	defer far.Close()
	defer near.Close()
	conn, err := net.FileConn(near)
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	w := &netnsPeer{t: t, rpc: rpc.NewClient(conn), ended: make(chan struct{})}
	w.cmd = exec.Command(exe, "-test.run=^TestAutoNetnsPeer$", "-test.timeout=5m")
	// The race detector makes each process wait for a second at its end.
	w.cmd.Env = append(os.Environ(), netnsPeerEnv+"=1", "GORACE=atexit_sleep_ms=0")
	w.cmd.ExtraFiles = []*os.File{far}
	w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.out
	if err := p.start(w.cmd); err != nil {
		w.rpc.Close()
		require.NoError(t, err)
	}
	go func() {
		w.cmd.Wait()
		close(w.ended)
	}()
	t.Cleanup(w.end)
	return w
}

// end waits until the process has closed everything and found no goroutine left.
func (w *netnsPeer) end() {
	w.rpc.Close()
	push := time.AfterFunc(30*time.Second, func() { w.cmd.Process.Kill() })
	defer push.Stop()
	<-w.ended
	if !w.killed && !w.cmd.ProcessState.Success() {
		w.t.Errorf("a process has ended with %v: %s", w.cmd.ProcessState, &w.out)
	}
}

// kill ends the process as a crash would.
func (w *netnsPeer) kill() {
	w.killed = true
	w.cmd.Process.Kill()
	<-w.ended
}

// NetnsConfig tells a process how to listen or dial.
type NetnsConfig struct {
	Network, Addr     string
	Cert, Key, Root   []byte // TLS if not nil: what a server has, and what a client trusts
	ServerName        string
	Idle, KeepAlive   time.Duration
	Handshake, Linger time.Duration
	Dials             int // of clients: one after the other, of which the last is kept
	Auto              NetnsAuto
}

// NetnsAuto is a part of vstp.AutoConfig.
type NetnsAuto struct {
	HeadStart, StandbyInterval                 time.Duration
	ProbeTimeout, SwitchCooldown, MinDwellTime time.Duration
	NoStandby                                  bool
}

func (c *NetnsConfig) config() (*vstp.Config, error) {
	config := &vstp.Config{
		IdleTimeout:      cmp.Or(c.Idle, 30*time.Second),
		KeepAlive:        c.KeepAlive,
		HandshakeTimeout: c.Handshake,
		Linger:           cmp.Or(c.Linger, 2*time.Second),
		Auto: vstp.AutoConfig{
			HeadStart:       c.Auto.HeadStart,
			StandbyInterval: c.Auto.StandbyInterval,
			ProbeTimeout:    c.Auto.ProbeTimeout,
			SwitchCooldown:  c.Auto.SwitchCooldown,
			MinDwellTime:    c.Auto.MinDwellTime,
			NoStandby:       c.Auto.NoStandby,
		},
	}
	if c.Cert != nil {
		cert, err := tls.X509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, err
		}
		config.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	if c.Root != nil {
		config.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: c.ServerName}
		config.TLS.RootCAs.AppendCertsFromPEM(c.Root)
	}
	return config, nil
}

// NetnsState is what a process knows of its connection.
type NetnsState struct {
	Sent, Received int64
	LastRead       time.Time
	ReadEnd        string // why reading has ended, with io.EOF as "EOF"
	WriteEnd       string
	Carrier        vstp.Carrier
	Local, Remote  string
	Stats          vstp.Stats
	// Gaps are the times of 50 ms and more in which nothing was read.
	Gaps []NetnsGap
}

// A NetnsGap is a time without payload.
type NetnsGap struct{ From, To time.Time }

// NetnsResult is what a connection has carried to its end.
type NetnsResult struct {
	SentHash, ReceivedHash string
	State                  NetnsState
}

// NetnsDialed is how a dial went.
type NetnsDialed struct {
	Took    []time.Duration
	Carrier string // as in ConnectionState
}

func (w *netnsPeer) listen(c NetnsConfig) {
	w.t.Helper()
	c.Addr = cmp.Or(c.Addr, ":"+netnsPort)
	require.NoError(w.t, w.rpc.Call("Peer.Listen", c, &struct{}{}))
}

// accept waits for the next connection, of which all else is said from then on.
func (w *netnsPeer) accept() {
	w.t.Helper()
	require.NoError(w.t, w.rpc.Call("Peer.Accept", struct{}{}, &struct{}{}))
}

func (w *netnsPeer) dial(c NetnsConfig) (d NetnsDialed, err error) {
	w.t.Helper()
	err = w.rpc.Call("Peer.Dial", c, &d)
	return d, err
}

// transfer begins to read and, if send is set, to write as fast as the connection takes it.
func (w *netnsPeer) transfer(send bool) {
	w.t.Helper()
	require.NoError(w.t, w.rpc.Call("Peer.Transfer", send, &struct{}{}))
}

func (w *netnsPeer) state() (s NetnsState) {
	w.t.Helper()
	require.NoError(w.t, w.rpc.Call("Peer.State", struct{}{}, &s))
	return s
}

// move has the connection move to a carrier.
func (w *netnsPeer) move(to vstp.Carrier) {
	w.t.Helper()
	require.NoError(w.t, w.rpc.Call("Peer.Move", to, &struct{}{}))
}

// finish ends writing, waits until all was read that the peer has written, and closes.
func (w *netnsPeer) finish() (r NetnsResult, err error) {
	err = w.rpc.Call("Peer.Finish", struct{}{}, &r)
	return r, err
}

// TestAutoNetnsPeer is such a process, seen from inside.
func TestAutoNetnsPeer(t *testing.T) {
	if os.Getenv(netnsPeerEnv) == "" {
		t.Skip("this is a part of other tests")
	}
	f := os.NewFile(3, "peer")
	conn, err := net.FileConn(f)
	require.NoError(t, err)
	f.Close()
	p := &netnsProcess{accepted: make(chan net.Conn, 16)}
	server := rpc.NewServer()
	require.NoError(t, server.RegisterName("Peer", p))
	server.ServeConn(conn) // returns when the test has ended, and waits for calls
	p.close()
}

// A netnsProcess does what it is told.
type netnsProcess struct {
	accepted chan net.Conn
	accepts  sync.WaitGroup

	mu   sync.Mutex
	ln   net.Listener
	conn *vstp.Conn
	x    *netnsTransfer
}

// Listen listens, and accepts until the end.
func (p *netnsProcess) Listen(c NetnsConfig, _ *struct{}) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	ln, err := (&vstp.ListenConfig{Config: config}).Listen(context.Background(), c.Network, c.Addr)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.ln = ln
	p.mu.Unlock()
	p.accepts.Go(func() {
		defer close(p.accepted)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.accepted <- conn
		}
	})
	return nil
}

// Accept takes the next connection.
func (p *netnsProcess) Accept(struct{}, *struct{}) error {
	select {
	case conn, ok := <-p.accepted:
		if !ok {
			return net.ErrClosed
		}
		p.use(conn)
		return nil
	case <-time.After(30 * time.Second):
		return errors.New("no client came")
	}
}

// use makes conn the connection of which everything is said from now on.
func (p *netnsProcess) use(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Close()
	}
	p.conn, p.x = conn.(*vstp.Conn), nil
}

// Dial dials.
func (p *netnsProcess) Dial(c NetnsConfig, d *NetnsDialed) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	dialer := &vstp.Dialer{Config: config}
	for range max(1, c.Dials) {
		start := time.Now()
		conn, err := dialer.Dial(c.Network, c.Addr)
		if err != nil {
			return errors.New(nameOf(err))
		}
		d.Took = append(d.Took, time.Since(start))
		p.use(conn)
		d.Carrier = p.conn.ConnectionState().Carrier
	}
	return nil
}

// Transfer begins to read and to write.
func (p *netnsProcess) Transfer(send bool, _ *struct{}) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil || p.x != nil {
		return errors.New("no connection, or in use already")
	}
	p.x = newNetnsTransfer(p.conn, send)
	return nil
}

func (p *netnsProcess) current() (*vstp.Conn, *netnsTransfer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return nil, nil, errors.New("no connection")
	}
	return p.conn, p.x, nil
}

// State says how far it is.
func (p *netnsProcess) State(_ struct{}, s *NetnsState) error {
	conn, x, err := p.current()
	if err != nil {
		return err
	}
	if x != nil {
		*s = x.state()
	}
	s.Carrier, s.Stats = conn.Carrier(), conn.Stats()
	s.Local, s.Remote = conn.LocalAddr().String(), conn.RemoteAddr().String()
	return nil
}

// Move moves the connection.
func (p *netnsProcess) Move(to vstp.Carrier, _ *struct{}) error {
	conn, _, err := p.current()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), inTime)
	defer cancel()
	return conn.Move(ctx, to)
}

// Finish ends the transfer.
func (p *netnsProcess) Finish(_ struct{}, r *NetnsResult) error {
	conn, x, err := p.current()
	if err != nil || x == nil {
		return cmp.Or(err, errors.New("no transfer"))
	}
	if err := x.finish(); err != nil {
		return err
	}
	if err := p.State(struct{}{}, &r.State); err != nil {
		return err
	}
	r.SentHash, r.ReceivedHash = hex.EncodeToString(x.sent.Sum(nil)), hex.EncodeToString(x.received.Sum(nil))
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close: %s", nameOf(err))
	}
	return nil
}

func (p *netnsProcess) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Close()
	}
	if p.ln != nil {
		p.ln.Close()
		p.accepts.Wait()
		for conn := range p.accepted {
			conn.Close()
		}
	}
	if p.x != nil {
		p.x.wg.Wait()
	}
}

// A netnsTransfer reads and writes a connection, each in a goroutine.
type netnsTransfer struct {
	conn           *vstp.Conn
	wg             sync.WaitGroup
	stop           chan struct{}
	once           sync.Once
	sent, received hash.Hash

	mu sync.Mutex
	s  NetnsState
}

func newNetnsTransfer(conn *vstp.Conn, send bool) *netnsTransfer {
	x := &netnsTransfer{conn: conn, stop: make(chan struct{}), sent: sha256.New(), received: sha256.New()}
	x.s.LastRead = time.Now()
	x.wg.Go(x.read)
	x.wg.Go(func() { x.write(send) })
	return x
}

func (x *netnsTransfer) read() {
	buf := make([]byte, 32<<10)
	for {
		n, err := x.conn.Read(buf)
		now := time.Now()
		x.received.Write(buf[:n])
		x.mu.Lock()
		if n > 0 {
			if now.Sub(x.s.LastRead) > 50*time.Millisecond {
				x.s.Gaps = append(x.s.Gaps, NetnsGap{x.s.LastRead, now})
			}
			x.s.LastRead = now
		}
		x.s.Received += int64(n)
		if err != nil {
			x.s.ReadEnd = nameOf(err)
			x.mu.Unlock()
			return
		}
		x.mu.Unlock()
	}
}

// write writes until it is told to stop, and then says that it has ended.
func (x *netnsTransfer) write(send bool) {
	source := rand.NewChaCha8([32]byte{})
	buf := make([]byte, 16<<10)
	fail := func(err error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.s.WriteEnd = nameOf(err)
	}
	for send {
		select {
		case <-x.stop:
			send = false
			continue
		default:
		}
		source.Read(buf)
		n, err := x.conn.Write(buf)
		x.sent.Write(buf[:n])
		x.mu.Lock()
		x.s.Sent += int64(n)
		x.mu.Unlock()
		if err != nil {
			fail(err)
			return
		}
	}
	<-x.stop
	if err := x.conn.CloseWrite(); err != nil {
		fail(err)
	}
}

func (x *netnsTransfer) state() NetnsState {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.s
	s.Gaps = append([]NetnsGap(nil), s.Gaps...)
	return s
}

func (x *netnsTransfer) finish() error {
	x.once.Do(func() { close(x.stop) })
	done := make(chan struct{})
	go func() {
		x.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		return fmt.Errorf("reading and writing do not end: %+v", x.state())
	}
	if s := x.state(); s.WriteEnd != "" || s.ReadEnd != "EOF" {
		return fmt.Errorf("reading has ended with %q, writing with %q", s.ReadEnd, s.WriteEnd)
	}
	return nil
}

// nameOf returns what err says, after the names of what it is: package rpc knows texts only.
func nameOf(err error) string {
	for _, known := range []struct {
		name string
		err  error
	}{
		{"ErrIdleTimeout: ", vstp.ErrIdleTimeout},
		{"ErrHandshakeTimeout: ", vstp.ErrHandshakeTimeout},
		{"ErrReset: ", vstp.ErrReset},
		{"ErrPeerClosed: ", vstp.ErrPeerClosed},
		{"ErrUnexpectedEOF: ", io.ErrUnexpectedEOF},
		{"ErrClosed: ", net.ErrClosed},
		{"ECONNRESET: ", unix.ECONNRESET},
		{"ECONNREFUSED: ", unix.ECONNREFUSED},
	} {
		if errors.Is(err, known.err) {
			return known.name + err.Error()
		}
	}
	return err.Error()
}
