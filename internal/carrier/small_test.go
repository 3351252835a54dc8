package carrier

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// tcpCarriers returns both ends of a TCP connection.
func tcpCarriers(tb testing.TB) (a, b *Carrier) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	a, b = New(conn), New(peer)
	tb.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestSmallFrames: small frames, which go to the socket by a way of their own, are taken
// whole or not at all when a deadline passes, and errors are those of package net.
func TestSmallFrames(t *testing.T) {
	a, b := tcpCarriers(t)
	var want []byte
	for n := 0; ; n++ {
		a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		payload := bytes.Repeat([]byte{byte(n)}, 1+n%joinLimit)
		err := a.WriteFrame([]byte("head"), payload, []byte("tail"))
		if isTimeout(err) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(append(append(want, "head"...), payload...), "tail"...)
	}
	got := make([]byte, len(want)+1)
	done := make(chan int)
	go func() {
		n := 0
		for n < len(want) {
			m, err := b.Read(got[n:min(len(got), n+1000)])
			if err != nil {
				t.Error(err)
				break
			}
			n += m
		}
		done <- n
	}()
	a.SetWriteDeadline(time.Time{})
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := <-done; n != len(want) || !bytes.Equal(got[:n], want) {
		t.Errorf("%d bytes have come of %d, or they are others", n, len(want))
	}

	b.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := b.Read(got[:10]); !isTimeout(err) {
		t.Errorf("read after the deadline: %v", err)
	}
	b.SetReadDeadline(time.Time{})
	a.CloseWrite()
	if _, err := b.Read(got[:10]); err != io.EOF {
		t.Errorf("read at the end: %v", err)
	}
	a.conn.(*net.TCPConn).SetLinger(0)
	a.Close()
	if err := a.WriteFrame([]byte("head"), []byte("payload"), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	var err error
	for range 3 {
		err = b.WriteFrame([]byte("head"), []byte("payload"), nil)
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "write" || op.Addr == nil ||
		!errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after a reset: %v", err)
	}
}

// BenchmarkRoundTrip is a small frame there and back, without what is in it being looked
// at: what the system and the scheduler take.
func BenchmarkRoundTrip(b *testing.B) {
	c, peer := tcpCarriers(b)
	head, payload := make([]byte, 11), make([]byte, 64)
	buf := make([]byte, 509)
	go func() {
		buf := make([]byte, 509)
		for {
			if _, err := peer.Read(buf); err != nil || peer.WriteFrame(head, payload, nil) != nil {
				return
			}
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.WriteFrame(head, payload, nil); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
