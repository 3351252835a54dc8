package sealed

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/tlsvstp"
)

var (
	clientID = handshake.ConnID{1, 2, 3, 4, 5, 6, 7, 8}
	serverID = handshake.ConnID{8, 7, 6, 5, 4, 3, 2, 1}
)

var testCert = sync.OnceValue(func() *tlsvstp.DevCert {
	c, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"server"}})
	if err != nil {
		panic(err)
	}
	return c
})

// A setup is what a handshake is made of.
type setup struct {
	client, server *tls.Config
	cookie         bool // demanded
	accept         func(*handshake.SealedParams) (*handshake.SealedParams, error)
}

// newSetup is one with small keys and certificates.
func newSetup() *setup {
	cert := testCert()
	return &setup{
		client: &tls.Config{RootCAs: cert.Pool, CurvePreferences: []tls.CurveID{tls.CurveP256}},
		server: &tls.Config{Certificates: []tls.Certificate{cert.Certificate}},
		accept: func(*handshake.SealedParams) (*handshake.SealedParams, error) {
			return &handshake.SealedParams{SessionID: [16]byte{1}}, nil
		},
	}
}

// kinds are handshakes that differ in what has to be sent.
var kinds = []struct {
	name string
	set  func(*setup)
}{
	{"plain", func(*setup) {}},
	{"post-quantum", func(s *setup) { s.client.CurvePreferences = nil }},
	{"cookie", func(s *setup) { s.client.CurvePreferences, s.cookie = nil, true }},
	{"retry", func(s *setup) {
		s.client.CurvePreferences = nil
		s.server.CurvePreferences = []tls.CurveID{tls.CurveP384}
	}},
	{"client certificate", func(s *setup) {
		s.client.Certificates = s.server.Certificates
		s.server.ClientAuth = tls.RequireAnyClientCert
	}},
	{"chain", func(s *setup) { s.server.Certificates = chain(20) }},
	{"chains", func(s *setup) {
		s.server.Certificates = chain(20)
		s.client.Certificates = chain(20)
		s.server.ClientAuth = tls.RequireAnyClientCert
	}},
}

// chain is the certificate with others behind it that nobody needs.
func chain(n int) []tls.Certificate {
	c := testCert().Certificate
	der := c.Certificate[0]
	c.Certificate = nil
	for range n {
		c.Certificate = append(c.Certificate, der)
	}
	return []tls.Certificate{c}
}

func kind(name string) *setup {
	s := newSetup()
	for _, k := range kinds {
		if k.name == name {
			k.set(s)
			return s
		}
	}
	panic(name)
}

func newTestClient(t testing.TB, s *setup) *Client {
	t.Helper()
	p := handshake.SealedParams{DatagramParams: handshake.DatagramParams{SourceID: clientID, Stream: true}}
	c, err := NewClient(context.Background(), tlsvstp.ClientConfig(s.client, "server"), p, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newTestServer(t testing.TB, s *setup) *Server {
	t.Helper()
	m := NewServer(context.Background(), tlsvstp.ServerConfig(s.server), serverID, clientID, nil, s.accept)
	t.Cleanup(m.Close)
	return m
}

// A flying is a datagram on its way.
type flying struct {
	at       time.Duration
	n        int // order of those at the same time
	toServer bool
	b        []byte
}

type flights []flying

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	return f[i].at < f[j].at || f[i].at == f[j].at && f[i].n < f[j].n
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flying)) }
func (f *flights) Pop() any {
	old := *f
	x := old[len(old)-1]
	*f = old[:len(old)-1]
	return x
}

// oneWay is how long a datagram is on its way in a network.
const oneWay = 50 * time.Millisecond

// A network has both machines, with timers as an endpoint has them, and time that is
// only a number.
type network struct {
	t      testing.TB
	s      *setup
	client *Client
	server *Server
	now    time.Duration
	queue  flights
	order  int

	sent    [2]int // datagrams: of the client, of the server
	in, out int    // bytes at the server, from and to a client that has shown nothing

	clientDone, serverDone time.Duration

	// fate says when the n-th datagram of a side arrives: at each of the delays
	// beyond what is usual. If nil, it arrives once.
	fate func(toServer bool, n int) []time.Duration
}

func newNetwork(t testing.TB, s *setup) *network {
	return &network{t: t, s: s, client: newTestClient(t, s), server: newTestServer(t, s)}
}

func (n *network) send(toServer bool, all [][]byte) {
	side := 1
	if toServer {
		side = 0
	}
	for _, b := range all {
		if len(b) > handshake.MaxHandshakeDatagram {
			n.t.Errorf("a datagram of %d bytes", len(b))
		}
		if !toServer && !n.server.validated {
			if n.out += len(b); n.out > amplification*n.in {
				n.t.Errorf("%d bytes to a client that has sent %d", n.out, n.in)
			}
		}
		delays := []time.Duration{0}
		if n.fate != nil {
			delays = n.fate(toServer, n.sent[side])
		}
		n.sent[side]++
		for _, d := range delays {
			n.order++
			heap.Push(&n.queue, flying{n.now + oneWay + d, n.order, toServer, bytes.Clone(b)})
		}
	}
}

// arrive takes a datagram at the server.
func (n *network) arrive(b []byte) {
	n.in += len(b)
	switch _, _, kind := handshake.RouteID(b); kind {
	case handshake.KindHello:
		h, err := handshake.ParseHello(b)
		if err != nil {
			n.t.Error("the server gets", err)
			return
		}
		if n.s.cookie && len(h.Cookie) == 0 {
			if h.WantsAnswer() {
				n.send(false, [][]byte{handshake.AppendRetry(nil, clientID, []byte("crumbs"))})
			}
			return
		}
		n.server.Hello(&h, len(b), len(h.Cookie) > 0)
	case handshake.KindSealedHello:
		n.server.Packet(b)
	default:
		n.t.Errorf("the server gets a %v", kind)
	}
	n.send(false, n.server.AppendFlight(nil))
}

// run goes on until both sides are through, or have failed, or a time is over. It
// reports whether they are through.
func (n *network) run(limit time.Duration) bool {
	delay, due := 250*time.Millisecond, 250*time.Millisecond
	n.send(true, n.client.AppendFlight(nil))
	n.client.Fresh()
	for n.now < limit {
		if len(n.queue) == 0 || n.queue[0].at >= due {
			n.now = due
			delay = min(2*delay, 2*time.Second)
			due = n.now + delay
			n.send(true, n.client.AppendFlight(nil))
			continue
		}
		f := heap.Pop(&n.queue).(flying)
		n.now = f.at
		if f.toServer {
			n.arrive(f.b)
		} else {
			failed := n.client.Err() != nil
			if n.client.Receive(f.b) {
				delay = 4 * oneWay
				due = n.now + delay
			}
			if n.client.Fresh() || !failed && n.client.Err() != nil {
				n.send(true, n.client.AppendFlight(nil))
			}
		}
		if n.clientDone == 0 && n.client.Done() {
			n.clientDone = n.now
			delay = 4 * oneWay
			due = n.now + delay
		}
		if n.serverDone == 0 && n.server.Done() {
			n.serverDone = n.now
		}
		if n.clientDone > 0 && n.serverDone > 0 {
			return true
		}
		if n.client.Err() != nil && n.server.Err() != nil {
			return false
		}
	}
	return false
}

// agreed checks that the two sides have the same keys.
func (n *network) agreed() {
	n.t.Helper()
	c, s := tlsvstp.NewProtection(), tlsvstp.NewProtection()
	n.client.Install(c)
	n.server.Install(s)
	for _, p := range [][2]*tlsvstp.Protection{{c, s}, {s, c}} {
		b := framing.AppendFixed(nil, framing.TypeData, framing.FlagSealed, fieldLen, int64(3+p[0].Overhead()))
		b = append(b, 1, 12, framing.KeyPacket[0], 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 'a', 'b', 'c')
		b = p[0].Seal(b, 0, 0)
		if _, got, ok := p[1].Open(b, 0); !ok || string(got) != "abc" {
			n.t.Errorf("no common keys: %q %v", got, ok)
		}
	}
	rc, peer := n.client.Result()
	rs := n.server.Result()
	if rc.PeerID != serverID || rs.PeerID != clientID || peer.SessionID != n.server.SessionID() || !n.server.Params().Stream {
		n.t.Error("no common parameters")
	}
	if n.client.State().NegotiatedProtocol != tlsvstp.ALPN || n.server.State().Version != tls.VersionTLS13 {
		n.t.Error("TLS state")
	}
}
