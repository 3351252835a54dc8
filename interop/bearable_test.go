package interop_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
)

// A tap notes what is sent.
type tap struct {
	mu   sync.Mutex
	sent [][]byte
}

func (t *tap) note(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent = append(t.sent, append([]byte(nil), b...))
}

func (t *tap) all() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent
}

// A packetTap is a socket with a tap.
type packetTap struct {
	net.PacketConn
	*tap
}

func (p packetTap) WriteTo(b []byte, to net.Addr) (int, error) {
	p.note(b)
	return p.PacketConn.WriteTo(b, to)
}

// A connTap is a connection with a tap.
type connTap struct {
	net.Conn
	*tap
}

func (c connTap) Write(b []byte) (int, error) {
	c.note(b)
	return c.Conn.Write(b)
}

// A listenerTap has taps on its connections.
type listenerTap struct {
	net.Listener
	*tap
}

func (l listenerTap) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return connTap{c, l.tap}, nil
}

// eager is a configuration that asks for everything that the crate does not know.
func eager() *vstp.Config {
	return &vstp.Config{
		Compression: vstp.CompressionZstd, Checksum: vstp.ChecksumOff, Reliable: true,
		KeepAlive: time.Millisecond, IdleTimeout: time.Hour, Linger: time.Second,
		Header: vstp.Header{{Key: "token", Value: "x"}}, AckTimeout: 5 * time.Second, MaxRetries: 1,
	}
}

// eagerLegacy is the same where it goes to servers of the crate.
func eagerLegacy() *vstp.Config {
	c := eager()
	c.Legacy = true
	return c
}

// checkBearable looks at everything that was sent to a crate peer (PROTOCOL §6.3, §6.8):
// no type but DATA, ACK, PONG and, on streams, BYE; no flag but REQ_ACK and, on datagrams,
// FRAG; a good trailer; no reserved key; sizes that it takes, and at most 255 fragments.
func checkBearable(t *testing.T, sent [][]byte, stream bool) {
	t.Helper()
	if stream {
		sent = [][]byte{[]byte(strings.Join(texts(sent), ""))}
	}
	frames := 0
	for _, b := range sent {
		if !stream && len(b) > maxDatagram {
			t.Errorf("a datagram of %d bytes", len(b))
		}
		for len(b) > 0 {
			f, n, err := framing.Parse(b, 0, framing.TrailerAlways)
			if err != nil || n > maxFrame || !stream && n != len(b) {
				t.Fatalf("%v in frame %d: %x", err, frames, b[:min(40, len(b))])
			}
			b = b[n:]
			frames++
			h, _ := f.Header.AppendTo(nil)
			switch {
			case f.Type == framing.TypeData, f.Type == framing.TypeAck, f.Type == framing.TypePong,
				stream && f.Type == framing.TypeBye:
			default:
				t.Errorf("type %v", f.Type)
			}
			allowed := framing.FlagReqAck
			if !stream {
				allowed |= framing.FlagFrag
			}
			if f.Flags&^allowed != 0 || h.HasReserved() {
				t.Errorf("%v with flags %v, fields %v", f.Type, f.Flags, h)
			}
			if v, ok := h.Lookup(framing.LegacyKeyFragTotal); ok && (atoi(t, v) > maxParts || atoi(t, h.Get(framing.LegacyKeyFragIndex)) >= atoi(t, v)) {
				t.Errorf("fields %v", h)
			}
		}
	}
	if frames == 0 {
		t.Error("nothing was sent")
	}
}

func texts(bs [][]byte) []string {
	s := make([]string, len(bs))
	for i, b := range bs {
		s[i] = string(b)
	}
	return s
}

// sendAll sends one of every kind of message, and those that have to be refused.
func sendAll(t *testing.T, e *end, datagrams bool) {
	t.Helper()
	send := func(m *vstp.Message, want error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := e.send(ctx, m); !errors.Is(err, want) {
			t.Errorf("%d bytes, %v: %v, want %v", len(m.Payload), m.Header, err, want)
		}
	}
	sizes := []int{0, 1, 1185, 1186, 5000, 260_000}
	if !datagrams {
		sizes = append(sizes, 7<<20)
	}
	for _, n := range sizes {
		send(&vstp.Message{Payload: content(n, uint32(n), false), Header: vstp.Header{{Key: "k", Value: "v"}}}, nil)
	}
	send(&vstp.Message{Payload: []byte("1"), Repair: true, Ordered: true, Channel: 7, Priority: 3, Lifetime: time.Hour}, nil)
	send(&vstp.Message{Payload: make([]byte, maxFrame)}, vstp.ErrMessageTooLarge)
	send(&vstp.Message{Header: vstp.Header{{Key: "\x02", Value: "v"}}}, vstp.ErrReservedKey)
}

// TestBearable configures our side for all that the crate does not know, and notes what
// goes to peers of the crate. These stay well: they still answer at the end.
func TestBearable(t *testing.T) {
	need(t)
	t.Run("to a client/UDP", func(t *testing.T) {
		tp, e, p := tappedUDP(t, eager(), "udp-client")
		sendAll(t, e, true)
		checkPing(t, p, e)
		checkBearable(t, tp.all(), false)
	})
	t.Run("to a client/TCP", func(t *testing.T) {
		tp, e, p := tappedTCP(t, eager(), "tcp-client")
		sendAll(t, e, false)
		checkPing(t, p, e)
		if err := p.do(command{"op": "close"}); err != nil {
			t.Error(err)
		}
		e.close()
		p.wait("end", isEvent("end"))
		checkBearable(t, tp.all(), true)
	})
	for _, role := range []string{"udp-server", "easy-udp-server"} {
		t.Run("to a server/"+role, func(t *testing.T) {
			p := newServer(t, role)
			inner, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			tp := packetTap{inner, &tap{}}
			e := packetEndWith(t, tp, eagerLegacy(), p.addr)
			if role == "udp-server" {
				sendAll(t, e, true)
			}
			if err := e.send(t.Context(), &vstp.Message{Payload: []byte("4711"), RequireAck: true}); err != nil {
				t.Error(err)
			}
			p.wait("the last message", func(e event) bool { return e.isContent() && e.FNV == sum([]byte("4711")) })
			if role == "easy-udp-server" {
				checkEchoes(t, e)
			}
			checkBearable(t, tp.all(), false)
		})
	}
	for _, role := range []string{"tcp-server", "easy-tcp-server"} {
		t.Run("to a server/"+role, func(t *testing.T) {
			p := newServer(t, role)
			nc, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			tp := connTap{nc, &tap{}}
			e := connEnd(vstp.Client(tp, eagerLegacy()))
			if role == "tcp-server" {
				sendAll(t, e, false)
			}
			if err := e.send(t.Context(), &vstp.Message{Payload: []byte("4711")}); err != nil {
				t.Error(err)
			}
			p.wait("the last message", func(e event) bool { return e.isContent() && e.FNV == sum([]byte("4711")) })
			if role == "easy-tcp-server" {
				checkEchoes(t, e)
			}
			e.close()
			if role == "tcp-server" {
				p.wait("end", isEvent("end"))
			}
			checkBearable(t, tp.all(), true)
		})
	}
}

// checkEchoes expects the echo of a server of easy, and of some more messages. It takes
// several times Config.KeepAlive; what a keep-alive frame is answered with would be
// between them.
func checkEchoes(t *testing.T, e *end) {
	t.Helper()
	for i := 4711; i < 4811; i++ {
		want := []byte(strconv.Itoa(i))
		if i > 4711 {
			if err := e.send(t.Context(), &vstp.Message{Payload: want}); err != nil {
				t.Fatal(err)
			}
		}
		if g, ok := e.poll(patience); !ok || g.fnv != sum(want) {
			t.Fatalf("%+v, %v, want %s", g, ok, want)
		}
	}
}

// checkPing has a client of the crate send what wants an answer.
func checkPing(t *testing.T, p *peer, e *end) {
	t.Helper()
	for _, c := range []struct {
		typ, flags, answer int
		h                  vstp.Header
	}{
		{4, 0, 5, nil}, // PING, PONG
		{4, 1, 7, vstp.Header{{Key: "x-auto-probe", Value: "1"}, {Key: "msg-id", Value: "901"}}},
		{3, 1, 7, vstp.Header{{Key: "msg-id", Value: "902"}}},
	} {
		cmd := message{}.command("send", false, c.h)
		cmd["type"], cmd["flags"] = c.typ, c.flags
		if err := p.do(cmd); err != nil {
			t.Error(err)
		}
		f := p.wait("answer", func(e event) bool { return e.Event == "frame" && e.Type == c.answer })
		if id := f.header().Get("msg-id"); id != c.h.Get("msg-id") || f.Len != 0 || f.Flags != 0 {
			t.Errorf("answer %+v", f)
		}
	}
	if g, ok := e.poll(patience); !ok || g.n != 0 || len(g.h) != 0 {
		t.Errorf("the DATA among them came as %+v, %v", g, ok)
	}
}

// tappedUDP returns our server on a socket with a tap, and a client of the crate that it knows.
func tappedUDP(t *testing.T, c *vstp.Config, role string, args ...string) (*tap, *end, *peer) {
	t.Helper()
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tp := packetTap{inner, &tap{}}
	pc := vstp.NewPacketConn(tp, c)
	t.Cleanup(func() { pc.Close() })
	p := newPeer(t, role, append(args, "--addr", pc.LocalAddr().String())...)
	p.wait("ready", isEvent("ready"))
	return tp.tap, meet(t, pc, first(p, "")), p
}

// tappedTCP is the same over TCP.
func tappedTCP(t *testing.T, c *vstp.Config, role string) (*tap, *end, *peer) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tp := &tap{}
	ln := vstp.NewListener(listenerTap{inner, tp}, c)
	t.Cleanup(func() { ln.Close() })
	p := newPeer(t, role, "--addr", ln.Addr().String())
	p.wait("ready", isEvent("ready"))
	return tp, accept(t, ln, first(p, "")), p
}
