package interop_test

import (
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
)

// A socket that loses the first ACKs.
type losing struct {
	net.PacketConn
	acks, lose atomic.Int64
}

func (l *losing) WriteTo(b []byte, to net.Addr) (int, error) {
	if f, _, err := framing.Parse(b, 0, framing.TrailerAlways); err == nil && f.Type == framing.TypeAck {
		l.acks.Add(1)
		if l.lose.Add(-1) >= 0 {
			return len(b), nil
		}
	}
	return l.PacketConn.WriteTo(b, to)
}

// TestRepeated: a client of the crate sends a message again, byte by byte, until it has
// the ACK. Each is acknowledged again and delivered once, also where the "fragments" are
// copies of the whole. PROTOCOL §6.6.
func TestRepeated(t *testing.T) {
	need(t)
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sock := &losing{PacketConn: inner}
	pc := vstp.NewPacketConn(sock, nil)
	defer pc.Close()
	p := newPeer(t, "udp-client", "--addr", pc.LocalAddr().String(), "--ack-timeout", "100", "--retry-delay", "1")
	p.wait("ready", isEvent("ready"))
	e := meet(t, pc, first(p, ""))
	for i, n := range []int{0, 100, 1185, 2000, 20_000} {
		sock.lose.Store(2)
		before := sock.acks.Load()
		if err := p.do(message{n: n, seed: uint32(i)}.command("ack", false, nil)); err != nil {
			t.Error(err)
		}
		if g, ok := e.poll(patience); !ok || g.fnv != sum(content(n, uint32(i), false)) {
			t.Errorf("%+v, %v", g, ok)
		}
		if got := sock.acks.Load() - before; got < 3 {
			t.Errorf("%d bytes: %d ACKs", n, got)
		}
	}
	expectNext(t, p, e)
}

// expectNext has p send one more, which has to be the next that arrives.
func expectNext(t *testing.T, p *peer, e *end) {
	t.Helper()
	if err := p.do(message{marker: 1000000}.command("send", false, nil)); err != nil {
		t.Error(err)
	}
	if g, ok := e.poll(patience); !ok || g.fnv != sum([]byte(firstMarker)) {
		t.Errorf("there came %+v, %v", g, ok)
	}
}

// TestNotAnswered sends, from a client of the crate, all types of frames that want no
// answer, and fragments that are none: nothing is answered, nothing is delivered, and the
// next message is. PROTOCOL §6.6, §6.7.
func TestNotAnswered(t *testing.T) {
	need(t)
	tp, e, p := tappedUDP(t, nil, "udp-client")
	frag := func(id, index, total string) vstp.Header {
		return vstp.Header{{Key: "frag-id", Value: id}, {Key: "frag-index", Value: index}, {Key: "frag-total", Value: total}}
	}
	for _, c := range []struct {
		typ, flags int
		h          vstp.Header
	}{
		{1, 0, nil}, {2, 0, nil}, {5, 0, nil}, {6, 0, nil}, {7, 0, nil}, {8, 0, nil},
		{1, 1, vstp.Header{{Key: "msg-id", Value: "1"}}},
		{5, 1, vstp.Header{{Key: "msg-id", Value: "1"}}},
		{7, 0, vstp.Header{{Key: "msg-id", Value: "1"}}},
		{8, 1, vstp.Header{{Key: "msg-id", Value: "1"}}},
		{3, 0x10, frag("1", "2", "2")},
		{3, 0x10, frag("1", "0", "0")},
		{3, 0x10, frag("1", "0", "256")},
		{3, 0x10, frag("x", "0", "2")},
		{3, 0x10, frag("2", "0", "200")},
		{3, 0x10, frag("2", "0", "200")},
		{3, 0x10, frag("2", "0", "199")},
	} {
		cmd := message{n: 20}.command("send", false, c.h)
		cmd["type"], cmd["flags"] = c.typ, c.flags
		if err := p.do(cmd); err != nil {
			t.Error(err)
		}
	}
	expectNext(t, p, e)
	if sent := tp.all(); len(sent) != 0 {
		t.Errorf("answered with %x", sent)
	}
}

// TestNoLoop: what a server of easy says of what it cannot read is an ordinary message,
// and is not answered by this module. Two such servers would go on for ever.
func TestNoLoop(t *testing.T) {
	need(t)
	p := newServer(t, "easy-udp-server")
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tp := packetTap{inner, &tap{}}
	e := packetEndWith(t, tp, eagerLegacy(), p.addr)
	for i := range 20 {
		if err := e.send(t.Context(), &vstp.Message{Payload: []byte("no JSON")}); err != nil {
			t.Fatal(err)
		}
		if g, ok := e.poll(patience); !ok || g.n < 20 {
			t.Fatalf("%d: %+v, %v", i, g, ok)
		}
	}
	if err := e.send(t.Context(), &vstp.Message{Payload: []byte("12")}); err != nil {
		t.Fatal(err)
	}
	if g, ok := e.poll(patience); !ok || g.fnv != sum([]byte("12")) {
		t.Fatalf("%+v, %v", g, ok)
	}
	if n := len(tp.all()); n != 21 {
		t.Errorf("%d datagrams were sent", n)
	}
}

// TestListenerGoesOn: clients of the crate that say nothing, end in the middle of a frame,
// send too much, or go without BYE do no harm to the others.
func TestListenerGoesOn(t *testing.T) {
	need(t)
	ln, _ := listen(t, nil)
	addr := ln.Addr().String()
	for range 20 {
		silent, err := net.Dial("tcp", addr) // as the second probe of auto, but it stays
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	half, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := half.Write([]byte("VT\x01\x03\x00\x00\x00\x00\x00\x00\x10half")); err != nil {
		t.Fatal(err)
	}
	half.Close()

	big := newPeer(t, "tcp-client", "--addr", addr)
	big.wait("ready", isEvent("ready"))
	big.tell(message{n: maxFrame}.command("send", false, nil)) // more than 8 MiB with its header
	accepted := make(chan *vstp.Conn, 100)
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- nc.(*vstp.Conn)
		}
	}()
	big.wait("end", isEvent("end"))

	p := newPeer(t, "tcp-client", "--addr", addr, "--clients", "3")
	for range 3 {
		p.wait("ready", isEvent("ready"))
	}
	got := map[string]bool{}
	for i := range 3 {
		c := message{marker: i + 1}.command("send", false, nil)
		c["client"] = i
		if err := p.do(c); err != nil {
			t.Fatal(err)
		}
	}
	for len(got) < 3 {
		c := <-accepted
		defer c.Close()
		m, err := c.ReceiveMessage(t.Context())
		if err != nil {
			continue // of those before
		}
		if n, err := strconv.Atoi(string(m.Payload)); err != nil || n < 1 || n > 3 || !c.ConnectionState().Legacy {
			t.Errorf("%q", m.Payload)
		}
		got[string(m.Payload)] = true
		if err := c.SendMessage(t.Context(), &vstp.Message{Payload: m.Payload}); err != nil {
			t.Error(err)
		}
	}
	for range 3 {
		if f := p.wait("echo", isEvent("frame")); f.Len != 1 {
			t.Errorf("%+v", f)
		}
	}
}

// TestEasyServerLives: attempts of a message of which the ACKs are lost do not end the
// reception of a server of easy, as a fragment would that comes twice.
func TestEasyServerLives(t *testing.T) {
	need(t)
	p := newServer(t, "easy-udp-server", "--quiet")
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sock := &deaf{PacketConn: inner}
	c := eagerLegacy()
	c.AckTimeout, c.MaxRetries, c.RetryDelay = 20*time.Millisecond, 2, time.Millisecond
	e := packetEndWith(t, sock, c, p.addr)
	text := content(5000, 1, true)
	// The last of the five fragments of the first attempt is lost: the others stay there.
	sock.lose.Store(5)
	sock.deaf.Store(true)
	if err := e.send(t.Context(), &vstp.Message{Payload: text, RequireAck: true}); err == nil || !strings.Contains(err.Error(), vstp.ErrAckTimeout.Error()) {
		t.Error(err)
	}
	sock.deaf.Store(false)
	for range 2 { // attempts
		p.wait("the message", func(e event) bool { return e.isContent() && e.FNV == sum(text) })
	}
	if err := e.send(t.Context(), &vstp.Message{Payload: []byte("12")}); err != nil {
		t.Error(err)
	}
	p.wait("one more", func(e event) bool { return e.isContent() && e.FNV == sum([]byte("12")) })
}

// A socket that hears nothing for a time, and loses one of the datagrams that it sends:
// the one at which lose gets down to 0.
type deaf struct {
	net.PacketConn
	deaf atomic.Bool
	lose atomic.Int64
}

func (d *deaf) WriteTo(b []byte, to net.Addr) (int, error) {
	if d.lose.Add(-1) == 0 {
		return len(b), nil
	}
	return d.PacketConn.WriteTo(b, to)
}

func (d *deaf) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := d.PacketConn.ReadFrom(b)
		if err != nil || !d.deaf.Load() {
			return n, from, err
		}
	}
}
