package handshake

import (
	"bytes"
	"slices"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// sealedPacket makes the first bytes of a packet, and some that are encrypted.
func sealedPacket(t framing.Type, key string, flags framing.Flags) []byte {
	b := framing.AppendFixed(nil, t, flags, 15, 20)
	b = append(append(b, 1, 12, key[0]), serverID[:]...)
	return append(append(b, 0, 1, 2, 3), make([]byte, 20)...)
}

// field encodes one.
func field(key, value string) []byte {
	b, err := framing.AppendField(nil, key, value)
	if err != nil {
		panic(err)
	}
	return b
}

// crypto is that field, of any numbers.
func crypto(list ...uint64) []byte {
	f := varints(framing.KeyCrypto, list...)
	return field(f.Key, f.Value)
}

// TestMalformedCrypto: frames with crypto that are dropped, §8.5.
func TestMalformedCrypto(t *testing.T) {
	source := appendID(nil, framing.KeySourceID, clientID)
	packet := appendID(nil, framing.KeyPacket, clientID)
	server := appendID(nil, framing.KeySourceID, serverID)
	cookie := field(framing.KeyCookie, "cookie")
	part := appendPart(nil, 10000, 0)
	good := crypto(0, 8)
	const most = framing.MaxVarint
	tests := []struct {
		name   string
		fields [][]byte // behind the source id
		bad    bool
	}{
		{"good", [][]byte{good}, false},
		{"with cookie", [][]byte{cookie, good}, false},
		{"with what has come", [][]byte{crypto(0, 8, 1, 2)}, false},
		{"numbers at their end", [][]byte{crypto(most-8, 8, most, most)}, false},
		{"longer forms of numbers", [][]byte{field(framing.KeyCrypto, "\x40\x00\x80\x00\x00\x08")}, false},
		{"no length", [][]byte{crypto(0)}, true},
		{"three numbers", [][]byte{crypto(0, 8, 1)}, true},
		{"five numbers", [][]byte{crypto(0, 8, 1, 2, 3)}, true},
		{"empty", [][]byte{crypto()}, true},
		{"cut off", [][]byte{field(framing.KeyCrypto, "\x00\x40")}, true},
		{"last number cut off", [][]byte{field(framing.KeyCrypto, "\x00\x08\x01\xc0")}, true},
		{"offset too large", [][]byte{crypto(most-7, 8)}, true},
		{"length beyond the payload", [][]byte{crypto(0, 1201)}, true},
		{"length far beyond the payload", [][]byte{crypto(0, most)}, true},
		{"offset and length overflow", [][]byte{crypto(most, most)}, true},
		{"crypto twice", [][]byte{good, good}, true},
		{"crypto before the cookie", [][]byte{good, cookie}, true},
		{"cookie twice", [][]byte{cookie, cookie, good}, true},
		{"empty cookie", [][]byte{field(framing.KeyCookie, ""), good}, true},
		{"cookie of 65 bytes", [][]byte{field(framing.KeyCookie, string(make([]byte, 65))), good}, true},
		{"part behind", [][]byte{good, part}, true},
		{"versions behind", [][]byte{good, field(framing.KeyVersions, "\x01")}, true},
		{"padding behind", [][]byte{good, field(framing.KeyPadding, "")}, true},
		{"metadata behind", [][]byte{good, field("route", "eu-1")}, true},
		{"versions in front", [][]byte{field(framing.KeyVersions, "\x01"), good}, true},
		{"source id twice", [][]byte{source, good}, true},
		{"not there", nil, true},
	}
	for _, tt := range tests {
		fields := slices.Concat(tt.fields...)
		payload := make([]byte, MaxHandshakeDatagram-framing.FixedLen-framing.TrailerLen-len(source)-len(fields))
		h, err := ParseHello(appendRaw(nil, framing.TypeHello, append(bytes.Clone(source), fields...), payload))
		if (err != nil) != tt.bad || err == nil && (!h.Crypto || len(h.Data) != 8) {
			t.Errorf("%s: %+v, %v", tt.name, h, err)
		}
		if bytes.Contains(fields, cookie) { // means nothing there
			continue
		}
		f, ok := ParseCryptoWelcome(appendRaw(nil, framing.TypeWelcome, slices.Concat(packet, server, fields), payload))
		four := tt.name == "with what has come" || tt.name == "numbers at their end"
		if ok == (tt.bad || four) || ok && len(f.Data) != 8 {
			t.Errorf("WELCOME, %s: %+v, %v", tt.name, f, ok)
		}
	}

	// "A server drops smaller ones", and one that is larger is taken.
	for size, bad := range map[int]bool{96: true, MaxHandshakeDatagram - 1: true, MaxHandshakeDatagram: false, MaxHandshakeDatagram + 1: false} {
		payload := make([]byte, size-framing.FixedLen-framing.TrailerLen-len(source)-len(cookie)-len(good))
		b := appendRaw(nil, framing.TypeHello, slices.Concat(source, cookie, good), payload)
		if _, err := ParseHello(b); len(b) != size || (err != nil) != bad {
			t.Errorf("%d bytes: %v", size, err)
		}
	}

	// Part in front: "a receiver ignores what is there", §7.3. It is a HELLO in parts.
	h, err := ParseHello(appendRaw(nil, framing.TypeHello, slices.Concat(source, cookie, part, good), make([]byte, 1000)))
	if err != nil || h.Crypto || h.part.total != 10000 {
		t.Errorf("%+v, %v", h, err)
	}
	// Crypto that is no field in front means nothing: an ordinary HELLO.
	h, err = ParseHello(appendRaw(nil, framing.TypeHello, slices.Concat(source, cookie, field(framing.KeyVersions, "\x01"), good), nil))
	if err != nil || h.Crypto {
		t.Errorf("%+v, %v", h, err)
	}

	// What is damaged, or has other flags, is dropped.
	hello := AppendCryptoHello(nil, &CryptoFrame{SourceID: clientID, Data: goldenTLS(1)})
	welcome := AppendCryptoWelcome(nil, &CryptoFrame{SourceID: serverID, ClientID: clientID, Data: goldenTLS(2)})
	for i := range hello {
		b := bytes.Clone(hello)
		b[i] ^= 1
		if _, err := ParseHello(b); err == nil {
			t.Errorf("HELLO, byte %d changed", i)
		}
		if _, err := ParseHello(hello[:i]); err == nil {
			t.Errorf("HELLO cut off at %d", i)
		}
	}
	for i := range welcome {
		b := bytes.Clone(welcome)
		b[i] ^= 1
		if _, ok := ParseCryptoWelcome(b); ok {
			t.Errorf("WELCOME, byte %d changed", i)
		}
		if _, ok := ParseCryptoWelcome(welcome[:i]); ok {
			t.Errorf("WELCOME cut off at %d", i)
		}
	}
	for _, flags := range []framing.Flags{0, framing.FlagCRC | framing.FlagSealed, framing.FlagCRC | framing.FlagFrag, framing.FlagCRC | framing.FlagPhase} {
		for _, b := range [][]byte{hello, welcome} {
			b = bytes.Clone(b[:len(b)-framing.TrailerLen])
			b[4] = byte(flags)
			b = framing.AppendTrailer(b, framing.Checksum(0, b))
			_, err := ParseHello(b)
			_, ok := ParseCryptoWelcome(b)
			if err == nil || ok {
				t.Errorf("%v with flags %v", framing.Type(b[3]), flags)
			}
		}
	}
	for name, h := range map[string][]byte{
		"no packet":              slices.Concat(server, good),
		"no source id":           slices.Concat(packet, good),
		"source id in front":     slices.Concat(server, packet, good),
		"packet of 12 bytes":     slices.Concat(field(framing.KeyPacket, "123456789012"), server, good),
		"source id of 7 bytes":   slices.Concat(packet, field(framing.KeySourceID, "1234567"), good),
		"cookie":                 slices.Concat(packet, cookie, server, good),
		"cookie behind":          slices.Concat(packet, server, cookie, good),
		"an ordinary one":        slices.Concat(packet, server, field(framing.KeyVersions, "\x01"), field(framing.KeySessionID, session.Value)),
		"crypto behind versions": slices.Concat(packet, server, field(framing.KeyVersions, "\x01"), good),
	} {
		if f, ok := ParseCryptoWelcome(appendRaw(nil, framing.TypeWelcome, h, make([]byte, 8))); ok {
			t.Errorf("WELCOME, %s: %+v", name, f)
		}
	}
}

// TestCryptoWantsAnswer: "of several with one source id, it answers only those with
// offset 0", §8.5.
func TestCryptoWantsAnswer(t *testing.T) {
	for offset, want := range map[uint64]bool{0: true, 1157: false} {
		h, err := ParseHello(AppendCryptoHello(nil, &CryptoFrame{SourceID: clientID, Offset: offset, Data: goldenTLS(1)}))
		if err != nil || h.WantsAnswer() != want {
			t.Error(offset, err)
		}
	}
}

// TestCryptoTooMuch: what does not fit is a mistake of the caller's.
func TestCryptoTooMuch(t *testing.T) {
	for name, f := range map[string]func(){
		"HELLO": func() { AppendCryptoHello(nil, &CryptoFrame{Data: make([]byte, CryptoRoom(0)+1)}) },
		"HELLO cookie": func() {
			AppendCryptoHello(nil, &CryptoFrame{Cookie: make([]byte, 10), Data: make([]byte, CryptoRoom(0))})
		},
		"long cookie": func() { AppendCryptoHello(nil, &CryptoFrame{Cookie: make([]byte, MaxCookie+1)}) },
		"WELCOME":     func() { AppendCryptoWelcome(nil, &CryptoFrame{Data: make([]byte, CryptoRoom(0)+1)}) },
		"offset":      func() { AppendCryptoWelcome(nil, &CryptoFrame{Offset: 1 << 30}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error(name)
				}
			}()
			f()
		}()
	}
}

// Reset tokens of another form are none; the ERR still says that the id is unknown, to
// those without TLS.
func TestResetForms(t *testing.T) {
	packet, code := appendID(nil, framing.KeyPacket, serverID), field(framing.KeyCode, "\x0d")
	token := field(framing.KeyResetToken, string(testToken[:]))
	for name, tt := range map[string]struct {
		h            []byte
		hasToken, ok bool
	}{
		"as made":              {slices.Concat(packet, code, token), true, true},
		"token before code":    {slices.Concat(packet, token, code), true, true},
		"no token":             {slices.Concat(packet, code), false, true},
		"15 bytes":             {slices.Concat(packet, code, field(framing.KeyResetToken, string(testToken[1:]))), false, true},
		"17 bytes":             {slices.Concat(packet, code, field(framing.KeyResetToken, string(testToken[:])+"x")), false, true},
		"empty":                {slices.Concat(packet, code, field(framing.KeyResetToken, "")), false, true},
		"no code":              {slices.Concat(packet, token), false, false},
		"another code":         {slices.Concat(packet, field(framing.KeyCode, "\x07"), token), false, false},
		"code of two varints":  {slices.Concat(packet, field(framing.KeyCode, "\x0d\x0d"), token), false, false},
		"packet not in front":  {slices.Concat(code, packet, token), false, false},
		"packet of 12 bytes":   {slices.Concat(field(framing.KeyPacket, "123456789012"), code, token), false, false},
		"with unknown keys":    {slices.Concat(packet, code, field("\x0f", "x"), token), true, true},
		"with a text as usual": {slices.Concat(packet, code, token, field("route", "x")), true, true},
	} {
		id, got, hasToken, ok := ParseUnknownID(appendRaw(nil, framing.TypeErr, tt.h, nil))
		if ok != tt.ok || hasToken != tt.hasToken || ok && id != serverID || hasToken && got != testToken {
			t.Errorf("%s: %x, %x, %v, %v", name, id, got, hasToken, ok)
		}
	}
}

// What parameters have at least.
var (
	clientFields = framing.Header{f1(framing.KeySourceID, string(clientID[:])), versions1}
	serverFields = framing.Header{f1(framing.KeyPacket, string(clientID[:])), f1(framing.KeySourceID, string(serverID[:])), versions1, session}
)

// TestMalformedParams: "each value MUST have exactly the form of the table", §4.3, §8.6.
func TestMalformedParams(t *testing.T) {
	both := func(name string, h framing.Header, code framing.ErrorCode) {
		t.Helper()
		_, err := ParseClientParams(block(t, append(slices.Clone(clientFields), h...)))
		_, err2 := ParseServerParams(block(t, append(slices.Clone(serverFields), h...)))
		if code != 0 {
			wantError(t, name, err, code)
			wantError(t, name, err2, code)
		} else if err != nil || err2 != nil {
			t.Errorf("%s: %v, %v", name, err, err2)
		}
	}
	both("least", nil, 0)
	for _, tt := range badDatagramValues {
		both(tt.name, tt.h, framing.CodeProtocol)
	}
	source, token := f1(framing.KeySourceID, "12345678"), f1(framing.KeyResetToken, string(testToken[:]))
	for name, h := range map[string]framing.Header{
		"token of 15 bytes": {f1(framing.KeyResetToken, string(testToken[1:]))},
		"token empty":       {f1(framing.KeyResetToken, "")},
		"token twice":       {token, token},
	} { // of a client none is read
		if _, err := ParseClientParams(block(t, append(slices.Clone(clientFields), h...))); err != nil {
			t.Error(name, err)
		}
		_, err := ParseServerParams(block(t, append(slices.Clone(serverFields), h...)))
		wantError(t, name, err, framing.CodeProtocol)
	}
	for name, h := range map[string]framing.Header{
		"max message and more": {varints(framing.KeyMaxMessage, 1, 1)},
		"max message twice":    {varints(framing.KeyMaxMessage, 1), varints(framing.KeyMaxMessage, 1)},
		"idle too long":        {varints(framing.KeyIdle, MaxIdle+1)},
		"idle twice":           {varints(framing.KeyIdle, 1), varints(framing.KeyIdle, 1)},
		"versions twice":       {versions1},
		"source id twice":      {source},
		"metadata":             {f1("route", "eu-1")},
		"an empty key":         {f1("", "")},
		"key 20":               {f1("\x20", "")},
	} {
		both(name, h, framing.CodeProtocol)
	}
	both("too many fields", make(framing.Header, MaxFields), framing.CodeTooLarge)
	// "Reserved keys that are not listed are ignored."
	for _, key := range []string{framing.KeyMaxFrame, framing.KeyChecksum, framing.KeyCompress, framing.KeyCookie, framing.KeyPart, framing.KeyPadding,
		framing.KeyCrypto, framing.KeyMessage, framing.KeyCode, "\x0f", "\x00", "\x01\x01", "\x1f\xff"} {
		both("ignored", framing.Header{f1(key, "what?"), f1(key, "")}, 0)
	}
	many := make(framing.Header, MaxFields-len(serverFields))
	for i := range many {
		many[i].Key = "\x0f"
	}
	both("many fields", many, 0)

	for _, tt := range badServices {
		_, err := ParseClientParams(block(t, append(slices.Clone(clientFields), tt.h...)))
		wantError(t, tt.name, err, framing.CodeProtocol)
	}
	// "... and so are those of the other role."
	if p, err := ParseClientParams(block(t, append(slices.Clone(clientFields), f1(framing.KeyPacket, "x"), f1(framing.KeyPacket, "x"),
		f1(framing.KeyConfirm, "\x07"), f1(framing.KeySessionID, "")))); err != nil || p.Confirm || p.ClientID != (ConnID{}) || p.SessionID != [16]byte{} {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := ParseServerParams(block(t, append(slices.Clone(serverFields), f1(framing.KeyService, "\x07")))); err != nil || p.Stream {
		t.Errorf("%+v, %v", p, err)
	}

	// Each field missing, and each twice.
	for i, f := range clientFields {
		_, err := ParseClientParams(block(t, slices.Delete(slices.Clone(clientFields), i, i+1)))
		wantError(t, "missing", err, framing.CodeProtocol)
		_, err = ParseClientParams(block(t, append(slices.Clone(clientFields), f)))
		wantError(t, "twice", err, framing.CodeProtocol)
	}
	for i, f := range serverFields {
		_, err := ParseServerParams(block(t, slices.Delete(slices.Clone(serverFields), i, i+1)))
		wantError(t, "missing", err, framing.CodeProtocol)
		_, err = ParseServerParams(block(t, append(slices.Clone(serverFields), f)))
		wantError(t, "twice", err, framing.CodeProtocol)
		bad := slices.Clone(serverFields)
		bad[i].Value += "\x01"
		_, err = ParseServerParams(block(t, bad))
		wantError(t, "too long", err, framing.CodeProtocol)
		bad[i].Value = ""
		_, err = ParseServerParams(block(t, bad))
		wantError(t, "empty", err, framing.CodeProtocol)
	}
	for _, v := range []string{"", "\x02", "\x01\x01"} {
		_, err := ParseServerParams(block(t, append(slices.Clone(serverFields), f1(framing.KeyConfirm, v))))
		wantError(t, "confirm", err, framing.CodeProtocol)
	}
	c, s := block(t, clientFields), block(t, serverFields)
	for i := range c {
		if _, err := ParseClientParams(c[:i]); err == nil {
			t.Errorf("of a client, cut off at %d", i)
		}
	}
	for i := range s {
		if _, err := ParseServerParams(s[:i]); err == nil {
			t.Errorf("of a server, cut off at %d", i)
		}
	}
	_, err := ParseClientParams(c[:len(c)-1])
	wantError(t, "cut off", err, framing.CodeHeader)
	// The order means nothing.
	slices.Reverse(serverFields)
	if _, err := ParseServerParams(block(t, serverFields)); err != nil {
		t.Error(err)
	}
	slices.Reverse(serverFields)
}

// TestMalformedControl: "anything else breaks the rules", §8.8.
func TestMalformedControl(t *testing.T) {
	record := func(typ framing.Type, flags framing.Flags, h framing.Header, payload int) []byte {
		raw := block(t, h)
		b := framing.AppendFixed(nil, typ, flags, len(raw), int64(payload))
		return append(append(b, raw...), make([]byte, payload)...)
	}
	code := framing.Header{varints(framing.KeyCode, 7)}
	many := make(framing.Header, MaxFields+1)
	broken := record(framing.TypeHello, 0, framing.Header{f1("ab", "cd")}, 0)
	broken[framing.FixedLen]++
	tests := []struct {
		name string
		b    []byte
		at   int // bytes after which it is found
		code framing.ErrorCode
	}{
		{"magic", []byte("GET /"), 1, framing.CodeProtocol},
		{"second byte", []byte("VX"), 2, framing.CodeProtocol},
		{"version", []byte("VT\x02"), 3, framing.CodeVersion},
		{"type 0", []byte("VT\x01\x00"), 4, framing.CodeUnexpected},
		{"type 9", []byte("VT\x01\x09"), 4, framing.CodeUnexpected},
		{"PING", record(framing.TypePing, 0, nil, 0), framing.FixedLen, framing.CodeUnexpected},
		{"BYE", record(framing.TypeBye, 0, nil, 0), framing.FixedLen, framing.CodeUnexpected},
		{"ACK", record(framing.TypeAck, 0, nil, 100), framing.FixedLen, framing.CodeUnexpected},
		{"CRC", record(framing.TypeData, framing.FlagCRC, nil, 8), framing.FixedLen, framing.CodeProtocol},
		{"SEALED", record(framing.TypeData, framing.FlagSealed, nil, 8), framing.FixedLen, framing.CodeProtocol},
		{"unknown flag", record(framing.TypeErr, 0x04, code, 8), framing.FixedLen, framing.CodeProtocol},
		{"HELLO with a payload", record(framing.TypeHello, 0, nil, 1), framing.FixedLen, framing.CodeProtocol},
		{"WELCOME with a payload", record(framing.TypeWelcome, 0, nil, 100), framing.FixedLen, framing.CodeProtocol},
		{"DATA with a header", record(framing.TypeData, 0, code, 100), framing.FixedLen, framing.CodeProtocol},
		{"DATA too large", record(framing.TypeData, 0, nil, MaxControl-framing.FixedLen+1), framing.FixedLen, framing.CodeTooLarge},
		{"DATA far too large", framing.AppendFixed(nil, framing.TypeData, 0, 0, framing.MaxPayloadLen), framing.FixedLen, framing.CodeTooLarge},
		{"ERR too large", record(framing.TypeErr, 0, code, MaxControl), framing.FixedLen, framing.CodeTooLarge},
		{"too many fields", record(framing.TypeHello, 0, many, 0), framing.FixedLen + 2*len(many), framing.CodeTooLarge},
		{"header block", broken, len(broken), framing.CodeHeader},
	}
	for _, tt := range tests {
		for i := range len(tt.b) + 1 {
			rec, n, err := ParseControl(tt.b[:i])
			if n != 0 || rec.Type != 0 {
				t.Fatalf("%s, %d bytes: %d, %+v", tt.name, i, n, rec)
			}
			if i >= tt.at {
				wantError(t, tt.name, err, tt.code)
			} else if err != nil {
				t.Errorf("%s, found after %d bytes: %v", tt.name, i, err)
			}
		}
	}

	// What is taken all the same.
	rec, n, err := ParseControl(record(framing.TypeData, 0, nil, 0))
	if n != framing.FixedLen || err != nil || len(rec.Data) != 0 {
		t.Error(n, err)
	}
	rec, n, err = ParseControl(record(framing.TypeData, 0, nil, MaxControl-framing.FixedLen))
	if n != MaxControl || err != nil || len(rec.Data) != MaxControl-framing.FixedLen {
		t.Error(n, err)
	}
	rec, n, err = ParseControl(record(framing.TypeHello, 0, framing.Header{versions1, f1("route", "eu-1"), f1("\x0f", "?")}, 0))
	if n == 0 || err != nil || len(rec.Header) != 1 {
		t.Error(n, err, rec.Header)
	}
	// "An ERR is accepted whatever its content looks like", §5.8.
	rec, n, err = ParseControl(record(framing.TypeErr, 0, nil, 3000))
	if n == 0 || err != nil || rec.Err.Code != 0 || len(rec.Err.Reason) > framing.MaxReasonLen {
		t.Error(n, err)
	}

	// What cannot be sent.
	for name, h := range map[string]framing.Header{"reserved": {f1("\x01", "")}, "too many": many, "long key": {f1(string(make([]byte, 256)), "")}, "large": bigHeader(65536)} {
		for i, f := range []func() ([]byte, error){
			func() ([]byte, error) { return AppendControlHello([]byte("kept"), h) },
			func() ([]byte, error) { return AppendControlWelcome([]byte("kept"), h) },
			func() ([]byte, error) { return AppendControlErr([]byte("kept"), 7, "", h) },
		} {
			b, err := f()
			wantError(t, name, err, framing.CodeInternal)
			if string(b) != "kept" {
				t.Errorf("%s %d: %q", name, i, b)
			}
		}
	}
	_, err = AppendControlErr(nil, framing.MaxVarint+1, "", nil)
	wantError(t, "code", err, framing.CodeInternal)
}
