package carrier

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/tlsvstp"
)

var testCert = sync.OnceValue(func() *tlsvstp.DevCert {
	c, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{
		Hosts:     []string{"localhost"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), // it is 2000 in bubbles
		ValidFor:  50 * 365 * 24 * time.Hour,
	})
	if err != nil {
		panic(err)
	}
	return c
})

func tlsConfigs() (client, server *tls.Config) {
	return &tls.Config{RootCAs: testCert().Pool, ServerName: "localhost"},
		&tls.Config{Certificates: []tls.Certificate{testCert().Certificate}}
}

// kinds are the ways that a Carrier moves bytes.
var kinds = []string{"plain", "tls", "caller's tls"}

// pair returns a carrier of a kind, its socket, and a reader of what arrives.
func pair(t *testing.T, kind string) (c *Carrier, sock *memconn.Conn, peer net.Conn) {
	t.Helper()
	a, b := memconn.Pipe(0)
	cc, sc := tlsConfigs()
	switch kind {
	case "plain":
		return New(a), a, b
	case "caller's tls":
		conn, srv := tls.Client(a, cc), tls.Server(b, sc)
		go srv.Handshake()
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		return New(conn), a, srv
	}
	srv := tls.Server(b, sc)
	go srv.Handshake()
	c = New(a)
	if err := c.StartTLS(context.Background(), cc, true, func() {}); err != nil {
		t.Fatal(err)
	}
	return c, a, srv
}

// frame i is a header, a payload and a trailer that can be told from others.
func testFrame(i, size int) (head, payload, tail []byte) {
	return fmt.Appendf(nil, "<%d:%d>", i, size), bytes.Repeat([]byte{byte('a' + i%26)}, size), []byte("<end>")
}

// TestWriteFrameAnywhere has the deadline pass after every number of bytes that the
// socket takes: a frame is sent whole or not at all. N3.
func TestWriteFrameAnywhere(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			for _, size := range []int{0, 50, joinLimit + 1, joinLimitTLS + 1} {
				step := 1 + size/100
				for k := 0; k < 2*size+200; k += step {
					synctest.Test(t, func(t *testing.T) { testWriteFrame(t, kind, size, k) })
				}
			}
		})
	}
}

func testWriteFrame(t *testing.T, kind string, size, k int) {
	c, sock, peer := pair(t, kind)
	defer peer.Close()
	sock.SetWriteBuffer(k)
	var want []byte
	for i := range 4 {
		if i == 3 {
			sock.SetWriteBuffer(64 << 10)
			c.SetWriteDeadline(time.Time{})
		} else {
			c.SetWriteDeadline(time.Now().Add(time.Second))
		}
		head, payload, tail := testFrame(i, size)
		err := c.WriteFrame(head, payload, tail)
		all := join(head, payload, tail)
		for _, b := range [][]byte{head, payload, tail} { // only borrowed: N4
			for j := range b {
				b[j] = '!'
			}
		}
		switch {
		case err == nil:
			want = append(want, all...)
		case !errors.Is(err, os.ErrDeadlineExceeded) || i == 3:
			t.Fatalf("%s, %d bytes, room for %d: frame %d: %v", kind, size, k, i, err)
		}
	}
	if err := c.Flush(); err != nil || c.Pending() {
		t.Errorf("Flush: %v, pending %v", err, c.Pending())
	}
	go func() {
		c.CloseWrite()
		sock.CloseWrite()
	}()
	got, err := io.ReadAll(peer)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s, %d bytes, room for %d: got %d bytes of %d, %v", kind, size, k, len(got), len(want), err)
	}
	synctest.Wait()
	c.Close()
}

func join(b ...[]byte) []byte { return bytes.Join(b, nil) }

// TestWriteFails has the socket fail at every byte: the error is final, and no byte
// follows.
func TestWriteFails(t *testing.T) {
	boom := errors.New("boom")
	for _, kind := range kinds {
		for k := 1; k < 150; k += 3 {
			synctest.Test(t, func(t *testing.T) {
				c, sock, peer := pair(t, kind)
				sock.FailWriteAt(sock.Written()+int64(k), boom)
				var err error
				for i := 0; err == nil && i < 20; i++ {
					err = c.WriteFrame(testFrame(i, 10))
					if err == nil {
						err = c.Flush()
					}
				}
				if !errors.Is(err, boom) {
					t.Errorf("%s, %d: %v", kind, k, err)
				}
				written := sock.Written()
				if err := c.WriteFrame(testFrame(99, 10)); !errors.Is(err, boom) {
					t.Errorf("%s, %d: then %v", kind, k, err)
				}
				if err := c.Flush(); !errors.Is(err, boom) || sock.Written() != written {
					t.Errorf("%s, %d: Flush: %v", kind, k, err)
				}
				c.Close()
				peer.Close()
			})
		}
	}
}

// TestCloseUnblocks closes while a write waits for a peer that reads nothing: at once,
// in every kind. C2, N15.
func TestCloseUnblocks(t *testing.T) {
	for _, kind := range kinds {
		synctest.Test(t, func(t *testing.T) {
			c, sock, peer := pair(t, kind)
			sock.SetWriteBuffer(10)
			wrote := make(chan error)
			go func() {
				for i := 0; ; i++ {
					if err := c.WriteFrame(testFrame(i, 100)); err != nil {
						wrote <- err
						return
					}
				}
			}()
			synctest.Wait()
			start := time.Now()
			c.Close()
			if err := <-wrote; !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", kind, err)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("%s: took %v", kind, d)
			}
			if nc := c.NetConn(); nc == nil {
				t.Error("no NetConn")
			}
			sock.SetWriteBuffer(1000)
			go func() { io.Copy(io.Discard, peer) }()
			time.Sleep(10 * time.Second)
		})
	}
}

// TestPumpedDeadline moves the deadline of a write that is under way.
func TestPumpedDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, sock, peer := pair(t, "caller's tls")
		sock.SetWriteBuffer(10)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		if err := c.WriteFrame(testFrame(0, 100)); err != nil { // accepted, and under way
			t.Error(err)
		}
		start := time.Now()
		c.SetWriteDeadline(start.Add(time.Hour))
		time.AfterFunc(time.Minute, func() { c.SetWriteDeadline(time.Now()) })
		if err := c.WriteFrame(testFrame(1, 10)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := c.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Flush: %v", err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Second))
		start = time.Now()
		if c.CloseWrite() || time.Since(start) != time.Second {
			t.Errorf("CloseWrite after %v", time.Since(start))
		}
		c.SetWriteDeadline(time.Time{})
		go io.Copy(io.Discard, peer)
		if err := c.Flush(); err != nil {
			t.Errorf("Flush: %v", err)
		}
		if !c.CloseWrite() {
			t.Error("CloseWrite")
		}
		c.Close()
	})
}

// TestSealedBound has crypto/tls send of its own accord more than waits: it gets an
// error, and memory is bounded. S3.
func TestSealedBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, sock, peer := pair(t, "tls")
		woken := 0
		c.seal.onWrite = func() { woken++ }
		s := tlsSocket{c}
		sum := 0
		var err error
		for err == nil && sum < 10<<20 {
			var n int
			n, err = s.Write(make([]byte, 1000))
			sum += n
		}
		if err != errSealedOverflow || sum > maxSealed || woken != sum/1000 || !c.Pending() || !c.Sealed() {
			t.Errorf("%v after %d bytes, woken %d times", err, sum, woken)
		}
		sock.Close()
		peer.Close()
	})
}

// TestTLSHandshakeFails breaks TLS handshakes with all that is no TLS.
func TestTLSHandshakeFails(t *testing.T) {
	for _, b := range []string{"VT\x01\x08\x02\x00\x00\x00\x00\x00\x00", "GET / HTTP/1.1\r\n\r\n", "", "\x16", "\x15\x03\x01\x00\x02\x02\x16"} {
		for _, client := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				a, p := memconn.Pipe(0)
				p.Write([]byte(b))
				p.CloseWrite()
				c := New(a)
				cc, sc := tlsConfigs()
				if !client {
					cc = sc
				}
				err := c.StartTLS(context.Background(), cc, client, nil)
				var rec tls.RecordHeaderError
				if err == nil || errors.As(err, &rec) != (len(b) > 5 && b[0] != 0x15) {
					t.Errorf("%q: %v", b, err)
				}
				if werr := c.WriteFrame([]byte("x"), nil, nil); werr == nil {
					t.Errorf("%q: a write after a failed handshake", b)
				}
				c.Plain()
				if err := c.WriteFrame([]byte("in the clear"), nil, nil); err != nil {
					t.Errorf("%q: %v", b, err)
				}
				c.Close()
				p.Close()
			})
		}
	}
}

// TestIsTLSRecord tells records by their beginning.
func TestIsTLSRecord(t *testing.T) {
	for b, want := range map[string]bool{
		"": false, "\x16": true, "\x15": true, "\x16\x03": true, "\x16\x03\x01\x02\x00": true, "\x17\x03\x03": true,
		"\x16\x04": false, "V": false, "VT": false, "GET": false, "\x18\x03": false, "\x13\x03": false,
	} {
		if got := IsTLSRecord([]byte(b)); got != want {
			t.Errorf("%q: %v", b, got)
		}
	}
}

// TestSockets moves frames over real sockets, with deadlines that pass wherever the
// kernel has no room, in plaintext and inside TLS.
func TestSockets(t *testing.T) {
	for _, useTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", useTLS), func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			a, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			b, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			c := New(a)
			defer c.Close()
			if !c.Responsive(time.Second) {
				t.Error("a fresh connection is not responsive")
			}
			if useTLS {
				cc, sc := tlsConfigs()
				srv := tls.Server(b, sc)
				b = srv
				go srv.Handshake()
				if err := c.StartTLS(context.Background(), cc, true, func() {}); err != nil {
					t.Fatal(err)
				}
			}
			frames := make(chan []int, 1)
			go func() {
				var sent []int
				timeouts := 0
				for i := range 2000 {
					c.SetWriteDeadline(time.Now().Add(20 * time.Microsecond))
					err := c.WriteFrame(testFrame(i, i*37%60_000))
					if errors.Is(err, os.ErrDeadlineExceeded) {
						timeouts++
						continue
					}
					if err != nil {
						t.Error(err)
						break
					}
					sent = append(sent, i)
				}
				c.SetWriteDeadline(time.Time{})
				if err := c.Flush(); err != nil {
					t.Error(err)
				}
				c.CloseWrite()
				t.Logf("%d frames, %d timeouts", len(sent), timeouts)
				frames <- sent
			}()
			got, err := io.ReadAll(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range <-frames {
				head, payload, tail := testFrame(i, i*37%60_000)
				want := join(head, payload, tail)
				if !bytes.HasPrefix(got, want) {
					t.Fatalf("frame %d is damaged", i)
				}
				got = got[len(want):]
			}
			if len(got) != 0 {
				t.Errorf("%d bytes more", len(got))
			}
		})
	}
}

// TestReadv reads into two slices, and notices the end and deadlines.
func TestReadv(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := New(a)
	defer c.Close()
	p, q := make([]byte, 3), make([]byte, 5)
	c.SetReadDeadline(time.Now().Add(-time.Second))
	if n, err := c.Readv(p, q); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v", n, err)
	}
	c.SetReadDeadline(time.Time{})
	b.Write([]byte("0123456789"))
	var got []byte
	for len(got) < 10 {
		n, err := c.Readv(p, q)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, append(bytes.Clone(p), q...)[:n]...)
		if !c.CanReadv() && n > len(p) {
			t.Errorf("%d bytes without readv", n)
		}
	}
	b.(*net.TCPConn).CloseWrite()
	if n, err := c.Readv(p, q); n != 0 || err != io.EOF || string(got) != "0123456789" {
		t.Errorf("%q, %d, %v", got, n, err)
	}
	b.(*net.TCPConn).SetLinger(0)
	b.Close()
	if err := c.WriteFrame(testFrame(0, 10)); err == nil {
		for range 100 {
			if err = c.WriteFrame(testFrame(0, 10)); err != nil {
				break
			}
		}
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("after a reset: %v", err)
		}
	}
}
