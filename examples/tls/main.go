// TLS 1.3 with certificates on both sides, made on the spot for development, on TCP and
// on UDP. Both sides run in this one program:
//
//	go run ./examples/tls
//
// With files, as programs on two machines have them, "vstp cert" makes the
// certificates, tls.LoadX509KeyPair and tlsvstp.LoadPool read them.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

func main() {
	log.SetFlags(0)
	for _, network := range []string{"tcp", "rudp"} {
		if err := run(context.Background(), network); err != nil {
			log.Fatal(err)
		}
	}
}

func run(ctx context.Context, network string) error {
	server, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"127.0.0.1"}})
	if err != nil {
		return err
	}
	alice, err := server.Issue(tlsvstp.DevOptions{Hosts: []string{"alice.example"}})
	if err != nil {
		return err
	}

	// The same tls.Config as for crypto/tls; version and ALPN protocol are vstp's care.
	lc := &vstp.ListenConfig{Config: &vstp.Config{TLS: &tls.Config{
		Certificates: []tls.Certificate{server.Certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    server.Pool,
	}}}
	ln, err := lc.Listen(ctx, network, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	go greet(ln)

	d := &vstp.Dialer{Config: &vstp.Config{TLS: &tls.Config{
		RootCAs:      server.Pool,
		Certificates: []tls.Certificate{alice.Certificate},
	}}}
	c, err := d.DialContext(ctx, network, ln.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	state := c.(*vstp.Conn).ConnectionState()
	fmt.Println(tls.VersionName(state.TLS.Version), state.TLS.NegotiatedProtocol, state.Carrier)
	b, err := io.ReadAll(c)
	fmt.Print(string(b))
	if err != nil {
		return err
	}

	// Whoever has no certificate learns so; whoever does not speak TLS, too.
	plain := &vstp.Dialer{}
	if _, err := plain.DialContext(ctx, network, ln.Addr().String()); errors.Is(err, vstp.ErrTLSRequired) {
		fmt.Println("without TLS: refused")
	}
	return nil
}

// greet calls clients by the name in their certificate.
func greet(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		name := c.(*vstp.Conn).ConnectionState().TLS.PeerCertificates[0].DNSNames[0]
		fmt.Fprintf(c, "hello, %s\n", name)
		c.Close()
	}
}
