package vstp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// A transport is one way to get two connected ends.
type transport struct {
	name    string
	network string
	tls     bool
	config  vstp.Config
	moving  bool // both ends move between carriers all the time
}

var transports = []transport{
	{name: "tcp", network: "tcp"},
	{name: "tcp-nocrc", network: "tcp", config: vstp.Config{Checksum: vstp.ChecksumOff}},
	{name: "tcp-zstd", network: "tcp", config: vstp.Config{Compression: vstp.CompressionZstd}},
	{name: "unix", network: "unix"},
	{name: "tcp+TLS", network: "tcp", tls: true},
	{name: "rudp", network: "rudp"},
	{name: "rudp+TLS", network: "rudp", tls: true},
	{name: "auto", network: "auto"},
	{name: "auto+TLS", network: "auto", tls: true},
	{name: "auto, moving", network: "auto", moving: true},
	{name: "auto+TLS, moving", network: "auto", tls: true, moving: true},
}

// onlyTCP are those that stay on one carrier. What they do is tested where it can differ.
var onlyTCP = []transport{
	{name: "auto on TCP", network: "auto", config: vstp.Config{Auto: vstp.AutoConfig{Pin: vstp.CarrierTCP}}},
	{name: "auto on TCP+TLS", network: "auto", tls: true, config: vstp.Config{Auto: vstp.AutoConfig{Pin: vstp.CarrierTCP}}},
}

// configs returns the configurations of both sides.
func (tr transport) configs(t testing.TB) (client, server *vstp.Config) {
	c, s := tr.config, tr.config
	if tr.tls {
		cert, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"localhost", "127.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		c.TLS = &tls.Config{RootCAs: cert.Pool, ServerName: "localhost"}
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert.Certificate}}
	}
	if tr.moving {
		vstp.OnConn(&c, keepMoving)
		vstp.OnConn(&s, keepMoving)
	}
	return &c, &s
}

// keepMoving moves c every few milliseconds until it has ended.
func keepMoving(c *vstp.Conn) {
	go func() {
		every := time.NewTicker(3 * time.Millisecond)
		defer every.Stop()
		for range every.C {
			to := vstp.CarrierTCP
			if c.Carrier() == to {
				to = vstp.CarrierUDP
			}
			err := c.Move(context.Background(), to)
			if err != nil && !errors.Is(err, vstp.ErrNoCarrier) {
				return
			}
		}
	}()
}

// listen returns a listener and a function that dials it.
func (tr transport) listen(t testing.TB) (net.Listener, func() (net.Conn, error)) {
	cc, sc := tr.configs(t)
	address := "127.0.0.1:0"
	if tr.network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	ln, err := (&vstp.ListenConfig{Config: sc}).Listen(context.Background(), tr.network, address)
	if err != nil {
		t.Fatal(err)
	}
	return ln, func() (net.Conn, error) {
		return (&vstp.Dialer{Config: cc}).Dial(tr.network, ln.Addr().String())
	}
}

// pipe makes two connected ends, for nettest.
func (tr transport) pipe(t testing.TB) nettest.MakePipe {
	ln, dial := tr.listen(t)
	t.Cleanup(func() { ln.Close() })
	return func() (c1, c2 net.Conn, stop func(), err error) {
		c1, err = dial()
		if err != nil {
			return nil, nil, nil, err
		}
		c2, err = acceptFrom(ln, c1)
		if err != nil {
			c1.Close()
			return nil, nil, nil, err
		}
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	}
}

// acceptFrom accepts the other end of c. A dial of "auto" may leave another one before it, of
// the carrier that was slower.
func acceptFrom(ln net.Listener, c net.Conn) (net.Conn, error) {
	id := c.(*vstp.Conn).ConnectionState().SessionID
	for {
		s, err := ln.Accept()
		if err != nil {
			return nil, err
		}
		if s.(*vstp.Conn).ConnectionState().SessionID == id {
			return s, nil
		}
		go s.Close() // nobody may answer it
	}
}

func TestConn(t *testing.T) {
	side := newAside(6)
	defer side.Wait()
	for _, tr := range slices.Concat(transports, onlyTCP) {
		side.run(t, tr.name, func(t *testing.T) {
			nettest.TestConn(t, tr.pipe(t))
		})
	}
}
