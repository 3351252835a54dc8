package endpoint

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/reliable"
)

// streamRead is what is known of who reads the byte stream of s.
func streamRead(s *Session) (turns uint64, parked, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.mob.bearer; b != nil {
		return b.turns.count, b.turns.parked, b.turns.held
	}
	return 0, false, false
}

// TestCarrierReadTurns: a Read in a loop reads the byte stream by itself. A deadline ends it
// anywhere, and not a byte is lost; so does a move, and Close. Who reads no more leaves that
// to the goroutine in the background.
func TestCarrierReadTurns(t *testing.T) {
	tcp := simnet.TCPPath{Delay: 3 * time.Millisecond, Rate: 20e6}
	moversBubble(t, simnet.Path{Delay: 5 * time.Millisecond}, tcp, func(t *testing.T, m *movers, c, s *Session) {
		attachedBoth(t, c, s)
		if err := c.Move(t.Context(), reliable.ByteStream); err != nil {
			t.Fatal(err)
		}
		swap(t, c, s)
		want := pattern(3_000_000)
		go func() {
			s.Write(want)
			s.CloseWrite()
		}()
		rnd := rand.New(rand.NewPCG(1, 1))
		var got []byte
		buf := make([]byte, 100_000)
		deadlines := 0
		for i := 0; ; i++ {
			c.SetReadDeadline(time.Now().Add(time.Duration(rnd.IntN(8000)) * time.Microsecond))
			n, err := c.Read(buf[:1+rnd.IntN(len(buf))])
			got = append(got, buf[:n]...)
			clear(buf)
			if i == 60 || i == 120 {
				to := reliable.Datagrams
				if i == 120 {
					to = reliable.ByteStream
				}
				if err := c.Move(t.Context(), to); err != nil {
					t.Fatal(err)
				}
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				deadlines++
				continue
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		turns, _, _ := streamRead(c)
		if t.Logf("%d turns, %d deadlines", turns, deadlines); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, other than those sent", len(got))
		}
		if turns == 0 {
			t.Error("Read never read by itself")
		}
		c.SetReadDeadline(time.Time{})
		// Nobody reads: what comes is taken all the same.
		time.Sleep(10 * streamGrace)
		if _, parked, held := streamRead(c); parked || held {
			t.Errorf("parked %v, held %v", parked, held)
		}
	})
}

// TestCarrierReadClose: Close ends a Read that reads the byte stream by itself.
func TestCarrierReadClose(t *testing.T) {
	tcp := simnet.TCPPath{Delay: time.Millisecond}
	moversBubble(t, simnet.Path{Delay: 5 * time.Millisecond}, tcp, func(t *testing.T, m *movers, c, s *Session) {
		attachedBoth(t, c, s)
		if err := c.Move(t.Context(), reliable.ByteStream); err != nil {
			t.Fatal(err)
		}
		swap(t, c, s)
		done := make(chan error, 1)
		go func() {
			b := make([]byte, 10_000)
			for {
				if _, err := c.Read(b); err != nil {
					done <- err
					return
				}
			}
		}()
		for range 5 {
			s.Write(pattern(8000))
			time.Sleep(2 * time.Millisecond)
		}
		synctest.Wait()
		turns, _, held := streamRead(c)
		if turns == 0 || !held {
			t.Errorf("%d turns, held %v", turns, held)
		}
		c.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestCarrierReadForgotten: with the session ends who was to read its byte stream after a Read,
// at once and not after a grace.
func TestCarrierReadForgotten(t *testing.T) {
	tcp := simnet.TCPPath{Delay: time.Millisecond}
	moversBubble(t, simnet.Path{Delay: 5 * time.Millisecond}, tcp, func(t *testing.T, m *movers, c, s *Session) {
		attachedBoth(t, c, s)
		if err := c.Move(t.Context(), reliable.ByteStream); err != nil {
			t.Fatal(err)
		}
		swap(t, c, s)
		s.Write(pattern(8000))
		for got := 0; got < 8000; {
			n, err := c.Read(make([]byte, 10_000))
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		c.mu.Lock()
		b := c.mob.bearer
		parked := b.turns.parked
		c.mu.Unlock()
		if !parked {
			t.Fatal("nobody waits for the next Read")
		}
		c.forget(net.ErrClosed)
		synctest.Wait() // which takes no time
		c.mu.Lock()
		if b.turns.parked {
			t.Error("somebody still waits for the next Read")
		}
		c.mu.Unlock()
	})
}

// TestCarrierReadOthers: a call that waits for something else does not wait for a grace.
func TestCarrierReadOthers(t *testing.T) {
	tcp := simnet.TCPPath{Delay: time.Millisecond}
	moversBubble(t, simnet.Path{Delay: 5 * time.Millisecond}, tcp, func(t *testing.T, m *movers, c, s *Session) {
		attachedBoth(t, c, s)
		if err := c.Move(t.Context(), reliable.ByteStream); err != nil {
			t.Fatal(err)
		}
		swap(t, c, s)
		b := make([]byte, 10)
		for range 20 {
			s.Write(b)
			if _, err := io.ReadFull(c, b); err != nil {
				t.Fatal(err)
			}
			d, err := c.Ping(t.Context())
			if err != nil || d > 2*tcp.Delay+streamGrace/2 {
				t.Fatal(d, err)
			}
		}
	})
}
