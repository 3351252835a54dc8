package vectors

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// datagramParams is what params has in datagrams beside, but for max frame and compress,
// which mean nothing there.
type datagramParams struct {
	SourceID    hexBytes `json:"source_id"`
	MaxDatagram int      `json:"max_datagram"`
	Credit      [4]int64 `json:"credit"`
	AckMicros   int64    `json:"ack_delay_us"`
	Service     int      `json:"service"`
	Carriers    hexBytes `json:"carriers,omitempty"` // server: a byte each
}

func (p *params) datagram() handshake.DatagramParams {
	return handshake.DatagramParams{Params: p.params(), SourceID: handshake.ConnID(p.Datagram.SourceID), MaxDatagram: p.Datagram.MaxDatagram,
		Credit:   handshake.Credit{MaxData: p.Datagram.Credit[0], MaxStreamData: p.Datagram.Credit[1], MaxStreams: p.Datagram.Credit[2], MaxMessages: p.Datagram.Credit[3]},
		AckDelay: time.Duration(p.Datagram.AckMicros) * time.Microsecond, Stream: p.Datagram.Service >= 1, Moves: p.Datagram.Service == 2,
		Carriers: carriersOf(p.Datagram.Carriers)}
}

// carriersOf makes a set of a list.
func carriersOf(list []byte) (c handshake.Carriers) {
	for _, i := range list {
		c |= 1 << i
	}
	return c
}

// serviceOf is the number of a service.
func serviceOf(stream, moves bool) int {
	switch {
	case moves:
		return 2
	case stream:
		return 1
	}
	return 0
}

func datagramParamsOf(d *handshake.DatagramParams) *params {
	p := paramsOf(&d.Params)
	p.MaxFrame = 0
	p.Datagram = &datagramParams{SourceID: d.SourceID[:], MaxDatagram: d.MaxDatagram,
		Credit:    [4]int64{d.Credit.MaxData, d.Credit.MaxStreamData, d.Credit.MaxStreams, d.Credit.MaxMessages},
		AckMicros: d.AckDelay.Microseconds()}
	p.Datagram.Service = serviceOf(d.Stream, d.Moves)
	for i := range byte(2) {
		if d.Carriers&(1<<i) != 0 {
			p.Datagram.Carriers = append(p.Datagram.Carriers, i)
		}
	}
	return p
}

// datagramAgreed is what agreed has in datagrams beside.
type datagramAgreed struct {
	PeerID      hexBytes `json:"peer_id"`
	MaxDatagram int      `json:"peer_max_datagram"`
	Credit      [4]int64 `json:"peer_credit"`
	AckMicros   int64    `json:"peer_ack_delay_us"`
	Service     int      `json:"service"` // what it comes to
	Token       hexBytes `json:"token,omitempty"`
}

func datagramAgreedOf(r *handshake.DatagramResult) *agreed {
	a := agreedOf(&r.Result)
	a.PeerMaxFrame = 0
	a.Datagram = &datagramAgreed{PeerID: r.PeerID[:], MaxDatagram: r.Peer.MaxDatagram,
		Credit:    [4]int64{r.Peer.Credit.MaxData, r.Peer.Credit.MaxStreamData, r.Peer.Credit.MaxStreams, r.Peer.Credit.MaxMessages},
		AckMicros: r.Peer.AckDelay.Microseconds()}
	a.Datagram.Service = serviceOf(r.Stream, r.Moves)
	a.Datagram.Token = r.Token
	return a
}

// datagramVector is what an end receives one after the other, what it makes of it, and
// what it sends then.
type datagramVector struct {
	Name    string   `json:"name"`
	Section string   `json:"section"`
	Role    string   `json:"role"`
	Self    *params  `json:"self"`
	Cookie  hexBytes `json:"cookie,omitempty"` // server: the one it gives, and the only one it takes
	Refuse  *refuse  `json:"refuse,omitempty"` // server: in place of WELCOME
	Steps   []step   `json:"steps"`
	Peer    *params  `json:"peer,omitempty"` // server: what HELLO says
	Agreed  *agreed  `json:"agreed,omitempty"`
}

type refuse struct {
	Code   uint64 `json:"code"`
	Reason string `json:"reason"`
	Header header `json:"header"`
}

// A step is a datagram in and what comes of it; a client's first one has none.
type step struct {
	In     hexBytes   `json:"in,omitempty"`
	Result string     `json:"result"`
	Code   uint64     `json:"code,omitempty"`
	Reason string     `json:"reason,omitempty"`
	Header header     `json:"header,omitempty"`
	Out    []hexBytes `json:"out,omitempty"`
}

func (s *step) send(out ...[]byte) {
	for _, b := range out {
		s.Out = append(s.Out, b)
	}
}

// run takes in of the steps, and fills in all else.
func (v *datagramVector) run(t *testing.T) {
	t.Helper()
	if v.Role == "server" {
		v.runServer(t)
		return
	}
	c, err := handshake.NewDatagramClient(v.Self.datagram())
	if err != nil {
		t.Fatal(v.Name, err)
	}
	for i := range v.Steps {
		s := &v.Steps[i]
		*s = step{In: s.In}
		if i == 0 {
			s.Result = "begin"
			s.send(c.AppendHello(nil)...)
			continue
		}
		o, err := c.Receive(s.In)
		s.Result = o.String()
		s.failed(t, err)
		switch s.Result {
		case "again":
			s.send(c.AppendHello(nil)...)
		case "done":
			r := c.Result()
			v.Agreed = datagramAgreedOf(&r)
		}
	}
}

func (s *step) failed(t *testing.T, err error) {
	t.Helper()
	var local *handshake.Error
	var remote *handshake.RemoteError
	switch {
	case errors.As(err, &remote):
		s.Result, s.Code, s.Reason, s.Header = "refused", uint64(remote.Code), remote.Reason, toJSON(remote.Header)
	case errors.As(err, &local):
		s.Result, s.Code = "error", uint64(local.Code)
	case err != nil:
		t.Fatal(err)
	}
}

// runServer does what a server does around the machine: it answers a HELLO without the
// cookie by a retry. It knows one client.
func (v *datagramVector) runServer(t *testing.T) {
	t.Helper()
	var m handshake.DatagramServer
	m.Versions = v.Self.Versions
	for i := range v.Steps {
		s := &v.Steps[i]
		*s = step{In: s.In}
		h, err := handshake.ParseHello(s.In)
		switch {
		case err != nil:
			s.Result = "ignored"
			continue
		case !bytes.Equal(h.Cookie, v.Cookie):
			s.Result = "ignored"
			if h.WantsAnswer() && len(s.In) >= handshake.MinHello {
				s.Result = "retry"
				s.send(handshake.AppendRetry(nil, h.SourceID, v.Cookie))
			}
			continue
		}
		o, err := m.Receive(&h)
		s.Result = o.String()
		switch s.failed(t, err); s.Result {
		case "again":
			s.send(m.Answer()...)
		case "done":
			v.Peer = datagramParamsOf(m.Hello())
			if v.Refuse != nil {
				m.Refuse(framing.ErrorCode(v.Refuse.Code), v.Refuse.Reason, v.Refuse.Header.header())
			} else {
				r, err := m.Welcome(v.Self.datagram(), sessionID, nil)
				if err != nil {
					t.Fatal(v.Name, err)
				}
				v.Agreed = datagramAgreedOf(&r)
			}
			s.send(m.Answer()...)
		}
	}
}

var (
	clientID = handshake.ConnID{0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7}
	serverID = handshake.ConnID{0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7}

	toClient = field(framing.KeyPacket, string(clientID[:]))
	source   = field(framing.KeySourceID, string(clientID[:]))
	server   = field(framing.KeySourceID, string(serverID[:]))
	cookie   = field(framing.KeyCookie, "sixteen bytes 01")
	cookie2  = field(framing.KeyCookie, "another cookie")
	padding  = field(framing.KeyPadding, strings.Repeat("\x00", 60))
)

// ends returns the parameters of a client and a server.
func ends() (c, s *params) {
	cp := handshake.DatagramParams{
		Params:   handshake.Params{Versions: []uint64{1}, MaxMessage: handshake.DefaultMaxMessage, Checksum: true, Idle: 30 * time.Second},
		SourceID: clientID, MaxDatagram: 1472, Credit: handshake.Credit{MaxData: 1 << 20, MaxStreamData: 1 << 19, MaxStreams: 16, MaxMessages: 1 << 27},
		AckDelay: handshake.DefaultAckDelay, Stream: true,
	}
	sp := handshake.DatagramParams{
		Params:   handshake.Params{Versions: []uint64{1}, MaxMessage: 1 << 20, Checksum: true, Idle: 20 * time.Second, Header: framing.Header{{Key: "node", Value: "a7"}}},
		SourceID: serverID, MaxDatagram: 65507, Credit: handshake.Credit{MaxData: 1 << 21, MaxStreamData: 1 << 20, MaxStreams: 100, MaxMessages: 1 << 27},
		AckDelay: time.Millisecond,
	}
	return datagramParamsOf(&cp), datagramParamsOf(&sp)
}

// parts cuts a block as given, for frames with those fields in front.
func parts(t *testing.T, typ framing.Type, front fields, whole []byte, cuts ...[2]int) (out [][]byte) {
	t.Helper()
	for _, c := range cuts {
		h := append(slices.Clip(front), varints(framing.KeyPart, uint64(len(whole)), uint64(c[0])))
		out = append(out, raw(typ, crc, block(t, h), whole[c[0]:c[1]], true))
	}
	return out
}

func datagramVectors(t *testing.T) []datagramVector {
	var vs []datagramVector
	add := func(v datagramVector, in [][]byte, want ...string) *datagramVector {
		t.Helper()
		for _, b := range in {
			v.Steps = append(v.Steps, step{In: b})
		}
		v.run(t)
		var got []string
		for _, s := range v.Steps {
			got = append(got, s.Result)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s, %s: %q, want %q", v.Role, v.Name, got, want)
		}
		vs = append(vs, v)
		return &vs[len(vs)-1]
	}
	cp, sp := ends()
	big, _ := ends()
	for range 12 {
		big.Header = append(big.Header, [2]hexBytes{hexBytes("token"), pattern(200)})
	}
	client := func(name, section string, in [][]byte, want ...string) *datagramVector {
		t.Helper()
		return add(datagramVector{Name: name, Section: section, Role: "client", Self: cp}, append([][]byte{nil}, in...), append([]string{"begin"}, want...)...)
	}
	serve := func(name, section string, in [][]byte, want ...string) *datagramVector {
		t.Helper()
		return add(datagramVector{Name: name, Section: section, Role: "server", Self: sp, Cookie: hexBytes(cookie.Value)}, in, want...)
	}
	list := func(b ...[]byte) [][]byte { return b }
	retry := welcome(t, toClient, cookie)
	accept := welcome(t, toClient, server, one, session)

	// What the ends of this module send each other.
	c := client("begin, retry, WELCOME", "7.3", list(retry, accept), "again", "done")
	first, second := []byte(c.Steps[0].Out[0]), []byte(c.Steps[1].Out[0])
	serve("HELLO, with the cookie, repeated", "7.3", list(first, second, second), "retry", "done", "again")
	bc := add(datagramVector{Name: "HELLO in parts", Section: "7.3", Role: "client", Self: big}, list(nil, retry, accept), "begin", "again", "done")
	var bigParts [][]byte
	for _, b := range bc.Steps[1].Out {
		bigParts = append(bigParts, b)
	}
	bigFirst := []byte(bc.Steps[0].Out[0])
	serve("HELLO in parts, in order", "7.3", list(bigFirst, bigParts[0], bigParts[1], bigParts[2]), "retry", "taken", "taken", "done")
	serve("HELLO in parts, the other way round, one of them twice", "7.3", list(bigParts[2], bigParts[1], bigParts[1], bigParts[0]), "taken", "taken", "taken", "done")
	serve("of a HELLO in parts, only the first one is answered again", "7.3", append(slices.Clone(bigParts), bigParts[1], bigParts[0]), "taken", "taken", "done", "ignored", "again")

	bigServer := *sp
	bigServer.Header = big.Header
	bw := add(datagramVector{Name: "WELCOME in parts", Section: "7.3", Role: "server", Self: &bigServer, Cookie: hexBytes(cookie.Value)}, list(second), "done")
	var welcomeParts [][]byte
	for _, b := range bw.Steps[0].Out {
		welcomeParts = append(welcomeParts, b)
	}
	client("WELCOME in parts", "7.3", append(list(retry), welcomeParts...), "again", "taken", "taken", "done")
	client("WELCOME in parts, the other way round, one of them twice", "7.3", list(retry, welcomeParts[2], welcomeParts[2], welcomeParts[0], welcomeParts[1]), "again", "taken", "taken", "taken", "done")
	add(datagramVector{Name: "refused", Section: "7.4", Role: "server", Self: sp, Cookie: hexBytes(cookie.Value),
		Refuse: &refuse{9, "come back later", toJSON(framing.Header{{Key: "retry-after", Value: "30"}})}}, list(second, second), "done", "again")
	add(datagramVector{Name: "refused, with more text than there is room for", Section: "7.4", Role: "server", Self: sp, Cookie: hexBytes(cookie.Value),
		Refuse: &refuse{256, strings.Repeat("x", 1100), toJSON(framing.Header{{Key: "k", Value: strings.Repeat("v", 255)}})}}, list(second), "done")
	add(datagramVector{Name: "refused, with more metadata than there is room for", Section: "7.4", Role: "server", Self: sp, Cookie: hexBytes(cookie.Value),
		Refuse: &refuse{7, "no", big.Header}}, list(second), "done")

	// What else a server gets.
	front := fields{source, cookie}
	with := func(fs ...framing.Field) []byte { return hello(t, append(slices.Clip(front), fs...)...) }
	serve("HELLO of 96 bytes without a cookie", "7.3", list(hello(t, source, one, field(framing.KeyPadding, strings.Repeat("\x00", 63)))), "retry")
	serve("HELLO of 95 bytes without a cookie", "7.3", list(hello(t, source, one, field(framing.KeyPadding, strings.Repeat("\x00", 62)))), "ignored")
	serve("HELLO with a cookie that is not good", "7.3", list(hello(t, source, cookie2, one, padding)), "retry")
	serve("HELLO with a cookie that is not good, short", "7.3", list(hello(t, source, cookie2, one)), "ignored")
	serve("HELLO with a cookie of no bytes", "7.3", list(hello(t, source, field(framing.KeyCookie, ""), one, padding)), "ignored")
	serve("HELLO with a cookie of 65 bytes", "7.3", list(hello(t, source, field(framing.KeyCookie, strings.Repeat("c", 65)), one, padding)), "ignored")
	serve("source id not in front", "7.1", list(hello(t, one, source, cookie, padding)), "ignored")
	serve("source id of seven bytes", "7.1", list(hello(t, field(framing.KeySourceID, "1234567"), cookie, one, padding)), "ignored")
	serve("cookie not in front: none", "7.3", list(hello(t, source, one, cookie, padding)), "retry")
	serve("without the CRC flag", "7.3", list(raw(framing.TypeHello, 0, block(t, append(front, one)), nil, true)), "ignored")
	serve("with flag REQ_ACK", "7.3", list(raw(framing.TypeHello, crc|1, block(t, append(front, one)), nil, true)), "ignored")
	serve("wrong CRC", "7.3", list(flip(with(one), 40)), "ignored")
	serve("a byte behind it", "7.3", list(append(with(one), 0)), "ignored")
	serve("a payload, and no part", "7.3", list(raw(framing.TypeHello, crc, block(t, append(front, one)), []byte("x"), true)), "ignored")
	serve("WELCOME", "7.4", list(accept), "ignored")
	serve("minimal HELLO: what its absent keys say", "7.3", list(with(one)), "done")
	serve("keys in front again, in the block: ignored there", "7.3", list(with(one, source, source, cookie2, cookie2, toClient, padding, padding)), "done")
	serve("part behind other fields: ignored there", "7.3", list(with(one, varints(framing.KeyPart, 10, 0))), "done")
	serve("max frame and compress mean nothing here", "7.3", list(with(one, varints(framing.KeyMaxFrame, 1), varints(framing.KeyMaxFrame, 1), field(framing.KeyCompress, "\x00"))), "done")
	serve("max datagram of 1,200", "7.3", list(with(one, varints(framing.KeyMaxDatagram, 1200))), "done")
	serve("max datagram beyond what UDP carries", "7.3", list(with(one, varints(framing.KeyMaxDatagram, 1<<40))), "done")
	serve("ack delay of a second", "7.3", list(with(one, varints(framing.KeyAckDelay, 1_000_000))), "done")
	bad := func(name string, code uint64, fs ...framing.Field) {
		t.Helper()
		if v := serve(name, "7.3", list(with(fs...)), "error"); v.Steps[0].Code != code {
			t.Errorf("%s: code %d, want %d", name, v.Steps[0].Code, code)
		}
	}
	bad("no version", 1, session)
	bad("no common version", 2, varints(framing.KeyVersions, 2))
	bad("max datagram of 1,199", 1, one, varints(framing.KeyMaxDatagram, 1199))
	bad("max datagram of no bytes", 1, one, field(framing.KeyMaxDatagram, ""))
	bad("max datagram twice", 1, one, varints(framing.KeyMaxDatagram, 1200), varints(framing.KeyMaxDatagram, 1200))
	bad("credit of three varints", 1, one, varints(framing.KeyCredit, 1, 2, 3))
	bad("credit of five varints", 1, one, varints(framing.KeyCredit, 1, 2, 3, 4, 5))
	bad("credit of no bytes", 1, one, field(framing.KeyCredit, ""))
	bad("ack delay of more than a second", 1, one, varints(framing.KeyAckDelay, 1_000_001))
	bad("ack delay of two varints", 1, one, varints(framing.KeyAckDelay, 1, 1))
	bad("service 03", 1, one, field(framing.KeyService, "\x03"))
	bad("service of two bytes", 1, one, field(framing.KeyService, "\x01\x01"))
	bad("checksum 02", 1, one, field(framing.KeyChecksum, "\x02"))
	bad("idle of two varints", 1, one, varints(framing.KeyIdle, 1, 1))
	bad("versions twice", 1, one, one)

	// Parts that need not be right.
	whole := block(t, fieldsN(40, one))
	n := len(whole)
	cut := func(cuts ...[2]int) [][]byte { return parts(t, framing.TypeHello, front, whole, cuts...) }
	serve("parts that overlap", "7.3", cut([2]int{0, 50}, [2]int{30, 100}, [2]int{20, n}), "taken", "taken", "done")
	serve("parts with a gap", "7.3", cut([2]int{0, 50}, [2]int{51, n}), "taken", "taken")
	serve("one part that is all", "7.3", cut([2]int{0, n}), "done")
	other := parts(t, framing.TypeHello, front, whole[:n-3], [2]int{50, n - 3})
	serve("a part with another total is dropped", "7.3", slices.Concat(cut([2]int{0, 50}), other, cut([2]int{50, n})), "taken", "taken", "done")
	part := func(total, offset uint64, payload string) []byte {
		return raw(framing.TypeHello, crc, block(t, append(slices.Clip(front), varints(framing.KeyPart, total, offset))), []byte(payload), true)
	}
	serve("part: empty", "7.3", list(part(10, 0, "")), "ignored")
	serve("part: beyond its total", "7.3", list(part(10, 8, "abc")), "ignored")
	serve("part: offset at total", "7.3", list(part(10, 10, "a")), "ignored")
	serve("part: total of 65,536", "7.3", list(part(65536, 0, "a")), "ignored")
	serve("part: numbers near 2^62", "7.3", list(part(1<<62-1, 1<<62-2, "a")), "ignored")
	serve("part: one varint", "7.3", list(raw(framing.TypeHello, crc, block(t, append(slices.Clip(front), varints(framing.KeyPart, 10))), []byte("a"), true)), "ignored")
	serve("part: three varints", "7.3", list(raw(framing.TypeHello, crc, block(t, append(slices.Clip(front), varints(framing.KeyPart, 10, 0, 0))), []byte("a"), true)), "ignored")
	serve("first part without a cookie", "7.3", parts(t, framing.TypeHello, fields{source}, whole, [2]int{0, 100}), "retry")
	serve("later part without a cookie", "7.3", parts(t, framing.TypeHello, fields{source}, whole, [2]int{20, n}), "ignored")
	badBlock := parts(t, framing.TypeHello, front, whole[:n-1], [2]int{0, 50}, [2]int{50, n - 1})
	if v := serve("a block of parts that does not add up", "7.3", badBlock, "taken", "error"); v.Steps[1].Code != 5 {
		t.Error(v.Name)
	}
	many := block(t, fieldsN(1025, one))
	if v := serve("1,025 fields, in parts", "7.3", parts(t, framing.TypeHello, front, many, [2]int{0, 1100}, [2]int{1100, 2200}, [2]int{2200, len(many)}), "taken", "taken", "error"); v.Steps[2].Code != 3 {
		t.Error(v.Name)
	}

	// What else a client gets.
	client("the same cookie again is ignored, another one followed", "7.3", list(retry, retry, welcome(t, toClient, cookie2)), "again", "ignored", "again")
	client("WELCOME without a retry", "7.3", list(accept), "done")
	client("a retry for another client", "7.3", list(welcome(t, server, cookie)), "ignored")
	client("fields behind the cookie are not looked at", "7.3", list(welcome(t, toClient, cookie, one, session)), "again")
	client("cookie of no bytes", "7.3", list(welcome(t, toClient, field(framing.KeyCookie, ""))), "ignored")
	client("cookie of 65 bytes", "7.3", list(welcome(t, toClient, field(framing.KeyCookie, strings.Repeat("c", 65)))), "ignored")
	client("WELCOME without source id", "7.3", list(welcome(t, toClient, one, session)), "ignored")
	client("WELCOME with the fields in front elsewhere", "7.3", list(welcome(t, one, session, toClient, server)), "ignored")
	client("WELCOME for another client", "7.3", list(welcome(t, server, server, one, session)), "ignored")
	client("WELCOME without the CRC flag", "7.3", list(raw(framing.TypeWelcome, 0, block(t, fields{toClient, server, one, session}), nil, true)), "ignored")
	client("WELCOME with a wrong CRC", "7.3", list(flip(accept, 50), accept), "ignored", "done")
	client("WELCOME with a payload", "7.3", list(raw(framing.TypeWelcome, crc, block(t, fields{toClient, server, one, session}), []byte("x"), true)), "ignored")
	client("service in WELCOME means nothing", "7.3", list(welcome(t, toClient, server, one, session, field(framing.KeyService, "\x07"))), "done")
	token := func(n int) framing.Field { return field(framing.KeyToken, strings.Repeat("t", n)) }
	client("WELCOME with a token", "7.3", list(welcome(t, toClient, server, one, session, token(40))), "done")
	client("WELCOME with a token of no bytes, which is ignored", "7.3", list(welcome(t, toClient, server, one, session, token(0))), "done")
	client("WELCOME with a token of 65 bytes, which is ignored", "7.3", list(welcome(t, toClient, server, one, session, token(65))), "done")
	restarted := field(framing.KeySourceID, "restartd")
	wb := block(t, fieldsN(40, one, session))
	wp := func(from framing.Field, cuts ...[2]int) [][]byte {
		return parts(t, framing.TypeWelcome, fields{toClient, from}, wb, cuts...)
	}
	client("parts of a server that was started anew", "7.3", slices.Concat(wp(server, [2]int{0, 60}), wp(restarted, [2]int{60, len(wb)}), wp(restarted, [2]int{0, 60})), "taken", "taken", "done")
	client("a packet before WELCOME", "7.3", list(raw(framing.TypeData, crc, block(t, fields{field(framing.KeyPacket, string(clientID[:])+"\x00\x00\x00\x00")}), []byte{1}, true)), "ignored")
	wrong := func(name, section string, code uint64, fs ...framing.Field) {
		t.Helper()
		if v := client(name, section, list(welcome(t, append(fields{toClient, server}, fs...)...)), "error"); v.Steps[1].Code != code {
			t.Errorf("%s: code %d, want %d", name, v.Steps[1].Code, code)
		}
	}
	wrong("no version", "4.2", 1, session)
	wrong("a version that was not offered", "5.8", 2, varints(framing.KeyVersions, 2), session)
	wrong("no session id", "4.2", 1, one)
	wrong("checksum off although the client asked for it", "4.3", 1, one, session, field(framing.KeyChecksum, "\x00"))
	wrong("max datagram of 1,199", "7.3", 1, one, session, varints(framing.KeyMaxDatagram, 1199))
	wrong("credit of three varints", "7.3", 1, one, session, varints(framing.KeyCredit, 1, 2, 3))
	wrong("ack delay of more than a second", "7.3", 1, one, session, varints(framing.KeyAckDelay, 1_000_001))
	refused := func(name string, code uint64, text string, fs ...framing.Field) {
		t.Helper()
		if v := client(name, "7.4", list(raw(framing.TypeErr, crc, block(t, append(fields{toClient}, fs...)), []byte(text), true)), "refused"); v.Steps[1].Code != code {
			t.Errorf("%s: code %d, want %d", name, v.Steps[1].Code, code)
		}
	}
	refused("refusal", 9, "come back later", varints(framing.KeyCode, 9), field("retry-after", "30"))
	client("WELCOME with crypto, which was not asked for", "8.5", list(retry, handshake.AppendCryptoWelcome(nil, &handshake.CryptoFrame{SourceID: serverID, ClientID: clientID, Data: tlsBytes}), accept), "again", "ignored", "done")
	tls := handshake.CryptoFrame{SourceID: clientID, Data: tlsBytes}
	without := handshake.AppendCryptoHello(nil, &tls)
	tls.Cookie = hexBytes(cookie.Value)
	if v := serve("HELLO with crypto, to a server without TLS", "8.5", list(without, handshake.AppendCryptoHello(nil, &tls)), "retry", "error"); v.Steps[1].Code != 12 {
		t.Error(v.Steps)
	}
	tls.Cookie, tls.Offset = nil, 1000
	serve("HELLO with crypto that is not the first one, without a cookie", "8.5", list(handshake.AppendCryptoHello(nil, &tls)), "ignored")
	refused("refusal without a code", 0, "")
	client("a refusal of another client", "7.4", list(raw(framing.TypeErr, crc, block(t, fields{server, varints(framing.KeyCode, 9)}), nil, true)), "ignored")
	client("a refusal without the CRC flag", "7.4", list(raw(framing.TypeErr, 0, block(t, fields{toClient, varints(framing.KeyCode, 9)}), nil, true)), "ignored")

	// Carriers.
	moves := field(framing.KeyService, "\x02")
	mover, md := *cp, *cp.Datagram
	md.Service, mover.Datagram = 2, &md
	for _, c := range []struct {
		name     string
		carriers hexBytes
	}{{"a client that would move, to a server with both carriers", hexBytes{0, 1}}, {"to one with datagrams only", hexBytes{0}}, {"to one that does not know of carriers", nil}} {
		self, d := *sp, *sp.Datagram
		d.Carriers, self.Datagram = c.carriers, &d
		v := add(datagramVector{Name: c.name, Section: "7.14", Role: "server", Self: &self, Cookie: hexBytes(cookie.Value)}, list(with(one, moves)), "done")
		add(datagramVector{Name: c.name, Section: "7.14", Role: "client", Self: &mover}, list(nil, retry, v.Steps[0].Out[0]), "begin", "again", "done")
	}
	add(datagramVector{Name: "carriers that nobody asked for", Section: "7.14", Role: "client", Self: cp}, list(nil, retry, welcome(t, toClient, server, one, session, field(framing.KeyCarriers, "\x00\x01"))), "begin", "again", "done")
	add(datagramVector{Name: "carriers in another order, with others", Section: "7.14", Role: "client", Self: &mover}, list(nil, retry, welcome(t, toClient, server, one, session, field(framing.KeyCarriers, "\x01\x07\x00"))), "begin", "again", "done")
	return vs
}

// kindVector is a datagram, and whose it is by its first bytes.
type kindVector struct {
	Name   string   `json:"name"`
	Bytes  hexBytes `json:"bytes"`
	Kind   string   `json:"kind"`
	ID     hexBytes `json:"id,omitempty"`
	Number *uint32  `json:"number,omitempty"` // packet: its lowest 32 bits
	// ERR: the id is one that the peer does not know any more.
	UnknownID  bool     `json:"unknown_id,omitempty"`
	ResetToken hexBytes `json:"reset_token,omitempty"` // of that ERR
}

func (v *kindVector) route() {
	id, number, kind := handshake.RouteID(v.Bytes)
	*v = kindVector{Name: v.Name, Bytes: v.Bytes, Kind: kind.String()}
	switch kind {
	case handshake.KindNone, handshake.KindCrate:
		return
	case handshake.KindPacket, handshake.KindSealedHello, handshake.KindSealedWelcome, handshake.KindEarly:
		v.Number = &number
	}
	v.ID = id[:]
	var token [handshake.ResetTokenLen]byte
	var hasToken bool
	if _, token, hasToken, v.UnknownID = handshake.ParseUnknownID(v.Bytes); hasToken {
		v.ResetToken = token[:]
	}
}

func kindVectors(t *testing.T) []kindVector {
	var vs []kindVector
	add := func(name string, b []byte, want string) {
		t.Helper()
		v := kindVector{Name: name, Bytes: b}
		v.route()
		if v.Kind != want {
			t.Errorf("%s: %s, want %s", name, v.Kind, want)
		}
		vs = append(vs, v)
	}
	packet := field(framing.KeyPacket, string(serverID[:])+"\x01\x02\x03\x04")
	toServer := field(framing.KeyPacket, string(serverID[:]))
	code := varints(framing.KeyCode, uint64(framing.CodeUnknownID))
	of := func(typ framing.Type, fs ...framing.Field) []byte { return raw(typ, crc, block(t, fs), nil, true) }
	add("packet", raw(framing.TypeData, crc, block(t, fields{packet}), []byte{1}, true), "packet")
	add("packet without CRC", raw(framing.TypeData, 0, block(t, fields{packet}), []byte{1}, false), "packet")
	add("packet with another field", of(framing.TypeData, packet, one), "crate")
	add("packet with an id only", of(framing.TypeData, toServer), "crate")
	add("packet key in PING", of(framing.TypePing, packet), "crate")
	add("HELLO", hello(t, source, one), "HELLO")
	add("HELLO without source id in front", hello(t, one, source), "crate")
	add("HELLO with the packet key", hello(t, toServer), "crate")
	add("WELCOME", welcome(t, toClient, server, one, session), "WELCOME")
	add("retry", welcome(t, toClient, cookie), "WELCOME")
	add("WELCOME with source id in front", welcome(t, server, toClient), "crate")
	add("refusal", of(framing.TypeErr, toClient, varints(framing.KeyCode, 7)), "ERR")
	add("unknown id", handshake.AppendUnknownID(nil, serverID), "ERR")
	add("unknown id, the code in front", of(framing.TypeErr, code, toServer), "crate")
	add("unknown id with a wrong CRC: does not count", flip(handshake.AppendUnknownID(nil, serverID), 29), "ERR")
	add("unknown id, code cut off: does not count", of(framing.TypeErr, toServer, field(framing.KeyCode, "\x40")), "ERR")
	add("reset", handshake.AppendReset(nil, serverID, resetToken), "ERR")
	add("reset, the token too short: counts as none", of(framing.TypeErr, toServer, code, field(framing.KeyResetToken, "123456789012345")), "ERR")
	early := field(framing.KeySourceID, string(clientID[:])+"\x01\x02\x03\x04")
	sealed := func(typ framing.Type, flags framing.Flags, fs ...framing.Field) []byte {
		return raw(typ, flags, block(t, fs), make([]byte, 20), flags.Has(crc))
	}
	const seal, phase = framing.FlagSealed, framing.FlagPhase
	add("sealed packet", sealed(framing.TypeData, seal, packet), "packet")
	add("sealed packet, PHASE set by the mask", sealed(framing.TypeData, seal|phase, packet), "packet")
	add("handshake packet of a client", sealed(framing.TypeHello, seal, packet), "sealed HELLO")
	add("handshake packet of a server, PHASE set by the mask", sealed(framing.TypeWelcome, seal|phase, packet), "sealed WELCOME")
	add("0-RTT packet", sealed(framing.TypeHello, seal, early), "0-RTT packet")
	add("handshake packet without SEALED", sealed(framing.TypeHello, 0, packet), "crate")
	add("handshake packet with PHASE alone", sealed(framing.TypeHello, phase, packet), "crate")
	add("handshake packet with CRC", sealed(framing.TypeWelcome, seal|crc, packet), "crate")
	add("handshake packet with another field", sealed(framing.TypeWelcome, seal, packet, one), "crate")
	add("0-RTT packet of a server", sealed(framing.TypeWelcome, seal, early), "crate")
	add("0-RTT packet as DATA", sealed(framing.TypeData, seal, early), "crate")
	add("HELLO with crypto", handshake.AppendCryptoHello(nil, &handshake.CryptoFrame{SourceID: clientID, Data: tlsBytes}), "HELLO")
	add("WELCOME with crypto", handshake.AppendCryptoWelcome(nil, &handshake.CryptoFrame{SourceID: serverID, ClientID: clientID, Data: tlsBytes}), "WELCOME")
	add("HELLO of the crate", raw(framing.TypeHello, 0, nil, nil, true), "crate")
	add("DATA of the crate", raw(framing.TypeData, 0, nil, []byte("hello"), true), "crate")
	add("type 9", raw(9, crc, nil, nil, true), "none")
	add("no frame", []byte("GET / HTTP/1.1\r\n"), "none")
	add("nothing", nil, "none")
	add("cut off in the fixed header", []byte("VT\x01\x03"), "none")
	return vs
}

func TestDatagramHandshakeVectors(t *testing.T) {
	checkFile(t, "handshake-datagram.json", "Handshakes in datagrams, and whose a datagram is, PROTOCOL 7.1 to 7.4. Described in README.md.",
		listOf("vectors", datagramVectors(t)), listOf("kinds", kindVectors(t)))
	var file struct {
		About   string
		Vectors []datagramVector
		Kinds   []kindVector
	}
	readFile(t, "handshake-datagram.json", &file)
	for _, want := range file.Vectors {
		got := want
		got.Steps = slices.Clone(want.Steps)
		got.Peer, got.Agreed = nil, nil
		got.run(t)
		same(t, want.Role+", "+want.Name, want, got)
		for _, s := range want.Steps {
			for _, out := range s.Out {
				if len(out) > handshake.MaxHandshakeDatagram || s.Result == "retry" && len(out) > len(s.In) {
					t.Errorf("%s: a datagram of %d bytes", want.Name, len(out))
				}
			}
		}
	}
	for _, want := range file.Kinds {
		got := want
		got.route()
		same(t, want.Name, want, got)
	}
}
