// Package benchproto is what "vstp bench" and "vstp bench -s" say to each other:
// version 1 of the service "bench".
//
// On each connection the client sends one message, a [Test] in JSON. Then bytes flow
// on the stream, by the mode:
//
//	upload        the client sends, and closes its direction
//	download      the server sends for the duration, or so many bytes
//	both          both at the same time
//	rr            the client sends Size bytes, the server sends as many back; again
//	              and again until the client closes its direction
//
// When the client has closed its direction and the server has sent its part, it sends
// a message with a [Result] and closes. In mode download the client closes its
// direction at once.
package benchproto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/vstp-go/vstp"
)

// What a server says it is, in the metadata of its WELCOME.
const (
	ServiceKey = "vstp-service"
	Service    = "bench/1"
)

// Bounds on what a client may ask for.
const (
	MaxControl  = 64 << 10
	MaxDuration = time.Hour
	MaxBytes    = 1 << 50
	MaxSize     = 16 << 20

	// idleWait is how long a peer may do nothing.
	idleWait = 30 * time.Second

	readBuffer = 256 << 10
)

// A Mode is a kind of test.
type Mode string

// The modes.
const (
	Upload   Mode = "upload"
	Download Mode = "download"
	Both     Mode = "both"
	RR       Mode = "rr"
)

// Sends reports whether the client sends bulk data in this mode.
func (m Mode) Sends() bool { return m == Upload || m == Both }

// Receives reports whether the server sends bulk data in this mode.
func (m Mode) Receives() bool { return m == Download || m == Both }

// A Test is what a client asks for.
type Test struct {
	Mode     Mode          `json:"mode"`
	Duration time.Duration `json:"duration"` // of a direction; if zero, Bytes counts
	Bytes    int64         `json:"bytes"`    // in a direction
	Size     int           `json:"size"`     // of a Write, or of a request
}

// Check reports what is wrong with a Test.
func (t Test) Check() error {
	switch {
	case t.Mode != Upload && t.Mode != Download && t.Mode != Both && t.Mode != RR:
		return fmt.Errorf("unknown mode %.20q", string(t.Mode))
	case t.Duration < 0 || t.Duration > MaxDuration:
		return fmt.Errorf("the duration must be below %v", MaxDuration)
	case t.Bytes < 0 || t.Bytes > MaxBytes:
		return errors.New("too many bytes")
	case t.Duration == 0 && t.Bytes == 0:
		return errors.New("neither a duration nor bytes")
	case t.Size < 1 || t.Size > MaxSize:
		return fmt.Errorf("the size must be between 1 and %d", MaxSize)
	}
	return nil
}

// A Result is what the server has seen.
type Result struct {
	Bytes   int64         `json:"bytes"`   // received
	Elapsed time.Duration `json:"elapsed"` // from the first to the last of them
	CPU     time.Duration `json:"cpu"`     // of its process, during the test
}

// A Conn is what the protocol needs of a connection; *vstp.Conn has it.
type Conn interface {
	net.Conn
	CloseWrite() error
	SendMessage(ctx context.Context, m *vstp.Message) error
	ReceiveMessage(ctx context.Context) (*vstp.Message, error)
}

func send(ctx context.Context, c Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.SendMessage(ctx, &vstp.Message{Payload: b, Ordered: true})
}

func receive(ctx context.Context, c Conn, v any) error {
	ctx, cancel := context.WithTimeout(ctx, idleWait)
	defer cancel()
	m, err := c.ReceiveMessage(ctx)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if len(m.Payload) > MaxControl {
		return errors.New("benchproto: message too large")
	}
	return json.Unmarshal(m.Payload, v)
}

// Serve runs one test for a client. It returns what was asked for and received.
func Serve(ctx context.Context, c Conn, cpu func() time.Duration) (Test, Result, error) {
	var t Test
	if err := receive(ctx, c, &t); err != nil {
		return t, Result{}, err
	}
	if err := t.Check(); err != nil {
		return t, Result{}, err
	}
	cpu0 := cpu()
	var r Result
	var err error
	if t.Mode == RR {
		r, err = echo(c, t.Size)
	} else {
		var sendErr error
		var wg sync.WaitGroup
		if t.Mode.Receives() {
			wg.Go(func() { sendErr = Send(ctx, c, t, func(int) {}) })
		}
		r.Bytes, r.Elapsed, err = Receive(c, func(int) {})
		wg.Wait()
		err = errors.Join(err, sendErr)
	}
	if err != nil {
		return t, r, err
	}
	r.CPU = cpu() - cpu0
	if err := send(ctx, c, r); err != nil {
		return t, r, err
	}
	return t, r, c.CloseWrite()
}

// Start begins a test on a client's connection.
func Start(ctx context.Context, c Conn, t Test) error { return send(ctx, c, t) }

// Finish returns the server's result. The stream must have been read to its end.
func Finish(ctx context.Context, c Conn) (r Result, err error) {
	err = receive(ctx, c, &r)
	return r, err
}

// Send sends bulk data, as long or as much as t says, or until ctx ends. It tells tick
// of each Write.
func Send(ctx context.Context, c net.Conn, t Test, tick func(int)) error {
	buf := make([]byte, t.Size)
	fill(buf)
	left := t.Bytes
	if t.Duration > 0 {
		left = MaxBytes
	}
	defer c.SetWriteDeadline(time.Time{})
	var end time.Time
	for left > 0 && ctx.Err() == nil {
		now := time.Now()
		if end.IsZero() && t.Duration > 0 {
			end = now.Add(t.Duration)
		}
		if t.Duration > 0 && !now.Before(end) {
			break
		}
		c.SetWriteDeadline(now.Add(idleWait))
		n, err := c.Write(buf[:min(left, int64(len(buf)))])
		left -= int64(n)
		tick(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// Random returns n bytes that do not compress.
func Random(n int) []byte {
	b := make([]byte, n)
	fill(b)
	return b
}

// fill makes bytes that do not compress.
func fill(b []byte) { rand.NewChaCha8([32]byte{}).Read(b) }

// Receive counts what comes until its end.
func Receive(c net.Conn, tick func(int)) (n int64, elapsed time.Duration, err error) {
	buf := make([]byte, readBuffer)
	defer c.SetReadDeadline(time.Time{})
	var first, last time.Time
	for {
		if now := time.Now(); now.Sub(last) > time.Second {
			c.SetReadDeadline(now.Add(idleWait))
		}
		got, err := c.Read(buf)
		if got > 0 {
			last = time.Now()
			if first.IsZero() {
				first = last
			}
			n += int64(got)
			tick(got)
		}
		if err == io.EOF {
			return n, last.Sub(first), nil
		}
		if err != nil {
			return n, last.Sub(first), err
		}
	}
}

// echo answers requests of size bytes until the client ends.
func echo(c net.Conn, size int) (r Result, err error) {
	buf := make([]byte, size)
	start := time.Now()
	for {
		c.SetDeadline(time.Now().Add(idleWait))
		n, err := io.ReadFull(c, buf)
		r.Bytes += int64(n)
		r.Elapsed = time.Since(start)
		if err == io.EOF {
			c.SetDeadline(time.Time{})
			return r, nil
		}
		if err != nil {
			return r, err
		}
		if _, err := c.Write(buf); err != nil {
			return r, err
		}
	}
}

// RoundTrips sends requests and takes the answers, as long or as much as t says, or
// until ctx ends. It tells tick how long each took.
func RoundTrips(ctx context.Context, c net.Conn, t Test, tick func(time.Duration)) error {
	req, resp := make([]byte, t.Size), make([]byte, t.Size)
	fill(req)
	start := time.Now()
	left := t.Bytes
	for now := start; ctx.Err() == nil; {
		if t.Duration > 0 && now.Sub(start) >= t.Duration || t.Duration == 0 && left <= 0 {
			break
		}
		c.SetDeadline(now.Add(idleWait))
		if _, err := c.Write(req); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, resp); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		then := time.Now()
		tick(then.Sub(now))
		now = then
		left -= int64(len(req))
	}
	c.SetDeadline(time.Time{})
	return nil
}
