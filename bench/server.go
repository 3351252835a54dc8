package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"sync"
	"time"
)

// idleExchange is how many bytes each idle connection has carried in each
// direction before it goes idle: a connection that was never used tells little.
const idleExchange = 1024

// A server is the server's side of a test.
type server struct {
	spec      *spec
	acceptors []acceptor // all of them, before the first client
	profile   profile
	start     memory // before the first connection
	peak      memoryPeak
	footprint footprint
	all       usage   // of a bulk test: its window
	window    float64 // bytes written in the window
	writes    float64

	mu       sync.Mutex
	err      error
	accepted int
	total    float64 // bytes written
	held     []stream
	meter    meter
	metered  bool
	wg       sync.WaitGroup
}

func newServer(s *spec) *server {
	srv := &server{spec: s, profile: newProfile(s)}
	if s.Test == "idle" {
		srv.start = readMemory()
	}
	switch s.Test {
	case "message":
		srv.peak.start()
	case "bulk":
		srv.footprint.start()
	}
	return srv
}

func (srv *server) acceptLoop(a acceptor) {
	for {
		s, err := a.Accept()
		if err != nil {
			if !isClosed(err) {
				srv.fail(fmt.Errorf("accept: %w", err))
			}
			return
		}
		srv.mu.Lock()
		srv.accepted++
		if !srv.metered && srv.spec.Test != "bulk" && srv.spec.Test != "allocs" {
			srv.metered = true
			srv.meter = startMeter()
			srv.profile.start()
		}
		srv.mu.Unlock()
		srv.wg.Go(func() { srv.serve(s) })
	}
}

func (srv *server) fail(err error) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.err == nil {
		srv.err = err
	}
}

func (srv *server) serve(s stream) {
	var err error
	switch srv.spec.Test {
	case "bulk":
		err = srv.serveBulk(s)
	case "fine-bulk", "fine-rr":
		err = srv.serveFine(s)
	case "allocs":
		err = srv.serveAllocs(s)
	case "idle":
		err = srv.serveIdle(s)
	case "message":
		srv.serveMessages(s)
	case "link", "link-moves", "link-start":
		srv.serveLink(s)
	case "link-messages":
		serveLinkMessages(contenderNamed(srv.spec.Contender).linkPort(s))
	case "link-short":
		serveShort(s)
	default:
		// However this ends: whether all answers came is for the client to say.
		echo(s, make([]byte, srv.spec.Size), math.MaxInt)
		s.Close()
	}
	// Nobody but finish closes a socket that serves all, and handlers end with that.
	if err != nil && !errors.Is(err, net.ErrClosed) {
		srv.fail(err)
	}
}

// serveBulk writes for the time of the test and closes.
func (srv *server) serveBulk(s stream) error {
	buf := make([]byte, srv.spec.Size)
	fillPattern(buf)
	var total float64
	write := func(d time.Duration) (n float64, err error) {
		for start := time.Now(); time.Since(start) < d; {
			// A look at the clock for each Write would be felt where they are small.
			for range 16 {
				if _, err := s.Write(buf); err != nil {
					return n, err
				}
				n++
			}
		}
		return n, nil
	}
	n, err := write(srv.spec.warmup())
	total += n
	if err == nil {
		srv.profile.start()
		m := startMeter()
		srv.writes, err = write(srv.spec.Duration)
		srv.all = m.stop()
		srv.profile.stop()
		srv.footprint.stop()
		srv.window = srv.writes * float64(len(buf))
		total += srv.writes
	}
	srv.mu.Lock()
	srv.total += total * float64(len(buf))
	srv.mu.Unlock()
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return s.Close()
}

// serveAllocs answers as many requests as the client sends and counts
// allocations from the end of the warm-up on.
func (srv *server) serveAllocs(s stream) error {
	buf := make([]byte, srv.spec.Size)
	if err := echo(s, buf, allocWarmup); err != nil {
		return err
	}
	m := startMeter()
	if err := echo(s, buf, srv.spec.Count); err != nil {
		return err
	}
	srv.all = m.stop()
	return s.Close()
}

// serveIdle answers one exchange and then holds the connection.
func (srv *server) serveIdle(s stream) error {
	if err := exchangeOnce(s); err != nil {
		return fmt.Errorf("idle: %w", err)
	}
	srv.mu.Lock()
	srv.held = append(srv.held, s)
	srv.mu.Unlock()
	if srv.spec.Reader {
		blockInRead(s)
	}
	return nil
}

var idleBuffers = sync.Pool{New: func() any { return new([idleExchange]byte) }}

// exchangeOnce reads a request and writes it back.
func exchangeOnce(s stream) error {
	buf := idleBuffers.Get().(*[idleExchange]byte)
	defer idleBuffers.Put(buf)
	if _, err := io.ReadFull(s, buf[:]); err != nil {
		return err
	}
	_, err := s.Write(buf[:])
	return err
}

// blockInRead waits in Read for a byte that does not come. The buffer is a
// global one, so that the reader costs its goroutine and nothing else.
func blockInRead(s stream) { s.Read(idleByte[:]) }

var idleByte [1]byte

// finish returns what was measured, when the client is done.
func (srv *server) finish() (values, error) {
	switch {
	case srv.spec.Test == "idle":
		return srv.finishIdle()
	case srv.spec.isLinkTest():
		return srv.finishLink()
	}
	if srv.spec.Test == "message" {
		time.Sleep(20 * time.Millisecond) // the last one is acknowledged before its reader has it
	}
	// No client can end a socket without connections, so this does.
	for _, a := range srv.acceptors {
		if a, ok := a.(*packetAcceptor); ok {
			a.Close()
		}
	}
	if err := waitTimeout(&srv.wg, 10*time.Second); err != nil {
		return nil, err
	}
	srv.profile.stop()
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.err != nil {
		return nil, srv.err
	}
	switch srv.spec.Test {
	case "fine-bulk", "fine-rr":
		return values{}, nil
	case "allocs":
		return values{"mallocs": float64(srv.all.mallocs) / float64(srv.spec.Count)}, nil
	case "bulk":
		v := srv.footprint.values()
		v["total"] = srv.total
		v["cpu"] = srv.all.cpu.Seconds() / (srv.window / 1e9)
		v["mallocs"] = float64(srv.all.mallocs) / srv.writes
		return v, nil
	}
	u := srv.meter.stop()
	if srv.spec.Test == "message" {
		v := srv.peak.values(srv.spec.Size)
		v["total"], v["cpu"] = srv.total, u.cpu.Seconds()/(srv.total/1e9)
		return v, nil
	}
	return values{
		"accepted": float64(srv.accepted),
		"cpu":      u.cpu.Seconds(),
		"mallocs":  float64(u.mallocs),
	}, nil
}

func (srv *server) finishIdle() (values, error) {
	// The client has its answers; the last of the goroutines here may still be
	// on their way into Read.
	deadline := time.Now().Add(5 * time.Second)
	for {
		srv.mu.Lock()
		n, err := len(srv.held), srv.err
		srv.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if n >= srv.spec.Count {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d connections were accepted", n, srv.spec.Count)
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(idleRest)
	v := readMemory().perConn(srv.start, srv.spec.Count)
	heapProfile(srv.spec)
	if !srv.spec.Reader {
		v["timers"] = 100 * idleLoad(srv.spec)
	}
	runtime.KeepAlive(srv.held)
	return v, nil
}

// waitTimeout waits for the handlers, of which none may hang.
func waitTimeout(wg *sync.WaitGroup, d time.Duration) error {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(d):
		return errors.New("a handler of the server did not end with its connection")
	}
}

// idleLoad returns the share of a core that connections take while nobody uses them.
func idleLoad(s *spec) float64 {
	d := min(idleWatch, time.Duration(s.Count)*idleWatch/1000)
	m := startMeter()
	time.Sleep(d)
	u := m.stop()
	return u.cpu.Seconds() / u.wall.Seconds()
}

// idleWatch is how long, with 1,000 connections or more.
const idleWatch = 3 * time.Second
