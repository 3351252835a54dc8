// One connection that is moved from UDP to TCP and back while a transfer is under way,
// because the network between its ends stops to carry UDP for a while:
//
//	go run ./examples/auto
//
// Server, client and the network are in this one program, so that it needs no firewall
// and no rights. The transfer does not notice: what arrives is what was sent.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	cert, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"127.0.0.1"}})
	if err != nil {
		return err
	}
	lc := &vstp.ListenConfig{Config: &vstp.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert.Certificate}}}}
	ln, err := lc.Listen(ctx, "auto", "127.0.0.1:0") // the same port of UDP and of TCP
	if err != nil {
		return err
	}
	defer ln.Close()
	enough := make(chan struct{})
	sent := make(chan result, 1)
	go func() { sent <- send(ln, enough) }()

	between, err := newNetwork(ln.Addr().String())
	if err != nil {
		return err
	}
	defer between.close()

	moves := make(chan vstp.Move, 16)
	d := &vstp.Dialer{Config: &vstp.Config{
		TLS:  &tls.Config{RootCAs: cert.Pool},
		Auto: vstp.AutoConfig{OnMove: func(_ *vstp.Conn, m vstp.Move) { moves <- m }},
	}}
	c, err := d.DialContext(ctx, "auto", between.address())
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("connected on", c.(*vstp.Conn).Carrier())
	received := make(chan result, 1)
	go func() {
		h := sha256.New()
		n, err := io.Copy(h, c)
		received <- result{n, h.Sum(nil), err}
	}()

	for _, step := range []struct {
		lose bool
		to   string
	}{{true, "tcp"}, {false, "udp"}} {
		time.Sleep(time.Second) // of transfer
		between.loseUDP.Store(step.lose)
		if step.lose {
			fmt.Println("the network loses UDP now")
		} else {
			fmt.Println("the network carries UDP again")
		}
		if err := movedTo(ctx, moves, step.to); err != nil {
			return err
		}
	}
	close(enough)
	s, r := <-sent, <-received
	if err := errors.Join(s.err, r.err); err != nil {
		return err
	}
	if s.n != r.n || string(s.sum) != string(r.sum) {
		return fmt.Errorf("%d bytes were sent, %d others have come", s.n, r.n)
	}
	fmt.Printf("%d MB, whole and in order\n", r.n/1e6)
	return nil
}

// movedTo prints moves up to the one that leads to a carrier.
func movedTo(ctx context.Context, moves <-chan vstp.Move, to string) error {
	for {
		select {
		case m := <-moves:
			fmt.Printf("moved from %s to %s (%s), %d ms after the last packet\n", m.From, m.To, m.Reason, m.Gap.Milliseconds())
			if m.To == to {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("no move to %s: %w", to, ctx.Err())
		}
	}
}

// A result is what one end of a transfer has seen.
type result struct {
	n   int64
	sum []byte
	err error
}

// send sends random bytes to the first client, until there was enough.
func send(ln net.Listener, enough <-chan struct{}) (r result) {
	c, err := ln.Accept()
	if err != nil {
		return result{err: err}
	}
	defer c.Close()
	h := sha256.New()
	buf := make([]byte, 64<<10)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-enough:
			tick.Stop()
			return result{r.n, h.Sum(nil), c.Close()}
		case <-tick.C: // about 6 MB a second
		}
		rand.Read(buf)
		h.Write(buf)
		n, err := c.Write(buf)
		r.n += int64(n)
		if err != nil {
			return result{err: err}
		}
	}
}
