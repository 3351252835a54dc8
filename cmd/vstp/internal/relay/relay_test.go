package relay

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pair returns both ends of a TCP connection.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	s, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// reset makes a Side of which an abort is seen by the peer.
func reset(c *net.TCPConn, got *error) Side {
	return Side{c, func(err error) { *got = err; c.SetLinger(0); c.Close() }}
}

func TestHalfClose(t *testing.T) {
	a, aIn := pair(t)
	b, bIn := pair(t)
	type result struct {
		ab, ba int64
		err    error
	}
	done := make(chan result, 1)
	go func() {
		ab, ba, err := Run(Side{Conn: aIn}, Side{Conn: bIn})
		done <- result{ab, ba, err}
	}()
	_, err := io.WriteString(a, "question")
	require.NoError(t, err)
	require.NoError(t, a.CloseWrite())
	q, err := io.ReadAll(b) // the end is passed on
	require.NoError(t, err)
	require.Equal(t, "question", string(q))
	_, err = io.WriteString(b, "a longer answer") // the other direction goes on
	require.NoError(t, err)
	require.NoError(t, b.Close())
	p, err := io.ReadAll(a)
	require.NoError(t, err)
	require.Equal(t, "a longer answer", string(p))
	require.Equal(t, result{8, 15, nil}, <-done)
}

func TestAbort(t *testing.T) {
	a, aIn := pair(t)
	b, bIn := pair(t)
	var aGot, bGot error
	done := make(chan error, 1)
	go func() {
		_, _, err := Run(reset(aIn, &aGot), reset(bIn, &bGot))
		done <- err
	}()
	_, err := io.WriteString(a, "half")
	require.NoError(t, err)
	_, err = io.ReadFull(b, make([]byte, 4))
	require.NoError(t, err)
	a.SetLinger(0)
	a.Close()
	_, err = io.ReadAll(b) // not an end that looks like a good one
	require.Error(t, err)
	err = <-done
	require.Error(t, err)
	require.Equal(t, err, aGot)
	require.Equal(t, err, bGot)
}

// brokenConn reads nothing and cannot half-close.
type brokenConn struct {
	io.Reader
	closed bool
}

func (c *brokenConn) Write(p []byte) (int, error) { return len(p), nil }
func (c *brokenConn) Close() error                { c.closed = true; return nil }
func (c *brokenConn) CloseWrite() error           { return errors.New("cannot") }

func TestCloseWriteFails(t *testing.T) {
	a, b := &brokenConn{Reader: strings.NewReader("x")}, &brokenConn{Reader: strings.NewReader("yy")}
	_, _, err := Run(Side{Conn: a}, Side{Conn: b})
	require.EqualError(t, err, "cannot")
	require.True(t, a.closed)
	require.True(t, b.closed)
}
