package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

const (
	crc  = framing.FlagCRC
	ack  = framing.FlagReqAck
	frag = framing.FlagFrag
	comp = framing.FlagComp
)

// bad is what a peer must not send after the handshake; f are the flags that every
// frame has.
type bad struct {
	name string
	code framing.ErrorCode
	b    func(f framing.Flags) []byte
}

func join(b ...[]byte) (j []byte) {
	for _, b := range b {
		j = append(j, b...)
	}
	return j
}

// badFrames is the framing: PROTOCOL §2.
var badFrames = []bad{
	{"magic, first byte", framing.CodeProtocol, func(f framing.Flags) []byte { return damage(streamData(f, "x"), 0) }},
	{"magic, second byte", framing.CodeProtocol, func(f framing.Flags) []byte { return damage(streamData(f, "x"), 1) }},
	{"HTTP", framing.CodeProtocol, func(framing.Flags) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }},
	{"version", framing.CodeVersion, func(f framing.Flags) []byte { return damage(streamData(f, "x"), 2) }},
	{"type 0", framing.CodeUnexpected, func(f framing.Flags) []byte { return frame(0, f, nil, nil) }},
	{"type 9", framing.CodeUnexpected, func(f framing.Flags) []byte { return frame(9, f, nil, nil) }},
	{"type 255", framing.CodeUnexpected, func(f framing.Flags) []byte { return frame(255, f, nil, nil) }},
	{"flag 04", framing.CodeProtocol, func(f framing.Flags) []byte { return streamData(f|0x04, "x") }},
	{"flag 08 on PING", framing.CodeProtocol, func(f framing.Flags) []byte { return frame(framing.TypePing, f|0x08, nil, nil) }},
	{"flag 40 on BYE", framing.CodeProtocol, func(f framing.Flags) []byte { return frame(framing.TypeBye, f|0x40, nil, nil) }},
	{"flag 80", framing.CodeProtocol, func(f framing.Flags) []byte { return message(f|0x80, 0, "x") }},
	{"frame beyond MaxFrame", framing.CodeTooLarge, func(f framing.Flags) []byte {
		return framing.AppendFixed(nil, framing.TypeData, f, 0, framing.DefaultMaxFrame-framing.FixedLen+1)
	}},
	{"frame beyond MaxFrame by its header", framing.CodeTooLarge, func(f framing.Flags) []byte {
		return framing.AppendFixed(nil, framing.TypeData, f, 1, framing.DefaultMaxFrame-framing.FixedLen)
	}},
	{"largest length there is", framing.CodeTooLarge, func(f framing.Flags) []byte {
		return framing.AppendFixed(nil, framing.TypeData, f, framing.MaxHeaderLen, framing.MaxPayloadLen)
	}},
	{"largest PING", framing.CodeTooLarge, func(f framing.Flags) []byte {
		return framing.AppendFixed(nil, framing.TypePing, f, 0, framing.MaxPayloadLen)
	}},
	{"header of one byte", framing.CodeHeader, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f, []byte{0}, []byte("x"))
	}},
	{"header field beyond the block", framing.CodeHeader, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f, []byte{3, 0, 'a', 'b'}, []byte("cdefgh"))
	}},
	{"value beyond the block", framing.CodeHeader, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f, join(nums(framing.KeyMessage, 0), []byte{1, 9, 'a'}), []byte("123456789"))
	}},
	{"PING header", framing.CodeHeader, func(f framing.Flags) []byte { return frame(framing.TypePing, f, []byte{1, 1}, nil) }},
	{"ACK header", framing.CodeHeader, func(f framing.Flags) []byte { return frame(framing.TypeAck, f, []byte{1, 1, 2}, nil) }},
	{"BYE header", framing.CodeHeader, func(f framing.Flags) []byte { return frame(framing.TypeBye, f, []byte{1}, nil) }},
	{"HELLO header", framing.CodeHeader, func(f framing.Flags) []byte { return frame(framing.TypeHello, f, []byte{1}, nil) }},
	{"CRC, stream", framing.CodeChecksum, func(f framing.Flags) []byte { return damage(streamData(crc, "hello"), -1) }},
	{"CRC, stream payload", framing.CodeChecksum, func(f framing.Flags) []byte { return damage(streamData(crc, "hello"), 12) }},
	{"CRC, empty stream frame", framing.CodeChecksum, func(f framing.Flags) []byte { return damage(streamData(crc, ""), -4) }},
	{"CRC, message", framing.CodeChecksum, func(f framing.Flags) []byte { return damage(message(crc, 0, "hello"), -6) }},
	{"CRC, fragment", framing.CodeChecksum, func(f framing.Flags) []byte { return damage(fragment(crc, 0, 9, 0, "hello"), -6) }},
	{"CRC, cancel", framing.CodeChecksum, func(f framing.Flags) []byte {
		return damage(frame(framing.TypeData, crc, nums(framing.KeyCancel, 5), nil), -2)
	}},
	{"CRC, PING", framing.CodeChecksum, func(f framing.Flags) []byte { return damage(frame(framing.TypePing, crc, nil, nil), -1) }},
	{"CRC, PONG", framing.CodeChecksum, func(f framing.Flags) []byte { return damage(frame(framing.TypePong, crc, nil, nil), -1) }},
	{"CRC, BYE", framing.CodeChecksum, func(f framing.Flags) []byte { return damage(frame(framing.TypeBye, crc, nil, nil), -1) }},
	{"CRC, ACK", framing.CodeChecksum, func(f framing.Flags) []byte {
		return damage(frame(framing.TypeAck, crc, nums(framing.KeyMessage, 1), nil), -1)
	}},
	{"CRC before header", framing.CodeChecksum, func(f framing.Flags) []byte {
		return damage(frame(framing.TypeData, crc, []byte{9}, []byte("x")), -1)
	}},
}

// badControl is PROTOCOL §2.3, §2.6, §4.5, §5.4 and §5.6.
var badControl = []bad{
	{"REQ_ACK on PING", framing.CodeProtocol, func(f framing.Flags) []byte { return frame(framing.TypePing, f|ack, nil, nil) }},
	{"FRAG on ACK", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeAck, f|frag, nums(framing.KeyMessage, 1), nil)
	}},
	{"COMP on BYE", framing.CodeProtocol, func(f framing.Flags) []byte { return frame(framing.TypeBye, f|comp, nil, nil) }},
	{"PING of 4097 bytes", framing.CodeTooLarge, func(f framing.Flags) []byte {
		return frame(framing.TypePing, f, nil, make([]byte, 4097))
	}},
	{"PONG of 1 MiB", framing.CodeTooLarge, func(f framing.Flags) []byte { return framing.AppendFixed(nil, framing.TypePong, f, 0, 1<<20) }},
	{"ACK of 1 MiB", framing.CodeTooLarge, func(f framing.Flags) []byte {
		return append(framing.AppendFixed(nil, framing.TypeAck, f, 4, 1<<20), nums(framing.KeyMessage, 1)...)
	}},
	{"BYE of 1 MiB", framing.CodeTooLarge, func(f framing.Flags) []byte { return framing.AppendFixed(nil, framing.TypeBye, f, 0, 1<<20) }},
	{"PING with a token of 17", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypePing, f, field(framing.KeyPing, make([]byte, 17)...), nil)
	}},
	{"PONG with a token of 17", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypePong, f, field(framing.KeyPing, make([]byte, 17)...), nil)
	}},
	{"ACK without id", framing.CodeProtocol, func(f framing.Flags) []byte { return frame(framing.TypeAck, f, nil, nil) }},
	{"ACK of nothing", framing.CodeProtocol, func(f framing.Flags) []byte { return frame(framing.TypeAck, f, field(framing.KeyMessage), nil) }},
	{"ACK of two", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeAck, f, nums(framing.KeyMessage, 1, 2), nil)
	}},
	{"ACK of half a varint", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeAck, f, field(framing.KeyMessage, 0x40), nil)
	}},
	{"second HELLO", framing.CodeUnexpected, func(f framing.Flags) []byte {
		b, _ := handshake.NewClient(handshake.Params{}).AppendHello(nil)
		return b
	}},
	{"crate HELLO", framing.CodeUnexpected, func(f framing.Flags) []byte { return frame(framing.TypeHello, f, nil, nil) }},
	{"WELCOME", framing.CodeUnexpected, func(f framing.Flags) []byte { return frame(framing.TypeWelcome, f, nil, nil) }},
}

// badData is PROTOCOL §5.1 to §5.5 and §5.7.
var badData = []bad{
	{"REQ_ACK on the stream", framing.CodeProtocol, func(f framing.Flags) []byte { return streamData(f|ack, "x") }},
	{"FRAG on the stream", framing.CodeProtocol, func(f framing.Flags) []byte { return streamData(f|frag, "x") }},
	{"REQ_ACK with metadata alone", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f|ack, field("k", 'v'), []byte("x"))
	}},
	{"message key in second place", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f|ack, join(field("k", 'v'), nums(framing.KeyMessage, 0)), []byte("x"))
	}},
	{"message without id", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f, field(framing.KeyMessage), []byte("x"))
	}},
	{"message with half an id", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f, field(framing.KeyMessage, 0x80, 0), []byte("x"))
	}},
	{"message with two ids", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f, nums(framing.KeyMessage, 0, 1), []byte("x"))
	}},
	{"id twice", framing.CodeProtocol, func(f framing.Flags) []byte { return join(message(f, 0, "x"), message(f, 0, "y")) }},
	{"id goes down", framing.CodeProtocol, func(f framing.Flags) []byte { return join(message(f, 7, "x"), message(f, 6, "y")) }},
	{"id of the largest, then another", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(message(f, framing.MaxVarint, "x"), message(f, 0, "y"))
	}},
	{"fragment with the id of a message", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(message(f, 3, "x"), fragment(f, 3, 9, 0, "y"))
	}},
	{"message with the id of a fragment", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 3, 9, 0, "y"), message(f, 3, "x"))
	}},
	{"id of a cancelled message", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 3, 9, 0, "y"), frame(framing.TypeData, f, nums(framing.KeyCancel, 3), nil), fragment(f, 3, 9, 0, "y"))
	}},
	{"fragment of one varint", framing.CodeProtocol, func(f framing.Flags) []byte { return message(f|frag, 0, "x") }},
	{"fragment of two", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f|frag, nums(framing.KeyMessage, 0, 9), []byte("x"))
	}},
	{"fragment of four", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f|frag, nums(framing.KeyMessage, 0, 9, 0, 0), []byte("x"))
	}},
	{"fragment out of nothing", framing.CodeProtocol, func(f framing.Flags) []byte { return fragment(f, 0, 9, 1, "x") }},
	{"fragment of another message", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 9, 0, "x"), fragment(f, 1, 9, 1, "x"))
	}},
	{"gap", framing.CodeProtocol, func(f framing.Flags) []byte { return join(fragment(f, 0, 9, 0, "x"), fragment(f, 0, 9, 2, "x")) }},
	{"out of order", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 9, 0, "abc"), fragment(f, 0, 9, 6, "ghi"), fragment(f, 0, 9, 3, "def"))
	}},
	{"overlap", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 9, 0, "abc"), fragment(f, 0, 9, 2, "cd"))
	}},
	{"the same again", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 9, 0, "abc"), fragment(f, 0, 9, 3, "def"), fragment(f, 0, 9, 3, "def"))
	}},
	{"total changes", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 9, 0, "abc"), fragment(f, 0, 8, 3, "def"))
	}},
	{"beyond the total", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 4, 0, "abc"), fragment(f, 0, 4, 3, "de"))
	}},
	{"first beyond the total", framing.CodeProtocol, func(f framing.Flags) []byte { return fragment(f, 0, 1, 0, "abc") }},
	{"total 0", framing.CodeProtocol, func(f framing.Flags) []byte { return fragment(f, 0, 0, 0, "a") }},
	{"offset beyond total", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 4, 0, "abc"), fragment(f, 0, 4, framing.MaxVarint, "d"))
	}},
	{"empty fragment", framing.CodeProtocol, func(f framing.Flags) []byte { return fragment(f, 0, 4, 0, "") }},
	{"empty later fragment", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 4, 0, "a"), fragment(f, 0, 4, 1, ""))
	}},
	{"two open", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 4, 0, "a"), fragment(f, 1, 4, 0, "b"))
	}},
	{"first twice", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 4, 0, "a"), fragment(f, 0, 4, 0, "a"))
	}},
	{"REQ_ACK on a later fragment", framing.CodeProtocol, func(f framing.Flags) []byte {
		return join(fragment(f, 0, 4, 0, "a"), fragment(f|ack, 0, 4, 1, "b"))
	}},
	{"total of 2^62-1", framing.CodeTooLarge, func(f framing.Flags) []byte { return fragment(f, 0, framing.MaxVarint, 0, "x") }},
	{"total of MaxMessage+1", framing.CodeTooLarge, func(f framing.Flags) []byte {
		return fragment(f, 0, handshake.DefaultMaxMessage+1, 0, "x")
	}},
	{"cancel with a payload", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f, nums(framing.KeyCancel, 1), []byte("x"))
	}},
	{"cancel of nothing", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f, field(framing.KeyCancel), nil)
	}},
	{"cancel of two", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f, nums(framing.KeyCancel, 1, 2), nil)
	}},
	{"cancel with FRAG", framing.CodeProtocol, func(f framing.Flags) []byte {
		return frame(framing.TypeData, f|frag, nums(framing.KeyCancel, 1), nil)
	}},
	{"COMP without negotiation", framing.CodeCompression, func(f framing.Flags) []byte { return streamData(f|comp, "x") }},
	{"COMP message without negotiation", framing.CodeCompression, func(f framing.Flags) []byte { return message(f|comp, 0, "x") }},
	{"stream after BYE", framing.CodeUnexpected, func(f framing.Flags) []byte {
		return join(frame(framing.TypeBye, f, nil, nil), streamData(f, "x"))
	}},
	{"message after BYE", framing.CodeUnexpected, func(f framing.Flags) []byte {
		return join(frame(framing.TypeBye, f, nil, nil), message(f, 0, "x"))
	}},
	{"cancel after BYE", framing.CodeUnexpected, func(f framing.Flags) []byte {
		return join(frame(framing.TypeBye, f, nil, nil), frame(framing.TypeData, f, nums(framing.KeyCancel, 1), nil))
	}},
	{"HELLO after BYE", framing.CodeUnexpected, func(f framing.Flags) []byte {
		return join(frame(framing.TypeBye, f, nil, nil), frame(framing.TypeHello, f, nil, nil))
	}},
}

// TestMalformed has both sides, with and without CRC, meet everything that a peer must
// not send: "fail with code X: to send an ERR frame with code X, then to close the
// carrier". S5, S6.
func TestMalformed(t *testing.T) {
	cases := append(append(append([]bad(nil), badFrames...), badControl...), badData...)
	for _, role := range roles {
		for _, sum := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,crc=%v", role.name, sum), func(t *testing.T) {
				for _, c := range cases {
					t.Run(c.name, func(t *testing.T) {
						for _, maxRead := range []int{0, 1} {
							bubble(t, func(t *testing.T) { testMalformed(t, role.client, sum, maxRead, c) })
						}
					})
				}
			})
		}
	}
	t.Run("no CRC where it was agreed upon", func(t *testing.T) {
		for _, b := range [][]byte{streamData(0, "x"), message(0, 0, "x"), frame(framing.TypePing, 0, nil, nil), frame(framing.TypeBye, 0, nil, nil)} {
			c := bad{"", framing.CodeProtocol, func(framing.Flags) []byte { return b }}
			bubble(t, func(t *testing.T) { testMalformed(t, false, true, 0, c) })
		}
	})
}

func testMalformed(t *testing.T, client, sum bool, maxRead int, c bad) {
	cfg := testConfig(client)
	cfg.Params.Checksum = sum
	s, p := open(t, cfg, handshake.Params{Checksum: sum}, 0)
	defer s.Close()
	s.NetConn().(interface{ SetMaxRead(int) }).SetMaxRead(maxRead)
	var f framing.Flags
	if sum {
		f = crc
	}
	p.send(c.b(f))
	// Whoever waits for the peer finds it, whatever it waits for.
	pinged := make(chan error, 1)
	go func() {
		_, err := s.Ping(context.Background())
		pinged <- err
	}()
	wantLocal(t, "Ping", <-pinged, c.code)
	for f, err := p.next(); ; f, err = p.next() {
		if err != nil {
			t.Errorf("no ERR: %v", err)
			break
		}
		if f.Type == framing.TypePing {
			continue
		}
		if e := handshake.ParseErr(f); f.Type != framing.TypeErr || e.Code != c.code {
			t.Errorf("got %v, %v", f.Type, e)
		}
		p.wantEnd()
		break
	}
	wantAll(t, s, func(what string, err error) {
		if err == io.EOF && strings.HasSuffix(c.name, "after BYE") {
			return // what came before it counts
		}
		if what == "ReceiveMessage" && err == nil {
			return // so does a message
		}
		wantLocal(t, what, err, c.code)
	})
	p.closed(s, cfg.Linger)
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestCut ends the carrier at every byte of every kind of frame: "A carrier that ends
// without BYE has been cut off, and MUST be reported as such, even between two
// frames."
func TestCut(t *testing.T) {
	for _, flags := range []framing.Flags{0, crc} {
		frames := map[string][]byte{
			"stream":   streamData(flags, "hello"),
			"message":  message(flags, 1, "hello"),
			"fragment": fragment(flags, 1, 9, 0, "hello"),
			"cancel":   frame(framing.TypeData, flags, nums(framing.KeyCancel, 1), nil),
			"PING":     frame(framing.TypePing, flags, field(framing.KeyPing, 1, 2, 3), nil),
			"ACK":      frame(framing.TypeAck, flags, nums(framing.KeyMessage, 1), nil),
			"BYE":      frame(framing.TypeBye, flags, field(framing.KeyClose), nil),
			"ERR":      frame(framing.TypeErr, flags, nums(framing.KeyCode, 1), []byte("why")),
		}
		for name, b := range frames {
			for cut := range len(b) + 1 {
				what := fmt.Sprintf("%s with %v cut at %d of %d", name, flags, cut, len(b))
				bubble(t, func(t *testing.T) { testCut(t, what, flags, b, cut) })
			}
		}
	}
}

func testCut(t *testing.T, what string, flags framing.Flags, b []byte, cut int) {
	cfg := testConfig(false)
	cfg.Params.Checksum = flags != 0
	s, p := open(t, cfg, handshake.Params{Checksum: flags != 0}, 0)
	defer s.Close()
	p.send(b[:cut])
	p.c.CloseWrite()
	_, err := io.ReadAll(readerOf{s})
	_, merr := s.ReceiveMessage(context.Background())
	if merr == nil {
		_, merr = s.ReceiveMessage(context.Background())
	}
	want := io.ErrUnexpectedEOF
	if cut == len(b) && framing.Type(b[3]) == framing.TypeBye {
		want = nil // ReadAll's
	}
	var remote *handshake.RemoteError
	if cut == len(b) && framing.Type(b[3]) == framing.TypeErr {
		if !errors.As(err, &remote) || !errors.As(merr, &remote) {
			t.Errorf("%s: %v, %v", what, err, merr)
		}
		return
	}
	if err != want || merr != want && !(want == nil && merr == io.EOF) {
		t.Errorf("%s: %v and %v, want %v", what, err, merr, want)
	}
}

type readerOf struct{ s *Session }

func (r readerOf) Read(p []byte) (int, error) { return r.s.Read(p) }

// TestResume has a read deadline pass at every byte of every kind of frame, and a
// context end: nothing is lost. N12, D1.
func TestResume(t *testing.T) {
	for _, flags := range []framing.Flags{0, crc} {
		all := join(
			streamData(flags, "hello"),
			message(flags, 1, "whole"),
			fragment(flags, 2, 8, 0, "frag"),
			streamData(flags, " world"),
			frame(framing.TypePing, flags, field(framing.KeyPing, 1, 2, 3), nil),
			fragment(flags, 2, 8, 4, "ment"),
			frame(framing.TypeBye, flags, nil, nil))
		for _, step := range []int{1, 2, 3, 7, 11, 12, 16} {
			bubble(t, func(t *testing.T) { testResume(t, flags, all, step) })
		}
	}
}

func testResume(t *testing.T, flags framing.Flags, all []byte, step int) {
	cfg := testConfig(true)
	cfg.Params.Checksum = flags != 0
	s, p := open(t, cfg, handshake.Params{Checksum: flags != 0}, 0)
	defer s.Close()
	go func() {
		for b := all; len(b) > 0; b = b[min(step, len(b)):] {
			p.send(b[:min(step, len(b))])
			time.Sleep(time.Second)
		}
	}()
	timeouts := 0
	var stream, msgs []byte
	for more := true; more; {
		s.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		b := make([]byte, 100)
		n, err := s.Read(b)
		stream = append(stream, b[:n]...)
		more = err != io.EOF
		if err != nil && isTimeout(err) {
			timeouts++
		} else if err != nil && more {
			t.Fatalf("step %d: %v", step, err)
		}
		s.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		m, err := s.ReceiveMessage(ctx)
		cancel()
		if err == nil {
			msgs = append(append(msgs, m.Payload...), ' ')
		} else if err != context.DeadlineExceeded && err != io.EOF {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	for {
		m, err := s.ReceiveMessage(context.Background())
		if err != nil {
			break
		}
		msgs = append(append(msgs, m.Payload...), ' ')
	}
	if string(stream) != "hello world" || string(msgs) != "whole fragment " || timeouts < len(all)/step-20 {
		t.Errorf("step %d: %q and %q after %d timeouts", step, stream, msgs, timeouts)
	}
}
