package vstp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// Packets of any size, as with package net.
func ExampleListenPacket() {
	server, err := vstp.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := vstp.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	packet := bytes.Repeat([]byte("vstp"), 250_000) // many datagrams
	if _, err := client.WriteTo(packet, server.LocalAddr()); err != nil {
		log.Fatal(err)
	}
	p := make([]byte, 2_000_000)
	n, from, err := server.ReadFrom(p)
	fmt.Println(n, bytes.Equal(p[:n], packet), from.String() == client.LocalAddr().String(), err)
	// Output: 1000000 true true <nil>
}

// Messages that nobody else can read, from somebody whose certificate is known.
func ExampleListenPacket_tls() {
	dev, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{}) // for localhost
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server, err := (&vstp.ListenConfig{Config: &vstp.Config{
		TLS: &tls.Config{
			Certificates: []tls.Certificate{dev.Certificate},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    dev.Pool,
		},
		VerifyHello: func(_ context.Context, h *vstp.HelloInfo) (vstp.Header, error) {
			fmt.Println("begins:", h.TLS.PeerCertificates[0].DNSNames)
			return nil, nil // or a *vstp.RefusedError
		},
	}}).ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	d := &vstp.Dialer{Config: &vstp.Config{TLS: &tls.Config{
		RootCAs:      dev.Pool,
		Certificates: []tls.Certificate{dev.Certificate},
	}}}
	c, err := d.DialContext(ctx, "udp", server.LocalAddr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "for your eyes only")
	m, _, err := server.(*vstp.PacketConn).ReceiveMessage(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(m.Payload), c.(*vstp.Conn).ConnectionState().Carrier)
	// Output:
	// begins: [localhost]
	// for your eyes only udp+tls
}

// A message that is there when SendMessage returns.
func ExamplePacketConn_SendMessage() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	lc := &vstp.ListenConfig{}
	server, err := lc.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := lc.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	err = client.(*vstp.PacketConn).SendMessage(ctx, &vstp.Message{
		Header:     vstp.Header{{Key: "content-type", Value: "application/json"}},
		Payload:    []byte(`{"n":1}`),
		RequireAck: true,
	}, server.LocalAddr())
	fmt.Println(err)
	m, _, err := server.(*vstp.PacketConn).ReceiveMessage(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Header.Get("content-type"), string(m.Payload))
	// Output:
	// <nil>
	// application/json {"n":1}
}

// A server that is a function, and a client that was dialed.
func ExamplePacketConn_Serve() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	pc, err := vstp.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go pc.(*vstp.PacketConn).Serve(ctx, func(ctx context.Context, pc *vstp.PacketConn, m *vstp.Message, addr net.Addr) error {
		return pc.SendMessage(ctx, &vstp.Message{Payload: bytes.ToUpper(m.Payload), RequireAck: true}, addr)
	})

	c, err := vstp.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "ping") // each Write is a message
	p := make([]byte, 100)
	n, err := c.Read(p)
	fmt.Println(string(p[:n]), err)
	// Output: PING <nil>
}

// HTTP over a reliable byte stream on UDP.
func ExampleListen_rudp() {
	ln, err := vstp.Listen("rudp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Method, r.URL.Path)
	})}
	go srv.Serve(ln)
	defer srv.Close()

	tr := &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return (&vstp.Dialer{}).DialContext(ctx, "rudp", address)
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://" + ln.Addr().String() + "/hello")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	fmt.Println(string(b))
	// Output: GET /hello
}

// Byte streams and messages over one socket, which may be any net.PacketConn.
func ExamplePacketConn_DialStream() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	open := func() *vstp.PacketConn {
		inner, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		return vstp.NewPacketConn(inner, nil)
	}
	a, b := open(), open()
	defer a.Close()
	defer b.Close()
	ln, err := b.ListenStream()
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(c, "a stream")
		c.Close()
	}()

	c, err := a.DialStream(ctx, b.LocalAddr())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	text, err := io.ReadAll(c)
	fmt.Println(string(text), err)
	_, err = a.WriteTo([]byte("a message"), b.LocalAddr())
	fmt.Println(err)
	p := make([]byte, 100)
	n, _, err := b.ReadFrom(p)
	fmt.Println(string(p[:n]), err)
	// Output:
	// a stream <nil>
	// <nil>
	// a message <nil>
}
