package handshake

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// The outcomes of the state tables.
const (
	ok      = "ok"
	legacy  = "legacy"
	remote  = "remote" // a *RemoteError
	refused = "code 6" // CodeUnexpected
)

// sample returns a frame of each type that is right in itself, and one of no type.
func sample(t *testing.T, typ framing.Type) framing.Frame {
	t.Helper()
	switch typ {
	case framing.TypeHello:
		return parse(t, hello(t, fullClient))
	case framing.TypeWelcome:
		return parse(t, welcome(t, fullClient, fullServer))
	}
	return framing.Frame{Type: typ, Flags: framing.FlagCRC}
}

// TestServerStates is every type of frame in every state of a server: TRAPS S6,
// the table of §4.5.
func TestServerStates(t *testing.T) {
	states := []struct {
		name  string
		setup func(s *Server)
		want  [10]string // by type
	}{
		{"awaiting", func(s *Server) {},
			[10]string{refused, ok, refused, legacy, legacy, legacy, legacy, legacy, remote, refused}},
		{"received", func(s *Server) { s.Receive(sample(t, framing.TypeHello)) },
			[10]string{refused, refused, refused, refused, refused, refused, refused, refused, remote, refused}},
		{"done", func(s *Server) {
			s.Receive(sample(t, framing.TypeHello))
			if _, _, err := s.AppendWelcome(nil, goldenID, nil); err != nil {
				t.Fatal(err)
			}
		}, [10]string{refused, refused, refused, refused, refused, refused, refused, refused, remote, refused}},
		{"legacy", func(s *Server) { s.Receive(sample(t, framing.TypeData)) },
			[10]string{refused, refused, refused, refused, refused, refused, refused, refused, remote, refused}},
		{"legacy, accepted", func(s *Server) {
			s.Receive(sample(t, framing.TypeData))
			if _, _, err := s.AppendWelcome(nil, goldenID, nil); err != nil {
				t.Fatal(err)
			}
		}, [10]string{refused, refused, refused, refused, refused, refused, refused, refused, remote, refused}},
		{"failed", func(s *Server) { s.Receive(sample(t, framing.TypeWelcome)) },
			[10]string{refused, refused, refused, refused, refused, refused, refused, refused, remote, refused}},
		{"after ERR", func(s *Server) { s.Receive(sample(t, framing.TypeErr)) },
			[10]string{refused, refused, refused, refused, refused, refused, refused, refused, remote, refused}},
	}
	for _, st := range states {
		for typ, want := range st.want {
			s := NewServer(fullServer)
			st.setup(s)
			h, err := s.Receive(sample(t, framing.Type(typ)))
			got := outcome(err)
			if err == nil && h.Legacy {
				got = legacy
			}
			if got != want {
				t.Errorf("%s, %v: %s (%v), want %s", st.name, framing.Type(typ), got, err, want)
			}
			// Whoever fails does not accept any more; whoever has accepted, not twice.
			_, _, werr := s.AppendWelcome(nil, goldenID, nil)
			if (werr == nil) != (want == ok || want == legacy) {
				t.Errorf("%s, %v: then AppendWelcome: %v", st.name, framing.Type(typ), werr)
			}
			_, _, werr = s.AppendWelcome(nil, goldenID, nil)
			wantError(t, st.name, werr, framing.CodeInternal)
		}
	}
}

// TestClientStates is the same for a client.
func TestClientStates(t *testing.T) {
	none := [10]string{refused, refused, refused, refused, refused, refused, refused, refused, remote, refused}
	states := []struct {
		name  string
		setup func(c *Client)
		want  [10]string
	}{
		{"idle", func(c *Client) {}, none}, // "a WELCOME nobody asked for"
		{"sent", func(c *Client) { c.AppendHello(nil) },
			[10]string{refused, refused, ok, refused, refused, refused, refused, refused, remote, refused}},
		{"done", func(c *Client) {
			c.AppendHello(nil)
			if _, err := c.Receive(sample(t, framing.TypeWelcome)); err != nil {
				t.Fatal(err)
			}
		}, none},
		{"failed", func(c *Client) { c.AppendHello(nil); c.Receive(sample(t, framing.TypeData)) }, none},
		{"refused", func(c *Client) { c.AppendHello(nil); c.Receive(sample(t, framing.TypeErr)) }, none},
	}
	for _, st := range states {
		for typ, want := range st.want {
			c := NewClient(fullClient)
			st.setup(c)
			_, err := c.Receive(sample(t, framing.Type(typ)))
			if got := outcome(err); got != want {
				t.Errorf("%s, %v: %s (%v), want %s", st.name, framing.Type(typ), got, err, want)
			}
			_, err = c.AppendHello(nil)
			wantError(t, st.name+", HELLO again", err, framing.CodeInternal)
		}
	}
}

func outcome(err error) string {
	var e *Error
	var re *RemoteError
	switch {
	case err == nil:
		return ok
	case errors.As(err, &re):
		return remote
	case errors.As(err, &e):
		return fmt.Sprintf("code %d", e.Code)
	}
	return err.Error()
}

// TestServerRefuses: a server may answer a HELLO with ERR, §4.4, and then the
// client has code, text and metadata.
func TestServerRefuses(t *testing.T) {
	c, s := NewClient(fullClient), NewServer(fullServer)
	b, err := c.AppendHello(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(parse(t, b)); err != nil {
		t.Fatal(err)
	}
	b, err = AppendErr(nil, framing.CodeRefused, "not you", framing.Header{{Key: "why", Value: "so"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Receive(parse(t, b))
	var re *RemoteError
	if !errors.As(err, &re) || re.Code != framing.CodeRefused || re.Reason != "not you" || re.Header.Get("why") != "so" {
		t.Fatalf("%#v", err)
	}
}

// TestWelcomeCanFail: metadata of a hook that cannot be sent leaves the buffer as
// it was, and the client can be told.
func TestWelcomeCanFail(t *testing.T) {
	s := NewServer(fullServer)
	if _, err := s.Receive(sample(t, framing.TypeHello)); err != nil {
		t.Fatal(err)
	}
	b, r, err := s.AppendWelcome([]byte("kept"), goldenID, framing.Header{{Key: "\x01"}})
	wantError(t, "reserved key", err, framing.CodeInternal)
	if string(b) != "kept" || r.Version != 0 {
		t.Fatalf("%q %+v", b, r)
	}
	if b, err = AppendErr(b[:0], framing.CodeInternal, "", nil); err != nil {
		t.Fatal(err)
	}
	if e := ParseErr(parse(t, b)); e.Code != framing.CodeInternal {
		t.Fatal(e)
	}
}
