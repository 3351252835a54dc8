package vectors

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

var (
	resetToken = [handshake.ResetTokenLen]byte{0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff}
	tlsBytes   = []byte("\x01\x00\x00\x04tls!") // in place of a message of TLS
)

// cryptoVector is a datagram that has crypto, or seems to.
type cryptoVector struct {
	Name     string    `json:"name"`
	Bytes    hexBytes  `json:"bytes"`
	Result   string    `json:"result"`
	SourceID hexBytes  `json:"source_id,omitempty"`
	ClientID hexBytes  `json:"client_id,omitempty"`
	Cookie   hexBytes  `json:"cookie,omitempty"`
	Offset   uint64    `json:"offset,omitempty"`
	Data     hexBytes  `json:"data,omitempty"`
	Have     *[2]int64 `json:"have,omitempty"`
}

func (v *cryptoVector) run() {
	*v = cryptoVector{Name: v.Name, Bytes: v.Bytes, Result: "dropped"}
	if h, err := handshake.ParseHello(v.Bytes); err == nil {
		if v.Result = "other"; h.Crypto {
			v.Result, v.SourceID, v.Cookie, v.Offset, v.Data = "HELLO", h.SourceID[:], h.Cookie, h.Offset, h.Data
			if h.HasHave {
				v.Have = &[2]int64{int64(h.InitialHave), int64(h.HandshakeHave)}
			}
		}
	}
	if f, ok := handshake.ParseCryptoWelcome(v.Bytes); ok {
		v.Result, v.SourceID, v.ClientID, v.Offset, v.Data = "WELCOME", f.SourceID[:], f.ClientID[:], f.Offset, f.Data
	}
}

func cryptoVectors(t *testing.T) []cryptoVector {
	var vs []cryptoVector
	add := func(name string, b []byte, want string) {
		t.Helper()
		v := cryptoVector{Name: name, Bytes: b}
		v.run()
		if v.Result != want {
			t.Errorf("%s: %s, want %s", name, v.Result, want)
		}
		vs = append(vs, v)
	}
	of := func(typ framing.Type, size int, fs ...framing.Field) []byte {
		h := block(t, fs)
		payload := make([]byte, max(0, size-framing.FixedLen-framing.TrailerLen-len(h)))
		copy(payload, tlsBytes)
		return raw(typ, crc, h, payload, true)
	}
	hello := func(fs ...framing.Field) []byte {
		return of(framing.TypeHello, 1200, append(fields{source}, fs...)...)
	}
	welcome := func(fs ...framing.Field) []byte {
		return of(framing.TypeWelcome, 100, append(fields{toClient}, fs...)...)
	}
	at := func(list ...uint64) framing.Field { return varints(framing.KeyCrypto, list...) }
	const most = framing.MaxVarint
	f := handshake.CryptoFrame{SourceID: clientID, Data: tlsBytes}
	add("first HELLO", handshake.AppendCryptoHello(nil, &f), "HELLO")
	f.Cookie, f.Offset = hexBytes(cookie.Value), 1000
	add("second HELLO, with the cookie", handshake.AppendCryptoHello(nil, &f), "HELLO")
	f.Data, f.Offset, f.HasHave, f.InitialHave, f.HandshakeHave = nil, 0, true, 90, 1100
	add("HELLO that says what has come", handshake.AppendCryptoHello(nil, &f), "HELLO")
	add("largest numbers", hello(at(most-8, 8, most, most)), "HELLO")
	add("numbers in longer forms", hello(field(framing.KeyCrypto, "\x40\x00\x80\x00\x00\x08")), "HELLO")
	add("1,199 bytes", of(framing.TypeHello, 1199, source, at(0, 8)), "dropped")
	add("1,201 bytes", of(framing.TypeHello, 1201, source, at(0, 8)), "HELLO")
	add("one number", hello(at(0)), "dropped")
	add("three numbers", hello(at(0, 8, 1)), "dropped")
	add("five numbers", hello(at(0, 8, 1, 2, 3)), "dropped")
	add("a number cut off", hello(field(framing.KeyCrypto, "\x00\x40")), "dropped")
	add("beyond 2^62 - 1", hello(at(most-7, 8)), "dropped")
	add("length beyond the payload", hello(at(0, 1200)), "dropped")
	add("crypto twice", hello(at(0, 8), at(0, 8)), "dropped")
	add("crypto before the cookie", hello(at(0, 8), cookie), "dropped")
	add("crypto before part", hello(at(0, 8), varints(framing.KeyPart, 5000, 0)), "dropped")
	add("part before crypto: it means nothing there", hello(cookie, varints(framing.KeyPart, 5000, 0), at(0, 8)), "other")
	add("versions behind crypto", hello(at(0, 8), one), "dropped")
	add("versions before crypto, with a payload", hello(one, at(0, 8)), "dropped")
	add("metadata behind crypto", hello(at(0, 8), field("route", "eu-1")), "dropped")
	add("flags other than CRC", raw(framing.TypeHello, crc|framing.FlagSealed, block(t, fields{source, at(0, 8)}), make([]byte, 1169), true), "dropped")
	add("WELCOME", handshake.AppendCryptoWelcome(nil, &handshake.CryptoFrame{SourceID: serverID, ClientID: clientID, Offset: 1100, Data: tlsBytes}), "WELCOME")
	add("WELCOME with padding", welcome(server, at(0, 8)), "WELCOME")
	add("WELCOME without bytes of TLS", raw(framing.TypeWelcome, crc, block(t, fields{toClient, server, at(0, 0)}), nil, true), "WELCOME")
	add("WELCOME that says what has come", welcome(server, at(0, 8, 1, 2)), "dropped")
	add("WELCOME without source id", welcome(at(0, 8)), "dropped")
	add("WELCOME with a cookie", welcome(cookie, server, at(0, 8)), "dropped")
	add("WELCOME, crypto beyond the payload", welcome(server, at(0, 100)), "dropped")
	add("WELCOME, versions behind crypto", welcome(server, at(0, 8), one, session), "dropped")
	return vs
}

// sealedVector is transport parameters, and what they say.
type sealedVector struct {
	Name       string   `json:"name"`
	Role       string   `json:"role"`
	Bytes      hexBytes `json:"bytes"`
	Result     string   `json:"result"`
	Code       uint64   `json:"code,omitempty"`
	Is         *params  `json:"is,omitempty"`
	ClientID   hexBytes `json:"client_id,omitempty"`
	SessionID  hexBytes `json:"session_id,omitempty"`
	ResetToken hexBytes `json:"reset_token,omitempty"`
	Confirm    bool     `json:"confirm,omitempty"`
}

func (v *sealedVector) run(t *testing.T) {
	t.Helper()
	*v = sealedVector{Name: v.Name, Role: v.Role, Bytes: v.Bytes, Result: "parameters"}
	parse := handshake.ParseClientParams
	if v.Role == "server" {
		parse = handshake.ParseServerParams
	}
	p, err := parse(v.Bytes)
	if err != nil {
		v.Result, v.Code = "error", codeOf(t, err)
		return
	}
	v.Is = datagramParamsOf(&p.DatagramParams)
	if v.Role == "server" {
		v.ClientID, v.SessionID, v.Confirm = p.ClientID[:], p.SessionID[:], p.Confirm
	}
	if p.HasResetToken {
		v.ResetToken = p.ResetToken[:]
	}
}

func codeOf(t *testing.T, err error) uint64 {
	t.Helper()
	var e *handshake.Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	return uint64(e.Code)
}

func sealedVectors(t *testing.T) []sealedVector {
	var vs []sealedVector
	add := func(role, name string, b []byte, code uint64) {
		t.Helper()
		v := sealedVector{Name: name, Role: role, Bytes: b}
		v.run(t)
		if v.Code != code {
			t.Errorf("%s, %s: %s %d, want %d", role, name, v.Result, v.Code, code)
		}
		vs = append(vs, v)
	}
	cp, sp := ends()
	c := handshake.SealedParams{DatagramParams: cp.datagram(), ResetToken: resetToken, HasResetToken: true}
	s := handshake.SealedParams{DatagramParams: sp.datagram(), ClientID: clientID, SessionID: sessionID, ResetToken: resetToken, HasResetToken: true, Confirm: true}
	s.Versions = []uint64{1}
	cb, err := handshake.AppendClientParams(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	sb, err := handshake.AppendServerParams(nil, &s)
	if err != nil {
		t.Fatal(err)
	}
	least := map[string]fields{"client": {source, one}, "server": {toClient, server, one, session}}
	add("client", "everything", cb, 0)
	add("server", "everything", sb, 0)
	add("client", "several versions", block(t, fields{source, varints(framing.KeyVersions, 7, 1)}), 0)
	add("server", "several versions", block(t, fields{toClient, server, varints(framing.KeyVersions, 7, 1), session}), 1)
	token := field(framing.KeyResetToken, string(resetToken[:]))
	for _, role := range []string{"client", "server"} {
		few := least[role]
		with := func(name string, code uint64, fs ...framing.Field) {
			t.Helper()
			add(role, name, block(t, append(slices.Clip(few), fs...)), code)
		}
		with("as little as there can be", 0)
		with("a reset token", 0, token)
		wrong := uint64(1)
		if role == "client" {
			wrong = 0 // it is not read
		}
		with("a reset token of 15 bytes", wrong, field(framing.KeyResetToken, "123456789012345"))
		with("two reset tokens", wrong, token, token)
		with("metadata", 1, field("route", "eu-1"))
		with("metadata with an empty key", 1, field("", ""))
		with("reserved keys that are not listed", 0, field("\x0f", "x"), field(framing.KeyChecksum, "\x07"), field(framing.KeyCompress, ""), field(framing.KeyMaxFrame, "\x01"), field(framing.KeyPadding, ""))
		with("versions twice", 1, one)
		with("max datagram of 1,199", 1, varints(framing.KeyMaxDatagram, 1199))
		with("credit of three varints", 1, varints(framing.KeyCredit, 1, 2, 3))
		with("ack delay of more than a second", 1, varints(framing.KeyAckDelay, 1_000_001))
		with("idle twice", 1, varints(framing.KeyIdle, 1), varints(framing.KeyIdle, 1))
		add(role, "a field that does not add up", append(block(t, few), 1), 5)
		add(role, "1,025 fields", block(t, fieldsN(1025, few...)), 3)
		for i, f := range few {
			add(role, "key "+hex.EncodeToString([]byte(f.Key))+" missing", block(t, slices.Delete(slices.Clone(few), i, i+1)), 1)
		}
	}
	with := func(role, name string, code uint64, f framing.Field) {
		t.Helper()
		add(role, name, block(t, append(slices.Clip(least[role]), f)), code)
	}
	with("client", "service 2", 0, field(framing.KeyService, "\x02"))
	with("client", "service 3", 1, field(framing.KeyService, "\x03"))
	with("client", "carriers mean nothing", 0, field(framing.KeyCarriers, "\x00\x01"))
	with("server", "both carriers", 0, field(framing.KeyCarriers, "\x00\x01"))
	with("server", "one carrier, and one that is not known", 0, field(framing.KeyCarriers, "\x00\x02"))
	with("client", "what a server has is ignored", 0, field(framing.KeyConfirm, "\x07"))
	with("server", "what a client has is ignored", 0, field(framing.KeyService, "\x07"))
	with("server", "confirm 2", 1, field(framing.KeyConfirm, "\x02"))
	return vs
}

// recordVector is bytes of the control stream.
type recordVector struct {
	Name   string   `json:"name"`
	Bytes  hexBytes `json:"bytes"`
	Result string   `json:"result"`
	Length int      `json:"length,omitempty"`
	Type   uint8    `json:"type,omitempty"`
	Code   uint64   `json:"code,omitempty"`
	Reason string   `json:"reason,omitempty"`
	Header header   `json:"header,omitempty"`
	Data   hexBytes `json:"data,omitempty"`
}

func (v *recordVector) run(t *testing.T) {
	t.Helper()
	*v = recordVector{Name: v.Name, Bytes: v.Bytes, Result: "record"}
	r, n, err := handshake.ParseControl(v.Bytes)
	switch {
	case err != nil:
		v.Result, v.Code = "error", codeOf(t, err)
		return
	case n == 0:
		v.Result = "incomplete"
		return
	}
	v.Length, v.Type, v.Header, v.Data = n, uint8(r.Type), toJSON(r.Header), r.Data
	if r.Err != nil {
		v.Code, v.Reason, v.Header = uint64(r.Err.Code), r.Err.Reason, toJSON(r.Err.Header)
	}
}

func recordVectors(t *testing.T) []recordVector {
	var vs []recordVector
	add := func(name string, b []byte, want string, code uint64) {
		t.Helper()
		v := recordVector{Name: name, Bytes: b}
		if v.run(t); v.Result != want || v.Code != code {
			t.Errorf("%s: %s %d, want %s %d", name, v.Result, v.Code, want, code)
		}
		vs = append(vs, v)
	}
	of := func(typ framing.Type, flags framing.Flags, payload string, fs ...framing.Field) []byte {
		return raw(typ, flags, block(t, fs), []byte(payload), flags.Has(crc))
	}
	route := field("route", "eu-1")
	add("HELLO", of(framing.TypeHello, 0, "", route), "record", 0)
	add("HELLO without metadata", of(framing.TypeHello, 0, ""), "record", 0)
	add("HELLO with reserved keys, which are ignored", of(framing.TypeHello, 0, "", one, route), "record", 0)
	add("WELCOME", of(framing.TypeWelcome, 0, "", route), "record", 0)
	add("ERR", of(framing.TypeErr, 0, "unknown token", varints(framing.KeyCode, 7), route), "record", 7)
	add("ERR without a code", of(framing.TypeErr, 0, ""), "record", 0)
	add("DATA", of(framing.TypeData, 0, string(tlsBytes)), "record", 0)
	add("DATA, and another record behind", append(of(framing.TypeData, 0, "x"), of(framing.TypeData, 0, "y")...), "record", 0)
	add("nothing", nil, "incomplete", 0)
	add("ten bytes", of(framing.TypeHello, 0, "")[:10], "incomplete", 0)
	add("a payload cut off", of(framing.TypeData, 0, "12345678")[:18], "incomplete", 0)
	add("the largest", of(framing.TypeData, 0, strings.Repeat("\x00", 131061)), "record", 0)
	add("a byte more", framing.AppendFixed(nil, framing.TypeData, 0, 0, 131062), "error", 3)
	add("wrong magic", []byte("G"), "error", 1)
	add("another version", []byte("VT\x02"), "error", 2)
	add("type 9", []byte("VT\x01\x09"), "error", 6)
	add("PING", of(framing.TypePing, 0, ""), "error", 6)
	add("BYE", of(framing.TypeBye, 0, ""), "error", 6)
	add("CRC", of(framing.TypeData, crc, "x"), "error", 1)
	add("SEALED", of(framing.TypeData, framing.FlagSealed, "x"), "error", 1)
	add("HELLO with a payload", of(framing.TypeHello, 0, "x"), "error", 1)
	add("WELCOME with a payload", of(framing.TypeWelcome, 0, "x"), "error", 1)
	add("DATA with a header", of(framing.TypeData, 0, "x", one), "error", 1)
	add("1,025 fields", of(framing.TypeHello, 0, "", fieldsN(1025)...), "error", 3)
	add("a header block that does not add up", raw(framing.TypeHello, 0, []byte{1, 1, 'k'}, nil, false), "error", 5)
	return vs
}

func TestSealedVectors(t *testing.T) {
	checkFile(t, "handshake-sealed.json", "Frames with crypto, transport parameters, and the control stream, PROTOCOL 8.5, 8.6, 8.8. Described in README.md.",
		listOf("frames", cryptoVectors(t)), listOf("parameters", sealedVectors(t)), listOf("records", recordVectors(t)))
	var file struct {
		About      string
		Frames     []cryptoVector
		Parameters []sealedVector
		Records    []recordVector
	}
	readFile(t, "handshake-sealed.json", &file)
	for _, want := range file.Frames {
		got := want
		got.run()
		same(t, want.Name, want, got)
	}
	for _, want := range file.Parameters {
		got := want
		got.run(t)
		same(t, want.Role+", "+want.Name, want, got)
	}
	for _, want := range file.Records {
		got := want
		got.run(t)
		same(t, want.Name, want, got)
	}
}
