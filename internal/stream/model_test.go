package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
)

var modelSeed = flag.Uint64("model.seed", 0, "run only this seed of TestModel")

// TestModel has two sessions do at random what applications do, over a carrier of
// random size, and compares what arrives with a model: a count of stream bytes and a
// list of messages for each direction.
func TestModel(t *testing.T) {
	if *modelSeed != 0 {
		bubble(t, func(t *testing.T) { testModel(t, *modelSeed) })
		return
	}
	n := 1000
	if testing.Short() {
		n = 100
	}
	base := rand.Uint64()
	for i := range n {
		seed := base + uint64(i)
		if i%2 == 0 {
			seed = uint64(i) + 1
		}
		ok := t.Run(fmt.Sprintf("model.seed=%d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { testModel(t, seed) })
		})
		if !ok {
			t.Fatalf("-model.seed=%d", seed)
		}
	}
}

// pattern is the byte of the stream at off.
func pattern(off int) byte { return byte(off*31 ^ off>>8) }

// A direction is the model of what one side sends.
type direction struct {
	bytes int            // accepted by Write
	msgs  map[uint64]int // by number: how often it must arrive, -1 for perhaps
	last  uint64         // number of the last one begun
}

func testModel(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := modes[rnd.IntN(4)]
	if rnd.IntN(20) == 0 {
		m = modes[rnd.IntN(len(modes))]
	}
	client, server := testConfig(true), testConfig(false)
	if rnd.IntN(3) == 0 {
		client.KeepAlive, server.Params.Idle = time.Second, 3*time.Second
	}
	c, s, cc, sc := m.pair(t, client, server)
	for _, e := range []*memconn.Conn{cc, sc} {
		e.SetWriteBuffer(1 + rnd.IntN(1<<(4+rnd.IntN(14))))
		if rnd.IntN(3) == 0 {
			e.SetMaxRead(1 + rnd.IntN(5000))
		}
	}
	var wg sync.WaitGroup
	for _, x := range [][2]*Session{{c, s}, {s, c}} {
		d := &direction{msgs: make(map[uint64]int)}
		sent := make(chan bool)
		a, b := rnd.Uint64(), rnd.Uint64()
		wg.Go(func() {
			modelSender(t, x[0], d, rand.New(rand.NewPCG(a, b)))
			close(sent)
		})
		got, order := 0, []uint64(nil)
		var readers sync.WaitGroup
		readers.Go(func() { got = modelReader(t, x[1], rand.New(rand.NewPCG(a, b+1))) })
		readers.Go(func() { order = modelReceiver(t, x[1], rand.New(rand.NewPCG(a, b+2))) })
		wg.Go(func() {
			readers.Wait()
			<-sent
			if got != d.bytes {
				t.Errorf("read %d bytes of %d", got, d.bytes)
			}
			for i, n := range order {
				want, ok := d.msgs[n]
				if want != 1 && want != -1 || !ok || i > 0 && n <= order[i-1] {
					t.Errorf("message %d arrived, want %d of it, %v", n, want, ok)
				}
				delete(d.msgs, n)
			}
			for n, want := range d.msgs {
				if want > 0 {
					t.Errorf("message %d did not arrive", n)
				}
			}
		})
	}
	wg.Wait()
	start := time.Now()
	wg.Go(func() { c.Close() })
	s.Close()
	wg.Wait()
	if d := time.Since(start); d != 0 {
		t.Errorf("closing took %v", d)
	}
	time.Sleep(c.cfg.Linger)
	if !cc.Closed() || !sc.Closed() {
		t.Error("a carrier is open")
	}
	if c.sbuf.len() > 0 || len(c.msgs) > 0 || s.partial.open {
		t.Error("something is left over")
	}
}

// modelSender does some things that send, then half-closes.
func modelSender(t *testing.T, s *Session, d *direction, rnd *rand.Rand) {
	timeout := func() time.Duration { return time.Duration(rnd.IntN(3)) * time.Millisecond }
	size := func() int { return rnd.IntN(1 << (1 + rnd.IntN(18))) }
	for range 3 + rnd.IntN(12) {
		s.SetWriteDeadline(time.Time{})
		if rnd.IntN(3) == 0 {
			s.SetWriteDeadline(time.Now().Add(timeout()))
		}
		switch rnd.IntN(5) {
		case 0, 1:
			p := make([]byte, size())
			for i := range p {
				p[i] = pattern(d.bytes + i)
			}
			n, err := s.Write(p)
			d.bytes += n
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || err == nil && n != len(p) {
				t.Errorf("Write: %d of %d, %v", n, len(p), err)
				return
			}
		case 2, 3:
			d.last++
			p := binary.BigEndian.AppendUint64(nil, d.last)
			p = append(p, make([]byte, size())...)
			ctx, cancel := context.Background(), context.CancelFunc(func() {})
			if rnd.IntN(3) == 0 {
				ctx, cancel = context.WithTimeout(ctx, timeout())
			}
			reqAck := rnd.IntN(2) == 0
			err := s.SendMessage(ctx, &session.Message{Payload: p, ReqAck: reqAck})
			cancel()
			switch {
			case err == nil:
				d.msgs[d.last] = 1
			case !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded):
				t.Errorf("SendMessage: %v", err)
				return
			case reqAck:
				d.msgs[d.last] = -1
			}
		case 4:
			ctx, cancel := context.WithTimeout(context.Background(), timeout())
			if _, err := s.Ping(ctx); err != nil && err != context.DeadlineExceeded {
				t.Errorf("Ping: %v", err)
			}
			cancel()
		}
		if rnd.IntN(4) == 0 {
			time.Sleep(timeout())
		}
	}
	if err := s.CloseWrite(); err != nil {
		t.Errorf("CloseWrite: %v", err)
	}
}

// modelReader reads the stream to its end and returns how many bytes there were.
func modelReader(t *testing.T, s *Session, rnd *rand.Rand) (got int) {
	for {
		s.SetReadDeadline(time.Time{})
		if rnd.IntN(4) == 0 { // holds for modelReceiver too
			s.SetReadDeadline(time.Now().Add(time.Duration(rnd.IntN(3)) * time.Millisecond))
		}
		p := make([]byte, rnd.IntN(1<<(1+rnd.IntN(18))))
		n, err := s.Read(p)
		for i, b := range p[:n] {
			if b != pattern(got+i) {
				t.Errorf("byte %d is damaged", got+i)
				return
			}
		}
		got += n
		switch {
		case err == io.EOF:
			s.SetReadDeadline(time.Time{})
			return got
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			t.Errorf("Read: %v", err)
			return got
		}
		if rnd.IntN(8) == 0 {
			time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
		}
	}
}

// modelReceiver receives all messages and returns their numbers.
func modelReceiver(t *testing.T, s *Session, rnd *rand.Rand) (order []uint64) {
	for {
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		if rnd.IntN(4) == 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(3))*time.Millisecond)
		}
		m, err := s.ReceiveMessage(ctx)
		cancel()
		switch {
		case err == nil:
			order = append(order, binary.BigEndian.Uint64(m.Payload))
			for _, b := range m.Payload[8:] {
				if b != 0 {
					t.Error("a message is damaged")
				}
			}
		case err == io.EOF:
			return order
		case !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("ReceiveMessage: %v", err)
			return order
		}
		if rnd.IntN(8) == 0 {
			time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
		}
	}
}
