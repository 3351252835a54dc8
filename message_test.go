package vstp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp"
)

// TestMessages sends messages of all sizes with metadata, with and without ACK, both
// ways at once, over every transport.
func TestMessages(t *testing.T) {
	header := vstp.Header{{Key: "name", Value: "x"}, {Key: "", Value: "\x00\xff"}, {Key: "name", Value: "y"}}
	sizes := []int{0, 1, 1000, 65_536, 65_537, 3_000_000}
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			a, b, stop, err := tr.pipe(t)()
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			var wg sync.WaitGroup
			for _, c := range []*vstp.Conn{a.(*vstp.Conn), b.(*vstp.Conn)} {
				wg.Go(func() {
					for i, n := range sizes {
						m := &vstp.Message{Header: header, Payload: bytes.Repeat([]byte{byte(i)}, n), RequireAck: i%2 == 0, Ordered: true}
						if err := c.SendMessage(context.Background(), m); err != nil {
							t.Errorf("send %d: %v", n, err)
						}
					}
				})
				wg.Go(func() {
					for i, n := range sizes {
						m, err := c.ReceiveMessage(context.Background())
						if err != nil {
							t.Errorf("receive %d: %v", n, err)
							return
						}
						if !slices.Equal(m.Header, header) || !bytes.Equal(m.Payload, bytes.Repeat([]byte{byte(i)}, n)) || m.RequireAck != (i%2 == 0) {
							t.Errorf("received %d bytes of %d, %v, %v", len(m.Payload), n, m.Header, m.RequireAck)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestMessageErrors are those of SendMessage and ReceiveMessage, and their shapes.
func TestMessageErrors(t *testing.T) {
	tr := transport{network: "tcp", config: vstp.Config{MaxMessageSize: 1000}}
	a, b, stop, err := tr.pipe(t)()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, s := a.(*vstp.Conn), b.(*vstp.Conn)
	ended, cancel := context.WithCancelCause(context.Background())
	why := errors.New("why")
	cancel(why)
	for _, x := range []struct {
		name string
		err  error
		want error
	}{
		{"too large", c.SendMessage(context.Background(), &vstp.Message{Payload: make([]byte, 1001)}), vstp.ErrMessageTooLarge},
		{"reserved", c.SendMessage(context.Background(), &vstp.Message{Header: vstp.Header{{Key: "\x01"}}}), vstp.ErrReservedKey},
		{"ended", c.SendMessage(ended, &vstp.Message{}), why},
		{"not in time", c.SendMessage(contextIn(time.Millisecond), &vstp.Message{RequireAck: true}), context.DeadlineExceeded},
	} {
		var oe *net.OpError
		if !errors.Is(x.err, x.want) || !errors.As(x.err, &oe) || oe.Op == "" || oe.Net != "tcp" {
			t.Errorf("%s: %v", x.name, x.err)
		}
	}
	if _, err := s.ReceiveMessage(ended); !errors.Is(err, why) {
		t.Error(err)
	}
	if m, err := s.ReceiveMessage(context.Background()); err != nil || !m.RequireAck {
		t.Errorf("the one not acknowledged in time: %v, %v", m, err)
	}
	if got := c.ConnectionState().MaxMessageSize; got != 1000 {
		t.Errorf("peer takes %d", got)
	}
	// What was refused has harmed nothing.
	go s.ReceiveMessage(context.Background())
	if err := c.SendMessage(context.Background(), &vstp.Message{Payload: make([]byte, 1000), RequireAck: true}); err != nil {
		t.Error(err)
	}
}

// TestMessagesConcurrently sends a thousand acknowledged messages at once, beside a
// stream that is read.
func TestMessagesConcurrently(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			a, b, stop, err := tr.pipe(t)()
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			c, s := a.(*vstp.Conn), b.(*vstp.Conn)
			const n = 1000
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					if err := c.SendMessage(context.Background(), &vstp.Message{Payload: fmt.Appendf(nil, "%d", i), RequireAck: true}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Go(func() { c.Write(make([]byte, 1_000_000)) })
			wg.Go(func() {
				b := make([]byte, 10_000)
				for got := 0; got < 1_000_000; {
					k, err := s.Read(b)
					got += k
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
			seen := make(map[string]bool)
			for range n {
				m, err := s.ReceiveMessage(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				seen[string(m.Payload)] = true
			}
			if len(seen) != n {
				t.Errorf("%d different messages of %d", len(seen), n)
			}
			wg.Wait()
		})
	}
}
