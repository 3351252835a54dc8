package vstp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
)

// The functions up to the first example are the snippets of docs/MIGRATION.md, word for
// word; TestMigrationSnippets compares them.

func serveTCP(ctx context.Context, address string) error {
	ln, err := vstp.Listen("tcp", address)
	if err != nil {
		return err
	}
	return ln.(*vstp.Listener).Serve(ctx, upper)
}

func upper(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
	return c.SendMessage(ctx, &vstp.Message{Payload: bytes.ToUpper(m.Payload)})
}

func serveJSON[T, R any](ctx context.Context, ln *vstp.Listener, handle func(T) (R, error)) error {
	return ln.Serve(ctx, func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
		var in T
		if err := json.Unmarshal(m.Payload, &in); err != nil {
			return c.SendMessage(ctx, &vstp.Message{Payload: []byte("Invalid data: " + err.Error())})
		}
		out, err := handle(in)
		if err != nil {
			return nil // as the crate: no answer
		}
		b, err := json.Marshal(out)
		if err != nil {
			return err
		}
		return c.SendMessage(ctx, &vstp.Message{Payload: b})
	})
}

func dialCrateTCP(ctx context.Context, address string) (*vstp.Conn, error) {
	d := &vstp.Dialer{Config: &vstp.Config{Legacy: true}}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c.(*vstp.Conn), nil
}

func callJSON(ctx context.Context, c *vstp.Conn, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	err = c.SendMessage(ctx, &vstp.Message{
		Header:  vstp.Header{{Key: "content-type", Value: "application/json"}},
		Payload: b,
	})
	if err != nil {
		return err
	}
	m, err := c.ReceiveMessage(ctx)
	if err != nil {
		return err
	}
	return json.Unmarshal(m.Payload, out)
}

func serveUDP(ctx context.Context, address string) error {
	pc, err := vstp.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	return pc.(*vstp.PacketConn).Serve(ctx, func(ctx context.Context, pc *vstp.PacketConn, m *vstp.Message, from net.Addr) error {
		return pc.SendMessage(ctx, &vstp.Message{Payload: bytes.ToUpper(m.Payload)}, from)
	})
}

func callCrateUDP(ctx context.Context, address string, payload []byte) ([]byte, error) {
	d := &vstp.Dialer{Config: &vstp.Config{
		Legacy:     true,
		MaxRetries: 3, AckTimeout: 2 * time.Second, // the UdpConfig of the crate; both are the defaults
	}}
	nc, err := d.DialContext(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	c := nc.(*vstp.Conn)
	if err := c.SendMessage(ctx, &vstp.Message{Payload: payload, RequireAck: true}); err != nil {
		return nil, err // vstp.ErrAckTimeout: it may have been delivered
	}
	m, err := c.ReceiveMessage(ctx)
	if err != nil {
		return nil, err
	}
	return m.Payload, nil
}

func dialEither(ctx context.Context, network, address string, patience time.Duration) (*vstp.Conn, error) {
	d := &vstp.Dialer{Config: &vstp.Config{HandshakeTimeout: patience}}
	c, err := d.DialContext(ctx, network, address)
	var broken *vstp.ProtocolError // an "easy" server answers HELLO with DATA
	if errors.Is(err, vstp.ErrHandshakeTimeout) || errors.As(err, &broken) {
		d.Config = &vstp.Config{Legacy: true}
		c, err = d.DialContext(ctx, network, address)
	}
	if err != nil {
		return nil, err
	}
	return c.(*vstp.Conn), nil
}

func refuseCrate(ctx context.Context, h *vstp.HelloInfo) (vstp.Header, error) {
	if h.Legacy {
		return nil, &vstp.RefusedError{Reason: "this server has moved on"}
	}
	return nil, nil
}

func serveAuto(ctx context.Context, address string) error {
	lc := &vstp.ListenConfig{Messages: upper} // those on UDP without a connection, as the crate sends them
	ln, err := lc.Listen(ctx, "auto", address)
	if err != nil {
		return err
	}
	return ln.(*vstp.Listener).Serve(ctx, upper)
}

func dialAuto(ctx context.Context, address string) (*vstp.Conn, error) {
	d := &vstp.Dialer{Config: &vstp.Config{Auto: vstp.AutoConfig{
		Prefer: vstp.CarrierTCP, // where connect_auto begins, but if UDP has proved to be faster
		OnMove: func(c *vstp.Conn, m vstp.Move) { log.Println(c.RemoteAddr(), m.From, m.To, m.Reason) },
	}}}
	c, err := d.DialContext(ctx, "auto", address)
	if err != nil {
		return nil, err
	}
	return c.(*vstp.Conn), nil
}

// A client of the crate, and a server of this module.
func Example_migrateServerTCP() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	address := freeAddress("tcp")
	go serveTCP(ctx, address)

	fmt.Println(crateClientTCP(address, "hello"))
	// Output: HELLO
}

// A client of the crate's easy module, and a server of this module.
func Example_migrateServerJSON() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go serveJSON(ctx, ln.(*vstp.Listener), func(in struct{ Content string }) (map[string]int, error) {
		return map[string]int{"length": len(in.Content)}, nil
	})
	fmt.Println(crateClientTCP(ln.Addr().String(), `{"content":"hi"}`))
	// Output: {"length":2}
}

// A client of this module, and a server of the crate.
func Example_migrateClientTCP() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	address, stop := crateServerTCP()
	defer stop()
	c, err := dialCrateTCP(ctx, address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	var out string
	err = callJSON(ctx, c, "hello", &out)
	fmt.Println(out, err)
	// Output: HELLO <nil>
}

// send_with_ack of the crate, and a server of this module.
func Example_migrateServerUDP() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	address := freeAddress("udp")
	go serveUDP(ctx, address)

	fmt.Println(crateClientUDP(address, "hello"))
	// Output: acknowledged, HELLO
}

// A message with acknowledgement to a server of the crate.
func Example_migrateClientUDP() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b, err := callCrateUDP(ctx, crateServerUDP(), []byte("hello"))
	fmt.Println(string(b), err)
	// Output: HELLO <nil>
}

// A client that does not know which of the two its server is.
func Example_migrateDialEither() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	crate, stop := crateServerTCP()
	defer stop()
	for _, address := range []string{ln.Addr().String(), crate} {
		c, err := dialEither(ctx, "tcp", address, time.Second)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(c.ConnectionState().Legacy)
		c.Close()
	}
	// Output:
	// false
	// true
}

// One server for clients of the crate on TCP and UDP, and for those that move between them.
func Example_migrateAuto() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	address := freeAddress("tcp")
	go serveAuto(ctx, address)

	fmt.Println(crateClientTCP(address, "hello"))
	fmt.Println(crateClientUDP(address, "hello"))
	c, err := dialAuto(ctx, address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		if err := c.SendMessage(ctx, &vstp.Message{Payload: []byte("hello")}); err != nil {
			log.Fatal(err)
		}
		m, err := c.ReceiveMessage(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(c.Carrier(), string(m.Payload))
		c.Move(ctx, vstp.CarrierUDP)
	}
	// Output:
	// HELLO
	// acknowledged, HELLO
	// tcp HELLO
	// udp HELLO
}

// A server that takes no clients of the crate any more.
func Example_migrateRefuse() {
	lc := &vstp.ListenConfig{Config: &vstp.Config{VerifyHello: refuseCrate}}
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	go ln.Accept()

	fmt.Println(crateClientTCP(ln.Addr().String(), "hello"))
	c, err := vstp.Dial("tcp", ln.Addr().String())
	fmt.Println(err)
	c.Close()
	// Output:
	// the connection ended
	// <nil>
}

// What follows does on the wire what the crate 0.2.1 does, as PROTOCOL §6 has it.

// crateFrameOf encodes as the crate: always a trailer.
func crateFrameOf(typ framing.Type, flags framing.Flags, h framing.Header, payload []byte) []byte {
	block, err := framing.AppendHeader(nil, h)
	if err != nil {
		log.Fatal(err)
	}
	b, err := framing.AppendFrame(nil, framing.Frame{Type: typ, Flags: flags, Header: block, Payload: payload}, framing.TrailerAlways)
	if err != nil {
		log.Fatal(err)
	}
	return b
}

// crateServerTCP runs a server that answers DATA in upper case, and nothing else.
func crateServerTCP() (address string, stop func() error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := framing.NewReader(c, 0, framing.TrailerAlways)
				for {
					f, _, err := r.Next()
					if err != nil {
						return
					}
					if p, err := r.Payload(); err == nil && f.Type == framing.TypeData {
						c.Write(crateFrameOf(framing.TypeData, 0, nil, bytes.ToUpper(p)))
					}
				}
			}()
		}
	}()
	return ln.Addr().String(), ln.Close
}

// crateClientTCP connects, sends HELLO and DATA, returns the payload of the answer, and
// closes.
func crateClientTCP(address, payload string) string {
	c := dialUntilThere(address)
	defer c.Close()
	c.Write(crateFrameOf(framing.TypeHello, 0, nil, nil))
	c.Write(crateFrameOf(framing.TypeData, 0, nil, []byte(payload)))
	r := framing.NewReader(c, 0, framing.TrailerAlways)
	f, _, err := r.Next()
	for err == nil && f.Type != framing.TypeData {
		f, _, err = r.Next()
	}
	if err != nil {
		return "the connection ended"
	}
	p, err := r.Payload()
	if err != nil {
		log.Fatal(err)
	}
	c.Write(crateFrameOf(framing.TypeBye, 0, nil, nil))
	return string(p)
}

// dialUntilThere dials a server that is being started.
func dialUntilThere(address string) net.Conn {
	for {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c
		}
		time.Sleep(time.Millisecond)
	}
}

// crateServerUDP runs a server that acknowledges, and answers DATA in upper case, until
// it has answered.
func crateServerUDP() (address string) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		defer c.Close()
		b := make([]byte, 2400)
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		f, _, err := framing.ParseDatagram(b[:n])
		if err != nil || f.Type != framing.TypeData {
			return
		}
		if id, ok := f.Header.Lookup(framing.LegacyKeyMsgID); ok && f.Flags.Has(framing.FlagReqAck) {
			c.WriteTo(crateFrameOf(framing.TypeAck, 0, framing.Header{{Key: framing.LegacyKeyMsgID, Value: string(id)}}, nil), from)
		}
		c.WriteTo(crateFrameOf(framing.TypeData, 0, nil, bytes.ToUpper(f.Payload)), from)
	}()
	return c.LocalAddr().String()
}

// crateClientUDP is send_with_ack, then recv.
func crateClientUDP(address, payload string) string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		log.Fatal(err)
	}
	said := ""
	b := make([]byte, 2400)
	for range 100 { // the crate waits for 2 s and tries again; here the server is being started
		if said == "" {
			c.WriteTo(crateFrameOf(framing.TypeData, framing.FlagReqAck, framing.Header{{Key: framing.LegacyKeyMsgID, Value: "1"}}, []byte(payload)), to)
		}
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, _, err := c.ReadFrom(b)
		if err != nil {
			continue
		}
		f, _, err := framing.ParseDatagram(b[:n])
		switch {
		case err != nil:
		case f.Type == framing.TypeAck:
			said = "acknowledged, "
		case said != "" && f.Type == framing.TypeData:
			return said + string(f.Payload)
		}
	}
	return said
}

// freeAddress returns an address at which nobody listens.
func freeAddress(network string) string {
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().String()
	}
	ln, err := net.Listen(network, "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestMigrationSnippets compares the Go code of docs/MIGRATION.md with the functions
// above, each of which an example runs.
func TestMigrationSnippets(t *testing.T) {
	const name = "example_migration_test.go"
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	snippets := make(map[string]string) // by name, those before the first example
	used := make(map[string]bool)
	inExamples := false
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		inExamples = inExamples || strings.HasPrefix(f.Name.Name, "Example")
		if !inExamples {
			snippets[f.Name.Name] = string(src[set.Position(f.Pos()).Offset:set.Position(f.End()).Offset])
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				used[id.Name] = true
			}
			return true
		})
	}
	doc, err := os.ReadFile("docs/MIGRATION.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range strings.Split(string(doc), "```go\n") {
		code, _, ok := strings.Cut(part, "```")
		if i == 0 {
			continue
		}
		if !ok {
			t.Fatal("a block without an end")
		}
		for _, block := range strings.SplitAfter(strings.TrimSpace(code), "\n}\n") {
			block = strings.TrimSpace(block)
			_, rest, _ := strings.Cut(block, "func ")
			fn := rest[:strings.IndexAny(rest+"(", "([")]
			want, ok := snippets[fn]
			switch {
			case !ok:
				t.Errorf("%s has no function %q", name, fn)
			case block != want:
				t.Errorf("docs/MIGRATION.md has\n%s\n%s has\n%s", block, name, want)
			case !used[fn]:
				t.Errorf("no example runs %s", fn)
			}
			delete(snippets, fn)
		}
	}
	for fn := range snippets {
		t.Errorf("docs/MIGRATION.md has no %s", fn)
	}
}
