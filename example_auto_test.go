package vstp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/vstp-go/vstp"
)

// One connection that is moved from UDP to TCP while it is open. Usually it does so by
// itself.
func ExampleConn_Move() {
	ln, err := vstp.Listen("auto", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()

	conn, err := vstp.Dial("auto", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	c := conn.(*vstp.Conn)
	say := func(s string) {
		b := make([]byte, len(s))
		c.Write([]byte(s))
		io.ReadFull(c, b)
		fmt.Println(string(b), "by", c.Carrier())
	}
	say("hello")
	if err := c.Move(context.Background(), vstp.CarrierTCP); err != nil {
		log.Fatal(err)
	}
	say("world")
	fmt.Println("moves:", c.Stats().Moves)
	// Output:
	// hello by udp
	// world by tcp
	// moves: 1
}

// A Dialer for a network on which UDP is slow, that tells about moves.
func ExampleAutoConfig() {
	d := &vstp.Dialer{Config: &vstp.Config{Auto: vstp.AutoConfig{
		Prefer: vstp.CarrierTCP,
		OnMove: func(c *vstp.Conn, m vstp.Move) {
			log.Printf("%v: from %s to %s: %s", c.RemoteAddr(), m.From, m.To, m.Reason)
		},
	}}}
	ln, err := vstp.Listen("auto", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	c, err := d.Dial("auto", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.(*vstp.Conn).Carrier())
	// Output: tcp
}

// One server for everybody: connections of "auto", "rudp", "tcp" and the crate, and messages
// of "udp".
func ExampleListenConfig_Listen_messages() {
	answer := func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
		return c.SendMessage(ctx, &vstp.Message{Payload: append([]byte("got "), m.Payload...)})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ln, err := (&vstp.ListenConfig{Messages: answer}).Listen(ctx, "auto", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go ln.(*vstp.Listener).Serve(ctx, answer)

	for _, network := range []string{"tcp", "udp", "rudp", "auto"} {
		c, err := vstp.Dial(network, ln.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		c.(*vstp.Conn).SendMessage(ctx, &vstp.Message{Payload: []byte(network), RequireAck: true})
		m, err := c.(*vstp.Conn).ReceiveMessage(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(m.Payload))
		c.Close()
	}
	// Output:
	// got tcp
	// got udp
	// got rudp
	// got auto
}

// A listener on sockets that were opened elsewhere.
func ExampleNewAutoListener() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", inner.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	ln, err := vstp.NewAutoListener(packets, inner, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	c, err := vstp.Dial("auto", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.(*vstp.Conn).ConnectionState().Carrier)
	// Output: udp
}
