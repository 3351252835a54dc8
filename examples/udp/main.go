// Messages over UDP, without a connection: a sensor sends readings, and a photo of many
// datagrams, to a collector. With RequireAck, SendMessage returns nil only once the
// collector's vstp has the message whole, however often it had to be repeated.
//
//	go run ./examples/udp -collect 127.0.0.1:6969
//	go run ./examples/udp 127.0.0.1:6969
//
// Sent to an address where nobody is, it says so after -patience.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/vstp-go/vstp"
)

var (
	collectAt = flag.String("collect", "", "be the collector, at this address")
	patience  = flag.Duration("patience", 5*time.Second, "how long a message may take")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *collectAt != "":
		err = collect(ctx)
	case flag.NArg() == 1:
		err = report(ctx, flag.Arg(0))
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

func collect(ctx context.Context) error {
	pc, err := (&vstp.ListenConfig{}).ListenPacket(ctx, "udp", *collectAt)
	if err != nil {
		return err
	}
	log.Printf("collecting on %s", pc.LocalAddr())
	// The handler is called for each message, one at a time for each sender.
	return pc.(*vstp.PacketConn).Serve(ctx, func(_ context.Context, _ *vstp.PacketConn, m *vstp.Message, from net.Addr) error {
		log.Printf("%q from %s: %d bytes, crc32 %08x, ack wanted: %v",
			m.Header.Get("sensor"), from, len(m.Payload), crc32.ChecksumIEEE(m.Payload), m.RequireAck)
		return nil
	})
}

func report(ctx context.Context, address string) error {
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return err
	}
	// One socket for any number of peers, which need not be dialed.
	pc, err := (&vstp.ListenConfig{}).ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return err
	}
	defer pc.Close()
	photo := bytes.Repeat([]byte("pixel"), 200_000)
	for _, reading := range []struct {
		sensor string
		value  []byte
	}{{"temperature", []byte("20")}, {"pressure", []byte("1013")}, {"camera", photo}} {
		ctx, cancel := context.WithTimeout(ctx, *patience)
		err := pc.(*vstp.PacketConn).SendMessage(ctx, &vstp.Message{
			Header:     vstp.Header{{Key: "sensor", Value: reading.sensor}},
			Payload:    reading.value,
			RequireAck: true,
		}, to)
		cancel()
		if err != nil {
			return fmt.Errorf("%s has not arrived: %w", reading.sensor, err)
		}
		fmt.Printf("%s arrived, %d bytes\n", reading.sensor, len(reading.value))
	}
	return nil
}
