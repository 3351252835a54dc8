package tlsvstp_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/vstp-go/vstp/tlsvstp"
)

func ExampleSelfSigned() {
	dev, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"localhost", "127.0.0.1"}})
	if err != nil {
		log.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{dev.Certificate}} // for vstp.ListenConfig.Config.TLS
	client := &tls.Config{RootCAs: dev.Pool}                                // for vstp.Dialer.Config.TLS
	fmt.Println(tlsvstp.CheckConfig(server, true), tlsvstp.CheckConfig(client, false))
	fmt.Println(dev.Certificate.Leaf.DNSNames, dev.Certificate.Leaf.IPAddresses)
	// Output:
	// <nil> <nil>
	// [localhost] [127.0.0.1]
}

func ExampleDevCert_Issue() {
	dev, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{})
	if err != nil {
		log.Fatal(err)
	}
	alice, err := dev.Issue(tlsvstp.DevOptions{Hosts: []string{"alice.example"}})
	if err != nil {
		log.Fatal(err)
	}
	server := &tls.Config{
		Certificates: []tls.Certificate{dev.Certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    dev.Pool,
	}
	client := &tls.Config{RootCAs: dev.Pool, Certificates: []tls.Certificate{alice.Certificate}}
	_, _ = server, client
	fmt.Println(alice.Certificate.Leaf.DNSNames)
	// Output: [alice.example]
}

func ExampleDevCert_WriteFiles() {
	dir, err := os.MkdirTemp("", "certs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	dev, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dev.WriteFiles(dir, false))
	pool, err := tlsvstp.LoadPool(dir + "/" + tlsvstp.CAFile)
	fmt.Println(pool.Equal(dev.Pool), err)
	// Output:
	// <nil>
	// true <nil>
}

func ExampleCheckConfig() {
	err := tlsvstp.CheckConfig(&tls.Config{}, true)
	fmt.Println(errors.Is(err, tlsvstp.ErrNoCertificate))
	// Output: true
}

func ExampleClientConfig() {
	c := tlsvstp.ClientConfig(nil, "example.org")
	fmt.Println(c.ServerName, c.NextProtos, c.MinVersion == tls.VersionTLS13)
	// Output: example.org [vstp/1] true
}

func ExampleServerConfig() {
	c := tlsvstp.ServerConfig(&tls.Config{NextProtos: []string{"h2"}})
	fmt.Println(c.NextProtos)
	// Output: [vstp/1 h2]
}

func ExampleVerifyState() {
	err := tlsvstp.VerifyState(tls.ConnectionState{Version: tls.VersionTLS13, NegotiatedProtocol: "h2"})
	fmt.Println(errors.Is(err, tlsvstp.ErrALPN))
	// Output: true
}
