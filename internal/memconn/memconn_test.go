package memconn

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := Pipe(0)
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

func TestBoundAndDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(10)
		start := time.Now()
		a.SetWriteDeadline(start.Add(time.Second))
		n, err := a.Write(make([]byte, 25))
		if n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %d, %v after %v", n, err, time.Since(start))
		}
		a.SetWriteDeadline(time.Time{})
		b.SetMaxRead(3)
		if n, err := b.Read(make([]byte, 100)); n != 3 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		if b.Buffered() != 7 || a.Written() != 10 {
			t.Errorf("%d buffered, %d written", b.Buffered(), a.Written())
		}
		a.SetWriteBuffer(11)
		if n, err := a.Write(make([]byte, 4)); n != 4 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		a.CloseWrite()
		if got, err := io.ReadAll(b); len(got) != 11 || err != nil {
			t.Errorf("read %d, %v", len(got), err)
		}
		if _, err := b.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		a.Close()
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) || !a.Closed() {
			t.Error(err)
		}
	})
}

func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	a, b := Pipe(0)
	a.FlipAt(2, 0x20)
	a.FailWriteAt(5, boom)
	n, err := a.Write([]byte("HELLO WORLD"))
	if n != 5 || !errors.Is(err, boom) {
		t.Errorf("wrote %d, %v", n, err)
	}
	b.FailRead(boom)
	if got, err := io.ReadAll(b); string(got) != "HElLO" || !errors.Is(err, boom) {
		t.Errorf("read %q, %v", got, err)
	}
	a, b = Pipe(0)
	io.Copy(a, strings.NewReader("lost"))
	b.Reset()
	if _, err := b.Read(make([]byte, 4)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}
