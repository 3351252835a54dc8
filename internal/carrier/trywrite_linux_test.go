package carrier

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// TestTryWrite: what there is no room for is left, and WriteAll goes on with it.
func TestTryWrite(t *testing.T) {
	for _, name := range []string{"plain", "TLS"} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			peer, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c := New(conn)
			var r io.Reader = peer
			if name == "TLS" {
				cc, sc := tlsConfigs()
				srv := tls.Server(peer, sc)
				done := make(chan error, 1)
				go func() { done <- srv.Handshake() }()
				if err := c.StartTLS(context.Background(), cc, true, nil); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				r = srv
			}
			piece := bytes.Repeat([]byte("0123456789abcde"), 10000)
			var want []byte
			blocked := false
			for range 200 {
				want = append(want, piece...)
				bufs := buffers(piece)
				done, err := c.TryWrite(bufs)
				if err != nil {
					t.Fatal(err)
				}
				if done {
					continue
				}
				if blocked = true; len(want) < 300000 {
					t.Errorf("full after %d bytes", len(want))
				}
				sent := make(chan error, 1)
				go func() { sent <- c.WriteAll(bufs) }()
				got := make([]byte, len(want))
				if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("other bytes, %v", err)
				}
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
				want = want[:0]
			}
			if !blocked {
				t.Error("there was always room")
			}
			peer.Close()
			c.Close()
			if done, err := c.TryWrite(buffers(piece)); done || err == nil {
				t.Error("written after Close")
			}
		})
	}
}
