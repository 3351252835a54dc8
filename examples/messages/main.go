// Messages with metadata: a client sends readings of a sensor, the server keeps count
// and answers each. With RequireAck, SendMessage returns nil only once the server's
// vstp has the message whole and queued for the server.
//
//	go run ./examples/messages -serve 127.0.0.1:6969
//	go run ./examples/messages 127.0.0.1:6969
//
// The client must also show a token, in the metadata of the connection itself; try
// -token wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/vstp-go/vstp"
)

var (
	serveAt = flag.String("serve", "", "be the server, at this address")
	token   = flag.String("token", "sesame", "what the client shows and the server wants")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *serveAt != "":
		err = serve(ctx)
	case flag.NArg() == 1:
		err = send(ctx, flag.Arg(0))
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	lc := &vstp.ListenConfig{Config: &vstp.Config{VerifyHello: verify}}
	ln, err := lc.Listen(ctx, "tcp", *serveAt)
	if err != nil {
		return err
	}
	log.Printf("serving on %s", ln.Addr())
	// The handler is called for each message, one at a time for each connection.
	return ln.(*vstp.Listener).Serve(ctx, func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
		log.Printf("%s: %s = %s, ack wanted: %v", c.RemoteAddr(), m.Header.Get("sensor"), m.Payload, m.RequireAck)
		return c.SendMessage(ctx, &vstp.Message{
			Header:  vstp.Header{{Key: "sensor", Value: m.Header.Get("sensor")}, {Key: "status", Value: "stored"}},
			Payload: m.Payload,
		})
	})
}

// verify looks at the metadata of a connection before it is accepted.
func verify(_ context.Context, hello *vstp.HelloInfo) (vstp.Header, error) {
	if hello.Header.Get("token") != *token {
		return nil, &vstp.RefusedError{Reason: "wrong token"}
	}
	return vstp.Header{{Key: "server", Value: "example"}}, nil
}

func send(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d := &vstp.Dialer{Config: &vstp.Config{Header: vstp.Header{{Key: "token", Value: *token}}}}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err // a *vstp.RefusedError for a wrong token
	}
	defer nc.Close()
	c := nc.(*vstp.Conn)
	fmt.Println("server:", c.ConnectionState().PeerHeader.Get("server"))
	for i, sensor := range []string{"temperature", "pressure", "humidity"} {
		err := c.SendMessage(ctx, &vstp.Message{
			Header:     vstp.Header{{Key: "sensor", Value: sensor}},
			Payload:    fmt.Appendf(nil, "%d", 20+i),
			RequireAck: true,
		})
		if err != nil {
			return err
		}
		answer, err := c.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		fmt.Println(answer.Header.Get("sensor"), string(answer.Payload), answer.Header.Get("status"))
	}
	return nil
}
