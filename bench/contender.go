package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vstp-go/vstp"
)

// A stream is what all contenders have in common. Close also ends the
// direction to the peer cleanly: what was written arrives, then io.EOF.
type stream interface {
	io.Reader
	io.Writer
	io.Closer
}

// An acceptor hands out the server's ends of streams.
type acceptor interface {
	Accept() (stream, error)
	Addr() string
	Close() error
}

// An exchanger is a client that sends a request and gets an answer of the same
// size, in whatever way is natural for the contender.
type exchanger interface {
	Exchange(req, resp []byte) error
	Close() error
}

// An env is what a worker process gives to its contender.
type env struct {
	serverTLS *tls.Config
	clientTLS *tls.Config

	// dir is where unix sockets go.
	dir string

	// memory is what dials of contenders that move between carriers remember, if not nil.
	memory *vstp.CarrierMemory

	// interactive says that the streams carry requests and answers, not bulk:
	// writers that buffer must flush each Write.
	interactive bool
}

// A contender is one way to move bytes between two processes.
type contender struct {
	name string
	what string // one line for the tables
	base string // the contender it is built upon, for ratios; "" for none

	// bases, if not nil, names the base for each kind of test instead: "bulk" and "rr",
	// which count for their fine tests too, "message".
	bases map[string]string

	// tests names the tests it takes part in; nil means all of bulk, rr and dials.
	tests []string

	// idleConns limits the connections of the idle test, where a dial costs a
	// lot. Zero means no limit.
	idleConns int

	// maxSize is the largest request of a round trip. Zero means no limit.
	maxSize int

	// lossy says that not all that is written arrives.
	lossy bool

	// probe, if not nil, finds out whether the contender can be measured at all.
	probe func() error

	// ports returns how messages travel over a stream. If nil, with a length in front.
	ports func(s stream) messagePort

	// messages, if not nil, returns how the small messages over a link travel on a stream,
	// each for itself. Otherwise they are bytes of it.
	messages func(s stream) messagePort

	listen func(e *env, host string) (acceptor, error)
	dial   func(e *env, addr string) (stream, error)

	// exchange opens an exchanger on a connection of its own. If nil, a stream is dialed.
	exchange func(e *env, addr string) (exchanger, error)
}

// Everything takes part in these.
var commonTests = []string{"bulk", "rr", "dials"}

// Streams of which allocations and memory are worth a comparison take part in these too.
var coreTests = []string{"bulk", "fine-bulk", "rr", "fine-rr", "message", "dials", "allocs", "idle"}

// With TLS, these.
var sealedTests = append(slices.Clone(coreTests), "handshakes")

func (c *contender) has(test string) bool {
	tests := c.tests
	if tests == nil {
		tests = commonTests
	}
	return slices.Contains(tests, test)
}

// baseOf returns the base for a test; "" if there is none.
func (c *contender) baseOf(test string) string {
	if c.bases == nil {
		return c.base
	}
	return c.bases[strings.TrimPrefix(test, "fine-")]
}

// fits reports whether the contender can do a test with this size.
func (c *contender) fits(test string, size int) bool {
	return c.maxSize == 0 || !strings.HasSuffix(test, "rr") || size <= c.maxSize
}

// unavailable returns why the contender cannot be measured, or nil.
func (c *contender) unavailable() error {
	if c.probe == nil {
		return nil
	}
	if err := c.probe(); err != nil {
		return fmt.Errorf("unavailable: %w", err)
	}
	return nil
}

func (c *contender) open(e *env, addr string) (exchanger, error) {
	if c.exchange != nil {
		return c.exchange(e, addr)
	}
	s, err := c.dial(e, addr)
	if err != nil {
		return nil, err
	}
	return &streamExchanger{s}, nil
}

// contenders lists all contenders in the order of the tables.
func contenders() []*contender {
	return []*contender{
		tcpContender(), tcpAgainContender(), unixContender(), tlsContender(),
		vstpNoCRCContender(), vstpContender(), vstpTLSContender(),
		vstpUnixContender(), vstpUnixNoCRCContender(),
		yamuxContender(),
		http1Contender(), http2Contender(), http2StreamContender(),
		grpcContender(), grpcStreamContender(),
		udpContender(), udpBlastContender(), vstpUDPContender(), vstpUDPTLSContender(),
		quicContender(), kcpContender(), kcpFECContender(), sctpContender(), sctpMessagesContender(),
		vstpRUDPNoCRCContender(), vstpRUDPContender(), vstpRUDPTLSContender(),
		vstpRUDPMessagesContender(), vstpRUDPRedundantContender(),
		vstpAutoContender(), vstpAutoTLSContender(), vstpAutoTCPContender(),
		tcpCongestionContender("cubic"), tcpCongestionContender("bbr"),
	}
}

func contenderNamed(name string) *contender {
	for _, c := range contenders() {
		if c.name == name {
			return c
		}
	}
	return nil
}

// A streamExchanger exchanges over an open stream.
type streamExchanger struct{ s stream }

func (x *streamExchanger) Exchange(req, resp []byte) error {
	if _, err := x.s.Write(req); err != nil {
		return err
	}
	_, err := io.ReadFull(x.s, resp)
	return err
}

func (x *streamExchanger) Close() error { return x.s.Close() }

// didResume reports whether an exchanger's stream has resumed a TLS session.
func didResume(x exchanger) bool {
	sx, ok := x.(*streamExchanger)
	if !ok {
		return false
	}
	switch s := sx.s.(type) {
	case *tls.Conn:
		return s.ConnectionState().DidResume
	case *vstp.Conn:
		state := s.ConnectionState()
		return state.TLS != nil && state.TLS.DidResume
	case *quicStream:
		return s.conn.ConnectionState().TLS.DidResume
	}
	return false
}

// A netAcceptor is a net.Listener as an acceptor.
type netAcceptor struct{ net.Listener }

func (a netAcceptor) Accept() (stream, error) { return a.Listener.Accept() }
func (a netAcceptor) Addr() string            { return a.Listener.Addr().String() }

// A chanAcceptor is for contenders whose streams appear in goroutines of their own.
type chanAcceptor struct {
	streams chan stream
	done    chan struct{}
	closed  atomic.Bool
	addr    string
	close   func() error
}

func newChanAcceptor(addr string, closeFn func() error) *chanAcceptor {
	return &chanAcceptor{
		streams: make(chan stream),
		done:    make(chan struct{}),
		addr:    addr,
		close:   closeFn,
	}
}

// put waits until s was accepted and reports whether it was.
func (a *chanAcceptor) put(s stream) bool {
	select {
	case a.streams <- s:
		return true
	case <-a.done:
		return false
	}
}

func (a *chanAcceptor) Accept() (stream, error) {
	select {
	case s := <-a.streams:
		return s, nil
	case <-a.done:
		return nil, net.ErrClosed
	}
}

func (a *chanAcceptor) Addr() string { return a.addr }

func (a *chanAcceptor) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	close(a.done)
	return a.close()
}

func tcpContender() *contender {
	return &contender{
		name: "tcp", what: "net.TCPConn", tests: coreTests,
		listen: func(_ *env, host string) (acceptor, error) {
			ln, err := listenTCP(host)
			if err != nil {
				return nil, err
			}
			return netAcceptor{ln}, nil
		},
		dial: func(_ *env, addr string) (stream, error) { return net.Dial("tcp", addr) },
	}
}

// tcpAgainContender is tcp under another name: its ratios to tcp are the noise of a run.
func tcpAgainContender() *contender {
	c := tcpContender()
	c.name = "tcp-again"
	c.what = "tcp once more; its ratios are the noise of the run"
	c.base = "tcp"
	c.tests = []string{"bulk", "fine-bulk", "rr", "fine-rr", "message", "dials"}
	return c
}

// tcpCongestionContender is tcp with a congestion control of its own, for links.
func tcpCongestionContender(name string) *contender {
	listen := func(_ *env, host string) (acceptor, error) {
		lc := net.ListenConfig{Control: congestionControl(name)}
		ln, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		return netAcceptor{ln}, nil
	}
	return &contender{
		name: "tcp-" + name, what: "net.TCPConn, congestion control " + name, tests: []string{"link"},
		listen: listen,
		probe: func() error {
			a, err := listen(nil, "127.0.0.1")
			if err != nil {
				return err
			}
			return a.Close()
		},
		dial: func(_ *env, addr string) (stream, error) {
			d := net.Dialer{Control: congestionControl(name)}
			return d.Dial("tcp", addr)
		},
	}
}

func unixContender() *contender {
	return &contender{
		name: "unix", what: "net.UnixConn", base: "tcp", tests: coreTests,
		listen: func(e *env, _ string) (acceptor, error) {
			path, err := socketPath(e)
			if err != nil {
				return nil, err
			}
			ln, err := net.Listen("unix", path)
			if err != nil {
				return nil, err
			}
			return netAcceptor{ln}, nil
		},
		dial: func(_ *env, addr string) (stream, error) { return net.Dial("unix", addr) },
	}
}

func tlsContender() *contender {
	return &contender{
		name: "tls", what: "crypto/tls 1.3 over TCP", base: "tcp", tests: sealedTests, idleConns: 2000,
		listen: func(e *env, host string) (acceptor, error) {
			ln, err := listenTCP(host)
			if err != nil {
				return nil, err
			}
			return netAcceptor{tls.NewListener(ln, e.serverTLS)}, nil
		},
		dial: func(e *env, addr string) (stream, error) { return tls.Dial("tcp", addr, e.clientTLS) },
	}
}

func listenTCP(host string) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}

var socketCount atomic.Int64

// socketPath returns a fresh path for a unix socket.
func socketPath(e *env) (string, error) {
	dir, err := os.MkdirTemp(e.dir, "")
	if err != nil {
		return "", err
	}
	name := "s" + string(rune('a'+socketCount.Add(1)%26))
	path := filepath.Join(dir, name)
	if len(path) > 100 {
		return "", errors.New("the path of the temporary directory is too long for a unix socket: " + path)
	}
	return path, nil
}

// isClosed reports whether err is what an orderly end looks like.
func isClosed(err error) bool {
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, io.ErrClosedPipe) ||
		strings.Contains(err.Error(), "closed network connection")
}
