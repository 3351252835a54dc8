package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
)

var attachKey = []byte("0123456789abcdef0123456789abcdef")

func attachRequest(n uint64) handshake.AttachRequest {
	return handshake.AttachRequest{K: attachKey, ServerID: autoServerID, ClientID: autoClientID, N: n}
}

// attach attaches a client to a server, over a connection of its own.
func attach(t testing.TB, cc, sc *Config, r handshake.AttachRequest) (c, s *Bearer, token any, cerr, serr error) {
	t.Helper()
	a, b := memconn.Pipe(0)
	cs, ss := New(a, cc), New(b, sc)
	done := make(chan error, 1)
	go func() { done <- ss.Handshake(context.Background()) }()
	c, cerr = cs.Attach(context.Background(), &r)
	serr = <-done
	if serr == nil {
		token = ss.Auto().Attach
		s = ss.Detach()
	}
	if cerr != nil {
		ss.Close()
		time.Sleep(time.Minute)
		if !a.Closed() {
			t.Error("the client has not closed the connection")
		}
	}
	return c, s, token, cerr, serr
}

// TestAttach: a byte stream comes to a session that is there, and every other one is
// refused by the code for it. Traps A5, A6.
func TestAttach(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		bubble(t, func(t *testing.T) {
			cc, sc, a := autoConfigs(m)
			cc.Auto = nil // it is no offer
			sc.Verify = func(context.Context, *Session, *handshake.Hello) (framing.Header, error) {
				t.Error("the session was verified before")
				return nil, nil
			}
			other := handshake.ConnID{1}
			fixed := handshake.ConnID{2}
			wrong := handshake.ConnID{3}
			s := &autoSession{k: attachKey, tls: m.tls}
			a.sessions[autoServerID] = s
			a.sessions[other] = &autoSession{k: []byte("another"), tls: m.tls}
			a.sessions[fixed] = &autoSession{k: attachKey, tls: m.tls, fixed: true}
			a.sessions[wrong] = &autoSession{k: attachKey, tls: !m.tls}

			cb, sb, token, cerr, serr := attach(t, cc, sc, attachRequest(7))
			if cerr != nil || serr != nil || token != any(s) {
				t.Fatal(cerr, serr, token)
			}
			exchange(t, cb, sb)
			cb.Close()
			sb.Close()

			for _, tt := range []struct {
				name   string
				change func(*handshake.AttachRequest)
				busy   error
				code   framing.ErrorCode
			}{
				{"the same n", func(r *handshake.AttachRequest) { r.N = 7 }, nil, framing.CodeAttach},
				{"a smaller n", func(r *handshake.AttachRequest) { r.N = 0 }, nil, framing.CodeAttach},
				{"wrong secret", func(r *handshake.AttachRequest) { r.K = []byte("guessed") }, nil, framing.CodeAttach},
				{"wrong client", func(r *handshake.AttachRequest) { r.ClientID[0]++ }, nil, framing.CodeAttach},
				{"another's session", func(r *handshake.AttachRequest) { r.ServerID = other }, nil, framing.CodeAttach},
				{"a session that does not move", func(r *handshake.AttachRequest) { r.ServerID = fixed }, nil, framing.CodeAttach},
				{"TLS where there was none, or the reverse", func(r *handshake.AttachRequest) { r.ServerID = wrong }, nil, framing.CodeAttach},
				{"no such session", func(r *handshake.AttachRequest) { r.ServerID[7]++ }, nil, framing.CodeUnknownID},
				{"too many", nil, &handshake.Error{Code: framing.CodeOverload}, framing.CodeOverload},
				{"fault", nil, errors.New("secret"), framing.CodeInternal},
			} {
				r := attachRequest(8)
				if tt.change != nil {
					tt.change(&r)
				}
				a.busy = tt.busy
				_, _, _, cerr, serr = attach(t, cc, sc, r)
				var remote *handshake.RemoteError
				if !errors.As(cerr, &remote) || remote.Code != tt.code || remote.Reason != "" {
					t.Errorf("%s: %v", tt.name, cerr)
				}
				wantLocal(t, tt.name, serr, tt.code)
			}
			a.busy = nil
			if cb, sb, _, cerr, serr = attach(t, cc, sc, attachRequest(8)); cerr != nil || serr != nil {
				t.Fatal(cerr, serr) // what was refused has used nothing up
			}
			cb.Close()
			sb.Close()
		})
	}
}

// TestAttachBinding: a proof is good for one TLS connection. Trap A5.
func TestAttachBinding(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cc, sc, a := autoConfigs(mode{tls: true})
		a.sessions[autoServerID] = &autoSession{k: attachKey, tls: true}
		hello := handshake.AppendAttachHello(nil, &handshake.Attach{ServerID: autoServerID, N: 1,
			Proof: handshake.AttachProof(attachKey, false, autoServerID, autoClientID, 1, []byte("of another connection"))})
		ca, sa := memconn.Pipe(0)
		s := New(sa, sc)
		done := make(chan error, 1)
		go func() { done <- s.Handshake(context.Background()) }()
		c := tls.Client(ca, cc.TLS)
		c.Write(hello)
		fixed, h, err := framing.NewReader(c, 0, framing.TrailerByFlag).Next()
		if err != nil || fixed.Type != framing.TypeErr || handshake.ParseErr(framing.Frame{Header: h}).Code != framing.CodeAttach {
			t.Error(fixed, err)
		}
		wantLocal(t, "server", <-done, framing.CodeAttach)
		ca.Close()
	})
}

// TestAttachServer: the client believes nobody who has not the secret.
func TestAttachServer(t *testing.T) {
	good := handshake.AttachProof(attachKey, true, autoServerID, autoClientID, 1, nil)
	reflected := handshake.AttachProof(attachKey, false, autoServerID, autoClientID, 1, nil)
	ordinary := frame(framing.TypeWelcome, crc, append(nums(framing.KeyVersions, 1), field(framing.KeySessionID, make([]byte, 16)...)...), nil)
	for _, tt := range []struct {
		name   string
		answer []byte
		code   framing.ErrorCode
	}{
		{"right", handshake.AppendAttachWelcome(nil, good), 0},
		{"wrong proof", handshake.AppendAttachWelcome(nil, [16]byte{}), framing.CodeAttach},
		{"the client's own proof", handshake.AppendAttachWelcome(nil, reflected), framing.CodeAttach},
		{"a server that does not know", ordinary, framing.CodeProtocol},
		{"a packet", packet(0, 1), framing.CodeUnexpected},
		{"not VSTP", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), framing.CodeProtocol},
		{"an answer cut off", handshake.AppendAttachWelcome(nil, good)[:30], 0},
		{"nothing", nil, 0},
	} {
		bubble(t, func(t *testing.T) {
			ca, sa := memconn.Pipe(0)
			c := New(ca, testConfig(true))
			sa.Write(tt.answer)
			sa.CloseWrite()
			r := attachRequest(1)
			b, err := c.Attach(t.Context(), &r)
			switch {
			case tt.name == "right":
				if err != nil {
					t.Fatal(err)
				}
				if _, err := b.ReadPacket(); err != io.EOF {
					t.Error(err)
				}
				b.Close()
				if _, err := c.Attach(t.Context(), &r); err == nil {
					t.Error("attached twice")
				}
			case tt.code == 0:
				if err != io.ErrUnexpectedEOF {
					t.Errorf("%s: %v", tt.name, err)
				}
			default:
				wantLocal(t, tt.name, err, tt.code)
			}
			sa.Close()
		})
	}
}

// TestAttachMismatch: TLS at one end only.
func TestAttachMismatch(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		bubble(t, func(t *testing.T) {
			cc, _, _ := autoConfigs(m)
			_, sc, _ := autoConfigs(mode{tls: !m.tls})
			_, _, _, cerr, serr := attach(t, cc, sc, attachRequest(1))
			want := session.ErrTLSRequired
			if m.tls {
				want = session.ErrNotTLS
			}
			if !errors.Is(cerr, want) || serr == nil {
				t.Errorf("%s: %v, %v", m.name, cerr, serr)
			}
		})
	}
}

// TestAttachStalls: a second carrier on which nothing comes, or no end of something, is
// given up in time, at both ends. Trap A3.
func TestAttachStalls(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		for _, garbage := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				cc, sc, _ := autoConfigs(m)
				for _, client := range []bool{true, false} {
					a, b := memconn.Pipe(0)
					if garbage {
						head := "\x16\x03\x03\x40\x00\x02"
						if !m.tls {
							head = "VT\x01\x02\x02\xff\xff\x00\x00\x00\x00"
							if !client {
								head = "VT\x01\x01\x02\xff\xff\x00\x00\x00\x00"
							}
						}
						b.Write([]byte(head))
						go func() {
							for range 100 {
								time.Sleep(time.Second)
								if _, err := b.Write([]byte{1}); err != nil {
									return
								}
							}
						}()
					}
					start := time.Now()
					var err error
					if client {
						r := attachRequest(1)
						_, err = New(a, cc).Attach(t.Context(), &r)
					} else {
						err = New(a, sc).Handshake(t.Context())
					}
					d := time.Since(start)
					if err == nil || d > cc.HandshakeTimeout || !garbage && !errors.Is(err, session.ErrHandshakeTimeout) {
						t.Errorf("%s, client %v, garbage %v: %v after %v", m.name, client, garbage, err, d)
					}
					time.Sleep(time.Minute)
					if !a.Closed() {
						t.Error("still open")
					}
					b.Close()
				}
			})
		}
	}
}

// TestConnect: the TLS handshake apart from the rest.
func TestConnect(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}, {name: "caller's tls", callerTLS: true}} {
		bubble(t, func(t *testing.T) {
			cc, sc, a := autoConfigs(m)
			sc.HandshakeTimeout = time.Hour
			a.sessions[autoServerID] = &autoSession{k: attachKey, tls: m.tls}
			for _, how := range []string{"handshake", "attach", "close"} {
				ca, sa := memconn.Pipe(0)
				c, s := New(ca, cc), New(sa, sc)
				if m.callerTLS {
					c, s = New(tls.Client(ca, clientTLS()), cc), New(tls.Server(sa, serverTLS()), sc)
				}
				done := make(chan error, 1)
				go func() { done <- s.Handshake(context.Background()) }()
				ctx, cancel := context.WithCancel(context.Background())
				if err := c.Connect(ctx); err != nil {
					t.Fatal(err)
				}
				cancel()
				time.Sleep(time.Minute) // longer than HandshakeTimeout
				if err := c.Connect(context.Background()); err != nil {
					t.Fatal(err)
				}
				var b *Bearer
				var err error
				switch how {
				case "handshake":
					err = c.Handshake(context.Background())
					b = c.Detach()
				case "attach":
					r := attachRequest(1)
					b, err = c.Attach(context.Background(), &r)
				default:
					c.Close()
					if err := c.Handshake(context.Background()); !errors.Is(err, errClosed) {
						t.Error(err)
					}
					if <-done == nil {
						t.Error("a handshake with nobody")
					}
					continue
				}
				if err := errors.Join(err, <-done); err != nil {
					t.Fatalf("%s, %s: %v", m.name, how, err)
				}
				sb := s.Detach()
				exchange(t, b, sb)
				b.Close()
				sb.Close()
			}
		})
	}
}

// TestConnectFails: by its time, its context, Close, and the peer.
func TestConnectFails(t *testing.T) {
	for _, how := range []string{"time", "context", "close", "peer", "over"} {
		bubble(t, func(t *testing.T) {
			cc, _, _ := autoConfigs(mode{tls: true})
			a, b := memconn.Pipe(0)
			c := New(a, cc)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			want := error(nil)
			switch how {
			case "time":
				want = session.ErrHandshakeTimeout
			case "context":
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				want = context.DeadlineExceeded
			case "close":
				time.AfterFunc(time.Second, func() { c.Close() })
				want = errClosed
			case "peer":
				b.Write([]byte("VT\x01\x08\x02"))
				want = session.ErrNotTLS
			case "over":
				cancel()
				want = context.Canceled
			}
			if err := c.Connect(ctx); !errors.Is(err, want) {
				t.Errorf("%s: %v", how, err)
			}
			cancel()
			if err := c.Handshake(t.Context()); !errors.Is(err, want) {
				t.Errorf("%s: then %v", how, err)
			}
			if !a.Closed() {
				t.Errorf("%s: still open", how)
			}
			b.Close()
		})
	}
}
