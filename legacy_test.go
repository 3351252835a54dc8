package vstp_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/memconn"
)

// Bytes of the crate vstp 0.2.1, recorded while it ran over TCP.
const (
	crateHello    = "565401010000000000000090a29464"
	crateData     = "565401030000000000000568656c6c6ff3ac2614" // "hello"
	crateEmpty    = "5654010300000000000000d2879319"
	crateBye      = "56540106000000000000009a679d7d"
	cratePing     = "5654010400000000000000d8429a00"
	crateAck1     = "565401070009000000000006016d73672d696431e63ca3b8"
	crateReqAck1  = "565401030109000000000206016d73672d696431686951513fee" // "hi", msg-id 1
	crateJSON     = "56540103021e00000000020c10636f6e74656e742d747970656170706c69636174696f6e2f6a736f6e7b7df0ae409e"
	crateType9    = "565401090004000000000501016b7668656c6c6f7472f835"
	crateBadCRC   = "565401030004000000000501016b7668656c6c6f465e276d"
	crateWithKV   = "565401030004000000000501016b7668656c6c6f465e276c"
	crateClient   = crateHello + crateData + crateEmpty + crateBye // send_hello, send_data twice, close
	crateReceived = crateHello + cratePing + crateEmpty + crateBye
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// inBubble runs f in a bubble, with time for what it leaves to end.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f(t)
			time.Sleep(time.Minute)
		})
	})
}

// crateFrame makes a frame as the crate does: always a trailer, whatever the flags.
func crateFrame(t testing.TB, typ framing.Type, flags framing.Flags, h framing.Header, payload string) []byte {
	t.Helper()
	block, err := framing.AppendHeader(nil, h)
	if err != nil {
		t.Fatal(err)
	}
	b, err := framing.AppendFrame(nil, framing.Frame{Type: typ, Flags: flags, Header: block, Payload: []byte(payload)}, framing.TrailerAlways)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// crateClientOf returns the server's side of a connection that a crate client has
// begun with first, and the client's end.
func crateClientOf(t testing.TB, first []byte, config *vstp.Config) (*vstp.Conn, *memconn.Conn) {
	t.Helper()
	a, b := memconn.Pipe(0)
	c := vstp.Server(a, config)
	if _, err := b.Write(first); err != nil {
		t.Fatal(err)
	}
	if err := c.Handshake(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !c.ConnectionState().Legacy {
		t.Fatal("not taken for a crate peer")
	}
	return c, b
}

// TestCrateClient replays what a client of the crate sends, whole and byte by byte,
// to a server that reads it as a stream or as messages.
func TestCrateClient(t *testing.T) {
	for _, maxRead := range []int{0, 1} {
		inBubble(t, "stream", func(t *testing.T) {
			c, peer := crateClientOf(t, unhex(t, crateClient), nil)
			c.NetConn().(*memconn.Conn).SetMaxRead(maxRead)
			got, err := io.ReadAll(c)
			if string(got) != "hello" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			c.Close()
			if b, _ := io.ReadAll(peer); !bytes.Equal(b, unhex(t, crateBye)) {
				t.Errorf("sent %x", b)
			}
		})
		inBubble(t, "messages", func(t *testing.T) {
			c, _ := crateClientOf(t, unhex(t, crateClient), nil)
			defer c.Close()
			for _, want := range []string{"hello", ""} {
				m, err := c.ReceiveMessage(context.Background())
				if err != nil || string(m.Payload) != want || m.RequireAck {
					t.Errorf("%v, %v", m, err)
				}
			}
			if _, err := c.ReceiveMessage(context.Background()); err != io.EOF {
				t.Error(err)
			}
		})
	}
}

// TestCrateFirstFrame recognises a crate client by whatever it begins with, and loses
// nothing of it. PROTOCOL §6.1.
func TestCrateFirstFrame(t *testing.T) {
	for _, c := range []struct {
		name, first string
		payload     string
		header      string
		answer      string
	}{
		{"HELLO", crateHello, "", "", ""},
		{"DATA", crateData, "hello", "", ""},
		{"DATA with metadata", crateWithKV, "hello", "v", ""},
		{"DATA with CRC flag", crateJSON, "{}", "", ""},
		{"DATA with REQ_ACK", crateReqAck1, "hi", "", crateAck1},
		{"PING", cratePing, "", "", "PONG"},
		{"HELLO, PING, DATA", crateReceived, "", "", "PONG"},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			s, peer := crateClientOf(t, unhex(t, c.first), nil)
			defer s.Close()
			m, err := s.ReceiveMessage(contextIn(time.Second))
			if c.payload == "" && err == nil && len(m.Payload) > 0 || c.payload != "" && (err != nil || string(m.Payload) != c.payload) {
				t.Errorf("%v, %v", m, err)
			}
			if c.header != "" && m.Header.Get("k") != c.header || m != nil && m.Header.Get("msg-id") != "" {
				t.Errorf("metadata %v", m.Header)
			}
			synctest.Wait()
			got := make([]byte, 100)
			peer.SetReadDeadline(time.Now().Add(time.Second))
			n, _ := peer.Read(got)
			want := unhex(t, crateAck1)
			switch c.answer {
			case "":
				want = nil
			case "PONG":
				want = crateFrame(t, framing.TypePong, 0, nil, "")
			}
			if !bytes.Equal(got[:n], want) {
				t.Errorf("answered %x, want %x", got[:n], want)
			}
		})
	}
}

func contextIn(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// TestCrateTrailer finds out whether trailers come without the flag. PROTOCOL §6.2.
func TestCrateTrailer(t *testing.T) {
	bare := func(typ framing.Type, flags framing.Flags, p string) []byte {
		b, err := framing.AppendFrame(nil, framing.Frame{Type: typ, Flags: flags, Payload: []byte(p)}, framing.TrailerByFlag)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	always := crateFrame(t, framing.TypeData, 0, nil, "one")
	for _, c := range []struct {
		name   string
		frames [][]byte
		want   string
		ok     bool
	}{
		{"always", [][]byte{always, crateFrame(t, 3, 0, nil, "two")}, "onetwo", true},
		{"by flag", [][]byte{bare(3, 0, "one"), bare(3, 0, "two")}, "onetwo", true},
		{"by flag, CRC first", [][]byte{bare(3, framing.FlagCRC, "one"), bare(3, 0, "two"), bare(3, 0, "three")}, "onetwothree", true},
		{"always, with the flag", [][]byte{bare(3, framing.FlagCRC, "one"), crateFrame(t, 3, 0, nil, "two")}, "onetwo", true},
		{"one frame without", [][]byte{bare(3, 0, "one")}, "one", true},
		{"neither", [][]byte{bare(3, 0, "one"), []byte("xxxx")}, "", false},
		{"wrong", [][]byte{append(always[:len(always)-1:len(always)-1], always[len(always)-1]^1)}, "", false},
		{"first always, then none", [][]byte{always, bare(3, 0, "two"), bare(3, 0, "three")}, "one", false},
	} {
		for _, maxRead := range []int{0, 1} {
			inBubble(t, c.name, func(t *testing.T) {
				a, b := memconn.Pipe(0)
				a.SetMaxRead(maxRead)
				s := vstp.Server(a, nil)
				defer s.Close()
				b.Write(bytes.Join(c.frames, nil))
				b.CloseWrite()
				got, err := io.ReadAll(s)
				var pe *vstp.ProtocolError
				if c.ok && !errors.Is(err, io.ErrUnexpectedEOF) || !c.ok && (!errors.As(err, &pe) || pe.Remote) {
					t.Errorf("%v", err)
				}
				if string(got) != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		}
	}
}

// TestCrateFlags takes all flags for clear where one is unknown, and ignores FRAG and
// COMP. PROTOCOL §6.4.
func TestCrateFlags(t *testing.T) {
	id := framing.Header{{Key: "a", Value: "b"}, {Key: framing.LegacyKeyMsgID, Value: "7"}}
	for _, c := range []struct {
		flags framing.Flags
		id    string
		acked bool
	}{
		{framing.FlagReqAck, "7", true},
		{framing.FlagReqAck | framing.FlagFrag | framing.FlagComp | framing.FlagCRC, "7", true},
		{framing.FlagReqAck | 0x80, "7", false},
		{framing.FlagReqAck | 0x04, "7", false},
		{0, "7", false},
		{framing.FlagReqAck, "seven", false},
		{framing.FlagReqAck, "", false},
		{framing.FlagReqAck, "18446744073709551615", true},
		{framing.FlagReqAck, "18446744073709551616", false},
		{framing.FlagReqAck, "-1", false},
	} {
		inBubble(t, c.flags.String()+" "+c.id, func(t *testing.T) {
			h := id.Clone()
			h.Set(framing.LegacyKeyMsgID, c.id)
			s, peer := crateClientOf(t, unhex(t, crateHello), nil)
			defer s.Close()
			peer.Write(crateFrame(t, framing.TypeData, c.flags, h, "payload"))
			m, err := s.ReceiveMessage(context.Background())
			if err != nil || string(m.Payload) != "payload" || m.RequireAck != c.acked || m.Header.Get("a") != "b" {
				t.Fatalf("%v, %v", m, err)
			}
			synctest.Wait()
			if (peer.Buffered() > 0) != c.acked {
				t.Errorf("%d bytes in answer", peer.Buffered())
			}
			if !c.acked {
				return
			}
			got := make([]byte, peer.Buffered())
			io.ReadFull(peer, got)
			if want := crateFrame(t, framing.TypeAck, 0, framing.Header{{Key: framing.LegacyKeyMsgID, Value: c.id}}, ""); !bytes.Equal(got, want) {
				t.Errorf("ACK %x, want %x", got, want)
			}
		})
	}
	inBubble(t, "the easy probe", func(t *testing.T) {
		s, peer := crateClientOf(t, unhex(t, crateHello), nil)
		defer s.Close()
		go s.Read(make([]byte, 1))
		peer.Write(crateFrame(t, framing.TypePing, framing.FlagReqAck, framing.Header{
			{Key: framing.LegacyKeyMsgID, Value: "1"}, {Key: "x-auto-probe", Value: "1"}}, ""))
		got := make([]byte, len(crateAck1)/2)
		if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, unhex(t, crateAck1)) {
			t.Errorf("%x, %v", got, err)
		}
		peer.Write(crateFrame(t, framing.TypeHello, 0, nil, "")) // later ones mean nothing
		peer.Write(crateFrame(t, framing.TypePong, 0, nil, ""))
		peer.Write(crateFrame(t, framing.TypeAck, 0, nil, ""))
		synctest.Wait()
		if n := peer.Buffered(); n != 0 {
			t.Errorf("%d bytes more", n)
		}
	})
}

// TestCrateSent looks at everything that is sent to a crate peer, from both sides: "DATA,
// ACK, PONG and BYE, and no other type; always a trailer, never the CRC flag, and no
// flag at all but REQ_ACK; no reserved keys". PROTOCOL §6.3.
func TestCrateSent(t *testing.T) {
	config := &vstp.Config{
		Compression: vstp.CompressionZstd, Checksum: vstp.ChecksumOff, KeepAlive: time.Second,
		IdleTimeout: time.Minute, AckTimeout: time.Second, Header: vstp.Header{{Key: "token", Value: "x"}},
	}
	for _, client := range []bool{true, false} {
		inBubble(t, map[bool]string{true: "client", false: "server"}[client], func(t *testing.T) {
			var s *vstp.Conn
			var peer *memconn.Conn
			if client {
				a, b := memconn.Pipe(1 << 20)
				config.Legacy = true
				s, peer = vstp.Client(a, config), b
			} else {
				s, peer = crateClientOf(t, unhex(t, crateHello), config)
				peer.Write(unhex(t, cratePing+crateReqAck1))
			}
			if client {
				peer.Write(unhex(t, cratePing+crateReqAck1))
			}
			go io.Copy(io.Discard, s)
			s.Write(bytes.Repeat([]byte("compressible "), 1000))
			s.SendMessage(context.Background(), &vstp.Message{Header: vstp.Header{{Key: "k", Value: "v"}}, Payload: []byte("plain")})
			if err := s.SendMessage(context.Background(), &vstp.Message{Payload: []byte("acked"), RequireAck: true}); !errors.Is(err, vstp.ErrAckTimeout) {
				t.Errorf("RequireAck: %v", err)
			}
			// 8 MiB are for the whole frame: 11 bytes, no fields, 4 bytes of trailer.
			if err := s.SendMessage(context.Background(), &vstp.Message{Payload: make([]byte, 8<<20-11-4+1)}); !errors.Is(err, vstp.ErrMessageTooLarge) {
				t.Errorf("8 MiB: %v", err)
			}
			if err := s.SendMessage(context.Background(), &vstp.Message{Header: vstp.Header{{Key: "\x02", Value: "v"}}}); !errors.Is(err, vstp.ErrReservedKey) {
				t.Errorf("reserved: %v", err)
			}
			if _, err := s.Ping(context.Background()); !errors.Is(err, vstp.ErrNotSupported) {
				t.Errorf("Ping: %v", err)
			}
			time.Sleep(time.Hour)
			s.Close()
			b, err := io.ReadAll(peer)
			if err != nil {
				t.Fatal(err)
			}
			var types []framing.Type
			for len(b) > 0 {
				f, n, err := framing.Parse(b, 0, framing.TrailerAlways)
				if err != nil {
					t.Fatalf("%v in %x", err, b)
				}
				b = b[n:]
				types = append(types, f.Type)
				h, _ := f.Header.AppendTo(nil)
				if f.Flags&^framing.FlagReqAck != 0 || h.HasReserved() {
					t.Errorf("%v with flags %v and %v", f.Type, f.Flags, h)
				}
				if f.Flags.Has(framing.FlagReqAck) != (string(f.Payload) == "acked") || f.Flags != 0 && h.Get("msg-id") != "1" && h.Get("msg-id") != "2" {
					t.Errorf("flags %v, %v", f.Flags, h)
				}
				switch f.Type {
				case framing.TypeData, framing.TypeAck, framing.TypePong, framing.TypeBye:
				default:
					t.Errorf("%v was sent", f.Type)
				}
			}
			if len(types) < 6 || types[len(types)-1] != framing.TypeBye {
				t.Errorf("sent %v", types)
			}
		})
	}
}

// TestCrateBad breaks the rules: the carrier is closed, and no ERR is sent, which the
// crate would take for data.
func TestCrateBad(t *testing.T) {
	for name, bad := range map[string]string{
		"unknown type": crateType9, "CRC": crateBadCRC, "magic": "00", "version": "565402",
		"header block":   hex.EncodeToString(append([]byte("VT\x01\x03\x00\x01\x00\x00\x00\x00\x00\x09"), 0x5a, 0x5a, 0x5a, 0x5a)),
		"WELCOME":        hex.EncodeToString(crateFrame(t, framing.TypeWelcome, 0, nil, "")),
		"large PING":     hex.EncodeToString(crateFrame(t, framing.TypePing, 0, nil, string(make([]byte, 5000)))),
		"above 8 MiB":    "5654010300000000800000",
		"DATA after BYE": crateBye + crateData,
	} {
		for _, client := range []bool{true, false} {
			inBubble(t, name, func(t *testing.T) {
				var s *vstp.Conn
				var peer *memconn.Conn
				if client {
					a, b := memconn.Pipe(0)
					s, peer = vstp.Client(a, &vstp.Config{Legacy: true}), b
				} else {
					s, peer = crateClientOf(t, unhex(t, crateHello), nil)
				}
				defer s.Close()
				peer.Write(unhex(t, crateData+bad))
				b := make([]byte, 5)
				if _, err := io.ReadFull(s, b); string(b) != "hello" {
					t.Errorf("%q, %v", b, err)
				}
				_, err := s.Ping(context.Background())
				if !errors.Is(err, vstp.ErrNotSupported) {
					t.Error(err)
				}
				err = s.SendMessage(contextIn(time.Second), &vstp.Message{RequireAck: true})
				var pe *vstp.ProtocolError
				if !errors.As(err, &pe) || pe.Remote {
					t.Errorf("%v", err)
				}
				left, err := io.ReadAll(peer)
				for len(left) > 0 {
					f, n, err := framing.Parse(left, 0, framing.TrailerAlways)
					if err != nil || f.Type != framing.TypeData {
						t.Fatalf("sent %x, %v", left, err)
					}
					left = left[n:]
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestCrateServer has a client with Config.Legacy talk to a server of the crate, as
// recorded, over a real socket: it answers what its handler says, and nothing else.
func TestCrateServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan []byte, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		b := make([]byte, len(crateData)/2)
		io.ReadFull(conn, b)
		conn.Write(unhex(t, crateWithKV))
		rest, _ := io.ReadAll(conn)
		got <- append(b, rest...)
		conn.Close()
	}()
	conn, err := (&vstp.Dialer{Config: &vstp.Config{Legacy: true}}).Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := conn.(*vstp.Conn)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	m, err := c.ReceiveMessage(context.Background())
	if err != nil || string(m.Payload) != "hello" || m.Header.Get("k") != "v" {
		t.Errorf("%v, %v", m, err)
	}
	c.Close()
	if b := <-got; !bytes.Equal(b, unhex(t, crateData+crateBye)) {
		t.Errorf("the server got %x", b)
	}
}

// TestCrateVerify shows crate clients to the hook, which may refuse them. PROTOCOL §9.
func TestCrateVerify(t *testing.T) {
	inBubble(t, "refused", func(t *testing.T) {
		a, b := memconn.Pipe(0)
		s := vstp.Server(a, &vstp.Config{VerifyHello: func(_ context.Context, h *vstp.HelloInfo) (vstp.Header, error) {
			if !h.Legacy || h.Header.Get("k") != "v" {
				t.Errorf("%+v", h)
			}
			return nil, &vstp.RefusedError{Reason: "no crates"}
		}})
		b.Write(crateFrame(t, framing.TypeHello, 0, framing.Header{{Key: "k", Value: "v"}}, ""))
		if err := s.Handshake(context.Background()); err == nil {
			t.Error("accepted")
		}
		s.Close()
		b.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadAll(b); err != nil {
			t.Error(err)
		}
	})
}
