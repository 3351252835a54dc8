package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
)

// sockets returns two connected TCP sockets.
func sockets(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func socketPair(t *testing.T, client, server *Config) (c, s *Session) {
	t.Helper()
	a, b := sockets(t)
	c, s = New(a, client), New(b, server)
	done := make(chan error, 1)
	go func() { done <- s.Handshake(context.Background()) }()
	if err := c.Handshake(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c, s
}

func testFile(t *testing.T, n int) (*os.File, []byte) {
	t.Helper()
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 7)
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, b
}

// TestFileToSmallFrames sends a file to a peer that takes small frames only.
func TestFileToSmallFrames(t *testing.T) {
	server := testConfig(false)
	server.Params.MaxFrame = handshake.MinMaxFrame
	c, s := socketPair(t, testConfig(true), server)
	f, want := testFile(t, 3_000_000)
	go func() {
		if n, err := c.ReadFrom(f); n != int64(len(want)) || err != nil {
			t.Errorf("sent %d, %v", n, err)
		}
		c.CloseWrite()
	}()
	got, err := io.ReadAll(readerOf{s})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// TestFileDeadline has write deadlines pass while a file goes out by sendfile: all
// that was counted arrives. N3, N13.
func TestFileDeadline(t *testing.T) {
	c, s := socketPair(t, testConfig(true), testConfig(false))
	f, want := testFile(t, 8<<20)
	sent := make(chan int64, 1)
	go func() {
		var sum int64
		for {
			c.SetWriteDeadline(time.Now().Add(100 * time.Microsecond))
			n, err := c.ReadFrom(f)
			sum += n
			if err == nil {
				break
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after %d: %v", sum, err)
				break
			}
			if _, err := f.Seek(sum, io.SeekStart); err != nil {
				t.Error(err)
			}
		}
		c.CloseWrite()
		sent <- sum
	}()
	var got bytes.Buffer
	if _, err := io.Copy(&got, readerOf{s}); err != nil {
		t.Error(err)
	}
	if n := <-sent; n != int64(len(want)) || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d sent, %d got", n, got.Len())
	}
}

// TestSocketWriteDeadline is TestWriteDeadlineAnywhere over real sockets: deadlines
// pass wherever the kernel has no more room. N3, N5.
func TestSocketWriteDeadline(t *testing.T) {
	for _, m := range modes {
		if m.callerTLS {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			c, s := socketPair(t, m.apply(testConfig(true)), m.apply(testConfig(false)))
			p := make([]byte, 1<<20)
			for i := range p {
				p[i] = byte(i * i * i >> 9)
			}
			total := make(chan []byte, 1)
			go func() {
				var sent []byte
				for len(sent) < 8<<20 {
					c.SetWriteDeadline(time.Now().Add(time.Millisecond))
					n, err := c.Write(p)
					sent = append(sent, p[:n]...)
					if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error(err)
						break
					}
				}
				c.CloseWrite()
				total <- sent
			}()
			var got bytes.Buffer
			for err := error(nil); err == nil; {
				s.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
				_, err = io.CopyN(&got, readerOf{s}, 1<<20)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					err = nil
				} else if err != nil && err != io.EOF {
					t.Error(err)
				}
			}
			if want := <-total; !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got %d bytes of %d", got.Len(), len(want))
			}
		})
	}
}
