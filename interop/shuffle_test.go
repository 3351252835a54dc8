package interop_test

import (
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// A reversing socket sends the fragments of a message in reverse order.
type reversing struct {
	net.PacketConn
	mu   sync.Mutex
	held [][]byte
}

func (r *reversing) WriteTo(b []byte, to net.Addr) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, _, err := framing.Parse(b, 0, framing.TrailerAlways); err == nil {
		if text, ok := f.Header.Lookup(framing.LegacyKeyFragTotal); ok {
			total, _ := strconv.Atoi(string(text))
			r.held = append(r.held, append([]byte(nil), b...))
			if len(r.held) < total {
				return len(b), nil
			}
			for i := range r.held {
				if i%32 == 31 {
					time.Sleep(time.Millisecond) // the crate's socket holds about 90
				}
				if _, err := r.PacketConn.WriteTo(r.held[total-1-i], to); err != nil {
					return 0, err
				}
			}
			r.held = nil
			return len(b), nil
		}
	}
	return r.PacketConn.WriteTo(b, to)
}

// newReversing returns a reversing socket on an address.
func newReversing(addr string) (*reversing, error) {
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	return &reversing{PacketConn: pc}, nil
}
