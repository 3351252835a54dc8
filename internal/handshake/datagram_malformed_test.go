package handshake

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// badDatagramValues are keys of datagrams in a form that PROTOCOL §7.3 does not allow.
var badDatagramValues = []struct {
	name string
	h    framing.Header
}{
	{"max datagram too small", framing.Header{varints(framing.KeyMaxDatagram, 1199)}},
	{"max datagram empty", framing.Header{f1(framing.KeyMaxDatagram, "")}},
	{"max datagram and more", framing.Header{varints(framing.KeyMaxDatagram, 1200, 1)}},
	{"max datagram twice", framing.Header{varints(framing.KeyMaxDatagram, 1200), varints(framing.KeyMaxDatagram, 1200)}},
	{"credit of three", framing.Header{varints(framing.KeyCredit, 1, 2, 3)}},
	{"credit of five", framing.Header{varints(framing.KeyCredit, 1, 2, 3, 4, 5)}},
	{"credit empty", framing.Header{f1(framing.KeyCredit, "")}},
	{"credit cut off", framing.Header{f1(framing.KeyCredit, "\x01\x02\x03\xc0")}},
	{"credit twice", framing.Header{varints(framing.KeyCredit, 1, 2, 3, 4), varints(framing.KeyCredit, 1, 2, 3, 4)}},
	{"ack delay too long", framing.Header{varints(framing.KeyAckDelay, 1_000_001)}},
	{"ack delay empty", framing.Header{f1(framing.KeyAckDelay, "")}},
	{"ack delay and more", framing.Header{varints(framing.KeyAckDelay, 1, 1)}},
	{"parity empty", framing.Header{f1(framing.KeyParity, "")}},
	{"parity 2", framing.Header{f1(framing.KeyParity, "\x02")}},
	{"parity of two bytes", framing.Header{f1(framing.KeyParity, "\x01\x01")}},
	{"parity twice", framing.Header{f1(framing.KeyParity, "\x01"), f1(framing.KeyParity, "\x01")}},
	{"ack delay twice", framing.Header{varints(framing.KeyAckDelay, 1), varints(framing.KeyAckDelay, 1)}},
}

var badServices = []struct {
	name string
	h    framing.Header
}{
	{"service 3", framing.Header{f1(framing.KeyService, "\x03")}},
	{"service empty", framing.Header{f1(framing.KeyService, "")}},
	{"service of two bytes", framing.Header{f1(framing.KeyService, "\x01\x00")}},
	{"service twice", framing.Header{f1(framing.KeyService, "\x01"), f1(framing.KeyService, "\x01")}},
}

// fields in front of the block, as cut and AppendHello make them.
func helloRoute() []byte {
	r := appendID(nil, framing.KeySourceID, clientID)
	return append(append(r, 1, 6, framing.KeyCookie[0]), "cookie"...)
}

func welcomeRoute() []byte {
	return appendID(appendID(nil, framing.KeyPacket, clientID), framing.KeySourceID, serverID)
}

// serve gives a block to a server, as one frame or in parts.
func serve(t testing.TB, b []byte) error {
	t.Helper()
	var s DatagramServer
	for _, d := range cut(nil, framing.TypeHello, helloRoute(), b) {
		h, err := ParseHello(d)
		if err != nil {
			t.Fatal(err)
		}
		switch o, err := s.Receive(&h); {
		case err != nil:
			return err
		case o == Done:
			return nil
		}
	}
	t.Fatal("not complete")
	return nil
}

// welcomed gives a block to a client, as one frame or in parts.
func welcomed(t testing.TB, p DatagramParams, b []byte) error {
	t.Helper()
	c := newDatagramClient(t, p)
	for _, d := range cut(nil, framing.TypeWelcome, welcomeRoute(), b) {
		switch o, err := c.Receive(d); {
		case err != nil:
			// It is final, for the frames of before and of after.
			if o, err := c.Receive(d); o != Ignored || err != nil {
				t.Fatalf("again: %v, %v", o, err)
			}
			return err
		case o == Done:
			return nil
		}
	}
	t.Fatal("not complete")
	return nil
}

// TestMalformedDatagramBlocks: "each value MUST have exactly the form of the
// table", §4.3, here too.
func TestMalformedDatagramBlocks(t *testing.T) {
	hello, welcome := framing.Header{versions1}, framing.Header{versions1, session}
	if err := serve(t, block(t, hello)); err != nil {
		t.Fatal(err)
	}
	if err := welcomed(t, smallClient, block(t, append(welcome, f1(framing.KeyService, "\x09")))); err != nil {
		t.Fatal(err) // service means nothing there
	}
	long := bigHeader(3000)
	for _, tt := range badDatagramValues {
		wantError(t, tt.name, serve(t, block(t, append(hello, tt.h...))), framing.CodeProtocol)
		wantError(t, tt.name, serve(t, block(t, append(append(hello, long...), tt.h...))), framing.CodeProtocol)
		wantError(t, tt.name, welcomed(t, smallClient, block(t, append(welcome, tt.h...))), framing.CodeProtocol)
		wantError(t, tt.name, welcomed(t, smallClient, block(t, append(append(welcome, long...), tt.h...))), framing.CodeProtocol)
	}
	for _, tt := range badServices {
		wantError(t, tt.name, serve(t, block(t, append(hello, tt.h...))), framing.CodeProtocol)
	}
	for _, tt := range badValues { // those of streams
		if strings.HasPrefix(tt.name, "frame") || strings.HasPrefix(tt.name, "max frame") || strings.HasPrefix(tt.name, "compress") {
			continue
		}
		wantError(t, tt.name, serve(t, block(t, append(hello, tt.h...))), tt.code)
		wantError(t, tt.name, welcomed(t, smallClient, block(t, append(welcome, tt.h...))), tt.code)
	}
	// "max frame and compress mean nothing and are ignored", §7.3.
	for _, f := range []framing.Field{f1(framing.KeyMaxFrame, ""), f1(framing.KeyCompress, "\x00\x00")} {
		if err := serve(t, block(t, append(hello, f, f))); err != nil {
			t.Error(err)
		}
		if err := welcomed(t, smallClient, block(t, append(welcome, f, f))); err != nil {
			t.Error(err)
		}
	}
	many := append(framing.Header{versions1, session}, make(framing.Header, MaxFields-1)...)
	for name, tt := range map[string]struct {
		hello, welcome bool
		b              []byte
		code           framing.ErrorCode
	}{
		"no versions":           {true, true, block(t, framing.Header{session}), framing.CodeProtocol},
		"another version":       {true, true, block(t, framing.Header{varints(framing.KeyVersions, 2), session}), framing.CodeVersion},
		"two versions":          {false, true, block(t, framing.Header{varints(framing.KeyVersions, 1, 2), session}), framing.CodeProtocol},
		"no session id":         {false, true, block(t, framing.Header{versions1}), framing.CodeProtocol},
		"no checksum":           {false, true, block(t, framing.Header{versions1, session, f1(framing.KeyChecksum, "\x00")}), framing.CodeProtocol},
		"too many fields":       {true, true, block(t, many), framing.CodeTooLarge},
		"parts do not add up":   {true, true, append(block(t, append(framing.Header{versions1, session}, long...)), 1), framing.CodeHeader},
		"version before others": {true, false, block(t, framing.Header{varints(framing.KeyVersions, 2), f1(framing.KeyCredit, "")}), framing.CodeVersion},
	} {
		if tt.hello {
			wantError(t, name, serve(t, tt.b), tt.code)
		}
		if tt.welcome {
			wantError(t, name, welcomed(t, smallClient, tt.b), tt.code)
		}
	}
	// Values at the edges.
	edge := framing.Header{varints(framing.KeyMaxDatagram, framing.MaxVarint), varints(framing.KeyAckDelay, 0),
		varints(framing.KeyCredit, framing.MaxVarint, 0, framing.MaxVarint, 0), f1(framing.KeyService, "\x00")}
	var s DatagramServer
	h, err := ParseHello(appendRaw(nil, framing.TypeHello, append(helloRoute(), block(t, append(hello, edge...))...), nil))
	if err != nil {
		t.Fatal(err)
	}
	if o, err := s.Receive(&h); o != Done || err != nil {
		t.Fatal(o, err)
	}
	if p := s.Hello(); p.MaxDatagram != MaxMaxDatagram || p.AckDelay != 0 || p.Credit != (Credit{framing.MaxVarint, 0, framing.MaxVarint, 0}) || p.Stream {
		t.Fatalf("%+v", p)
	}
}

// TestDatagramJunk: what anyone can send who does not know the client's id does
// nothing, at any time (trap S7); damaged frames neither.
func TestDatagramJunk(t *testing.T) {
	c, e := newDatagramClient(t, richClient), newEndpoint(richServer)
	first := c.AppendHello(nil)[0]
	retry := e.receive(t, first)[0]
	other := ConnID{1, 2, 3, 4, 5, 6, 7, 8}
	refusal, _ := AppendRefusal(nil, other, framing.CodeRefused, "junk", nil)
	mine, _ := AppendRefusal(nil, clientID, framing.CodeRefused, "", nil)
	packet := append(append([]byte{1, 12, 1}, clientID[:]...), 0, 0, 0, 0)
	id := appendID(nil, framing.KeyPacket, clientID)
	junk := [][]byte{
		nil, {0}, []byte("VT"), first, refusal, mine[:len(mine)-1],
		AppendRetry(nil, other, []byte("cookie")),
		AppendUnknownID(nil, serverID),
		errMaker(framing.CodeRefused, "no id", nil)(t),
		welcome(t, fullClient, fullServer),
		appendRaw(nil, framing.TypeData, packet, []byte{0}),
		appendRaw(nil, framing.TypeWelcome, id, nil),
		appendRaw(nil, framing.TypeWelcome, append(bytes.Clone(id), 1, 0, framing.KeyCookie[0]), nil),
		appendRaw(nil, framing.TypeWelcome, append(append(bytes.Clone(id), 1, 65, framing.KeyCookie[0]), make([]byte, 65)...), nil),
		appendRaw(nil, framing.TypeWelcome, append(bytes.Clone(id), 1, 1, framing.KeyVersions[0], 1), nil),
		appendRaw(nil, framing.TypeWelcome, welcomeRoute(), []byte("payload without a part")),
		appendRaw(nil, framing.TypeWelcome, appendPart(welcomeRoute(), 10, 9), []byte("too long")),
		appendRaw(nil, framing.TypePing, id, nil),
	}
	flags := bytes.Clone(mine[:len(mine)-4])
	flags[4] = 0
	junk = append(junk, flags)
	try := func(when string, valid []byte) {
		t.Helper()
		for i, d := range junk {
			if o, err := c.Receive(d); o != Ignored || err != nil {
				t.Fatalf("%s, junk %d: %v, %v", when, i, o, err)
			}
		}
		for i := range valid {
			d := bytes.Clone(valid)
			d[i] ^= 0xff
			if o, err := c.Receive(d); o != Ignored || err != nil {
				t.Fatalf("%s, byte %d: %v, %v", when, i, o, err)
			}
			if o, err := c.Receive(valid[:i]); o != Ignored || err != nil {
				t.Fatalf("%s, cut off at %d: %v, %v", when, i, o, err)
			}
		}
	}
	try("before the cookie", retry)
	if o, err := c.Receive(retry); o != Again || err != nil {
		t.Fatal(o, err)
	}
	if o, err := c.Receive(retry); o != Ignored || err != nil {
		t.Fatal("the same cookie again:", o, err)
	}
	answer := e.receive(t, c.AppendHello(nil)[0])[0]
	try("after the cookie", answer)
	if o, err := c.Receive(answer); o != Done || err != nil {
		t.Fatal(o, err)
	}
	junk = append(junk, retry, answer, mine)
	try("at the end", answer)
	if c.Result().PeerID != serverID {
		t.Fatal(c.Result())
	}
}

// TestManyRetries: a client does not follow cookies for ever.
func TestManyRetries(t *testing.T) {
	c := newDatagramClient(t, smallClient)
	for i := range 3 * maxRetries {
		want := Again
		if i >= maxRetries {
			want = Ignored
		}
		if o, err := c.Receive(AppendRetry(nil, clientID, []byte{byte(i), 1})); o != want || err != nil {
			t.Fatal(i, o, err)
		}
	}
}

// TestParseHelloDrops: what is no HELLO of §7.3 gets no answer.
func TestParseHelloDrops(t *testing.T) {
	c, _ := hellos(t, 3000)
	good := c.AppendHello(nil)[0]
	if _, err := ParseHello(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if _, err := ParseHello(b); err == nil {
			t.Errorf("byte %d changed", i)
		}
		if _, err := ParseHello(good[:i]); err == nil {
			t.Errorf("cut off at %d", i)
		}
	}
	rest := bytes.Repeat([]byte{2, 0, 'x', 'x'}, 30)
	source := appendID(nil, framing.KeySourceID, clientID)
	for name, b := range map[string][]byte{
		"of a stream":            hello(t, fullClient),
		"of the crate":           crate(framing.TypeHello, 0, nil, strings.Repeat("x", 100))(t),
		"source id not first":    appendRaw(nil, framing.TypeHello, append(bytes.Clone(rest), source...), nil),
		"source id of 7 bytes":   appendRaw(nil, framing.TypeHello, append([]byte{1, 7, 0x18, 1, 2, 3, 4, 5, 6, 7}, rest...), nil),
		"empty cookie":           appendRaw(nil, framing.TypeHello, append(append(bytes.Clone(source), 1, 0, 0x17), rest...), nil),
		"cookie of 65 bytes":     appendRaw(nil, framing.TypeHello, append(append(append(bytes.Clone(source), 1, 65, 0x17), make([]byte, 65)...), rest...), nil),
		"with a payload":         appendRaw(nil, framing.TypeHello, append(bytes.Clone(source), rest...), []byte("x")),
		"a bad part":             appendRaw(nil, framing.TypeHello, append(appendPart(bytes.Clone(source), 1, 1), rest...), []byte("x")),
		"second part, no cookie": appendRaw(nil, framing.TypeHello, appendPart(bytes.Clone(source), 200, 1), make([]byte, 100)),
		"WELCOME":                appendRaw(nil, framing.TypeWelcome, append(bytes.Clone(source), rest...), nil),
		"nothing":                nil,
	} {
		if h, err := ParseHello(b); err == nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

// TestWelcomeDatagramCanFail: metadata of a hook that cannot be sent; the client is
// refused then.
func TestWelcomeDatagramCanFail(t *testing.T) {
	for name, h := range map[string]framing.Header{"reserved": {{Key: "\x01"}}, "too much": bigHeader(65535)} {
		_, hello := hellos(t, 10)
		var s DatagramServer
		ph, err := ParseHello(hello[0])
		if err != nil {
			t.Fatal(err)
		}
		if o, err := s.Receive(&ph); o != Done || err != nil {
			t.Fatal(o, err)
		}
		_, err = s.Welcome(richServer, goldenID, h)
		wantError(t, name, err, framing.CodeInternal)
		s.Refuse(framing.CodeInternal, "", nil)
		if o, err := s.Receive(&ph); o != Again || err != nil || len(s.Answer()) != 1 {
			t.Fatal(o, err)
		}
	}
}
