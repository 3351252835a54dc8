package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
)

func hello(p handshake.Params) []byte {
	b, err := handshake.NewClient(p).AppendHello(nil)
	if err != nil {
		panic(err)
	}
	return b
}

var welcomeFields = join(nums(framing.KeyVersions, 1), field(framing.KeySessionID, make([]byte, 16)...))

// TestFirstFrame sends a server all kinds of first frames. S6.
func TestFirstFrame(t *testing.T) {
	for _, c := range []struct {
		name string
		code framing.ErrorCode
		b    []byte
	}{
		{"magic", framing.CodeProtocol, damage(hello(handshake.Params{}), 1)},
		{"HTTP", framing.CodeProtocol, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		{"version of the frame", framing.CodeVersion, damage(hello(handshake.Params{}), 2)},
		{"unknown type", framing.CodeUnexpected, damage(hello(handshake.Params{}), 3)},
		{"CRC", framing.CodeChecksum, damage(hello(handshake.Params{}), -1)},
		{"header", framing.CodeHeader, frame(framing.TypeHello, crc, []byte{1}, nil)},
		{"versions", framing.CodeVersion, hello(handshake.Params{Versions: []uint64{2, 3}})},
		{"no CRC", framing.CodeProtocol, join(frame(framing.TypeHello, 0, nums(framing.KeyVersions, 1), nil), hello(handshake.Params{}))},
		{"REQ_ACK", framing.CodeProtocol, frame(framing.TypeHello, crc|ack, nums(framing.KeyVersions, 1), nil)},
		{"payload", framing.CodeProtocol, frame(framing.TypeHello, crc, nums(framing.KeyVersions, 1), []byte("x"))},
		{"large payload", framing.CodeTooLarge, framing.AppendFixed(nil, framing.TypeHello, crc, 0, 4<<20)},
		{"beyond MaxFrame", framing.CodeTooLarge, framing.AppendFixed(nil, framing.TypeData, 0, 0, framing.DefaultMaxFrame)},
		{"too many fields", framing.CodeTooLarge, frame(framing.TypeHello, crc, make([]byte, 2*1025), nil)},
		{"WELCOME", framing.CodeUnexpected, frame(framing.TypeWelcome, crc, welcomeFields, nil)},
		{"large WELCOME", framing.CodeTooLarge, framing.AppendFixed(nil, framing.TypeWelcome, crc, 0, 4<<20)},
		{"max frame", framing.CodeProtocol, frame(framing.TypeHello, crc, join(nums(framing.KeyVersions, 1), nums(framing.KeyMaxFrame, 9)), nil)},
	} {
		for _, maxRead := range []int{0, 1} {
			t.Run(c.name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					a, b := memconn.Pipe(0)
					a.SetMaxRead(maxRead)
					s, p := New(a, testConfig(false)), newPeer(t, b)
					p.send(c.b)
					start := time.Now()
					wantLocal(t, "Handshake", s.Handshake(context.Background()), c.code)
					p.wantErr(c.code)
					if d := time.Since(start); d != 0 {
						t.Errorf("took %v", d)
					}
					wantAll(t, s, func(what string, err error) { wantLocal(t, what, err, c.code) })
					p.closed(s, s.cfg.Linger)
				})
			})
		}
	}
}

// TestFirstAnswer sends a client all kinds of answers to HELLO.
func TestFirstAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		code framing.ErrorCode
		b    []byte
	}{
		{"HTTP", framing.CodeProtocol, []byte("HTTP/1.1 400 Bad Request\r\n\r\n")},
		{"HELLO", framing.CodeUnexpected, hello(handshake.Params{})},
		{"DATA", framing.CodeUnexpected, streamData(crc, "x")},
		{"message", framing.CodeUnexpected, message(0, 0, "x")},
		{"PING", framing.CodeUnexpected, frame(framing.TypePing, crc, nil, nil)},
		{"PONG", framing.CodeUnexpected, frame(framing.TypePong, crc, nil, nil)},
		{"BYE", framing.CodeUnexpected, frame(framing.TypeBye, crc, nil, nil)},
		{"ACK", framing.CodeUnexpected, frame(framing.TypeAck, crc, nums(framing.KeyMessage, 0), nil)},
		{"empty WELCOME", framing.CodeProtocol, frame(framing.TypeWelcome, crc, nil, nil)},
		{"WELCOME without CRC", framing.CodeProtocol, frame(framing.TypeWelcome, 0, welcomeFields, nil)},
		{"WELCOME with wrong CRC", framing.CodeChecksum, damage(frame(framing.TypeWelcome, crc, welcomeFields, nil), -1)},
		{"WELCOME with a payload", framing.CodeProtocol, frame(framing.TypeWelcome, crc, welcomeFields, []byte("x"))},
		{"WELCOME with version 2", framing.CodeVersion, frame(framing.TypeWelcome, crc, join(nums(framing.KeyVersions, 2), field(framing.KeySessionID, make([]byte, 16)...)), nil)},
		{"compression not offered", framing.CodeProtocol, frame(framing.TypeWelcome, crc, join(welcomeFields, field(framing.KeyCompress, 1)), nil)},
		{"beyond MaxFrame", framing.CodeTooLarge, framing.AppendFixed(nil, framing.TypeWelcome, crc, 0, framing.MaxPayloadLen)},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, b := memconn.Pipe(0)
				s, p := New(a, testConfig(true)), newPeer(t, b)
				go p.send(c.b)
				wantLocal(t, "Handshake", s.Handshake(context.Background()), c.code)
				p.want(framing.TypeHello)
				p.wantEnd()
				wantAll(t, s, func(what string, err error) { wantLocal(t, what, err, c.code) })
				p.closed(s, 0)
			})
		})
	}
}

// TestHandshakeCut ends the carrier at every byte of HELLO and of WELCOME: "an error of
// its own; it is not the end of a connection".
func TestHandshakeCut(t *testing.T) {
	h := hello(handshake.Params{})
	w := frame(framing.TypeWelcome, crc, welcomeFields, nil)
	for cut := range len(w) {
		for _, role := range roles {
			first := h
			if role.client {
				first = w
			}
			if cut >= len(first) {
				continue
			}
			bubble(t, func(t *testing.T) {
				a, b := memconn.Pipe(0)
				s := New(a, testConfig(role.client))
				b.Write(first[:cut])
				b.CloseWrite()
				if err := s.Handshake(context.Background()); err != io.ErrUnexpectedEOF {
					t.Errorf("%s, cut at %d: %v", role.name, cut, err)
				}
				if !a.Closed() {
					t.Errorf("%s, cut at %d: the carrier is open", role.name, cut)
				}
			})
		}
	}
}

// TestHandshakeTimeout has a peer that says nothing, part of a frame, or a byte a
// second: S2, "slow-loris".
func TestHandshakeTimeout(t *testing.T) {
	for _, role := range roles {
		for _, useTLS := range []bool{false, true} {
			for _, slow := range []int{0, 1, 5, 11, 12, 100} {
				bubble(t, func(t *testing.T) {
					a, b := memconn.Pipe(0)
					cfg := testConfig(role.client)
					mode{tls: useTLS}.apply(cfg)
					s := New(a, cfg)
					first := hello(handshake.Params{Header: framing.Header{{Key: "k", Value: "some metadata to make it longer"}}})
					switch {
					case useTLS:
						first = []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0}
						if role.client {
							first = []byte{22, 3, 3, 0, 100, 2, 0, 0, 96, 3, 3, 0}
						}
					case role.client:
						first = frame(framing.TypeWelcome, crc, welcomeFields, nil)
					}
					go func() {
						for i := range min(slow, len(first)) {
							time.Sleep(time.Second)
							if _, err := b.Write(first[i : i+1]); err != nil {
								return
							}
						}
					}()
					start := time.Now()
					err := s.Handshake(context.Background())
					if d := time.Since(start); err != session.ErrHandshakeTimeout || d != cfg.HandshakeTimeout {
						t.Errorf("%s, TLS %v, %d bytes: %v after %v", role.name, useTLS, slow, err, d)
					}
					var ne net.Error
					if !errors.As(err, &ne) || !ne.Timeout() {
						t.Errorf("%v is no timeout", err)
					}
					p := newPeer(t, b)
					if !role.client && !useTLS {
						p.wantErr(framing.CodeTimeout)
					}
					p.closed(s, cfg.Linger)
					if err := s.Close(); err != nil {
						t.Log(err)
					}
				})
			}
		}
	}
}

// TestHandshakeStalledWriter has a peer that reads nothing, not even HELLO.
func TestHandshakeStalledWriter(t *testing.T) {
	for _, role := range roles {
		bubble(t, func(t *testing.T) {
			a, b := memconn.Pipe(5)
			s := New(a, testConfig(role.client))
			if !role.client {
				b.SetWriteBuffer(1000)
				b.Write(hello(handshake.Params{}))
			}
			start := time.Now()
			err := s.Handshake(context.Background())
			// A server tries for a second to say so.
			if d := time.Since(start); err != session.ErrHandshakeTimeout || d < 10*time.Second || d > 11*time.Second {
				t.Errorf("%s: %v after %v", role.name, err, d)
			}
			time.Sleep(s.cfg.Linger)
			synctest.Wait()
			if !a.Closed() {
				t.Errorf("%s: the carrier is open", role.name)
			}
		})
	}
}

// TestHandshakeInterrupted ends a handshake by its context, by Close and by a
// deadline of a call that waits for it; only the last one leaves it alive. N14.
func TestHandshakeInterrupted(t *testing.T) {
	for _, useTLS := range []bool{false, true} {
		for _, role := range roles {
			start := func() (*Session, *memconn.Conn) {
				a, b := memconn.Pipe(0)
				return New(a, mode{tls: useTLS}.apply(testConfig(role.client))), b
			}
			bubble(t, func(t *testing.T) {
				s, _ := start()
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				begin := time.Now()
				if err := s.Handshake(ctx); err != context.DeadlineExceeded || time.Since(begin) != time.Second {
					t.Errorf("%v after %v", err, time.Since(begin))
				}
				if !s.NetConn().(*memconn.Conn).Closed() {
					t.Error("the carrier is open")
				}
			})
			bubble(t, func(t *testing.T) {
				s, _ := start()
				errs := make(chan error)
				go func() { errs <- s.Handshake(context.Background()) }()
				go func() { _, err := s.Read(make([]byte, 1)); errs <- err }()
				go func() { _, err := s.Write(make([]byte, 1)); errs <- err }()
				synctest.Wait()
				s.Close()
				for range 3 {
					if err := <-errs; !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
				}
				s.Close()
			})
			bubble(t, func(t *testing.T) {
				s, b := start()
				s.SetDeadline(time.Now().Add(time.Second))
				if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Read: %v", err)
				}
				if _, err := s.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Write: %v", err)
				}
				s.SetDeadline(time.Time{})
				other := New(b, mode{tls: useTLS}.apply(testConfig(!role.client)))
				defer other.Close()
				defer s.Close()
				if err := other.Handshake(context.Background()); err != nil {
					t.Error(err)
				}
				if err := s.Handshake(context.Background()); err != nil {
					t.Error(err)
				}
			})
			bubble(t, func(t *testing.T) { // never begun
				s, _ := start()
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if err := s.Handshake(context.Background()); !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
		}
	}
}

// SetDeadline sets both, as Conn does.
func (s *Session) SetDeadline(t time.Time) {
	s.SetReadDeadline(t)
	s.SetWriteDeadline(t)
}

// TestTLSMismatch has one side speak TLS and the other not: both know. §8.3.
func TestTLSMismatch(t *testing.T) {
	for _, clientTLS := range []bool{false, true} {
		for _, maxRead := range []int{0, 1} {
			bubble(t, func(t *testing.T) {
				a, b := memconn.Pipe(0)
				a.SetMaxRead(maxRead)
				b.SetMaxRead(maxRead)
				c := New(a, mode{tls: clientTLS}.apply(testConfig(true)))
				s := New(b, mode{tls: !clientTLS}.apply(testConfig(false)))
				done := make(chan error, 1)
				go func() { done <- s.Handshake(context.Background()) }()
				start := time.Now()
				err := c.Handshake(context.Background())
				want, wantServer := session.ErrTLSRequired, session.ErrNotTLS
				if clientTLS {
					want, wantServer = session.ErrNotTLS, session.ErrTLSRequired
				}
				if err != want {
					t.Errorf("client: %v, want %v", err, want)
				}
				if err := <-done; err != wantServer {
					t.Errorf("server: %v, want %v", err, wantServer)
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("took %v", d)
				}
				time.Sleep(s.cfg.Linger)
				synctest.Wait()
				if !a.Closed() || !b.Closed() {
					t.Error("a carrier is open")
				}
			})
		}
	}
	for _, answer := range [][]byte{ // of servers that know nothing of VSTP
		{21, 3, 1, 0, 2, 2, 22}, {21, 3, 3, 0, 2, 2, 10}, {22, 3, 3, 0, 100, 2, 0, 0, 96, 3, 3, 0},
	} {
		bubble(t, func(t *testing.T) {
			a, b := memconn.Pipe(0)
			b.Write(answer)
			b.CloseWrite()
			if err := New(a, testConfig(true)).Handshake(context.Background()); err != session.ErrTLSRequired {
				t.Errorf("%x: %v", answer, err)
			}
		})
	}
}

// TestTLSDamage flips a byte of each of the first records after the handshake, or
// cuts the carrier there.
func TestTLSDamage(t *testing.T) {
	for _, m := range modes {
		if !m.tls {
			continue
		}
		for at := 0; at < 400; at += 3 {
			bubble(t, func(t *testing.T) {
				c, s, cc, _ := m.pair(t, testConfig(true), testConfig(false))
				cc.FlipAt(cc.Written()+int64(at), 1)
				for range 10 {
					c.Write([]byte("0123456789"))
				}
				go c.Close() // a longer record waits for its end
				got, err := io.ReadAll(readerOf{s})
				var rec tls.RecordHeaderError
				var op *net.OpError
				if len(got)%10 != 0 || err == nil || !errors.As(err, &rec) && !errors.As(err, &op) && err != io.ErrUnexpectedEOF {
					if len(got) < 100 || err != nil {
						t.Errorf("%s, %d: %d bytes, %v (%T)", m.name, at, len(got), err, err)
					}
				}
				s.Close()
			})
		}
	}
}

// TestRefusal is what a client learns of a server that does not want it. §4.4.
func TestRefusal(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		reason string
		header framing.Header
	}{
		{"refusal", &session.Refusal{Reason: "no", Header: framing.Header{{Key: "retry", Value: "3"}}}, "no", framing.Header{{Key: "retry", Value: "3"}}},
		{"any error", errors.New("secret"), "", nil},
		{"a header that cannot be sent", &session.Refusal{Reason: "no", Header: framing.Header{{Key: "\x01", Value: "3"}}}, "no", nil},
	} {
		for _, m := range modes {
			bubble(t, func(t *testing.T) {
				a, b := memconn.Pipe(0)
				var ca, cb net.Conn = a, b
				if m.callerTLS {
					ca, cb = tls.Client(a, clientTLS()), tls.Server(b, serverTLS())
				}
				cfg := m.apply(testConfig(false))
				cfg.Verify = func(context.Context, *Session, *handshake.Hello) (framing.Header, error) { return nil, c.err }
				s := New(cb, cfg)
				done := make(chan error, 1)
				go func() { done <- s.Handshake(context.Background()) }()
				err := New(ca, m.apply(testConfig(true))).Handshake(context.Background())
				var e *handshake.RemoteError
				if !errors.As(err, &e) || e.Code != framing.CodeRefused || e.Reason != c.reason || len(e.Header) != len(c.header) {
					t.Errorf("%s, %s: %v", m.name, c.name, err)
				}
				if err := <-done; err == nil {
					t.Error("the server has no error")
				}
				time.Sleep(s.cfg.Linger)
				synctest.Wait()
				if !b.Closed() {
					t.Error("the carrier is open")
				}
			})
		}
	}
}
