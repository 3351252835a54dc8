package udpio

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/transport/v3/vnet"
)

// memory is one end of a pipe of datagrams. What is put into errs comes out of
// ReadFrom.
type memory struct {
	in, out chan string
	errs    chan error
	done    chan struct{}
	name    otherAddr
	to      []net.Addr
	sendErr func() error
}

func memoryPipe() (a, b *memory) {
	x, y := make(chan string, 100), make(chan string, 100)
	a = &memory{in: x, out: y, errs: make(chan error, 1000), done: make(chan struct{}), name: otherAddr{"mem", "a"}}
	b = &memory{in: y, out: x, errs: make(chan error, 1000), done: make(chan struct{}), name: otherAddr{"mem", "b"}}
	return a, b
}

func (m *memory) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case err := <-m.errs:
		return 0, nil, err
	default:
	}
	select {
	case s := <-m.in:
		return copy(p, s), otherAddr{"mem", "a"}, nil
	case err := <-m.errs:
		return 0, nil, err
	case <-m.done:
		return 0, nil, errors.New("some private error")
	}
}

func (m *memory) WriteTo(p []byte, a net.Addr) (int, error) {
	if m.sendErr != nil {
		if err := m.sendErr(); err != nil {
			return 0, err
		}
	}
	m.to = append(m.to, a)
	m.out <- string(p)
	return len(p), nil
}

func (m *memory) Close() error                     { close(m.done); return nil }
func (m *memory) LocalAddr() net.Addr              { return m.name }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

func TestGeneric(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memoryPipe()
		c, d := New(a, Options{}), New(b, Options{})
		to := addrOf(t, b.LocalAddr())
		if err := c.Write([]byte("abcdefgh"), 3, to, Local{}); err != nil {
			t.Fatal(err)
		}
		if err := c.Write(nil, 0, to, Local{}); err != nil {
			t.Fatal(err)
		}
		for i, got := range readN(t, d, 4) {
			if want := []string{"abc", "def", "gh", ""}[i]; got.data != want || got.addr != addrOf(t, a.LocalAddr()) {
				t.Errorf("got %+v", got)
			}
		}
		if a.to[0] != b.LocalAddr() || c.MaxSegments() != 1 || c.MaxDatagram() != genericDatagram {
			t.Error(a.to, c.MaxSegments(), c.MaxDatagram())
		}
		if err := c.Write([]byte{1}, 0, Addr{}, Local{}); err == nil {
			t.Error("no address, no error")
		}
		go func() {
			time.Sleep(time.Second)
			d.Close()
		}()
		if _, err := d.Read(make([]Packet, 1)); err != net.ErrClosed {
			t.Errorf("error is %v", err)
		}
		c.Close()
	})
}

// TestReadPauses is trap U1: errors do not end the loop, nor make it spin.
func TestReadPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		a, b := memoryPipe()
		c := New(a, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		defer b.Close()
		defer c.Close()
		start := time.Now()
		a.errs <- errors.New("one")
		a.in <- "x"
		readN(t, c, 1)
		if d := time.Since(start); d != 0 {
			t.Errorf("one error has cost %v", d)
		}
		for range 20 {
			a.errs <- errors.New("many")
		}
		a.in <- "x"
		readN(t, c, 1)
		// 1, 2, 4 ... 128 ms, then eleven times 250.
		if d := time.Since(start); d != 255*time.Millisecond+11*maxPause {
			t.Errorf("20 errors have cost %v", d)
		}
		if n := strings.Count(log.String(), "WARN"); n != 1 { // trap S12
			t.Errorf("%d warnings", n)
		}
		time.Sleep(logEvery)
		a.errs <- errors.New("again")
		a.in <- "x"
		readN(t, c, 1)
		if !strings.Contains(log.String(), "suppressed=20") || c.Stats().ReadErrors != 22 {
			t.Errorf("%s\n%+v", log.String(), c.Stats())
		}
	})
}

// TestCheapErrors is trap S11: peers that cannot be reached do not slow Read down.
func TestCheapErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memoryPipe()
		c := New(a, Options{})
		defer b.Close()
		defer c.Close()
		start := time.Now()
		for range 10 * maxCheap {
			a.errs <- &net.OpError{Op: "read", Err: errRefusedForTest}
		}
		a.in <- "x"
		readN(t, c, 1)
		if d := time.Since(start); d != 10*time.Millisecond {
			t.Errorf("it took %v", d)
		}
	})
}

func TestCloseEndsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memoryPipe()
		c := New(a, Options{})
		defer b.Close()
		for range 100 {
			a.errs <- errors.New("many")
		}
		start := time.Now()
		go func() {
			time.Sleep(time.Second)
			c.Close()
		}()
		if _, err := c.Read(make([]Packet, 1)); err != net.ErrClosed {
			t.Errorf("error is %v", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func TestFinalErrors(t *testing.T) {
	for _, err := range []error{net.ErrClosed, io.EOF, io.ErrClosedPipe, &net.OpError{Op: "read", Err: net.ErrClosed}} {
		a, _ := memoryPipe()
		a.errs <- err
		if _, got := New(a, Options{}).Read(make([]Packet, 1)); got != net.ErrClosed {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestGenericWriteErrors(t *testing.T) {
	tests := []struct {
		errs []error
		want error
		sent int
	}{
		{[]error{errRefusedForTest}, nil, 3},
		{[]error{errRefusedForTest, errRefusedForTest}, errRefusedForTest, 0},
		{[]error{nil, ErrAgain}, ErrAgain, 1},
		{[]error{net.ErrClosed}, net.ErrClosed, 0},
	}
	for _, test := range tests {
		a, b := memoryPipe()
		errs := test.errs
		a.sendErr = func() error {
			if len(errs) == 0 {
				return nil
			}
			err := errs[0]
			errs = errs[1:]
			return err
		}
		err := New(a, Options{}).Write([]byte("abcdefgh"), 3, addrOf(t, b.LocalAddr()), Local{})
		if !errors.Is(err, test.want) || len(a.to) != test.sent {
			t.Errorf("%v: %v, sent %d", test.errs, err, len(a.to))
		}
	}
}

// errRefusedForTest is an error that kindOf takes for ECONNREFUSED on every system.
var errRefusedForTest error = func() error {
	for e := syscall.Errno(1); e < 12000; e++ {
		if kindOfErrno(e) == kindRefused {
			return e
		}
	}
	panic("BUG: no such error")
}()

// TestSimulatedNetwork: addresses are *net.UDPAddr there, but there is no socket.
func TestSimulatedNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := vnet.NewNet(&vnet.NetConfig{})
		if err != nil {
			t.Fatal(err)
		}
		var conns [2]*Conn
		for i := range conns {
			pc, err := sim.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			conns[i] = New(pc, Options{MaxDatagram: 9000})
		}
		a, b := conns[0], conns[1]
		if a.Stats().FastPath || a.MaxDatagram() != 9000 {
			t.Errorf("%+v, %d", a.Stats(), a.MaxDatagram())
		}
		if err := a.Write([]byte("abcde"), 2, addrOf(t, b.LocalAddr()), Local{}); err != nil {
			t.Fatal(err)
		}
		for i, got := range readN(t, b, 3) {
			if want := []string{"ab", "cd", "e"}[i]; got.data != want || got.addr != addrOf(t, a.LocalAddr()) {
				t.Errorf("got %+v", got)
			}
		}
		go func() {
			time.Sleep(time.Second)
			b.Close()
		}()
		if _, err := b.Read(make([]Packet, 1)); err != net.ErrClosed {
			t.Errorf("error is %v", err)
		}
		a.Close()
	})
}

// TestAddressIsMadeOnce has a peer that is written to repeatedly.
func TestAddressIsMadeOnce(t *testing.T) {
	a, _ := memoryPipe()
	c := New(a, Options{})
	to := parseAddr(t, "192.0.2.1:7")
	for range 2 {
		if err := c.Write([]byte("x"), 0, to, Local{}); err != nil {
			t.Fatal(err)
		}
	}
	if a.to[0].String() != "192.0.2.1:7" || a.to[0] != a.to[1] {
		t.Errorf("%v", a.to)
	}
}
