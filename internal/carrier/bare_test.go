package carrier

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/vstp-go/vstp/internal/memconn"
)

// counted counts calls of Write.
type counted struct {
	net.Conn
	writes int
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

// buffers returns p in pieces.
func buffers(p []byte) *net.Buffers {
	bufs := net.Buffers{}
	for n := 1; len(p) > 0; n *= 7 {
		n = min(n, len(p))
		bufs = append(bufs, p[:n])
		p = p[n:]
	}
	return &bufs
}

// TestWriteAll: what is written arrives, in a few calls, and an error is final.
func TestWriteAll(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, sock, peer := pair(t, kind)
				if c.RawConn() != nil {
					t.Error("the socket of memory")
				}
				var all []byte
				for _, n := range []int{0, 1, 100, 16 << 10, 1<<16 + 1, 1 << 18, 300_000} {
					all = append(all, bytes.Repeat([]byte{byte(n)}, n)...)
				}
				done := make(chan error, 1)
				go func() {
					err := c.WriteAll(buffers(all[:1]))
					done <- errors.Join(err, c.WriteAll(buffers(nil)), c.WriteAll(buffers(all[1:])))
				}()
				got := make([]byte, len(all))
				if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, all) {
					t.Error(err)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				broken := errors.New("broken")
				sock.FailWriteAt(sock.Written()+10, broken)
				for range 2 {
					if err := c.WriteAll(buffers(all)); !errors.Is(err, broken) {
						t.Errorf("%v", err)
					}
				}
				if err := c.WriteFrame(all[:1], nil, nil); err == nil {
					t.Error("a frame behind half of one")
				}
				c.Close()
				peer.Close()
			})
		})
	}
}

// TestWriteAllCalls: records go to the socket together.
func TestWriteAllCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memconn.Pipe(1 << 20)
		cc, sc := tlsConfigs()
		srv := tls.Server(b, sc)
		go srv.Handshake()
		sock := &counted{Conn: a}
		c := New(sock)
		if err := c.StartTLS(context.Background(), cc, true, nil); err != nil {
			t.Fatal(err)
		}
		sock.writes = 0
		if err := c.WriteAll(buffers(make([]byte, 256<<10))); err != nil || sock.writes != 2 {
			t.Errorf("%d calls, %v", sock.writes, err)
		}
		c.Close()
		srv.Close()
		b.Close()
	})
}
