package vstp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/vstp-go/vstp/internal/simnet"
)

// Code that knows nothing of this package, over a path that loses 5 % and reorders.

// onLossy runs f with such a link. In real time: this code holds mutexes while it
// writes, and a bubble's clock stands still while a goroutine waits for a mutex.
func onLossy(t *testing.T, f func(t *testing.T, l *simLink)) {
	t.Helper()
	path := lossy(0.05)
	path.Delay = time.Millisecond
	l := newStack(t, simnet.Options{Seed: 1, Path: path, Limit: -1}, nil, nil)
	f(t, l)
	l.close()
}

// serveHTTP starts a server that echoes on l and returns a client for it, and what ends
// both.
func serveHTTP(t *testing.T, l *simLink, handler http.Handler, protocols *http.Protocols) (*http.Client, func()) {
	t.Helper()
	server := &http.Server{Handler: handler, Protocols: protocols}
	served := async(func() error { return server.Serve(l.ln) })
	transport := &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return l.client.DialStream(ctx, l.server.LocalAddr())
		},
	}
	return &http.Client{Transport: transport}, func() {
		transport.CloseIdleConnections()
		require.NoError(t, server.Shutdown(context.Background()))
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}
}

// HTTP/1.1: one request after the other, with answers as large.
func TestStackHTTP(t *testing.T) {
	onLossy(t, func(t *testing.T, l *simLink) {
		client, end := serveHTTP(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body) // an HTTP/1.1 server reads first, then answers
			w.Write(b)
		}), nil)
		var g group
		for range 5 {
			g.Go(func() error {
				for _, n := range []int64{0, 1, 1000, 300_000} {
					res, err := client.Post("http://vstp.test/", "", content(n))
					if err != nil {
						return err
					}
					err = talk{}.expect(res.Body, n)
					if err = errors.Join(err, res.Body.Close()); err != nil {
						return err
					}
				}
				return nil
			})
		}
		g.wg.Wait()
		g.Wait(t)
		end()
	})
}

// HTTP/2 without TLS: many requests on one connection.
func TestStackHTTP2(t *testing.T) {
	onLossy(t, func(t *testing.T, l *simLink) {
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		client, end := serveHTTP(t, l, echoHandler, &p)
		var g group
		for i := range 20 {
			g.Go(func() error {
				n := int64(i * 10_000)
				res, err := client.Post("http://vstp.test/", "", content(n))
				if err != nil {
					return err
				}
				if res.ProtoMajor != 2 {
					err = fmt.Errorf("protocol %s", res.Proto)
				}
				return errors.Join(err, talk{}.expect(res.Body, n), res.Body.Close())
			})
		}
		g.wg.Wait()
		g.Wait(t)
		end()
	})
}

// SSH: login, and commands at the same time.
func TestStackSSH(t *testing.T) {
	onLossy(t, func(t *testing.T, l *simLink) {
		server, hostKey := newSSHServer(t)
		c, s := l.pair(t)
		served := async(func() error { return server.serve(s) })
		conn, channels, requests, err := ssh.NewClientConn(c, "vstp.test:22", &ssh.ClientConfig{
			User:            "user",
			Auth:            []ssh.AuthMethod{ssh.Password("secret")},
			HostKeyCallback: ssh.FixedHostKey(hostKey),
		})
		require.NoError(t, err)
		client := ssh.NewClient(conn, channels, requests)
		data := contentBytes(200_000)
		var g group
		for range 3 {
			g.Go(func() error {
				session, err := client.NewSession()
				if err != nil {
					return err
				}
				defer session.Close()
				session.Stdin = bytes.NewReader(data)
				out, err := session.Output("cat")
				var exit *ssh.ExitError
				if !errors.As(err, &exit) || exit.ExitStatus() != 3 {
					return fmt.Errorf("exit: %w", err)
				}
				if !bytes.Equal(out, data) {
					return errEcho
				}
				return nil
			})
		}
		g.wg.Wait()
		g.Wait(t)
		require.NoError(t, client.Close())
		require.NoError(t, <-served)
	})
}

// net/rpc: many calls at a time.
func TestStackRPC(t *testing.T) {
	onLossy(t, func(t *testing.T, l *simLink) {
		server := rpc.NewServer()
		require.NoError(t, server.Register(&Arith{}))
		c, s := l.pair(t)
		ended := async(func() error { server.ServeConn(s); return nil })
		client := rpc.NewClient(c)
		var g group
		for i := range 50 {
			g.Go(func() error {
				var reply Reply
				blob := contentBytes(i * 500)
				if err := client.Call("Arith.Multiply", &Args{A: i, B: 7, Blob: blob}, &reply); err != nil {
					return err
				}
				if reply.C != i*7 || !bytes.Equal(reply.Blob, blob) {
					return fmt.Errorf("call %d: wrong answer", i)
				}
				return nil
			})
		}
		g.wg.Wait()
		g.Wait(t)
		require.NoError(t, client.Close())
		require.NoError(t, <-ended)
	})
}

// The proxy that everybody writes, between two connections, with half-closes.
func TestStackProxy(t *testing.T) {
	onLossy(t, func(t *testing.T, l *simLink) {
		client, in := l.pair(t)
		out, backend := l.pair(t)
		k := talk{first: 300_000, second: 1_000_000}
		var g group
		g.Go(func() error { return forward(in, out) })
		g.Go(func() error { return k.begin(client) })
		g.Go(func() error { return k.answer(backend) })
		g.wg.Wait()
		g.Wait(t)
		for _, c := range []io.Closer{client, backend} {
			require.NoError(t, c.Close())
		}
	})
}
