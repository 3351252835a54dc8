package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/vstp-go/vstp"
)

// The benchmarks run in one process, for profiles and for comparing versions
// with benchstat. For figures between contenders take the command.

func benchContenders() []*contender {
	return []*contender{
		tcpContender(), vstpNoCRCContender(), vstpContender(), tlsContender(), vstpTLSContender(),
		vstpRUDPNoCRCContender(), vstpRUDPContender(), vstpRUDPTLSContender(), quicContender(),
	}
}

// benchPair returns both ends of a stream.
func benchPair(b *testing.B, c *contender) (client, server stream) {
	b.Helper()
	e := testEnv(b, true)
	a, err := c.listen(e, "127.0.0.1")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { a.Close() })
	type accepted struct {
		s   stream
		err error
	}
	ch := make(chan accepted, 1)
	go func() {
		s, err := a.Accept()
		if conn, ok := s.(*tls.Conn); ok && err == nil {
			err = conn.Handshake()
		}
		ch <- accepted{s, err}
	}()
	if client, err = c.dial(e, a.Addr()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close() })
	got := <-ch
	if got.err != nil {
		b.Fatal(got.err)
	}
	b.Cleanup(func() { got.s.Close() })
	return client, got.s
}

// BenchmarkThroughput has the sizes of crypto/tls: so many bytes to an echo and
// back, on a new connection each time.
func BenchmarkThroughput(b *testing.B) {
	for size := 1; size <= 64; size <<= 1 {
		for _, c := range benchContenders() {
			b.Run(fmt.Sprintf("%dMB/%s", size, c.name), func(b *testing.B) {
				benchThroughput(b, c, int64(size)<<20)
			})
		}
	}
}

const throughputBuffer = 32 << 10

func benchThroughput(b *testing.B, c *contender, total int64) {
	e := testEnv(b, true)
	a := testListen(b, c, e)
	go serveEach(a, func(s stream) {
		// Without ReadFrom and WriteTo, as those differ between the contenders.
		buf := make([]byte, throughputBuffer)
		io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{s}, buf)
	})
	buf := make([]byte, throughputBuffer)
	answer := make([]byte, throughputBuffer)
	b.SetBytes(total)
	for b.Loop() {
		s, err := c.dial(e, a.Addr())
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(s, total), answer)
			if err == nil && n != total {
				err = io.ErrUnexpectedEOF
			}
			done <- err
		}()
		for range total / throughputBuffer {
			if _, err := s.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// BenchmarkWrite writes one way; the peer reads with 64 KiB.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 8 << 10, 64 << 10, 1 << 20} {
		for _, c := range benchContenders() {
			b.Run(fmt.Sprintf("%s/%s", benchSize(size), c.name), func(b *testing.B) {
				client, server := benchPair(b, c)
				done := make(chan struct{})
				go func() {
					defer close(done)
					buf := make([]byte, bulkBuffer)
					for {
						if _, err := server.Read(buf); err != nil {
							return
						}
					}
				}()
				buf := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := client.Write(buf); err != nil {
						b.Fatal(err)
					}
				}
				client.Close()
				<-done
			})
		}
	}
}

// BenchmarkRoundTrip sends a request and waits for its echo.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{64, 64 << 10} {
		for _, c := range benchContenders() {
			b.Run(fmt.Sprintf("%s/%s", benchSize(size), c.name), func(b *testing.B) {
				client, server := benchPair(b, c)
				go echo(server, make([]byte, size), math.MaxInt)
				x := &streamExchanger{client}
				req, resp := make([]byte, size), make([]byte, size)
				b.ReportAllocs()
				for b.Loop() {
					if err := x.Exchange(req, resp); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkDial connects, has a byte there and back, and closes: both ends of a handshake.
func BenchmarkDial(b *testing.B) {
	for _, c := range benchContenders() {
		b.Run(c.name, func(b *testing.B) {
			e := testEnv(b, true)
			a := testListen(b, c, e)
			go serveEach(a, func(s stream) { echo(s, make([]byte, 1), math.MaxInt) })
			req, resp := make([]byte, 1), make([]byte, 1)
			b.ReportAllocs()
			for b.Loop() {
				s, err := c.dial(e, a.Addr())
				if err != nil {
					b.Fatal(err)
				}
				x := &streamExchanger{s}
				if err := x.Exchange(req, resp); err != nil {
					b.Fatal(err)
				}
				x.Close()
			}
		})
	}
}

func benchSize(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%dMB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%dKB", n>>10)
	}
	return fmt.Sprintf("%dB", n)
}

// BenchmarkLatency has the rates of crypto/tls: how long the first byte of an
// answer of 16 KiB takes over a slow link. What holds back the beginning of a
// Write until its end has arrived, shows here.
func BenchmarkLatency(b *testing.B) {
	for _, kbps := range []int{200, 500, 1000, 2000, 5000} {
		for _, w := range wrappers() {
			b.Run(fmt.Sprintf("%dkbps/%s", kbps, w.name), func(b *testing.B) {
				benchLatency(b, w, kbps*1000)
			})
		}
	}
}

// A wrapper puts a protocol on a connection.
type wrapper struct {
	name           string
	client, server func(e *env, conn net.Conn) net.Conn
}

func wrappers() []wrapper {
	noCRC := &vstp.Config{Checksum: vstp.ChecksumOff}
	plain := func(_ *env, conn net.Conn) net.Conn { return conn }
	return []wrapper{
		{"tcp", plain, plain},
		{
			"vstp-nocrc",
			func(_ *env, conn net.Conn) net.Conn { return vstp.Client(conn, noCRC) },
			func(_ *env, conn net.Conn) net.Conn { return vstp.Server(conn, noCRC) },
		},
		{
			"vstp",
			func(_ *env, conn net.Conn) net.Conn { return vstp.Client(conn, nil) },
			func(_ *env, conn net.Conn) net.Conn { return vstp.Server(conn, nil) },
		},
		{
			"tls",
			func(e *env, conn net.Conn) net.Conn { return tls.Client(conn, e.clientTLS) },
			func(e *env, conn net.Conn) net.Conn { return tls.Server(conn, e.serverTLS) },
		},
		{
			"vstp-tls",
			func(e *env, conn net.Conn) net.Conn { return vstp.Client(conn, &vstp.Config{TLS: e.clientTLS}) },
			func(e *env, conn net.Conn) net.Conn { return vstp.Server(conn, &vstp.Config{TLS: e.serverTLS}) },
		},
	}
}

func benchLatency(b *testing.B, w wrapper, bps int) {
	e := testEnv(b, true)
	ln, err := listenTCP("127.0.0.1")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	const answer = 16 << 10
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				s := w.server(e, &slowConn{conn, bps})
				defer s.Close()
				request := make([]byte, 1)
				for {
					if _, err := io.ReadFull(s, request); err != nil {
						return
					}
					if _, err := s.Write(make([]byte, answer)); err != nil {
						return
					}
				}
			}()
		}
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	s := w.client(e, conn)
	defer s.Close()
	buf := make([]byte, answer)
	var first time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := s.Write(buf[:1]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(s, buf[:1]); err != nil {
			b.Fatal(err)
		}
		first += time.Since(start)
		if _, err := io.ReadFull(s, buf[1:]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(first.Microseconds())/1e3/float64(b.N), "ms/first-byte")
}

// A slowConn writes at a rate, in pieces as a link would carry them.
type slowConn struct {
	net.Conn
	bps int
}

func (c *slowConn) Write(p []byte) (int, error) {
	const piece = 1448
	for done := 0; done < len(p); {
		n := min(piece, len(p)-done)
		time.Sleep(time.Duration(n) * 8 * time.Second / time.Duration(c.bps))
		n, err := c.Conn.Write(p[done : done+n])
		done += n
		if err != nil {
			return done, err
		}
	}
	return len(p), nil
}
