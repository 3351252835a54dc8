package interop_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/vstp-go/vstp"
)

// A transport is a way in which the crate sends.
type transport int

const (
	overTCP transport = iota
	overUDP
	overAck
	overFragments
	overEasyTCP
	overEasyUDP
	overAuto
	transports
)

func (tr transport) String() string {
	return [...]string{"TCP", "UDP", "UDP + ack", "UDP fragments", "easy TCP", "easy UDP", "auto"}[tr]
}

// role returns the name of the program's role as "client" or "server".
func (tr transport) role(of string) string {
	return [...]string{"tcp-", "udp-", "udp-", "udp-", "easy-tcp-", "easy-udp-", "auto-"}[tr] + of
}

// isEasy reports whether payloads are JSON values.
func (tr transport) isEasy() bool { return tr >= overEasyTCP }

// isStream reports whether all is over TCP.
func (tr transport) isStream() bool { return tr == overTCP || tr == overEasyTCP }

// A direction is who sends to whom.
type direction int

const (
	fromClient      direction = iota // a client of the crate to our server
	toClient                         // and back
	toServer                         // our client to a server of the crate
	fromServer                       // and back
	aloneToServer                    // a client of the crate to a server of the crate
	aloneFromServer                  // and back
)

func (d direction) String() string {
	return [...]string{"crate client to vstp", "vstp to crate client", "vstp to crate server",
		"crate server to vstp", "crate client to crate server", "crate server to crate client"}[d]
}

// alone returns the direction in which the crate has only itself.
func (d direction) alone() direction {
	if d == fromClient || d == toServer {
		return aloneToServer
	}
	return aloneFromServer
}

// newLinks starts who has to be there for a direction over a transport. There are two
// links for auto, in the order in which they are used.
func newLinks(t testing.TB, d direction, tr transport) []*link {
	t.Helper()
	var ls []*link
	switch d {
	case fromClient, toClient:
		ls = clientLinks(t, d, tr)
	case toServer, fromServer:
		ls = serverLinks(t, d, tr)
	default:
		ls = aloneLinks(t, d, tr)
	}
	for _, l := range ls {
		l.asJSON = tr.isEasy()
	}
	return ls
}

// clientLinks has a client of the crate come to our server.
func clientLinks(t testing.TB, d direction, tr transport) (ls []*link) {
	t.Helper()
	cfg := serverConfig()
	if tr == overAck && d == toClient { // there will be none
		cfg.AckTimeout, cfg.MaxRetries = 30*time.Millisecond, -1
	}
	ln, pc := listen(t, cfg)
	if tr == overFragments && d == toClient {
		inner, err := newReversing("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc = vstp.NewPacketConn(inner, cfg)
		t.Cleanup(func() { pc.Close() })
	}
	addr := pc.LocalAddr().String()
	if tr.isStream() {
		addr = ln.Addr().String()
	}
	p := newPeer(t, tr.role("client"), "--addr", addr)
	p.wait("ready", isEvent("ready"))
	for _, on := range tr.parts() {
		var e *end
		if tr.isStream() || on == "tcp" {
			e = accept(t, ln, first(p, on))
		} else {
			e = meet(t, pc, first(p, on))
		}
		if d == fromClient {
			ls = append(ls, &link{send: clientSend(p, tr, on), poll: e.poll})
		} else {
			poll, ask := clientPoll(p, tr, on)
			send := e.sendMessage(tr.isEasy(), tr == overAck)
			ls = append(ls, &link{poll: poll, send: func(m message) error {
				ask()
				return send(m)
			}})
		}
	}
	return ls
}

// parts returns the transports that auto goes through.
func (tr transport) parts() []string {
	if tr == overAuto {
		return []string{"udp", "tcp"}
	}
	return []string{""}
}

// clientSend has a client of the crate send.
func clientSend(p *peer, tr transport, on string) func(message) error {
	id := 0
	return func(m message) error {
		op, h := "send", m.h
		switch {
		case m.marker != 0:
		case tr == overAck:
			op = "ack"
		case tr == overFragments:
			op = "fragments"
			id++
		case tr.isEasy() && len(h) > 0:
			op = "raw"
		}
		if tr == overAuto || op == "raw" {
			h = withContentType(h)
		}
		c := m.command(op, tr.isEasy(), h)
		c["on"], c["id"] = on, id%256
		return p.do(c)
	}
}

func clientPoll(p *peer, tr transport, on string) (poll func(time.Duration) (got, bool), ask func()) {
	if tr.isEasy() && tr != overAuto {
		return values(p)
	}
	return frames(p, on), func() {}
}

// serverLinks has our client come to a server of the crate.
func serverLinks(t testing.TB, d direction, tr transport) (ls []*link) {
	t.Helper()
	var args []string
	if tr.isEasy() && d == toServer {
		args = append(args, "--quiet")
	}
	p := newServer(t, tr.role("server"), args...)
	for _, on := range tr.parts() {
		var e *end
		network := "udp"
		if tr.isStream() || on == "tcp" {
			network = "tcp"
		}
		if tr == overFragments {
			inner, err := newReversing("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			e = packetEnd(t, inner, p.addr)
		} else {
			e = dial(t, network, p.addr)
		}
		if d == toServer {
			ls = append(ls, &link{send: e.sendMessage(tr.isEasy(), tr == overAck), poll: frames(p, on)})
			continue
		}
		ls = append(ls, &link{send: serverSend(t, p, tr, e, on), poll: e.poll})
	}
	return ls
}

// serverSend has a server of the crate send to e, which has to be known to it first.
func serverSend(t testing.TB, p *peer, tr transport, e *end, on string) func(message) error {
	if tr.isEasy() {
		return func(m message) error {
			ask := []byte(strconv.Itoa(m.marker))
			if m.marker == 0 {
				ask = fmt.Appendf(nil, `{"reply":%d,"seed":%d}`, m.n, m.seed)
			}
			if err := e.send(context.Background(), &vstp.Message{Payload: ask}); err != nil {
				return err
			}
			p.wait("request", func(e event) bool { return e.isContent() && (on == "" || e.On == on) })
			return nil
		}
	}
	if err := e.send(t.Context(), &vstp.Message{Payload: []byte(firstMarker)}); err != nil {
		t.Fatal(err)
	}
	return frameSend(p, tr, p.wait("first message", isEvent("frame")).Peer, patience)
}

// frameSend has a server of the crate send to an address, or on its first connection.
func frameSend(p *peer, tr transport, to string, ackWait time.Duration) func(message) error {
	id := 0
	return func(m message) error {
		op, h, flags := "send", m.h, 0
		switch {
		case m.marker != 0:
		case tr == overFragments:
			op = "fragments"
			id++
		case tr == overAck:
			// Its servers have no send_with_ack: this is what that of its clients does.
			id++
			flags = 1
			h = append(h[:len(h):len(h)], vstp.Field{Key: "msg-id", Value: strconv.Itoa(id)})
		}
		c := m.command(op, false, h)
		c["to"], c["id"], c["flags"] = to, id%256, flags
		if err := p.do(c); err != nil || flags == 0 {
			return err
		}
		ack, ok := p.poll(ackWait, func(e event) bool { return e.Event == "frame" && e.Type == 7 })
		if !ok || ack.header().Get("msg-id") != strconv.Itoa(id) || ack.Len != 0 || ack.Flags != 0 {
			return fmt.Errorf("no ACK: %+v", ack)
		}
		return nil
	}
}

// aloneLinks has the crate talk to itself.
func aloneLinks(t testing.TB, d direction, tr transport) (ls []*link) {
	t.Helper()
	var args []string
	if tr.isEasy() && d == aloneToServer {
		args = append(args, "--quiet")
	}
	server := newServer(t, tr.role("server"), args...)
	client := newPeer(t, tr.role("client"), "--addr", server.addr, "--ack-timeout", "100", "--retry-delay", "1")
	ready := client.wait("ready", isEvent("ready"))
	if tr == overTCP {
		server.wait("connection", isEvent("accepted"))
	}
	for _, on := range tr.parts() {
		if d == aloneToServer {
			ls = append(ls, &link{send: clientSend(client, tr, on), poll: frames(server, on)})
			continue
		}
		poll, _ := clientPoll(client, tr, on)
		send := askSend(client, on)
		if !tr.isEasy() {
			send = frameSend(server, tr, ready.Addr, 20*time.Millisecond)
		}
		ls = append(ls, &link{send: send, poll: poll})
	}
	return ls
}

// askSend has a client of easy ask a server of easy for an answer of some length.
func askSend(p *peer, on string) func(message) error {
	return func(m message) error {
		c := m.command("send", true, nil)
		c["ask"], c["on"] = m.n, on
		return p.do(c)
	}
}
