package vstp_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// rawDial connects to ln and runs no protocol on it.
func rawDial(t testing.TB, ln net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// "Accept returns only connections, never one peer's failure" (N10): peers that talk
// nonsense, hang up in every way, use the wrong TLS setting or are refused do not
// show; honest ones do, before, between and after.
func TestAcceptNoPeerFailure(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		cc, sc := tr.configs(t)
		sc.VerifyHello = func(_ context.Context, hello *vstp.HelloInfo) (vstp.Header, error) {
			if _, ok := hello.Header.Lookup("unwanted"); ok {
				return nil, errors.New("no")
			}
			return nil, nil
		}
		address := "127.0.0.1:0"
		if tr.network == "unix" {
			address = t.TempDir() + "/s"
		}
		ln, err := (&vstp.ListenConfig{Config: sc}).Listen(t.Context(), tr.network, address)
		require.NoError(t, err)
		defer ln.Close()
		honest := &vstp.Dialer{Config: cc}
		dial := func(change func(*vstp.Config)) {
			config := *cc
			change(&config)
			_, err := (&vstp.Dialer{Config: &config}).Dial(tr.network, ln.Addr().String())
			require.Error(t, err)
		}
		for i := range 3 {
			for _, hello := range []string{"", "V", "VT\x01\x01", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x05hello", string(make([]byte, 1000)),
				"VT\x01\x63\x00\x00\x00\x00\x00\x00\x00", "VT\x01\x01\x02\xff\xff\xff\xff\xff\xff"} {
				c := rawDial(t, ln)
				_, err := io.WriteString(c, hello)
				require.NoError(t, err)
				if tc, ok := c.(*net.TCPConn); ok && i == 1 {
					tc.SetLinger(0) // RST instead of FIN
				}
				c.Close()
			}
			dial(func(c *vstp.Config) { c.Header.Add("unwanted", "1") })
			dial(func(c *vstp.Config) {
				if c.TLS != nil {
					c.TLS = nil
				} else {
					c.TLS = &tls.Config{InsecureSkipVerify: true}
				}
			})
			if cc.TLS != nil {
				dial(func(c *vstp.Config) { c.TLS = &tls.Config{ServerName: "somebody.else", RootCAs: cc.TLS.RootCAs} })
			}
			c, s := connect(t, ln, honest) // the next Accept is of an honest client
			echoed := async(func() error { _, err := io.CopyN(s, s, 5); return err })
			require.NoError(t, roundTrip(c, []byte("hello")))
			require.NoError(t, receive(t, echoed))
		}
	})
}

// Listener.Close (N11): accepted connections live on, those that wait for Accept are
// closed, handshakes end, a blocked Accept returns, the address is free, and closing
// again is nil.
func TestListenerClose(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		ln, d := tr.start(t)
		address := ln.Addr().String()
		c, s := connect(t, ln, d)

		var waiting []net.Conn
		for range 20 { // Dial has returned, Accept was not called
			w, err := d.Dial(tr.network, address)
			require.NoError(t, err)
			defer w.Close()
			waiting = append(waiting, w)
		}
		silent := rawDial(t, ln)
		_, err := silent.Write([]byte("V"))
		require.NoError(t, err)

		require.NoError(t, ln.Close())
		require.NoError(t, ln.Close(), "again")
		_, err = ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		var oe *net.OpError
		require.True(t, errors.As(err, &oe))
		for _, w := range waiting {
			_, err := w.Read(make([]byte, 1))
			if err != io.EOF && !tr.datagrams() { // the listener had not yet seen its handshake end
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			}
		}
		if !tr.datagrams() {
			_, err = silent.Read(make([]byte, 1))
			require.Error(t, err)
			require.NotErrorIs(t, err, net.ErrClosed)
		}

		go echoAll(&oneConn{Conn: s})
		require.NoError(t, roundTrip(c, contentBytes(100_000)), "the accepted connection lives on")
		_, err = d.Dial(tr.network, address)
		require.Error(t, err)
		if tr.datagrams() {
			c.Close()
			s.Close()
			requireFree(t, address)
			return
		}
		again, err := net.Listen(tr.network, address)
		require.NoError(t, err, "the address is free")
		again.Close()
	})
}

// requireFree waits for a UDP port to become free: the end of the last connection on it
// is agreed upon in the background.
func requireFree(t *testing.T, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		pc, err := net.ListenPacket("udp", address)
		if err == nil {
			pc.Close()
		}
		return err == nil
	}, patience, 10*time.Millisecond, "the port is free")
}

// oneConn is a listener with one connection.
type oneConn struct {
	net.Conn
	once sync.Once
}

func (l *oneConn) Accept() (c net.Conn, err error) {
	err = net.ErrClosed
	l.once.Do(func() { c, err = l.Conn, nil })
	return c, err
}

func (l *oneConn) Addr() net.Addr { return l.LocalAddr() }

// Accept, Close and clients at the same time: each Dial that succeeds gives a
// connection that is either accepted or ends, none is forgotten.
func TestListenerCloseRace(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		tr.config.HandshakeTimeout = time.Second // nobody may be there to refuse
		for range 10 {
			ln, d := tr.start(t)
			var g group
			first := make(chan struct{})
			var once sync.Once
			for range 4 {
				g.Go(func() error {
					for {
						s, err := ln.Accept()
						if err != nil {
							if !errors.Is(err, net.ErrClosed) {
								return err
							}
							return nil
						}
						once.Do(func() { close(first) })
						s.Close()
					}
				})
				g.Go(func() error {
					for {
						c, err := d.Dial(tr.network, ln.Addr().String())
						if err != nil {
							return nil // closed
						}
						_, err = c.Read(make([]byte, 1)) // ends in either case
						c.Close()
						if err == nil {
							return errors.New("read something")
						}
					}
				})
			}
			g.Go(func() error { <-first; return ln.Close() })
			g.Wait(t)
		}
	})
}

// A flood of connections that say nothing: honest clients get in during and after
// it, connections that were there are unharmed, and what each holds is bounded by
// MaxHandshakes (S2).
func TestHalfOpenFlood(t *testing.T) {
	flood := sized(10_000, 3_000)
	for _, tr := range transports {
		if tr.name != "tcp" && tr.name != "tcp+TLS" {
			continue // CRC and compression have not begun; a Unix socket's backlog is the kernel's to fill
		}
		for _, limit := range []int{0, 16} {
			t.Run(fmt.Sprintf("%s, MaxHandshakes %d", tr.name, limit), func(t *testing.T) {
				tr.config.MaxHandshakes = limit
				ln, d := tr.start(t)
				go echoAll(ln)
				dial := func() net.Conn {
					t.Helper()
					c, err := d.Dial(tr.network, ln.Addr().String())
					require.NoError(t, err)
					t.Cleanup(func() { c.Close() })
					return c
				}
				established := []net.Conn{dial(), dial(), dial()}
				before := memoryInUse()

				// An honest client is given up only for as many that come after it as
				// the limit says; half of them come while it shakes hands.
				burst := cmp.Or(limit, vstp.DefaultMaxHandshakes) / 2
				var silent []net.Conn
				for len(silent) < flood {
					honest := async(func() error {
						c, err := d.Dial(tr.network, ln.Addr().String())
						if err != nil {
							return err
						}
						return errors.Join(roundTrip(c, []byte("hello")), c.Close())
					})
					for range burst {
						c := rawDial(t, ln)
						c.(*net.TCPConn).SetLinger(0) // leaves no TIME_WAIT behind
						silent = append(silent, c)
					}
					require.NoError(t, receive(t, honest))
					require.NoError(t, roundTrip(established[0], []byte("hello")))
				}
				require.Less(t, memoryInUse()-before, int64(64<<20))
				for range 5 {
					c := dial()
					require.NoError(t, roundTrip(c, contentBytes(100_000)))
					c.Close()
				}
				for _, c := range established {
					require.NoError(t, roundTrip(c, contentBytes(100_000)))
				}
			})
		}
	}
}

// memoryInUse returns the size of heap and stacks after a collection.
func memoryInUse() int64 {
	for range 3 { // what is in a sync.Pool survives the first, what has a cleanup the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
