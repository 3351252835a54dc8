package endpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
)

// netConn makes a Session what nettest wants. The root package does the same.
type netConn struct{ *Session }

func (c netConn) op(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: "op", Net: "rudp", Err: err}
}

func (c netConn) Read(p []byte) (int, error) {
	n, err := c.Session.Read(p)
	return n, c.op(err)
}

func (c netConn) Write(p []byte) (int, error) {
	n, err := c.Session.Write(p)
	return n, c.op(err)
}

func (c netConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := loopback(t, testConfig()), loopback(t, testConfig())
		c, s := connect(t, a, b)
		return netConn{c}, netConn{s}, func() {
			a.Close()
			b.Close()
		}, nil
	})
}

func TestLoopbackBulk(t *testing.T) {
	a, b := loopback(t, testConfig()), loopback(t, testConfig())
	c, s := connect(t, a, b)
	want := pattern(8 << 20)
	go func() {
		c.Write(want)
		c.Close()
	}()
	got, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLoopbackMessages(t *testing.T) {
	a, b := loopback(t, testConfig()), loopback(t, testConfig())
	h := framing.Header{{Key: "k", Value: "v"}}
	for _, size := range []int{0, 1, 1000, 60000, 3 << 20} {
		want := pattern(size)
		send(t, a, addrOf(t, b), &session.Message{Header: h, Payload: want, ReqAck: size != 1000})
		t.Log(size)
		m := receive(t, b)
		equal(t, m.Payload, want)
		if m.Header.Get("k") != "v" {
			t.Fatal("metadata is lost")
		}
	}
	// The other way over the same association.
	send(t, b, addrOf(t, a), &session.Message{Payload: []byte("back")})
	equal(t, receive(t, a).Payload, []byte("back"))
	if n := b.Stats().Associations; n != 1 {
		t.Fatalf("%d associations", n)
	}
}

func TestDialNobody(t *testing.T) {
	a := loopback(t, testConfig())
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second) // less than the handshake may take
	defer cancel()
	b := loopback(t, testConfig())
	_, err = a.DialStream(ctx, addrOf(t, b)) // refused: nobody listens
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if n := a.Stats().Associations; n != 0 {
		t.Fatalf("%d associations after a failed dial", n)
	}
}

func TestReceiveDeadline(t *testing.T) {
	a := loopback(t, testConfig())
	done := make(chan error)
	go func() {
		_, _, err := a.ReceiveMessage(context.Background())
		done <- err
	}()
	a.SetReadDeadline(time.Now().Add(time.Millisecond))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	a.SetReadDeadline(time.Time{})
	go func() {
		_, _, err := a.ReceiveMessage(context.Background())
		done <- err
	}()
	a.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	x, y := loopback(b, testConfig()), loopback(b, testConfig())
	c, s := connect(b, x, y)
	go io.Copy(s, struct{ io.Reader }{s})
	msg, buf := bytes.Repeat([]byte{1}, 64), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(msg)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(x.Stats().DatagramsSent)/float64(b.N), "datagrams/op")
}

func BenchmarkRawRoundTrip(b *testing.B) {
	pc, _ := net.ListenPacket("udp", "127.0.0.1:0")
	defer pc.Close()
	go func() {
		buf := make([]byte, 2048)
		for {
			n, a, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(buf[:n], a)
		}
	}()
	c, _ := net.Dial("udp", pc.LocalAddr().String())
	defer c.Close()
	msg, buf := bytes.Repeat([]byte{1}, 64), make([]byte, 64)
	for b.Loop() {
		c.Write(msg)
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMessages(b *testing.B) {
	x, y := loopback(b, testConfig()), loopback(b, testConfig())
	to := addrOf(b, y)
	go func() {
		for {
			if _, _, err := y.ReceiveMessage(context.Background()); err != nil {
				return
			}
		}
	}()
	send(b, x, to, &session.Message{ReqAck: true})
	m := &session.Message{Payload: make([]byte, 1000)}
	b.SetBytes(1000)
	b.ReportAllocs()
	for b.Loop() {
		x.SendMessage(context.Background(), m, to)
	}
	b.ReportMetric(float64(y.Stats().DatagramsReceived)/float64(b.N), "datagrams/op")
}

func BenchmarkMessageRoundTrip(b *testing.B) {
	x, y := loopback(b, testConfig()), loopback(b, testConfig())
	to, back := addrOf(b, y), addrOf(b, x)
	go func() {
		for {
			m, _, err := y.ReceiveMessage(context.Background())
			if err != nil {
				return
			}
			y.SendMessage(context.Background(), m, back)
		}
	}()
	m := &session.Message{Payload: make([]byte, 64)}
	x.SendMessage(context.Background(), &session.Message{ReqAck: true}, to)
	x.ReceiveMessage(context.Background())
	b.ReportAllocs()
	for b.Loop() {
		x.SendMessage(context.Background(), m, to)
		if _, _, err := x.ReceiveMessage(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(x.Stats().DatagramsSent)/float64(b.N), "datagrams/op")
}

func BenchmarkDial(b *testing.B) {
	x, y := loopback(b, testConfig()), loopback(b, testConfig())
	for b.Loop() {
		c, s := connect(b, x, y)
		c.CloseWithError(1, "")
		s.Close()
	}
}

func BenchmarkLargeMessage(b *testing.B) {
	x, y := loopback(b, testConfig()), loopback(b, testConfig())
	to := addrOf(b, y)
	go func() {
		for {
			if _, _, err := y.ReceiveMessage(context.Background()); err != nil {
				return
			}
		}
	}()
	m := &session.Message{Payload: make([]byte, 50<<20), ReqAck: true}
	b.SetBytes(50 << 20)
	for b.Loop() {
		if err := x.SendMessage(context.Background(), m, to); err != nil {
			b.Fatal(err)
		}
	}
}
