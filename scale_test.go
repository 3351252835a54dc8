package vstp_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vstp-go/vstp"
)

// A thousand connections at a time, each echoing, more than once.
func TestThousandConnections(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		conns := 1000
		if tr.tls || tr.config.Compression != 0 {
			conns = sized(1000, 250)
		}
		if tr.moving { // every 3 ms, each at both ends
			conns = 50
		}
		ln, d := tr.start(t)
		go echoAll(ln)
		var all sync.WaitGroup // until everybody is connected
		all.Add(conns)
		gate := make(chan struct{}, 100) // the kernel's backlog of a Unix socket is short
		var g group
		for i := range conns {
			g.Go(func() error {
				gate <- struct{}{}
				c, err := d.Dial(tr.network, ln.Addr().String())
				<-gate
				all.Done()
				if err != nil {
					return err
				}
				defer c.Close()
				all.Wait()
				for range 3 {
					if err := roundTrip(c, contentBytes(1000+i)); err != nil {
						return fmt.Errorf("connection %d: %w", i, err)
					}
				}
				return nil
			})
		}
		g.Wait(t)
	})
}

// What a connection costs that does nothing: no goroutine, and little memory, on both
// ends together.
func TestIdleConnections(t *testing.T) {
	conns := sized(500, 200)
	eachTransport(t, func(t *testing.T, tr transport) {
		if tr.moving {
			return // they do something
		}
		ln, d := tr.start(t)
		connect(t, ln, d) // what is made once
		goroutines, memory := runtime.NumGoroutine(), memoryInUse()
		for range conns {
			c, s := connect(t, ln, d)
			_, err := c.Write([]byte("x"))
			require.NoError(t, err)
			_, err = io.ReadFull(s, make([]byte, 1))
			require.NoError(t, err)
		}
		switch {
		case tr.auto():
			goroutines += 3 * conns // and TCP beside it at both ends
		case tr.datagrams():
			goroutines += conns // each Dial has a socket, which somebody has to read
		}
		require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+10, "goroutines of connections that do nothing")
		per := (memoryInUse() - memory) / int64(conns)
		limit := int64(24 << 10) // both ends; the design wants 6 KiB above a socket's for each
		switch {
		case tr.tls && tr.auto():
			limit = 2 * 128 << 10 // twice crypto/tls
		case tr.tls:
			limit = 128 << 10 // crypto/tls
		case tr.auto():
			limit = 64 << 10
			if raceEnabled {
				limit += 256 << 10 // what is written to a byte stream is made in large buffers
			}
		case tr.datagrams():
			limit = 2 * 16 << 10
			if raceEnabled {
				limit += 16 << 10 // sync.Pool drops what it is given now and then
			}
		case tr.config.Compression != 0:
			limit = 4 << 20
		}
		t.Logf("%d bytes per connection", per)
		require.Less(t, per, limit, "bytes per connection")
	})
}

// 10,000 connections opened and closed, in all the ways that there are, leave no
// goroutine and no file descriptor behind (C7).
func TestOpenClose(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		conns := sized(10_000, 1_500)
		if tr.tls {
			conns = sized(3_000, 300)
		}
		if tr.moving {
			conns = 200
		}
		ln, d := tr.start(t)
		c, _ := connect(t, ln, d)
		if tr.auto() { // the standby comes in the background
			require.NoError(t, c.Move(t.Context(), vstp.CarrierTCP))
			_, err := c.Ping(t.Context())
			require.NoError(t, err)
		}
		leaks := goleak.IgnoreCurrent()
		descriptors := openDescriptors(t)

		var clients group
		const workers = 8
		for w := range workers {
			clients.Go(func() error {
				for i := range conns / workers {
					if err := openClose(ln, d, w+i); err != nil {
						return err
					}
				}
				return nil
			})
		}
		accepted := async(func() (err error) {
			for i := range conns / workers * workers {
				c, aerr := ln.Accept()
				if aerr != nil {
					return aerr
				}
				if i%3 == 0 { // one side closes first, or both at once
					io.Copy(io.Discard, c)
				}
				if i%7 == 0 {
					c.Write([]byte("x"))
				}
				c.Close() // an error if the client has left without BYE
			}
			return nil
		})
		clients.Wait(t)
		require.NoError(t, receive(t, accepted))
		require.NoError(t, findLeaks(leaks))
		require.LessOrEqual(t, openDescriptors(t), descriptors)
	})
}

// openClose opens a connection and ends it in the way of kind.
func openClose(ln *vstp.Listener, d *vstp.Dialer, kind int) error {
	c, err := d.Dial(networkOf(ln), ln.Addr().String())
	if err != nil {
		return err
	}
	vc := c.(*vstp.Conn)
	switch kind % 5 {
	case 0:
		err = c.Close()
	case 1:
		_, err = c.Write([]byte("hello"))
		err = errors.Join(err, c.Close())
		if errors.Is(err, vstp.ErrPeerClosed) {
			err = nil // the server was faster
		}
	case 2:
		vc.CloseWrite()
		io.Copy(io.Discard, c)
		err = c.Close()
	case 3:
		vc.CloseWithError(vstp.CodeApplication, "bye")
	case 4:
		if nc := vc.NetConn(); nc != nil {
			nc.Close() // vanishes
		}
		c.Close()
	}
	if isBroken(err) {
		err = nil // the server has closed with what we wrote unread
	}
	return err
}

// isBroken reports whether err tells of a peer that was gone already.
func isBroken(err error) bool {
	var se *os.SyscallError
	return errors.As(err, &se) || errors.Is(err, net.ErrClosed)
}

// openDescriptors returns how many files this process has open.
func openDescriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	return len(fds)
}
