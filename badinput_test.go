package vstp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
)

// madeServer returns a server's connection whose client is made by hand, after the
// handshake.
func madeServer(t testing.TB, config *vstp.Config) (*vstp.Conn, net.Conn) {
	t.Helper()
	a, b := memconn.Pipe(0)
	hello, err := handshake.NewClient(handshake.Params{}).AppendHello(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(hello)
	c := vstp.Server(a, config)
	if err := c.Handshake(context.Background()); err != nil {
		t.Fatal(err)
	}
	if f, err := readFrame(b); err != nil || f.Type != framing.TypeWelcome {
		t.Fatal(f.Type, err)
	}
	return c, b
}

// readFrame reads a frame and no byte more.
func readFrame(r io.Reader) (framing.Frame, error) {
	b := make([]byte, framing.FixedLen)
	if _, err := io.ReadFull(r, b); err != nil {
		return framing.Frame{}, err
	}
	fixed, err := framing.ParseFixed(b)
	if err != nil {
		return framing.Frame{}, err
	}
	b = append(b, make([]byte, int(fixed.WireLen(fixed.Flags.Has(framing.FlagCRC)))-len(b))...)
	if _, err := io.ReadFull(r, b[framing.FixedLen:]); err != nil {
		return framing.Frame{}, err
	}
	f, _, err := framing.Parse(b, 0, framing.TrailerByFlag)
	return f, err
}

// everyError calls everything that returns an error.
func everyError(c *vstp.Conn) map[string]error {
	ctx := context.Background()
	errs := make(map[string]error)
	_, errs["read"] = c.Read(make([]byte, 1))
	_, errs["write"] = c.Write([]byte("x"))
	_, errs["receive"] = c.ReceiveMessage(ctx)
	errs["send"] = c.SendMessage(ctx, &vstp.Message{})
	_, errs["ping"] = c.Ping(ctx)
	return errs
}

// TestProtocolErrors has violations of the peer's come out as *ProtocolError inside of
// *net.OpError, and the peer told.
func TestProtocolErrors(t *testing.T) {
	crc := framing.FlagCRC
	for name, c := range map[string]struct {
		code vstp.ErrorCode
		b    []byte
	}{
		"magic":    {vstp.CodeProtocol, []byte("GET / HTTP/1.1\r\n\r\n")},
		"version":  {vstp.CodeVersion, []byte("VT\x02\x03\x00\x00\x00\x00\x00\x00\x00")},
		"type":     {vstp.CodeUnexpected, []byte("VT\x01\x2a\x00\x00\x00\x00\x00\x00\x00")},
		"size":     {vstp.CodeTooLarge, []byte("VT\x01\x03\x02\x00\x00\xff\xff\xff\xff")},
		"header":   {vstp.CodeHeader, []byte("VT\x01\x03\x00\x01\x00\x00\x00\x00\x00\x05")},
		"checksum": {vstp.CodeChecksum, []byte("VT\x01\x03\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
		"no CRC":   {vstp.CodeProtocol, framing.AppendFixed(nil, framing.TypePing, 0, 0, 0)},
		"HELLO":    {vstp.CodeUnexpected, frameOf(t, framing.TypeHello, crc, nil, "")},
		"flags":    {vstp.CodeProtocol, frameOf(t, framing.TypeBye, crc|framing.FlagReqAck, nil, "")},
		"COMP":     {vstp.CodeCompression, frameOf(t, framing.TypeData, crc|framing.FlagComp, nil, "x")},
	} {
		inBubble(t, name, func(t *testing.T) {
			s, peer := madeServer(t, nil)
			defer s.Close()
			peer.Write(c.b)
			for op, err := range everyError(s) {
				var oe *net.OpError
				var pe *vstp.ProtocolError
				if !errors.As(err, &oe) || oe.Op != op || !errors.As(err, &pe) ||
					pe.Remote || pe.Code != c.code || !errors.Is(err, &vstp.ProtocolError{Code: c.code}) || errors.Is(err, &vstp.ProtocolError{Remote: true, Code: c.code}) {
					t.Errorf("%s: %v (%T)", op, err, err)
				}
				if _, ok := err.(net.Error); !ok {
					t.Errorf("%s: %T is no net.Error", op, err)
				}
			}
			f, err := readFrame(peer)
			if e := handshake.ParseErr(f); err != nil || f.Type != framing.TypeErr || e.Code != c.code {
				t.Errorf("peer got %v %v, %v", f.Type, e, err)
			}
			if rest, err := io.ReadAll(peer); len(rest) > 0 || err != nil {
				t.Errorf("and %x, %v", rest, err)
			}
		})
	}
}

func frameOf(t testing.TB, typ framing.Type, flags framing.Flags, h framing.RawHeader, payload string) []byte {
	t.Helper()
	b, err := framing.AppendFrame(nil, framing.Frame{Type: typ, Flags: flags, Header: h, Payload: []byte(payload)}, framing.TrailerByFlag)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRemoteError is ERR from the peer.
func TestRemoteError(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		s, peer := madeServer(t, nil)
		defer s.Close()
		b, err := handshake.AppendErr(nil, vstp.CodeApplication+5, "go \x1b[31maway", nil)
		if err != nil {
			t.Fatal(err)
		}
		peer.Write(b)
		_, rerr := s.Read(make([]byte, 1))
		errs := everyError(s)
		errs["first"] = rerr
		for op, err := range errs {
			var pe *vstp.ProtocolError
			if !errors.As(err, &pe) || !pe.Remote || pe.Code != vstp.CodeApplication+5 || pe.Reason != "go \x1b[31maway" {
				t.Errorf("%s: %v", op, err)
			}
			for _, r := range err.Error() {
				if r < ' ' {
					t.Errorf("%s: %q is not escaped", op, err)
				}
			}
		}
		if rest, err := io.ReadAll(peer); len(rest) > 0 || err != nil {
			t.Errorf("answered %x, %v", rest, err)
		}
	})
}

// TestErrorShapes is N1 and N2: what net/http and others look for.
func TestErrorShapes(t *testing.T) {
	inBubble(t, "deadline", func(t *testing.T) {
		s, _ := madeServer(t, nil)
		defer s.Close()
		s.SetDeadline(time.Now())
		errs := make(map[string]error)
		_, errs["read"] = s.Read(make([]byte, 1))
		_, errs["receive"] = s.ReceiveMessage(context.Background())
		_, errs["write"] = s.Write([]byte("x"))
		errs["send"] = s.SendMessage(context.Background(), &vstp.Message{})
		for op, err := range errs {
			ne, ok := err.(net.Error)
			if !ok || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", op, err)
			}
		}
	})
	inBubble(t, "closed", func(t *testing.T) {
		s, _ := madeServer(t, nil)
		s.Close()
		for op, err := range everyError(s) {
			if !errors.Is(err, net.ErrClosed) || err.(net.Error).Timeout() {
				t.Errorf("%s: %v", op, err)
			}
		}
		if err := s.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if s.LocalAddr() == nil || s.RemoteAddr() == nil {
			t.Error("no address")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	inBubble(t, "end", func(t *testing.T) {
		s, peer := madeServer(t, nil)
		defer s.Close()
		peer.Write(frameOf(t, framing.TypeBye, framing.FlagCRC, nil, ""))
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%T", err)
		}
		if _, err := s.ReceiveMessage(context.Background()); err != io.EOF {
			t.Errorf("%T", err)
		}
	})
	inBubble(t, "cut", func(t *testing.T) {
		s, peer := madeServer(t, nil)
		defer s.Close()
		peer.Close()
		_, err := s.Read(make([]byte, 1))
		if _, ok := err.(*net.OpError); !ok || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
	})
	inBubble(t, "idle", func(t *testing.T) {
		s, _ := madeServer(t, &vstp.Config{IdleTimeout: time.Second})
		defer s.Close()
		_, err := s.Read(make([]byte, 1))
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() || !errors.Is(err, vstp.ErrIdleTimeout) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	inBubble(t, "handshake", func(t *testing.T) {
		a, _ := memconn.Pipe(0)
		s := vstp.Server(a, &vstp.Config{HandshakeTimeout: time.Second})
		start := time.Now()
		_, err := s.Read(make([]byte, 1))
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() || !errors.Is(err, vstp.ErrHandshakeTimeout) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		synctest.Wait()
	})
}

// TestBadPeersAndAccept has strangers send garbage, nothing, and half of things to a
// listener: Accept gives the honest client and no error. N10, S2.
func TestBadPeersAndAccept(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			ln, dial := tr.listen(t)
			defer ln.Close()
			network := ln.Addr().Network()
			for _, b := range []string{"", "V", "GET / HTTP/1.1\r\n\r\n", "VT\x01\x02\x00\x00\x00\x00\x00\x00\x00", "VT\x01\x01\x02\xff\xff\x00\x00\x00\x00",
				"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x15\x03\x01\x00\x02\x02\x16", "VT\x01\x08\x00\x00\x00\x00\x00\x00\x00"} {
				conn, err := net.Dial(network, ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.Write([]byte(b))
			}
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c.Write([]byte("hello"))
			b := make([]byte, 5)
			if _, err := io.ReadFull(s, b); err != nil || string(b) != "hello" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// TestRefusedDial has a server refuse, over sockets.
func TestRefusedDial(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			tr.config.VerifyHello = func(_ context.Context, h *vstp.HelloInfo) (vstp.Header, error) {
				return nil, &vstp.RefusedError{Reason: "no " + h.Header.Get("user"), Header: vstp.Header{{Key: "retry", Value: "3"}}}
			}
			tr.config.Header = vstp.Header{{Key: "user", Value: "gopher"}}
			ln, dial := tr.listen(t)
			defer ln.Close()
			_, err := dial()
			var oe *net.OpError
			var re *vstp.RefusedError
			if !errors.As(err, &oe) || oe.Op != "dial" || !errors.As(err, &re) || re.Reason != "no gopher" || re.Header.Get("retry") != "3" {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestTLSMismatchDial has one end speak TLS and the other not, over sockets. §8.3.
func TestTLSMismatchDial(t *testing.T) {
	secure := transport{name: "tls", network: "tcp", tls: true}
	plain := transport{name: "plain", network: "tcp"}
	cc, _ := secure.configs(t)
	for _, c := range []struct {
		server transport
		client *vstp.Config
		want   error
	}{{secure, &vstp.Config{}, vstp.ErrTLSRequired}, {plain, cc, vstp.ErrNotTLS}} {
		ln, _ := c.server.listen(t)
		defer ln.Close()
		_, err := (&vstp.Dialer{Config: c.client}).Dial("tcp", ln.Addr().String())
		if !errors.Is(err, c.want) {
			t.Errorf("server %s: %v", c.server.name, err)
		}
	}
}
