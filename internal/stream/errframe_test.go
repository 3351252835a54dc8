package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
)

// errFrames are ERR frames, good and broken. remote says whether it can be understood.
var errFrames = []struct {
	name   string
	remote bool
	b      []byte
}{
	{"code and text", true, frame(framing.TypeErr, crc, nums(framing.KeyCode, 11), []byte("why"))},
	{"nothing in it", true, frame(framing.TypeErr, crc, nil, nil)},
	{"text of 4096", true, frame(framing.TypeErr, crc, nil, bytes.Repeat([]byte("é"), 2048))},
	{"code twice as long", true, frame(framing.TypeErr, crc, nums(framing.KeyCode, 7, 7), nil)},
	{"no CRC", false, frame(framing.TypeErr, 0, nums(framing.KeyCode, 11), nil)},
	{"text of 4097", false, frame(framing.TypeErr, crc, nil, make([]byte, 4097))},
	{"larger than any frame", false, framing.AppendFixed(nil, framing.TypeErr, crc, 0, framing.MaxPayloadLen)},
	{"header", false, frame(framing.TypeErr, crc, []byte{1}, nil)},
	{"CRC wrong", false, damage(frame(framing.TypeErr, crc, nil, []byte("why")), -1)},
	{"unknown flag", false, frame(framing.TypeErr, crc|0x80, nil, nil)},
	{"COMP", false, frame(framing.TypeErr, crc|comp, nil, []byte("x"))},
	{"REQ_ACK and FRAG", false, frame(framing.TypeErr, crc|ack|frag, nil, []byte("x"))},
}

// silent checks that a session that got an ERR closes its carrier at once and has
// sent nothing.
func (p *peer) silent(what string, s *Session) {
	p.t.Helper()
	synctest.Wait()
	if !s.NetConn().(*memconn.Conn).Closed() {
		p.t.Errorf("%s: the carrier is open", what)
	}
	if b, err := io.ReadAll(p.c); len(b) > 0 || err != nil {
		p.t.Errorf("%s: answered with %q, %v", what, b, err)
	}
}

// TestErrNeverAnswered sends ERR in every state, well-formed and not: "ERR MUST NOT
// be answered by any frame. Two ends that both report errors would otherwise do so
// for ever." S9.
func TestErrNeverAnswered(t *testing.T) {
	for _, e := range errFrames {
		bubble(t, func(t *testing.T) { // to a server, in place of HELLO
			a, b := memconn.Pipe(0)
			s, p := New(a, testConfig(false)), newPeer(t, b)
			p.send(e.b)
			if err := s.Handshake(context.Background()); err == nil {
				t.Errorf("%s: no error", e.name)
			}
			p.silent("HELLO: "+e.name, s)
			s.Close()
		})
		bubble(t, func(t *testing.T) { // to a client, in place of WELCOME
			a, b := memconn.Pipe(0)
			s, p := New(a, testConfig(true)), newPeer(t, b)
			defer s.Close()
			go p.send(e.b)
			err := s.Handshake(context.Background())
			var remote *handshake.RemoteError
			if err == nil || e.remote && !errors.As(err, &remote) {
				t.Errorf("%s: %v", e.name, err)
			}
			p.want(framing.TypeHello)
			p.silent("WELCOME: "+e.name, s)
		})
		for _, role := range roles {
			for _, sum := range []bool{false, true} {
				for _, before := range []string{"", "fragment", "BYE"} {
					what := fmt.Sprintf("%s, %s, crc=%v, after %s", e.name, role.name, sum, before)
					bubble(t, func(t *testing.T) {
						testErr(t, what, e.b, e.remote || e.name == "no CRC" && !sum, role.client, sum, before)
					})
				}
			}
		}
	}
}

func testErr(t *testing.T, what string, b []byte, isRemote, client, sum bool, before string) {
	cfg := testConfig(client)
	cfg.Params.Checksum = sum
	s, p := open(t, cfg, handshake.Params{Checksum: sum}, 0)
	defer s.Close()
	p.send(streamData(crc, "data"), message(crc, 0, "message"))
	switch before {
	case "fragment":
		p.send(fragment(crc, 1, 100, 0, "x"))
	case "BYE":
		p.send(frame(framing.TypeBye, crc, nil, nil))
	}
	go p.c.Write(b) // the session may close before it has taken all of it
	check := func(op string, err error) {
		t.Helper()
		var remote *handshake.RemoteError
		if err == nil || errors.As(err, &remote) != isRemote {
			t.Errorf("%s: %s: %v", what, op, err)
		}
	}
	// Something other than Read finds it: what came before can still be read.
	err := s.SendMessage(context.Background(), &session.Message{ReqAck: true})
	check("SendMessage", err)
	p.want(framing.TypeData)
	p.silent(what, s)
	got := make([]byte, 10)
	if n, err := s.Read(got); string(got[:n]) != "data" || err != nil {
		t.Errorf("%s: read %q, %v", what, got[:n], err)
	}
	if m, err := s.ReceiveMessage(context.Background()); err != nil || string(m.Payload) != "message" {
		t.Errorf("%s: received %v, %v", what, m, err)
	}
	wantAll(t, s, func(op string, err error) {
		if before == "BYE" && err == io.EOF {
			return
		}
		check(op, err)
	})
}

// TestErrContents shows what of an ERR the application gets: "of a longer text the
// receiver uses the beginning, and what is not UTF-8 it replaces".
func TestErrContents(t *testing.T) {
	for _, c := range []struct {
		name   string
		header []byte
		text   string
		code   framing.ErrorCode
		want   string
	}{
		{"code", nums(framing.KeyCode, 260), "größer", 260, "größer"},
		{"no code", field("k", 'v'), "x", 0, "x"},
		{"long", nums(framing.KeyCode, 1), strings.Repeat("a", 4000), 1, strings.Repeat("a", 1024)},
		{"not UTF-8", nums(framing.KeyCode, 1), "a\xffb", 1, "a\uFFFDb"},
		{"code is no varint", field(framing.KeyCode, 0x40), "", 0, ""},
	} {
		bubble(t, func(t *testing.T) {
			s, p := open(t, testConfig(true), handshake.Params{}, 0)
			defer s.Close()
			p.send(frame(framing.TypeErr, 0, append(c.header, field("retry", '3')...), []byte(c.text)))
			_, err := s.Read(make([]byte, 1))
			var e *handshake.RemoteError
			if !errors.As(err, &e) {
				t.Fatalf("%s: %v", c.name, err)
			}
			if e.Code != c.code || e.Reason != c.want || e.Header.Get("retry") != "3" {
				t.Errorf("%s: %v %q %v", c.name, e.Code, e.Reason, e.Header)
			}
		})
	}
}

// TestCloseWithError has both ends see the reason.
func TestCloseWithError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, s := pair(t, testConfig(true), testConfig(false), 0)
		defer c.Close()
		c.Write([]byte("data"))
		if err := c.CloseWithError(framing.CodeApplication+7, "enough"); err != nil {
			t.Error(err)
		}
		b, err := io.ReadAll(readerOf{s})
		var e *handshake.RemoteError
		if string(b) != "data" || !errors.As(err, &e) || e.Code != framing.CodeApplication+7 || e.Reason != "enough" {
			t.Errorf("%q, %v", b, err)
		}
		if err := c.CloseWithError(1, ""); err != nil {
			t.Error(err)
		}
		s.Close()
	})
}
