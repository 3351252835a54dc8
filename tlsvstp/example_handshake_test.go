package tlsvstp_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"

	"github.com/vstp-go/vstp/reliable"
	"github.com/vstp-go/vstp/tlsvstp"
)

var _ reliable.Protection = (*tlsvstp.Protection)(nil)

// Both ends of a handshake, without a network between them.
func ExampleHandshake() {
	dev, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{})
	if err != nil {
		log.Fatal(err)
	}
	client, err := tlsvstp.NewClientHandshake(context.Background(), tlsvstp.HandshakeConfig{
		TLS:    tlsvstp.ClientConfig(&tls.Config{RootCAs: dev.Pool}, "localhost"),
		Params: []byte("client's parameters"),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	server, err := tlsvstp.NewServerHandshake(context.Background(), tlsvstp.HandshakeConfig{
		TLS: tlsvstp.ServerConfig(&tls.Config{Certificates: []tls.Certificate{dev.Certificate}}),
		ServerParams: func(peer []byte) ([]byte, error) {
			fmt.Printf("server: the peer has %s\n", peer)
			return []byte("server's parameters"), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	// An association has one Protection; here are both ends'.
	protection := map[*tlsvstp.Handshake]*tlsvstp.Protection{client: tlsvstp.NewProtection(), server: tlsvstp.NewProtection()}
	move := func(from, to *tlsvstp.Handshake) (moved bool) {
		for e := from.NextEvent(); e.Kind != tlsvstp.EventNone; e = from.NextEvent() {
			switch e.Kind {
			case tlsvstp.EventData:
				moved = true
				if err := to.Receive(e.Level, e.Data); err != nil {
					log.Fatal(err)
				}
			case tlsvstp.EventReadKeys:
				if e.Level == tlsvstp.LevelApplication {
					protection[from].SetRead(e.Keys)
				}
			case tlsvstp.EventWriteKeys:
				if e.Level == tlsvstp.LevelApplication {
					protection[from].SetWrite(e.Keys)
				}
			}
		}
		return moved
	}
	for move(client, server) || move(server, client) {
	}

	packet := make([]byte, tlsvstp.HeaderLen, 1200)
	packet = protection[client].Seal(append(packet, "chunks"...), 0, 0)
	_, chunks, ok := protection[server].Open(packet, 0)
	fmt.Println(len(packet), string(chunks), ok)
	fmt.Println(client.State().NegotiatedProtocol)
	// Output:
	// server: the peer has client's parameters
	// 48 chunks true
	// vstp/1
}
