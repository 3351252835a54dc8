package interop_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/vstp-go/vstp"
)

const (
	crowd    = 50 // clients of each kind
	messages = 10 // of each client
)

// A ledger counts what arrives.
type ledger struct {
	mu     sync.Mutex
	counts map[string]int // by checksum
	crates map[string]bool
	all    chan struct{} // closed when everything has come
}

func newLedger() *ledger {
	return &ledger{counts: make(map[string]int), crates: make(map[string]bool), all: make(chan struct{})}
}

func (l *ledger) note(from net.Addr, crate bool, p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.crates[from.String()] = crate
	l.counts[sum(p)]++
	if n := len(l.counts); n == 2*crowd*messages && l.counts[sum(p)] == 1 {
		close(l.all)
	}
}

// check expects every message once.
func (l *ledger) check(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-l.all:
	case <-ctx.Done():
		t.Error("some are missing")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for seed := range uint32(2 * crowd * messages) {
		if n := l.counts[sum(content(40, seed, false))]; n != 1 {
			t.Errorf("message %d of client %d came %d times", seed%messages, seed/messages, n)
		}
	}
	if len(l.counts) != 2*crowd*messages {
		t.Errorf("%d messages", len(l.counts))
	}
	crates := 0
	for _, c := range l.crates {
		if c {
			crates++
		}
	}
	if len(l.crates) != 2*crowd || crates != crowd {
		t.Errorf("%d clients, %d of the crate", len(l.crates), crates)
	}
}

// TestCrowdUDP has clients of the crate and of vstp send at the same time to one socket.
// Each message is acknowledged, arrives once, and is answered in the sender's profile.
func TestCrowdUDP(t *testing.T) {
	need(t)
	pc := listenPacket(t)
	crates := newPeer(t, "udp-client", "--addr", pc.LocalAddr().String(), "--clients", fmt.Sprint(crowd))
	crateAddrs := make(map[string]bool)
	for range crowd {
		crateAddrs[crates.wait("client", isEvent("ready")).Addr] = true
	}
	l := newLedger()
	go pc.Serve(t.Context(), func(ctx context.Context, pc *vstp.PacketConn, m *vstp.Message, addr net.Addr) error {
		l.note(addr, crateAddrs[addr.String()], m.Payload)
		if m.RequireAck {
			return nil // a client of the crate that waits for an ACK throws all else away
		}
		return pc.SendMessage(ctx, &vstp.Message{Payload: m.Payload}, addr)
	})
	runCrowd(t, crates, "udp", pc.LocalAddr().String(), func(i int) bool { return i < messages-1 })
	l.check(t)
	if n := pc.Stats().Associations; n > crowd {
		t.Errorf("%d associations", n)
	}
}

// runCrowd has all clients send their messages, of which those with ack are acknowledged
// and the others answered with an echo.
func runCrowd(t *testing.T, crates *peer, network, addr string, ack func(i int) bool) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			nc, err := net.Conn(nil), error(nil)
			if nc, err = vstp.Dial(network, addr); err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			c := nc.(*vstp.Conn)
			if c.ConnectionState().Legacy {
				t.Error("vstp is taken for the crate")
			}
			for j := range messages {
				p := content(40, uint32((crowd+i)*messages+j), false)
				if err := c.SendMessage(t.Context(), &vstp.Message{Payload: p, RequireAck: ack(j), Repair: true}); err != nil {
					t.Error(err)
				}
				if ack(j) {
					continue
				}
				if m, err := c.ReceiveMessage(t.Context()); err != nil || string(m.Payload) != string(p) {
					t.Errorf("%v, %v", m, err)
				}
			}
		})
	}
	seqs := make(map[int]bool)
	for j := range messages {
		for i := range crowd {
			c := message{n: 40, seed: uint32(i*messages + j)}.command("send", false, nil)
			c["client"] = i
			if ack(j) {
				c["op"] = "ack"
			}
			seqs[crates.tell(c)] = true
		}
	}
	for range seqs {
		if e := crates.wait("answer", isEvent("done", "failed")); e.Event == "failed" {
			t.Errorf("the crate: %s", e.Error)
		}
	}
	for i := range crowd {
		for j := range messages {
			if !ack(j) {
				want := sum(content(40, uint32(i*messages+j), false))
				crates.wait("echo", func(e event) bool { return e.isContent() && e.Client == i && e.FNV == want })
			}
		}
	}
	wg.Wait()
}

// TestCrowdTCP is the same on one listener.
func TestCrowdTCP(t *testing.T) {
	need(t)
	ln, _ := listen(t, nil)
	l := newLedger()
	go ln.Serve(t.Context(), func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
		l.note(c.RemoteAddr(), c.ConnectionState().Legacy, m.Payload)
		return c.SendMessage(ctx, &vstp.Message{Payload: m.Payload})
	})
	crates := newPeer(t, "tcp-client", "--addr", ln.Addr().String(), "--clients", fmt.Sprint(crowd))
	for range crowd {
		crates.wait("client", isEvent("ready"))
	}
	runCrowd(t, crates, "tcp", ln.Addr().String(), func(int) bool { return false })
	l.check(t)
}

// listenPacket returns our UDP socket, with no configuration at all.
func listenPacket(t testing.TB) *vstp.PacketConn {
	t.Helper()
	pc, err := vstp.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc.(*vstp.PacketConn)
}
