package handshake

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// streamFrame makes a HELLO or WELCOME of a byte stream from its fields.
func streamFrame(t testing.TB, typ framing.Type, h framing.Header) framing.Frame {
	t.Helper()
	return framing.Frame{Type: typ, Flags: framing.FlagCRC, Header: block(t, h)}
}

// TestMoves: a session moves if the client asks for it and the server takes it at both
// carriers, and both ends know. Key 09 is the answer to service 02 alone.
func TestMoves(t *testing.T) {
	for _, ask := range []string{"messages", "stream", "moves"} {
		for carriers := range BothCarriers + 1 {
			client, server := goldenClient, goldenServer
			client.Stream, client.Moves = ask == "stream", ask == "moves"
			server.Carriers = carriers
			want := ask == "moves" && carriers == BothCarriers
			check := func(how string, c, s DatagramResult) {
				t.Helper()
				if c.Moves != want || s.Moves != want || c.Stream != (ask != "messages") || s.Stream != c.Stream {
					t.Errorf("%s: %s, carriers %b: %v %v, %v %v", how, ask, carriers, c.Moves, c.Stream, s.Moves, s.Stream)
				}
			}

			// In datagrams.
			var s DatagramServer
			hello := goldenHello(t, client)
			h, err := ParseHello(hello[0])
			if err != nil {
				t.Fatal(err)
			}
			if o, err := s.Receive(&h); o != Done || err != nil {
				t.Fatal(o, err)
			}
			if s.Hello().Moves != (ask == "moves") {
				t.Errorf("HELLO: %+v", s.Hello())
			}
			sr, err := s.Welcome(server, goldenID, nil)
			if err != nil {
				t.Fatal(err)
			}
			c := newDatagramClient(t, client)
			if o, err := c.Receive(s.Answer()[0]); o != Done || err != nil {
				t.Fatal(o, err)
			}
			check("datagrams", c.Result(), sr)
			_, there := parseFrame(t, s.Answer()[0]).Header.Lookup(framing.KeyCarriers)
			if there != (ask == "moves" && carriers != 0) {
				t.Errorf("%s, carriers %b: the key is there: %v", ask, carriers, there)
			}

			// In transport parameters.
			cp, sp := SealedParams{DatagramParams: client}, SealedParams{DatagramParams: server, ClientID: client.SourceID}
			sp.Versions, cp.Versions = []uint64{1}, []uint64{1}
			b, err := AppendClientParams(nil, &cp)
			if err != nil {
				t.Fatal(err)
			}
			gotC, err := ParseClientParams(b)
			if err != nil {
				t.Fatal(err)
			}
			if b, err = AppendServerParams(nil, &sp); err != nil {
				t.Fatal(err)
			}
			gotS, err := ParseServerParams(b)
			if err != nil || gotS.Carriers != carriers {
				t.Fatal(gotS, err)
			}
			cr, err := Negotiate(&cp, gotS, true)
			if err != nil {
				t.Fatal(err)
			}
			if sr, err = Negotiate(gotC, &sp, false); err != nil {
				t.Fatal(err)
			}
			check("transport parameters", cr, sr)
		}
	}
}

// TestAutoStream: the same on a byte stream, where a server that does not know of
// carriers gives an ordinary answer.
func TestAutoStream(t *testing.T) {
	for carriers := range BothCarriers + 1 {
		c, hello := newMover(t)
		s, h := receiveAuto(t, hello)
		if h.Auto == nil || h.Attach != nil || h.Auto.SourceID != clientID || h.Auto.Credit != goldenClient.Credit || h.Auto.Idle != goldenClient.Idle {
			t.Fatalf("%+v", h)
		}
		own := goldenBoth
		own.Carriers = carriers
		b, sr, err := s.AppendWelcomeAuto(nil, goldenID, &own, framing.Header{{Key: "x", Value: "y"}})
		if carriers&CarrierByteStream == 0 {
			if wantError(t, "no carrier", err, framing.CodeInternal); len(b) != 0 {
				t.Errorf("%x", b)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Receive(parseFrame(t, b))
		if err != nil || c.Auto() == nil || r.SessionID != goldenID {
			t.Fatal(r, err)
		}
		cr := *c.Auto()
		if cr.Moves != (carriers == BothCarriers) || sr.Moves != cr.Moves || !cr.Stream || cr.PeerID != serverID || sr.PeerID != clientID ||
			cr.Peer.Credit != own.Credit || cr.Peer.AckDelay != own.AckDelay || sr.Peer.MaxDatagram != goldenClient.MaxDatagram || len(cr.PeerHeader) != 2 {
			t.Errorf("%+v\n%+v", cr, sr)
		}
		if _, _, err := s.AppendWelcomeAuto(nil, goldenID, &own, nil); err == nil {
			t.Error("welcomed twice")
		}
	}
	c, hello := newMover(t)
	s := NewServer(Params{})
	h, err := s.Receive(parseFrame(t, hello))
	if err != nil || h.Auto != nil {
		t.Fatal(h, err)
	}
	own := goldenBoth
	if _, _, err := s.AppendWelcomeAuto(nil, goldenID, &own, nil); err == nil {
		t.Error("a server that does not know of carriers")
	}
	s = NewServer(Params{})
	if _, err := s.Receive(parseFrame(t, hello)); err != nil {
		t.Fatal(err)
	}
	b, _, err := s.AppendWelcome(nil, goldenID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(parseFrame(t, b)); err != nil || c.Auto() != nil {
		t.Error(c.Auto(), err)
	}
	// The offer has to be one that can be sent.
	bad := NewClient(Params{})
	bad.Offer(DatagramParams{MaxDatagram: 100})
	_, err = bad.AppendHello(nil)
	wantError(t, "offer", err, framing.CodeInternal)
}

// TestMalformedAuto: "the rules and defaults are those of §7.3", §7.14.
func TestMalformedAuto(t *testing.T) {
	source, service := f1(framing.KeySourceID, string(clientID[:])), f1(framing.KeyService, "\x02")
	carriers := f1(framing.KeyCarriers, "\x00\x01")
	server := func(h framing.Header) (*Hello, error) {
		s := NewServer(Params{})
		s.AllowAuto()
		return s.Receive(streamFrame(t, framing.TypeHello, h))
	}
	client := func(h framing.Header) (*DatagramResult, error) {
		c, _ := newMover(t)
		_, err := c.Receive(streamFrame(t, framing.TypeWelcome, h))
		return c.Auto(), err
	}
	hello, welcome := framing.Header{versions1, source, service}, framing.Header{versions1, session, source, carriers}
	if h, err := server(hello); err != nil || h.Auto == nil || h.Auto.MaxDatagram != MinMaxDatagram || h.Auto.AckDelay != DefaultAckDelay {
		t.Fatal(h, err)
	}
	if r, err := client(welcome); err != nil || r == nil || !r.Moves {
		t.Fatal(r, err)
	}
	both := func(name string, h framing.Header) {
		t.Helper()
		_, err := server(append(slices.Clone(hello), h...))
		wantError(t, name, err, framing.CodeProtocol)
		_, err = client(append(slices.Clone(welcome), h...))
		wantError(t, name, err, framing.CodeProtocol)
		// Where no packets are to follow, it means nothing.
		if h, err := server(append(framing.Header{versions1}, h...)); err != nil || h.Auto != nil {
			t.Errorf("%s: %+v, %v", name, h.Auto, err)
		}
		if r, err := client(append(framing.Header{versions1, session}, h...)); err != nil || r != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	both("source id twice", framing.Header{source, source})
	for _, tt := range badDatagramValues {
		if k := tt.h[0].Key[0]; k >= firstDatagramKey {
			both(tt.name, append(slices.Clone(tt.h), source))
		}
	}
	for name, v := range map[string]string{"none": "", "short": "1234567", "long": "123456789"} {
		id := framing.Header{f1(framing.KeySourceID, v)}
		_, err := server(append(framing.Header{versions1, service}, id...))
		wantError(t, name, err, framing.CodeProtocol)
		_, err = client(append(framing.Header{versions1, session, carriers}, id...))
		wantError(t, name, err, framing.CodeProtocol)
	}
	_, err := server(framing.Header{versions1, service})
	wantError(t, "no source id", err, framing.CodeProtocol)
	_, err = client(framing.Header{versions1, session, carriers})
	wantError(t, "no source id", err, framing.CodeProtocol)
	_, err = server(append(hello, service))
	wantError(t, "service twice", err, framing.CodeProtocol)
	_, err = client(append(welcome, carriers))
	wantError(t, "carriers twice", err, framing.CodeProtocol)
	for _, v := range []string{"", "\x00", "\x01", "\x03", "\x02\x02"} { // "another value of service means nothing"
		if h, err := server(framing.Header{versions1, f1(framing.KeyService, v), source, source}); err != nil || h.Auto != nil {
			t.Errorf("service %x: %v, %v", v, h, err)
		}
	}
	for v, moves := range map[string]bool{"\x01\x00": true, "\x00\x02\x01\xff\x01": true, "\x01": false, "\x01\x07": false} {
		if r, err := client(framing.Header{versions1, session, source, f1(framing.KeyCarriers, v)}); err != nil || r == nil || r.Moves != moves {
			t.Errorf("carriers %x: %v, %v", v, r, err)
		}
	}
	for _, v := range []string{"", "\x00", "\x02"} { // an ordinary session
		if r, err := client(framing.Header{versions1, session, f1(framing.KeyCarriers, v)}); err != nil || r != nil {
			t.Errorf("carriers %x: %v, %v", v, r, err)
		}
	}
	// A compression that nobody can use.
	c := NewClient(Params{Compression: []byte{CompressZstd}})
	c.Offer(goldenMover)
	if _, err := c.AppendHello(nil); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Receive(streamFrame(t, framing.TypeWelcome, append(slices.Clone(welcome), f1(framing.KeyCompress, "\x01")))); err != nil || r.Compression != 0 {
		t.Error(r, err)
	}
}

// TestMalformedAttach: an attach HELLO and its answer have two keys, and no others.
func TestMalformedAttach(t *testing.T) {
	at, proof := f1(framing.KeyAttach, string(make([]byte, attachLen))), f1(framing.KeyAttach, string(make([]byte, ProofLen)))
	for _, tt := range []struct {
		name string
		h    framing.Header // {} stands for the attach
		code framing.ErrorCode
	}{
		{"least", framing.Header{versions1, {}}, 0},
		{"the other order", framing.Header{{}, versions1}, 0},
		{"unknown keys", framing.Header{versions1, {}, f1("\x0f", "x"), f1("\x1f\x20", "x")}, 0},
		{"twice", framing.Header{versions1, {}, {}}, framing.CodeProtocol},
		{"versions twice", framing.Header{versions1, {}, versions1}, framing.CodeProtocol},
		{"versions empty", framing.Header{f1(framing.KeyVersions, ""), {}}, framing.CodeProtocol},
		{"another version", framing.Header{varints(framing.KeyVersions, 2), {}}, framing.CodeVersion},
		{"metadata", framing.Header{versions1, {}, f1("route", "eu")}, framing.CodeProtocol},
		{"an empty key", framing.Header{versions1, {}, f1("", "")}, framing.CodeProtocol},
		{"idle", framing.Header{versions1, {}, varints(framing.KeyIdle, 1)}, framing.CodeProtocol},
		{"session id", framing.Header{versions1, {}, session}, framing.CodeProtocol},
		{"source id", framing.Header{versions1, {}, f1(framing.KeySourceID, "12345678")}, framing.CodeProtocol},
		{"service", framing.Header{versions1, {}, f1(framing.KeyService, "\x02")}, framing.CodeProtocol},
		{"empty", framing.Header{versions1, f1(framing.KeyAttach, "")}, framing.CodeProtocol},
		{"short", framing.Header{versions1, f1(framing.KeyAttach, "123456789012345")}, framing.CodeProtocol},
		{"long", framing.Header{versions1, f1(framing.KeyAttach, "123456789012345678901234567890123")}, framing.CodeProtocol},
		{"the other's", framing.Header{versions1, f1("other", "")}, framing.CodeProtocol},
		{"too many fields", append(framing.Header{versions1, {}}, make(framing.Header, MaxFields)...), framing.CodeTooLarge},
	} {
		fill := func(own, other framing.Field) framing.Header {
			h := slices.Clone(tt.h)
			for i := range h[:min(len(h), 3)] {
				switch h[i].Key {
				case "":
					if tt.name != "an empty key" || i != 2 {
						h[i] = own
					}
				case "other":
					h[i] = other
				}
			}
			return h
		}
		s := NewServer(Params{})
		s.AllowAuto()
		h, err := s.Receive(streamFrame(t, framing.TypeHello, fill(at, proof)))
		_, err2 := ParseAttachWelcome(streamFrame(t, framing.TypeWelcome, fill(proof, at)))
		if tt.code == 0 {
			if err != nil || err2 != nil || h.Attach == nil || h.Auto != nil {
				t.Errorf("%s: %v, %v", tt.name, err, err2)
			}
			if _, _, err := s.AppendWelcome(nil, goldenID, nil); err == nil {
				t.Errorf("%s: another session", tt.name)
			}
			continue
		}
		wantError(t, tt.name, err, tt.code)
		wantError(t, tt.name, err2, tt.code)
	}
	// Among versions that are not known there is one that is.
	if _, err := ParseAttachHello(streamFrame(t, framing.TypeHello, framing.Header{varints(framing.KeyVersions, 9, 1), at})); err != nil {
		t.Error(err)
	}
	if _, err := ParseAttachWelcome(streamFrame(t, framing.TypeWelcome, framing.Header{varints(framing.KeyVersions, 9, 1), proof})); err == nil {
		t.Error("a WELCOME with several versions")
	}
	_, err := ParseAttachWelcome(streamFrame(t, framing.TypeWelcome, framing.Header{versions1, session}))
	wantError(t, "an ordinary WELCOME", err, framing.CodeProtocol)
	for name, change := range map[string]func(*framing.Frame){
		"payload": func(f *framing.Frame) { f.Payload = []byte("x") },
		"no CRC":  func(f *framing.Frame) { f.Flags = 0 },
		"REQ_ACK": func(f *framing.Frame) { f.Flags |= framing.FlagReqAck },
	} {
		h, w := streamFrame(t, framing.TypeHello, framing.Header{versions1, at}), streamFrame(t, framing.TypeWelcome, framing.Header{versions1, proof})
		change(&h)
		change(&w)
		_, err := ParseAttachHello(h)
		wantError(t, name, err, framing.CodeProtocol)
		_, err = ParseAttachWelcome(w)
		wantError(t, name, err, framing.CodeProtocol)
	}
	// To a server that does not know, it is an ordinary HELLO.
	if h, err := NewServer(Params{}).Receive(streamFrame(t, framing.TypeHello, framing.Header{versions1, at})); err != nil || h.Attach != nil {
		t.Error(h, err)
	}
}

// TestAttachProof: the formula of §7.14, and that everything in it counts.
func TestAttachProof(t *testing.T) {
	k := sha256.Sum256(slices.Concat([]byte("vstp session"), clientID[:], serverID[:], goldenID[:]))
	if !bytes.Equal(k[:], goldenSecret) {
		t.Fatalf("%x, want %x", goldenSecret, k)
	}
	m := hmac.New(sha256.New, k[:])
	m.Write(slices.Concat([]byte("vstp attach client"), serverID[:], clientID[:], []byte{0, 0, 0, 0, 0, 0, 1, 2}, []byte("binding")))
	want := [ProofLen]byte(m.Sum(nil)[:ProofLen])
	if got := AttachProof(k[:], false, serverID, clientID, 258, []byte("binding")); got != want {
		t.Fatalf("%x, want %x", got, want)
	}
	for name, got := range map[string][ProofLen]byte{
		"secret":  AttachProof([]byte("k"), false, serverID, clientID, 258, []byte("binding")),
		"role":    AttachProof(k[:], true, serverID, clientID, 258, []byte("binding")),
		"server":  AttachProof(k[:], false, clientID, clientID, 258, []byte("binding")),
		"client":  AttachProof(k[:], false, serverID, serverID, 258, []byte("binding")),
		"n":       AttachProof(k[:], false, serverID, clientID, 259, []byte("binding")),
		"binding": AttachProof(k[:], false, serverID, clientID, 258, nil),
	} {
		if got == want {
			t.Error(name)
		}
	}
}

// FuzzAutoWelcome: the answer that a client gets who would move, or attaches.
func FuzzAutoWelcome(f *testing.F) {
	for _, g := range goldens {
		if g.typ == framing.TypeWelcome && (g.name == "Carriers: WELCOME on a byte stream" || g.name == "Carriers: WELCOME that attaches") {
			b := g.make(f)
			f.Add(b[framing.FixedLen : len(b)-framing.TrailerLen])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > framing.MaxHeaderLen {
			return
		}
		fr := framing.Frame{Type: framing.TypeWelcome, Flags: framing.FlagCRC, Header: b}
		if proof, err := ParseAttachWelcome(fr); err == nil {
			v, _ := fr.Header.Lookup(framing.KeyAttach)
			if !bytes.Equal(v, proof[:]) {
				t.Errorf("%x of %x", proof, b)
			}
		}
		c, _ := newMover(t)
		r, err := c.Receive(fr)
		if a := c.Auto(); a != nil && err == nil {
			v, _ := fr.Header.Lookup(framing.KeySourceID)
			if r.Compression != 0 || !bytes.Equal(v, a.PeerID[:]) || a.SessionID != r.SessionID || !a.Stream {
				t.Errorf("%+v of %x", a, b)
			}
		}
	})
}
