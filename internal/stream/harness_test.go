package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
)

// testConfig returns what the root package makes of an empty Config, without CRC.
func testConfig(client bool) *Config {
	return &Config{
		Client: client,
		Params: handshake.Params{
			MaxFrame:   framing.DefaultMaxFrame,
			MaxMessage: handshake.DefaultMaxMessage,
		},
		NewSessionID:     func() [16]byte { return [16]byte{0: 1, 15: 2} },
		HandshakeTimeout: 10 * time.Second,
		Linger:           5 * time.Second,
		AckTimeout:       10 * time.Second,
	}
}

// roles are both sides of a handshake.
var roles = []struct {
	name   string
	client bool
}{{"server", false}, {"client", true}}

// bubble runs f in a synctest bubble: what waits for nothing, or is left a minute
// after f has ended, fails the test.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Run("", func(t *testing.T) { // a failure in a bubble is fatal outside
		synctest.Test(t, func(t *testing.T) {
			f(t)
			time.Sleep(time.Minute)
		})
	})
}

// A peer is the other side of a Session, made by hand.
type peer struct {
	t  testing.TB
	c  *memconn.Conn
	fr *framing.Reader
}

func newPeer(t testing.TB, c *memconn.Conn) *peer {
	return &peer{t: t, c: c, fr: framing.NewReader(c, 16<<20, framing.TrailerByFlag)}
}

// open returns a session whose handshake with a peer made by hand is done. params
// are the peer's. The connection holds buffer bytes each way.
func open(t testing.TB, cfg *Config, params handshake.Params, buffer int) (*Session, *peer) {
	t.Helper()
	a, b := memconn.Pipe(buffer)
	s, p := New(a, cfg), newPeer(t, b)
	if cfg.Client {
		done := make(chan error, 1)
		go func() { done <- s.Handshake(context.Background()) }()
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		m := handshake.NewServer(params)
		if _, err := m.Receive(f); err != nil {
			t.Fatal(err)
		}
		w, _, err := m.AppendWelcome(nil, [16]byte{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.send(w)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return s, p
	}
	hello, err := handshake.NewClient(params).AppendHello(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.send(hello)
	if err := s.Handshake(context.Background()); err != nil {
		t.Fatal(err)
	}
	if f, err := p.next(); err != nil || f.Type != framing.TypeWelcome {
		t.Fatalf("%v, %v instead of WELCOME", f.Type, err)
	}
	return s, p
}

// pair returns two sessions that have shaken hands over a connection in memory.
func pair(t testing.TB, client, server *Config, buffer int) (c, s *Session) {
	t.Helper()
	a, b := memconn.Pipe(buffer)
	c, s = New(a, client), New(b, server)
	done := make(chan error, 1)
	go func() { done <- s.Handshake(context.Background()) }()
	if err := c.Handshake(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return c, s
}

// send writes b, all of it.
func (p *peer) send(b ...[]byte) {
	p.t.Helper()
	if _, err := p.c.Write(bytes.Join(b, nil)); err != nil {
		p.t.Errorf("peer's write: %v", err)
	}
}

// next reads a whole frame, which belongs to the caller.
func (p *peer) next() (framing.Frame, error) {
	fx, h, err := p.fr.Next()
	if err != nil {
		return framing.Frame{}, err
	}
	f := framing.Frame{Type: fx.Type, Flags: fx.Flags, Header: bytes.Clone(h)}
	b, err := p.fr.Payload()
	f.Payload = bytes.Clone(b)
	return f, err
}

// want reads the next frame and checks its type.
func (p *peer) want(typ framing.Type) framing.Frame {
	p.t.Helper()
	f, err := p.next()
	if err != nil || f.Type != typ {
		p.t.Fatalf("got %v, %v instead of %v", f.Type, err, typ)
	}
	return f
}

// wantErr checks that the next frame is ERR with that code, and nothing comes after it.
func (p *peer) wantErr(code framing.ErrorCode) {
	p.t.Helper()
	f, err := p.next()
	if err != nil || f.Type != framing.TypeErr {
		p.t.Errorf("got %v, %v instead of ERR", f.Type, err)
		return
	}
	if !f.Flags.Has(framing.FlagCRC) {
		p.t.Error("ERR without CRC")
	}
	if e := handshake.ParseErr(f); e.Code != code {
		p.t.Errorf("ERR says %v (%s), want %v", e.Code, e.Reason, code)
	}
	p.wantEnd()
}

// wantEnd checks that no frame comes any more, and the stream ends.
func (p *peer) wantEnd() {
	p.t.Helper()
	if f, err := p.next(); err != io.EOF {
		p.t.Errorf("got %v, %v instead of the end", f.Type, err)
	}
}

// frame makes a frame without looking at what is in it, with a trailer if flags say so.
func frame(typ framing.Type, flags framing.Flags, header, payload []byte) []byte {
	b := []byte{'V', 'T', 1, byte(typ), byte(flags)}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(header)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(append(b, header...), payload...)
	if flags.Has(framing.FlagCRC) {
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	}
	return b
}

// field makes one header field.
func field(key string, value ...byte) []byte {
	return append(append([]byte{byte(len(key)), byte(len(value))}, key...), value...)
}

// nums makes a header field of varints.
func nums(key string, v ...uint64) []byte {
	var b []byte
	for _, v := range v {
		b = framing.AppendVarint(b, v)
	}
	return field(key, b...)
}

// message makes a whole message, fragment a part of one.
func message(flags framing.Flags, id uint64, payload string) []byte {
	return frame(framing.TypeData, flags, nums(framing.KeyMessage, id), []byte(payload))
}

func fragment(flags framing.Flags, id, total, offset uint64, payload string) []byte {
	return frame(framing.TypeData, flags|framing.FlagFrag, nums(framing.KeyMessage, id, total, offset), []byte(payload))
}

func streamData(flags framing.Flags, payload string) []byte {
	return frame(framing.TypeData, flags, nil, []byte(payload))
}

// damage flips a bit of the byte at i, counted from the end if negative.
func damage(b []byte, i int) []byte {
	b = bytes.Clone(b)
	if i < 0 {
		i += len(b)
	}
	b[i] ^= 0x40
	return b
}

// wantLocal checks that err is a violation of the peer's with that code.
func wantLocal(t testing.TB, what string, err error, code framing.ErrorCode) {
	t.Helper()
	var e *handshake.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: %v (%T), want code %v", what, err, err, code)
		return
	}
	if e.Code != code {
		t.Errorf("%s: %v, want code %v", what, err, code)
	}
}

// wantAll checks that every operation of an ended session gives an error that check
// accepts, at once.
func wantAll(t testing.TB, s *Session, check func(what string, err error)) {
	t.Helper()
	start := time.Now()
	ctx := context.Background()
	_, err := s.Read(make([]byte, 1))
	check("Read", err)
	_, err = s.ReceiveMessage(ctx)
	check("ReceiveMessage", err)
	_, err = s.Write([]byte("x"))
	check("Write", err)
	check("SendMessage", s.SendMessage(ctx, &session.Message{Payload: []byte("x"), ReqAck: true}))
	_, err = s.Ping(ctx)
	check("Ping", err)
	if d := time.Since(start); d != 0 {
		t.Errorf("an ended session took %v to say so", d)
	}
}

// closed checks that the session's carrier is closed after d.
func (p *peer) closed(s *Session, d time.Duration) {
	p.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if s.NetConn().(*memconn.Conn).Closed() {
		return
	}
	p.t.Errorf("the carrier is still open after %v", d)
}
