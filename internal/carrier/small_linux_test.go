package carrier

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// TestSmallBlocking: a socket that somebody has made a blocking one, as os.File.Fd does, does not
// stop the scheduler while nothing comes.
func TestSmallBlocking(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	a, b := tcpCarriers(t)
	f, err := a.conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Fd()
	done := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(a, make([]byte, 4))
		done <- err
	}()
	for range 100 { // it is in its Read by then
		runtime.Gosched()
	}
	a.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if err := <-done; !isTimeout(err) {
		t.Fatal(err)
	}
	a.SetReadDeadline(time.Time{})
	if err := b.WriteFrame([]byte("ping"), nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if err := a.WriteFrame([]byte("pong"), nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
}
