package vstp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// An echo server and a client: as with package net.
func ExampleListen() {
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		io.Copy(c, c)
		c.Close()
	}()

	c, err := vstp.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello")
	c.(*vstp.Conn).CloseWrite()
	b, err := io.ReadAll(c)
	fmt.Println(string(b), err)
	// Output: hello <nil>
}

// An unmodified http.Server and http.Client.
func ExampleDialer_http() {
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Method, r.URL.Path)
	})}
	go srv.Serve(ln)
	defer srv.Close()

	tr := &http.Transport{DialContext: (&vstp.Dialer{}).DialContext}
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

// Messages with metadata. With RequireAck, SendMessage returns nil only when the
// peer has the message.
func ExampleConn_SendMessage() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	got := make(chan *vstp.Message, 1)
	go ln.(*vstp.Listener).Serve(ctx, func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
		got <- m
		return nil
	})

	c, err := vstp.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	err = c.(*vstp.Conn).SendMessage(ctx, &vstp.Message{
		Header:     vstp.Header{{Key: "content-type", Value: "application/json"}},
		Payload:    []byte(`{"n":1}`),
		RequireAck: true,
	})
	m := <-got
	fmt.Println(err, m.Header.Get("content-type"), string(m.Payload))
	// Output: <nil> application/json {"n":1}
}

// A server that is a function, as server.run of the crate.
func ExampleListener_Serve() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go ln.(*vstp.Listener).Serve(ctx, func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
		return c.SendMessage(ctx, &vstp.Message{Payload: []byte(strings.ToUpper(string(m.Payload)))})
	})

	nc, err := vstp.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	c := nc.(*vstp.Conn)
	if err := c.SendMessage(ctx, &vstp.Message{Payload: []byte("ping")}); err != nil {
		log.Fatal(err)
	}
	m, err := c.ReceiveMessage(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(m.Payload))
	// Output: PING
}

// TLS 1.3 with a development certificate.
func ExampleConfig_tls() {
	dev, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"127.0.0.1"}})
	if err != nil {
		log.Fatal(err)
	}
	lc := &vstp.ListenConfig{Config: &vstp.Config{
		TLS: &tls.Config{Certificates: []tls.Certificate{dev.Certificate}},
	}}
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()

	d := &vstp.Dialer{Config: &vstp.Config{TLS: &tls.Config{RootCAs: dev.Pool}}}
	c, err := d.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	cs := c.(*vstp.Conn).ConnectionState()
	fmt.Println(cs.Carrier, tls.VersionName(cs.TLS.Version), cs.TLS.NegotiatedProtocol)
	// Output: tcp+tls TLS 1.3 vstp/1
}

// A server that looks at the metadata of a client and refuses it.
func ExampleConfig_verifyHello() {
	lc := &vstp.ListenConfig{Config: &vstp.Config{
		VerifyHello: func(ctx context.Context, hello *vstp.HelloInfo) (vstp.Header, error) {
			if hello.Header.Get("token") != "secret" {
				return nil, &vstp.RefusedError{Reason: "wrong token"}
			}
			return vstp.Header{{Key: "role", Value: "admin"}}, nil
		},
	}}
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()

	_, err = vstp.Dial("tcp", ln.Addr().String())
	var refused *vstp.RefusedError
	fmt.Println(errors.As(err, &refused), refused.Reason)

	d := &vstp.Dialer{Config: &vstp.Config{Header: vstp.Header{{Key: "token", Value: "secret"}}}}
	c, err := d.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.(*vstp.Conn).ConnectionState().PeerHeader.Get("role"))
	// Output:
	// true wrong token
	// admin
}

// Any net.Conn will do as a carrier.
func ExampleClient() {
	p1, p2 := net.Pipe()
	client, server := vstp.Client(p1, nil), vstp.Server(p2, nil)
	go func() {
		fmt.Fprint(server, "over a pipe")
		server.Close()
	}()
	b, err := io.ReadAll(client)
	fmt.Println(string(b), err)
	client.Close()
	// Output: over a pipe <nil>
}

// The time a frame takes to the peer and back.
func ExampleConn_Ping() {
	ctx := context.Background()
	p1, p2 := net.Pipe()
	client, server := vstp.Client(p1, nil), vstp.Server(p2, nil)
	defer client.Close()
	defer server.Close()
	go io.Copy(io.Discard, server) // somebody has to read for the answer to be sent
	rtt, err := client.Ping(ctx)
	fmt.Println(rtt > 0, err)
	// Output: true <nil>
}
