package handshake

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

var (
	clientID = ConnID{0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7}
	serverID = ConnID{0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7}

	smallClient = DatagramParams{Params: Params{Checksum: true}, SourceID: clientID}
	smallServer = DatagramParams{Params: Params{Checksum: true}, SourceID: serverID}

	richClient = DatagramParams{
		Params: Params{MaxMessage: 16 << 20, Idle: 30 * time.Second,
			Header: framing.Header{{Key: "authorization", Value: "Bearer t0ken"}, {Key: "route", Value: "eu-1"}}},
		SourceID:    clientID,
		MaxDatagram: MaxMaxDatagram,
		Credit:      Credit{1 << 20, 1 << 18, 100, 17 << 20},
		AckDelay:    2 * time.Millisecond,
		Stream:      true,
	}
	richServer = DatagramParams{
		Params:      Params{MaxMessage: 1 << 30, Idle: 20 * time.Second, Header: framing.Header{{Key: "node", Value: "a7"}}},
		SourceID:    serverID,
		MaxDatagram: 9000,
		Credit:      Credit{1 << 22, 1 << 20, 1000, 1<<30 + 1<<17},
		AckDelay:    time.Millisecond,
	}

	testKey  = CookieKey{1, 2, 3}
	testAddr = []byte("192.0.2.7:6969")
	testNow  = time.Unix(1_800_000_000, 0)
)

// A datagramEndpoint does with a DatagramServer what a listening endpoint does: no
// state before the cookie, one machine for each client id.
type datagramEndpoint struct {
	p       DatagramParams
	now     time.Time
	servers map[ConnID]*DatagramServer
	results map[ConnID]DatagramResult
	retries int
}

func newEndpoint(p DatagramParams) *datagramEndpoint {
	return &datagramEndpoint{p: p, now: testNow, servers: map[ConnID]*DatagramServer{}, results: map[ConnID]DatagramResult{}}
}

func (e *datagramEndpoint) receive(t testing.TB, datagram []byte) [][]byte {
	t.Helper()
	h, err := ParseHello(datagram)
	if err != nil {
		return nil
	}
	if h.Cookie == nil || !testKey.Check(e.now, testAddr, h.SourceID, h.Cookie) {
		if !h.WantsAnswer() {
			return nil
		}
		e.retries++
		cookie := testKey.Append(nil, e.now.Add(-time.Duration(e.retries)), testAddr, h.SourceID)
		r := AppendRetry(nil, h.SourceID, cookie)
		if len(r) > len(datagram) {
			t.Fatalf("a retry of %d bytes for a HELLO of %d", len(r), len(datagram))
		}
		return [][]byte{r}
	}
	s := e.servers[h.SourceID]
	if s == nil {
		s = &DatagramServer{}
		e.servers[h.SourceID] = s
	}
	switch o, err := s.Receive(&h); {
	case err != nil:
		var he *Error
		if !errors.As(err, &he) {
			t.Fatal(err)
		}
		s.Refuse(he.Code, he.Reason, nil)
	case o == Done:
		r, err := s.Welcome(e.p, goldenID, nil)
		if err != nil {
			t.Fatal(err)
		}
		e.results[h.SourceID] = r
	case o == Again:
	default:
		return nil
	}
	return s.Answer()
}

func newDatagramClient(t testing.TB, p DatagramParams) *DatagramClient {
	t.Helper()
	c, err := NewDatagramClient(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// finish runs the handshake over a network without losses.
func finish(t testing.TB, c *DatagramClient, e *datagramEndpoint) DatagramResult {
	t.Helper()
	for range 4 {
		var answers [][]byte
		for _, d := range c.AppendHello(nil) {
			answers = append(answers, e.receive(t, d)...)
		}
		for _, d := range answers {
			switch o, err := c.Receive(d); {
			case err != nil:
				t.Fatal(err)
			case o == Done:
				return c.Result()
			}
		}
	}
	t.Fatal("no end")
	return DatagramResult{}
}

// TestDatagramAgreement is the shortest walk: HELLO, retry, HELLO, WELCOME.
func TestDatagramAgreement(t *testing.T) {
	c, e := newDatagramClient(t, richClient), newEndpoint(richServer)
	cr := finish(t, c, e)
	sr := e.results[clientID]
	if e.retries != 1 || cr.PeerID != serverID || sr.PeerID != clientID || cr.SessionID != goldenID || sr.SessionID != goldenID ||
		!cr.Stream || !sr.Stream || cr.Version != 1 || sr.Version != 1 || cr.Idle != 20*time.Second || sr.Idle != 20*time.Second ||
		cr.Checksum || sr.Checksum || !slices.Equal(cr.PeerHeader, richServer.Header) || !slices.Equal(sr.PeerHeader, richClient.Header) {
		t.Errorf("client %+v\nserver %+v", cr, sr)
	}
	if want := (DatagramLimits{9000, richServer.Credit, 1 << 30, time.Millisecond, false}); cr.Peer != want {
		t.Errorf("the server grants %+v, want %+v", cr.Peer, want)
	}
	if want := (DatagramLimits{MaxMaxDatagram, richClient.Credit, 16 << 20, 2 * time.Millisecond, false}); sr.Peer != want {
		t.Errorf("the client grants %+v, want %+v", sr.Peer, want)
	}
	// What is absent, §7.3.
	c, e = newDatagramClient(t, smallClient), newEndpoint(smallServer)
	cr = finish(t, c, e)
	sr = e.results[clientID]
	want := DatagramLimits{MinMaxDatagram, Credit{}, DefaultMaxMessage, DefaultAckDelay, false}
	if cr.Peer != want || sr.Peer != want || cr.Stream || sr.Stream || !cr.Checksum || !sr.Checksum {
		t.Errorf("client %+v\nserver %+v", cr, sr)
	}
}

// TestDatagramChecksum: "on if either end asks for it", §4.3.
func TestDatagramChecksum(t *testing.T) {
	for i := range 4 {
		cp, sp := smallClient, smallServer
		cp.Checksum, sp.Checksum = i&1 != 0, i&2 != 0
		e := newEndpoint(sp)
		cr := finish(t, newDatagramClient(t, cp), e)
		if cr.Checksum != (i != 0) || e.results[clientID].Checksum != (i != 0) {
			t.Errorf("client %v, server %v: %v, %v", cp.Checksum, sp.Checksum, cr.Checksum, e.results[clientID].Checksum)
		}
	}
}

// TestRetryNeverLarger: "no answer to a HELLO without a cookie is larger than it",
// §7.3, for every size that HELLO can have (trap S1).
func TestRetryNeverLarger(t *testing.T) {
	cookie := make([]byte, MaxCookie)
	retry := len(AppendRetry(nil, clientID, cookie))
	sizes := map[bool]int{}
	for n := range 1500 {
		p := smallClient
		for left := n; left > 0; left -= 250 {
			p.Header = append(p.Header, framing.Field{Value: strings.Repeat("v", min(left, 250))})
		}
		c := newDatagramClient(t, p)
		hello := c.AppendHello(nil)
		if len(hello) != 1 || len(hello[0]) > MaxHandshakeDatagram || len(hello[0]) < retry {
			t.Fatalf("%d bytes of metadata: %d datagrams, the first one of %d bytes; a retry has %d", n, len(hello), len(hello[0]), retry)
		}
		h, err := ParseHello(hello[0])
		if err != nil || h.SourceID != clientID || h.Cookie != nil {
			t.Fatalf("%d bytes of metadata: %+v, %v", n, h, err)
		}
		sizes[h.part.total > 0]++
	}
	if sizes[true] == 0 || sizes[false] == 0 {
		t.Fatal(sizes)
	}
	// A shorter one is dropped.
	short := appendRaw(nil, framing.TypeHello, append(appendID(nil, framing.KeySourceID, clientID), 1, 1, 0x10, 1), nil)
	if _, err := ParseHello(short); err == nil {
		t.Error("a HELLO without a cookie that is shorter than its answer")
	}
}

// TestRouteID: where a datagram goes, by its first bytes, §7.1.
func TestRouteID(t *testing.T) {
	packet := appendRaw(nil, framing.TypeData, append(append([]byte{1, 12, 1}, serverID[:]...), 0, 1, 2, 3), []byte{1})
	plain := slices.Clone(packet[:len(packet)-4])
	plain[4] = 0
	e := newEndpoint(smallServer)
	c := newDatagramClient(t, smallClient)
	hello := c.AppendHello(nil)[0]
	retry := e.receive(t, hello)[0]
	c.Receive(retry)
	hello2 := c.AppendHello(nil)[0]
	welcome := e.receive(t, hello2)[0]
	refusal, err := AppendRefusal(nil, clientID, framing.CodeRefused, "no", nil)
	if err != nil {
		t.Fatal(err)
	}
	data := func(h framing.Header, payload string) []byte {
		return crate(framing.TypeData, 0, h, payload)(t)
	}
	long := slices.Clone(packet)
	long[5]++
	cryptoHello := AppendCryptoHello(nil, &CryptoFrame{SourceID: clientID, Cookie: goldenCookie(), HasHave: true})
	cryptoWelcome := AppendCryptoWelcome(nil, &CryptoFrame{SourceID: serverID, ClientID: clientID, Data: goldenTLS(2)})
	tests := []struct {
		name string
		b    []byte
		id   ConnID
		pn   uint32
		kind Kind
	}{
		{"packet", packet, serverID, 0x00010203, KindPacket},
		{"packet without CRC", plain, serverID, 0x00010203, KindPacket},
		{"packet without chunks", packet[:packetAt], serverID, 0x00010203, KindPacket},
		{"packet cut off", packet[:packetAt-1], ConnID{}, 0, KindCrate},
		{"packet with a longer header", long, ConnID{}, 0, KindCrate},
		{"HELLO", hello, clientID, 0, KindHello},
		{"HELLO with a cookie", hello2, clientID, 0, KindHello},
		{"retry", retry, clientID, 0, KindWelcome},
		{"WELCOME", welcome, clientID, 0, KindWelcome},
		{"refusal", refusal, clientID, 0, KindErr},
		{"unknown id", AppendUnknownID(nil, serverID), serverID, 0, KindErr},
		{"HELLO of a stream", helloBytes(t), ConnID{}, 0, KindCrate},
		{"ERR of a stream", errMaker(framing.CodeRefused, "", nil)(t), ConnID{}, 0, KindCrate},
		{"crate DATA", data(nil, "hello"), ConnID{}, 0, KindCrate},
		{"crate DATA, empty", data(nil, ""), ConnID{}, 0, KindCrate},
		{"crate DATA with a key 01 of 8 bytes", data(framing.Header{{Key: "\x01", Value: "12345678"}}, "hello, world"), ConnID{}, 0, KindCrate},
		{"crate HELLO", crate(framing.TypeHello, 0, nil, "")(t), ConnID{}, 0, KindCrate},
		{"DATA with key 18", data(framing.Header{{Key: framing.KeySourceID, Value: "12345678"}}, ""), ConnID{}, 0, KindCrate},
		{"sealed packet", sealedPacket(framing.TypeData, framing.KeyPacket, framing.FlagSealed), serverID, 0x00010203, KindPacket},
		{"handshake packet of a client", sealedPacket(framing.TypeHello, framing.KeyPacket, framing.FlagSealed), serverID, 0x00010203, KindSealedHello},
		{"the same, masked", sealedPacket(framing.TypeHello, framing.KeyPacket, framing.FlagSealed|framing.FlagPhase), serverID, 0x00010203, KindSealedHello},
		{"handshake packet of a server", sealedPacket(framing.TypeWelcome, framing.KeyPacket, framing.FlagSealed), serverID, 0x00010203, KindSealedWelcome},
		{"0-RTT packet", sealedPacket(framing.TypeHello, framing.KeySourceID, framing.FlagSealed|framing.FlagPhase), serverID, 0x00010203, KindEarly},
		{"handshake packet, not sealed", sealedPacket(framing.TypeHello, framing.KeyPacket, 0), ConnID{}, 0, KindCrate},
		{"handshake packet, not sealed, with CRC", sealedPacket(framing.TypeWelcome, framing.KeyPacket, framing.FlagCRC), ConnID{}, 0, KindCrate},
		{"handshake packet, PHASE alone", sealedPacket(framing.TypeHello, framing.KeyPacket, framing.FlagPhase), ConnID{}, 0, KindCrate},
		{"handshake packet with CRC", sealedPacket(framing.TypeHello, framing.KeyPacket, framing.FlagSealed|framing.FlagCRC), ConnID{}, 0, KindCrate},
		{"0-RTT packet, not sealed", sealedPacket(framing.TypeHello, framing.KeySourceID, 0), ConnID{}, 0, KindCrate},
		{"0-RTT packet of a server", sealedPacket(framing.TypeWelcome, framing.KeySourceID, framing.FlagSealed), ConnID{}, 0, KindCrate},
		{"sealed ERR", sealedPacket(framing.TypeErr, framing.KeyPacket, framing.FlagSealed), ConnID{}, 0, KindCrate},
		{"sealed, cut off", sealedPacket(framing.TypeHello, framing.KeyPacket, framing.FlagSealed)[:packetAt-1], ConnID{}, 0, KindCrate},
		{"HELLO with crypto", cryptoHello, clientID, 0, KindHello},
		{"WELCOME with crypto", cryptoWelcome, clientID, 0, KindWelcome},
		{"reset", AppendReset(nil, serverID, testToken), serverID, 0, KindErr},
		{"nothing", nil, ConnID{}, 0, KindNone},
		{"ten bytes", packet[:10], ConnID{}, 0, KindNone},
		{"another magic", append([]byte("VX"), packet[2:]...), ConnID{}, 0, KindNone},
		{"another version", append([]byte("VT\x02"), packet[3:]...), ConnID{}, 0, KindNone},
		{"type 0", append([]byte("VT\x01\x00"), packet[4:]...), ConnID{}, 0, KindNone},
		{"type 9", append([]byte("VT\x01\x09"), packet[4:]...), ConnID{}, 0, KindNone},
	}
	for _, tt := range tests {
		if id, pn, kind := RouteID(tt.b); id != tt.id || pn != tt.pn || kind != tt.kind {
			t.Errorf("%s: %x, %#x, %v", tt.name, id, pn, kind)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, tt := range tests {
			RouteID(tt.b)
		}
		ParseHello(hello)
		ParseHello(hello2)
		ParseHello(cryptoHello)
		ParseCryptoWelcome(cryptoWelcome)
		ParseRetry(retry, clientID)
		ParseUnknownID(refusal)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func helloBytes(t testing.TB) []byte { return hello(t, fullClient) }

// TestUnknownID: its form, and what is not taken for one.
func TestUnknownID(t *testing.T) {
	b := AppendUnknownID([]byte("kept"), serverID)[4:]
	if len(b) != UnknownIDLen {
		t.Fatalf("%d bytes", len(b))
	}
	if id, _, hasToken, ok := ParseUnknownID(b); !ok || hasToken || id != serverID {
		t.Fatalf("%x, %v", id, ok)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 0x10
		if _, _, _, ok := ParseUnknownID(c); ok {
			t.Errorf("byte %d changed", i)
		}
		if _, _, _, ok := ParseUnknownID(b[:i]); ok {
			t.Errorf("cut off at %d", i)
		}
	}
	refusal, _ := AppendRefusal(nil, serverID, framing.CodeRefused, "", nil)
	none, _ := AppendRefusal(nil, serverID, 0, "", nil)
	for _, b := range [][]byte{refusal, none, errMaker(framing.CodeUnknownID, "", nil)(t)} {
		if _, _, _, ok := ParseUnknownID(b); ok {
			t.Errorf("%x", b)
		}
	}
}

// TestRefusal: code, text and metadata in one datagram of 1200 bytes; the text is
// cut, metadata is not.
func TestRefusal(t *testing.T) {
	field := framing.Field{Key: "k", Value: strings.Repeat("v", 200)}
	for _, n := range []int{0, 1, 5} {
		h := slices.Repeat(framing.Header{field}, n)
		b, err := AppendRefusal(nil, clientID, framing.CodeRefused, strings.Repeat("ü", 2000), h)
		if err != nil || len(b) > MaxHandshakeDatagram {
			t.Fatalf("%d fields: %d bytes, %v", n, len(b), err)
		}
		c := newDatagramClient(t, smallClient)
		_, err = c.Receive(b)
		var re *RemoteError
		if !errors.As(err, &re) || re.Code != framing.CodeRefused || !slices.Equal(re.Header, h) ||
			len(re.Reason) < 100 || strings.Trim(re.Reason, "ü") != "" {
			t.Fatalf("%d fields: %#v", n, err)
		}
		// It is final.
		if o, err := c.Receive(b); o != Ignored || err != nil {
			t.Fatalf("again: %v, %v", o, err)
		}
	}
	for _, h := range []framing.Header{slices.Repeat(framing.Header{field}, 6), {{Key: "\x01"}}, {{Key: strings.Repeat("k", 256)}}} {
		if b, err := AppendRefusal([]byte("kept"), clientID, 7, "", h); err == nil || string(b) != "kept" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if _, err := AppendRefusal(nil, clientID, framing.MaxVarint+1, "", nil); err == nil {
		t.Fatal("a code that no varint holds")
	}
}

// TestServerRefusesDatagram: a refusal is repeated as WELCOME is, and metadata that
// is too much is left out.
func TestServerRefusesDatagram(t *testing.T) {
	c, s := newDatagramClient(t, smallClient), &DatagramServer{}
	s.Refuse(1, "too early", nil)
	if s.Answer() != nil {
		t.Fatal("an answer to nobody")
	}
	c.retry([]byte("cookie"))
	h, err := ParseHello(c.AppendHello(nil)[0])
	if err != nil {
		t.Fatal(err)
	}
	if o, err := s.Receive(&h); o != Done || err != nil {
		t.Fatal(o, err)
	}
	if o, err := s.Receive(&h); o != Ignored || err != nil { // nothing to say yet
		t.Fatal(o, err)
	}
	s.Refuse(framing.CodeRefused, "not you", slices.Repeat(framing.Header{{Key: "k", Value: strings.Repeat("v", 255)}}, 5))
	if o, err := s.Receive(&h); o != Again || err != nil {
		t.Fatal(o, err)
	}
	if _, err := s.Welcome(smallServer, goldenID, nil); err == nil {
		t.Fatal("accepted after it was refused")
	}
	_, err = c.Receive(s.Answer()[0])
	var re *RemoteError
	if !errors.As(err, &re) || re.Code != framing.CodeRefused || re.Reason != "not you" || re.Header != nil {
		t.Fatalf("%#v", err)
	}
}

// TestNewDatagramClient: what cannot be sent is said at once.
func TestNewDatagramClient(t *testing.T) {
	bad := func(change func(p *DatagramParams)) DatagramParams {
		p := richClient
		change(&p)
		return p
	}
	for name, p := range map[string]DatagramParams{
		"datagram too small": bad(func(p *DatagramParams) { p.MaxDatagram = MinMaxDatagram - 1 }),
		"datagram too large": bad(func(p *DatagramParams) { p.MaxDatagram = MaxMaxDatagram + 1 }),
		"negative delay":     bad(func(p *DatagramParams) { p.AckDelay = -1 }),
		"long delay":         bad(func(p *DatagramParams) { p.AckDelay = MaxAckDelay + 1 }),
		"negative credit":    bad(func(p *DatagramParams) { p.Credit.MaxData = -1 }),
		"large credit":       bad(func(p *DatagramParams) { p.Credit.MaxMessages = framing.MaxVarint + 1 }),
		"reserved key":       bad(func(p *DatagramParams) { p.Header = framing.Header{{Key: "\x1f"}} }),
		"many fields":        bad(func(p *DatagramParams) { p.Header = make(framing.Header, MaxFields) }),
		"much metadata":      bad(func(p *DatagramParams) { p.Header = bigHeader(65536) }),
		"version 0":          bad(func(p *DatagramParams) { p.Versions = []uint64{0} }),
	} {
		_, err := NewDatagramClient(p)
		wantError(t, name, err, framing.CodeInternal)
	}
	// The largest block there can be.
	p := smallClient
	p.Header = bigHeader(65535 - 4)
	if c := newDatagramClient(t, p); len(c.block) != 65535 {
		t.Fatalf("a block of %d bytes", len(c.block))
	}
	p.Header = bigHeader(65535 - 3)
	_, err := NewDatagramClient(p)
	wantError(t, "one byte more", err, framing.CodeInternal)
}

// bigHeader is metadata that takes n encoded bytes; one byte cannot be.
func bigHeader(n int) (h framing.Header) {
	for i := 0; n > 1; i++ {
		size := min(n, 257)
		if rest := n - size; rest == 1 {
			size--
		}
		h = append(h, framing.Field{Value: strings.Repeat(string(rune('a'+i%26)), size-2)})
		n -= size
	}
	return h
}

// TestOutcomeNames: all have one.
func TestOutcomeNames(t *testing.T) {
	if Done.String() != "done" || Outcome(9).String() != "unknown" || KindCrate.String() != "crate" || Kind(9).String() != "unknown" {
		t.Fatal(Done, Outcome(9), KindCrate, Kind(9))
	}
}
