package stream

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/vstp-go/vstp/internal/carrier"
)

// TestBearerAbort: nothing of what the peer has not taken is kept for it.
func TestBearerAbort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	b := newBearer(carrier.New(conn), nil)
	if err := b.Write(packet(0, 60000)); err != nil {
		t.Fatal(err)
	}
	if err := b.Abort(); err != nil {
		t.Fatal(err)
	}
	for p := make([]byte, 4096); ; {
		if _, err = peer.Read(p); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
	if err := b.Abort(); err != nil {
		t.Error("again:", err)
	}
}
