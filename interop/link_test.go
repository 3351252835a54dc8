package interop_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp"
)

// A message of a cell of the matrix.
type message struct {
	n      int
	seed   uint32
	marker int // not 0: a marker instead, to see what came before it
	h      vstp.Header
}

func (m message) payload(asJSON bool) []byte {
	if m.marker != 0 {
		return []byte(strconv.Itoa(m.marker))
	}
	return content(m.n, m.seed, asJSON)
}

func (m message) command(op string, asJSON bool, h vstp.Header) command {
	c := command{"op": op, "len": m.n, "seed": m.seed, "json": asJSON, "headers": fields(h)}
	if m.marker != 0 {
		c["marker"] = m.marker
	}
	return c
}

// got is what arrived.
type got struct {
	n    int
	fnv  string
	h    vstp.Header
	note string // what is wrong with it
}

func gotPayload(b []byte) got { return got{n: len(b), fnv: sum(b)} }

// An inbox keeps what arrives until someone asks for it.
type inbox struct {
	mu   sync.Mutex
	all  []got
	more chan struct{}
}

func newInbox() *inbox { return &inbox{more: make(chan struct{})} }

func (in *inbox) add(g got) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.all = append(in.all, g)
	close(in.more)
	in.more = make(chan struct{})
}

// poll takes the next one, if it comes within d.
func (in *inbox) poll(d time.Duration) (got, bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		in.mu.Lock()
		more := in.more
		if len(in.all) > 0 {
			g := in.all[0]
			in.all = in.all[1:]
			in.mu.Unlock()
			return g, true
		}
		in.mu.Unlock()
		select {
		case <-more:
		case <-timer.C:
			return got{}, false
		}
	}
}

// A link carries messages in one direction over one transport.
type link struct {
	asJSON bool
	send   func(message) error
	poll   func(time.Duration) (got, bool)
}

func withContentType(h vstp.Header) vstp.Header {
	return append(vstp.Header{{Key: "content-type", Value: "application/json"}}, h...)
}

// An end is our side of a link.
type end struct {
	*inbox
	send  func(ctx context.Context, m *vstp.Message) error
	close func() error
}

// connEnd returns the end of a connection.
func connEnd(c *vstp.Conn) *end {
	e := &end{inbox: newInbox(), send: c.SendMessage, close: c.Close}
	go e.receive(c.ReceiveMessage)
	return e
}

// receive fills e with what arrives until that fails.
func (e *end) receive(next func(context.Context) (*vstp.Message, error)) {
	for {
		m, err := next(context.Background())
		if err != nil {
			return
		}
		g := gotPayload(m.Payload)
		g.h = m.Header
		e.add(g)
	}
}

func (e *end) sendMessage(asJSON, ack bool) func(message) error {
	return func(m message) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return e.send(ctx, &vstp.Message{Header: m.h, Payload: m.payload(asJSON), RequireAck: ack && m.marker == 0})
	}
}

// serverConfig is that of our side where clients of the crate come. It tells nothing of
// the crate. What is above the crate's 8 MiB can be received if one wants to.
func serverConfig() *vstp.Config { return &vstp.Config{MaxFrameSize: 16 << 20} }

// clientConfig is that of our side where it goes to servers of the crate.
func clientConfig() *vstp.Config {
	c := serverConfig()
	c.Legacy = true
	return c
}

// listen opens both of our sockets on one address.
func listen(t testing.TB, c *vstp.Config) (*vstp.Listener, *vstp.PacketConn) {
	t.Helper()
	lc := vstp.ListenConfig{Config: c}
	for range 100 {
		ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := lc.ListenPacket(t.Context(), "udp", ln.Addr().String())
		if err != nil { // the port is taken
			ln.Close()
			continue
		}
		t.Cleanup(func() {
			ln.Close()
			pc.Close()
		})
		return ln.(*vstp.Listener), pc.(*vstp.PacketConn)
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

// dial connects to a server of the crate.
func dial(t testing.TB, network, addr string) *end {
	t.Helper()
	nc, err := (&vstp.Dialer{Config: clientConfig()}).Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return connEnd(nc.(*vstp.Conn))
}

// accept takes the connection of a client of the crate, which begins with first, and
// which has to be recognised.
func accept(t testing.TB, ln *vstp.Listener, first func() error) *end {
	t.Helper()
	if err := first(); err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := nc.(*vstp.Conn)
	m, err := c.ReceiveMessage(t.Context())
	if err != nil || string(m.Payload) != firstMarker {
		t.Fatalf("%v, %v", m, err)
	}
	if cs := c.ConnectionState(); !cs.HandshakeComplete || !cs.Legacy {
		t.Fatalf("not taken for a client of the crate: %+v", cs)
	}
	return connEnd(c)
}

// meet gets the first message of a client of the crate, and with it the address.
func meet(t testing.TB, pc *vstp.PacketConn, first func() error) *end {
	t.Helper()
	if err := first(); err != nil {
		t.Fatal(err)
	}
	m, from, err := pc.ReceiveMessage(t.Context())
	if err != nil || string(m.Payload) != firstMarker {
		t.Fatalf("%v, %v", m, err)
	}
	e := &end{inbox: newInbox(), send: func(ctx context.Context, m *vstp.Message) error {
		return pc.SendMessage(ctx, m, from)
	}}
	go e.receive(func(ctx context.Context) (*vstp.Message, error) {
		m, addr, err := pc.ReceiveMessage(ctx)
		if err == nil && addr.String() != from.String() {
			return nil, fmt.Errorf("a message from %v", addr)
		}
		return m, err
	})
	return e
}

// firstMarker is what a client begins with.
const firstMarker = "1000000"

func first(p *peer, on string) func() error {
	return func() error {
		c := message{marker: 1000000}.command("send", true, nil)
		c["on"] = on
		return p.do(c)
	}
}

// packetEnd is our side as a PacketConn that begins towards a server of the crate over
// inner.
func packetEnd(t testing.TB, inner net.PacketConn, to string) *end {
	t.Helper()
	return packetEndWith(t, inner, clientConfig(), to)
}

func packetEndWith(t testing.TB, inner net.PacketConn, c *vstp.Config, to string) *end {
	t.Helper()
	pc := vstp.NewPacketConn(inner, c)
	t.Cleanup(func() { pc.Close() })
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	e := &end{inbox: newInbox(), send: func(ctx context.Context, m *vstp.Message) error {
		return pc.SendMessage(ctx, m, addr)
	}}
	go e.receive(func(ctx context.Context) (*vstp.Message, error) {
		m, _, err := pc.ReceiveMessage(ctx)
		return m, err
	})
	return e
}

// frames returns what the crate gives to the application of p, over one transport if on
// is not empty.
func frames(p *peer, on string) func(time.Duration) (got, bool) {
	return func(d time.Duration) (got, bool) {
		e, ok := p.poll(d, func(e event) bool {
			return e.isContent() && (on == "" || e.On == on) || e.Event == "trouble" || e.Event == "end"
		})
		if !ok {
			return got{}, false
		}
		g := got{n: e.Len, fnv: e.FNV, h: e.header()}
		switch {
		case !e.isContent():
			g.note = e.Event + ": " + e.Error
		case e.Event == "frame" && (e.Type != 3 || e.Flags&^0x11 != 0):
			g.note = fmt.Sprintf("type %d, flags %#x", e.Type, e.Flags)
		case e.Event == "frame" && e.Flags&1 != 0:
			g.h.Del("msg-id")
		}
		return g, true
	}
}

// values returns what receive of an easy client returns. It has to be called before
// anything is sent that the client might not have room for; ask does that.
func values(p *peer) (poll func(time.Duration) (got, bool), ask func()) {
	asked := 0
	ask = func() {
		if asked == 0 {
			asked = p.tell(command{"op": "receive"})
		}
	}
	return func(d time.Duration) (got, bool) {
		ask()
		e, ok := p.poll(d, func(e event) bool { return e.Seq == asked && (e.Event == "value" || e.Event == "failed") })
		if !ok {
			return got{}, false
		}
		asked = 0
		g := got{n: e.Len, fnv: e.FNV}
		if e.Event == "failed" {
			g.note = e.Error
			if strings.Contains(e.Error, "Receive error") || strings.Contains(e.Error, "closed") {
				g.note = "end: " + e.Error
			}
		}
		return g, true
	}, ask
}

// result is what became of a message.
type result struct {
	err  error // of the sender
	came []got // all that the receiver got
	end  bool  // there will be nothing more
}

func (r result) String() string {
	var s strings.Builder
	s.WriteString(fmt.Sprintf("%d came", len(r.came)))
	for _, g := range r.came {
		s.WriteString(fmt.Sprintf("; %d bytes, %d fields %s", g.n, len(g.h), g.note))
	}
	if r.err != nil {
		s.WriteString("; " + r.err.Error())
	}
	return s.String()
}

var errNoMarker = errors.New("nothing comes any more")

// try sends a message, and a marker behind it, which tells that nothing else will come.
func (l *link) try(m message, marker int) (r result) {
	r.err = l.send(m)
	want := gotPayload([]byte(strconv.Itoa(marker)))
	for range int(patience / markerWait) {
		if err := l.send(message{marker: marker}); err != nil {
			r.err, r.end = errors.Join(r.err, err), true
			return r
		}
		for {
			g, ok := l.poll(markerWait)
			if !ok {
				break // the marker was lost
			}
			if g.fnv == want.fnv && g.n == want.n {
				return r
			}
			if g.isMarker() {
				continue // of before, and late
			}
			r.came = append(r.came, g)
			if strings.HasPrefix(g.note, "end") {
				r.end = true
				return r
			}
		}
	}
	r.err, r.end = errors.Join(r.err, errNoMarker), true
	return r
}

// markerWait is how long a marker has before it is sent again.
const markerWait = time.Second

// markers are known by their checksums.
var markers sync.Map

func newMarker(n int) int {
	markers.Store(gotPayload([]byte(strconv.Itoa(n))).fnv, true)
	return n
}

func (g got) isMarker() bool {
	_, ok := markers.Load(g.fnv)
	return ok && g.n == len(firstMarker)
}
