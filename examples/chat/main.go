// A chat room: every line that a client types goes to all others, as a message with
// the name of its author in the metadata.
//
//	go run ./examples/chat -serve 127.0.0.1:6969
//	go run ./examples/chat -name ann 127.0.0.1:6969     # in several terminals
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/vstp-go/vstp"
)

var (
	serveAt = flag.String("serve", "", "be the room, at this address")
	name    = flag.String("name", "somebody", "the client's name")
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
		err = join(ctx, flag.Arg(0))
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// A room knows who is in it.
type room struct {
	mu      sync.Mutex
	members map[*member]bool
}

// A member is one connection with what is still to be sent to it. Its own goroutine
// sends, so that one who reads slowly does not keep the others waiting.
type member struct {
	c    *vstp.Conn
	name string
	out  chan *vstp.Message
}

func serve(ctx context.Context) error {
	ln, err := (&vstp.ListenConfig{Config: &vstp.Config{KeepAlive: 30 * time.Second, IdleTimeout: 2 * time.Minute}}).
		Listen(ctx, "tcp", *serveAt)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	log.Printf("the room is open on %s", ln.Addr())
	r := &room{members: map[*member]bool{}}
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go r.welcome(ctx, c.(*vstp.Conn))
	}
}

// welcome serves one member until it leaves.
func (r *room) welcome(ctx context.Context, c *vstp.Conn) {
	defer c.Close()
	m := &member{c, c.ConnectionState().PeerHeader.Get("name"), make(chan *vstp.Message, 100)}
	r.mu.Lock()
	r.members[m] = true
	r.mu.Unlock()
	go func() {
		for msg := range m.out {
			if c.SendMessage(ctx, msg) != nil {
				c.Close()
			}
		}
	}()
	r.tell(m, "joins")
	for {
		msg, err := c.ReceiveMessage(ctx)
		if err != nil {
			break
		}
		// The author is who the connection belongs to, whatever a message claims.
		r.tell(m, string(msg.Payload))
	}
	r.mu.Lock()
	delete(r.members, m)
	close(m.out)
	r.mu.Unlock()
	r.tell(m, "leaves")
}

// tell sends a line to everybody but its author. Who has 100 lines to catch up with
// already misses it.
func (r *room) tell(from *member, text string) {
	msg := &vstp.Message{Header: vstp.Header{{Key: "from", Value: from.name}}, Payload: []byte(text)}
	r.mu.Lock()
	defer r.mu.Unlock()
	for m := range r.members {
		if m != from {
			select {
			case m.out <- msg:
			default:
			}
		}
	}
	log.Printf("%q: %q", from.name, text)
}

func join(ctx context.Context, addr string) error {
	d := &vstp.Dialer{Config: &vstp.Config{Header: vstp.Header{{Key: "name", Value: *name}}}}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	c := nc.(*vstp.Conn)
	context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if err := c.SendMessage(ctx, &vstp.Message{Payload: in.Bytes()}); err != nil {
				break
			}
		}
		c.CloseWrite() // the room hangs up when it has read the last line
	}()
	for {
		msg, err := c.ReceiveMessage(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n", printable(msg.Header.Get("from")), printable(string(msg.Payload)))
	}
}

// printable keeps others from playing with the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
