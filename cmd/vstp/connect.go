package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/vstp-go/vstp"
)

// dial connects and finishes the handshake, all within --timeout.
func (f *netFlags) dial(ctx context.Context, config *vstp.Config, addr string) (*vstp.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	c, err := (&vstp.Dialer{Config: config}).DialContext(ctx, f.network, addr)
	if err != nil {
		return nil, err
	}
	return c.(*vstp.Conn), nil
}

// tell says with -v how a connection runs.
func (f *netFlags) tell(log *lineLog, c any) {
	if vc, ok := c.(*vstp.Conn); ok && f.verbose {
		log.printf("connected by %s", describeTLS(vc))
	}
}

// listen announces on addr.
func (f *netFlags) listen(ctx context.Context, config *vstp.Config, addr string) (net.Listener, error) {
	return (&vstp.ListenConfig{Config: config}).Listen(ctx, f.network, addr)
}

// describe names how a connection runs: "tcp+tls to 192.0.2.1:6969", or "auto+tls to
// 192.0.2.1:6969 via udp+tls".
func describe(c *vstp.Conn) string {
	return fmt.Sprintf("%s to %s%s", networkOf(c.ConnectionState()), c.RemoteAddr(), via(c))
}

// networkOf names a connection's network as --network does, and TLS.
func networkOf(st vstp.ConnectionState) string {
	if st.TLS != nil {
		return st.Network + "+tls"
	}
	return st.Network
}

// abort ends a connection in a way that its peer cannot take for a regular end.
func abort(c net.Conn, reason string) {
	switch c := c.(type) {
	case *vstp.Conn:
		c.CloseWithError(vstp.CodeApplication, reason)
	case *net.TCPConn:
		c.SetLinger(0) // a reset
	}
	c.Close()
}

// An acceptLoop serves the connections of a listener, at most max at a time.
type acceptLoop struct {
	max   int
	grace time.Duration // how long connections may go on once the loop is to end

	// handle serves one connection and closes it. Its context ends when the loop is
	// to end.
	handle func(ctx context.Context, c net.Conn)
}

// run accepts connections until ctx ends, then waits until those at work are done or
// the time of grace is over, and closes what is left.
func (l *acceptLoop) run(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	var (
		mu    sync.Mutex
		open  = map[net.Conn]bool{}
		wg    sync.WaitGroup
		slots = make(chan struct{}, l.max)
		cause error
	)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() == nil || !errors.Is(err, net.ErrClosed) {
				cause = err
			}
			break
		}
		mu.Lock()
		open[c] = true
		mu.Unlock()
		wg.Go(func() {
			defer func() {
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
				<-slots
			}()
			l.handle(ctx, c)
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	timer := time.NewTimer(l.grace)
	defer timer.Stop()
	select {
	case <-done:
		return cause
	case <-timer.C:
	}
	mu.Lock()
	left := slices.Collect(maps.Keys(open))
	mu.Unlock()
	for _, c := range left {
		wg.Go(func() { abort(c, "shutting down") }) // which can take as long as Linger
	}
	<-done
	return cause
}
