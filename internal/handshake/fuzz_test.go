package handshake

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vstp-go/vstp/framing"
)

// fuzzParams makes parameters of a number, all of them valid.
func fuzzParams(n uint16) Params {
	p := Params{Checksum: n&1 != 0, Versions: [][]uint64{nil, {1}, {2, 1}, {3, 1 << 40}}[n>>1&3]}
	p.Compression = [][]byte{nil, {CompressZstd}, {9, CompressZstd}, {255}}[n>>3&3]
	p.Idle = []time.Duration{0, -1, time.Second, 1<<63 - 1}[n>>5&3]
	p.MaxFrame = []int64{0, MinMaxFrame, 1 << 24, framing.MaxVarint}[n>>7&3]
	p.MaxMessage = []int64{0, 1, 1 << 33, framing.MaxVarint}[n>>9&3]
	p.Header = []framing.Header{nil, {{Key: "k", Value: "v"}}, {{}, {}}, {{Key: "\xff", Value: "\x00"}}}[n>>11&3]
	return p
}

// addSeeds adds every golden frame, and malformed ones.
func addSeeds(f *testing.F) {
	add := func(fr framing.Frame) {
		f.Add(uint16(0x1fff), byte(fr.Type), byte(fr.Flags), []byte(fr.Header), fr.Payload)
	}
	for _, g := range goldens {
		if g.typ == 0 {
			continue // no frame
		}
		fr, _, err := framing.Parse(g.make(f), 0, g.trailer)
		if err != nil {
			f.Fatal(err)
		}
		add(fr)
	}
	for _, b := range badValues {
		add(handshakeFrame(f, framing.TypeHello, append(framing.Header{versions1}, b.h...)))
		add(handshakeFrame(f, framing.TypeWelcome, append(framing.Header{versions1, session}, b.h...)))
	}
}

// FuzzServer: whatever comes first, the answer is a Hello within the limits of
// §4.1, or one of the two kinds of error; and a WELCOME that follows is one which
// the client that sent such a HELLO accepts.
func FuzzServer(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, params uint16, typ, flags byte, header, payload []byte) {
		p := fuzzParams(params)
		s := NewServer(p)
		fr := framing.Frame{Type: framing.Type(typ), Flags: framing.Flags(flags), Header: header, Payload: payload}
		h, err := s.Receive(fr)
		checkErr(t, fr.Type, h == nil, err)
		if err != nil {
			return
		}
		if len(h.Header) > MaxFields {
			t.Fatal("too much metadata")
		}
		b, sr, err := s.AppendWelcome(nil, goldenID, nil)
		if err != nil {
			t.Fatal(err)
		}
		if h.Legacy {
			if len(b) != 0 || !sr.Legacy {
				t.Fatalf("a crate peer got %x, %+v", b, sr)
			}
			return
		}
		if h.Header.HasReserved() || h.MaxFrame < MinMaxFrame || h.MaxMessage < 0 || h.Idle < 0 || h.Idle > MaxIdle*time.Millisecond ||
			len(h.Versions) == 0 || len(h.Versions) > MaxVersions || !slices.Contains(h.Versions, sr.Version) {
			t.Fatalf("%+v", h)
		}
		peer := h.Params
		peer.Compression = slices.DeleteFunc(bytes.Clone(peer.Compression), func(c byte) bool { return c == 0 })
		if peer.MaxMessage == 0 {
			peer.MaxMessage = 1 // 0 is the default there
		}
		peer.Header = nil // may be too much together with what was left out of HELLO
		c := NewClient(peer)
		if _, err := c.AppendHello(nil); err != nil {
			t.Fatal(err)
		}
		cr, err := c.Receive(parse(t, b))
		if err != nil {
			t.Fatal(err)
		}
		agree(t, cr, sr)
	})
}

// FuzzClient: whatever comes after HELLO, the answer is a Result within what was
// offered, or one of the two kinds of error.
func FuzzClient(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, params uint16, typ, flags byte, header, payload []byte) {
		p := fuzzParams(params)
		c := NewClient(p)
		if _, err := c.AppendHello(nil); err != nil {
			t.Fatal(err)
		}
		fr := framing.Frame{Type: framing.Type(typ), Flags: framing.Flags(flags), Header: header, Payload: payload}
		r, err := c.Receive(fr)
		checkErr(t, fr.Type, reflect.ValueOf(r).IsZero(), err)
		if err != nil {
			return
		}
		if err := p.check(); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(p.Versions, r.Version) || r.Compression != 0 && !slices.Contains(p.Compression, r.Compression) ||
			p.Checksum && !r.Checksum || p.Idle > 0 && (r.Idle == 0 || r.Idle > p.Idle) || r.PeerMaxFrame < MinMaxFrame ||
			r.PeerMaxMessage < 0 || r.PeerHeader.HasReserved() || len(r.PeerHeader) > MaxFields || r.Legacy {
			t.Fatalf("%+v", r)
		}
	})
}

// FuzzHandshake drives both ends by a script, one operation a byte: in any order,
// with frames from the script itself between them and with bytes changed on the
// way. A machine that has failed stays so, none succeeds twice, and if nothing was
// changed, both agree.
func FuzzHandshake(f *testing.F) {
	f.Add(uint16(0), uint16(0), []byte{0, 1, 2, 3})
	f.Add(uint16(0x0fff), uint16(0x1fff), []byte{0, 1, 2, 3, 1, 3, 2, 0})
	f.Add(uint16(0x0002), uint16(0x0008), []byte{0, 4, 9, 7, 1, 2, 3})
	f.Add(uint16(1), uint16(1), []byte{0, 1, 5, 3, 2, 1, 2, 1, 3})
	f.Add(uint16(1), uint16(1), []byte{6, 8, 2, 1, 4, 4, 0x12, 0, 0, 0, 0, 1, 0, 3})
	for _, g := range goldens {
		b := g.make(f)
		f.Add(uint16(1), uint16(1), append([]byte{0, 5, byte(len(b))}, b...))
		f.Add(uint16(1), uint16(1), append([]byte{0, 1, 2, 6, byte(len(b))}, b...))
	}
	f.Fuzz(func(t *testing.T, cp, sp uint16, script []byte) {
		c, s := NewClient(fuzzParams(cp)), NewServer(fuzzParams(sp))
		var (
			hello, welcome []byte
			touched        bool // a byte was changed, or a frame of the script accepted
			cok, sok       int  // successes
			cbad, sbad     bool // an error was returned
			cr, sr         Result
		)
		next := func() byte {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return b
		}
		toServer := func(fr framing.Frame) {
			h, err := s.Receive(fr)
			checkErr(t, fr.Type, h == nil, err)
			if err == nil && sbad {
				t.Fatal("the server goes on after an error")
			}
			sbad = sbad || err != nil
		}
		toClient := func(fr framing.Frame) {
			r, err := c.Receive(fr)
			checkErr(t, fr.Type, reflect.ValueOf(r).IsZero(), err)
			if err == nil {
				if cbad {
					t.Fatal("the client goes on after an error")
				}
				cok++
				cr = r
			}
			cbad = cbad || err != nil
		}
		for range 64 {
			if len(script) == 0 {
				break
			}
			switch op := next(); op % 8 {
			case 0:
				if b, err := c.AppendHello(nil); err == nil {
					hello = b
				}
			case 1:
				if fr, ok := decode(hello); ok {
					toServer(fr)
				}
			case 2:
				b, r, err := s.AppendWelcome(nil, goldenID, nil)
				if err == nil {
					if sbad {
						t.Fatal("WELCOME after an error")
					}
					sok++
					welcome, sr = b, r
				}
			case 3:
				if fr, ok := decode(welcome); ok {
					toClient(fr)
				}
			case 4: // a byte of what is on the way
				b := hello
				if op&8 != 0 {
					b = welcome
				}
				at, x := int(next()), next()
				if at < len(b) {
					b[at] ^= x
					touched = touched || x != 0
				}
			case 5, 6: // a frame of the script's own
				n := min(int(next()), len(script))
				if fr, ok := decode(script[:n]); ok {
					touched = true
					if op%8 == 5 {
						toClient(fr)
					} else {
						toServer(fr)
					}
				}
				script = script[n:]
			case 7:
				code, n := framing.ErrorCode(next()), int(next())
				reason := string(script[:min(len(script), n)])
				b, err := AppendErr(nil, code, reason, nil)
				if err != nil {
					t.Fatal(err)
				}
				fr, _ := decode(b)
				if e := ParseErr(fr); e.Code != code || !utf8.ValidString(e.Reason) {
					t.Fatalf("%+v", e)
				}
			}
		}
		if cok > 1 || sok > 1 {
			t.Fatalf("%d and %d successes", cok, sok)
		}
		if cok == 1 && sok == 1 && !touched {
			agree(t, cr, sr)
		}
	})
}

// decode parses the frame at the start of b, without looking at its CRC: a changed
// byte is to reach the machines.
func decode(b []byte) (framing.Frame, bool) {
	fx, err := framing.ParseFixed(b)
	if err != nil || fx.WireLen(false) > int64(len(b)) {
		return framing.Frame{}, false
	}
	h := framing.FixedLen + fx.HeaderLen
	return framing.Frame{Type: fx.Type, Flags: fx.Flags, Header: b[framing.FixedLen:h], Payload: b[h : h+int(fx.PayloadLen)]}, true
}

// checkErr: there is either a result or an error, of the kind that fits the frame.
func checkErr(t *testing.T, typ framing.Type, none bool, err error) {
	t.Helper()
	var e *Error
	var re *RemoteError
	switch {
	case none != (err != nil):
		t.Fatalf("result and error do not exclude each other: %v", err)
	case err == nil:
	case errors.As(err, &re):
		if typ != framing.TypeErr || len(re.Reason) > framing.MaxReasonLen || !utf8.ValidString(re.Reason) || re.Header.HasReserved() {
			t.Fatalf("%#v", re)
		}
	case !errors.As(err, &e) || e.Code == 0 || typ == framing.TypeErr:
		t.Fatalf("%T %v", err, err)
	}
	if err != nil && err.Error() == "" {
		t.Fatal("an error without words")
	}
}

// agree: both ends know the same of the connection.
func agree(t *testing.T, c, s Result) {
	t.Helper()
	if c.Version != s.Version || c.SessionID != s.SessionID || c.Checksum != s.Checksum || c.Compression != s.Compression ||
		c.Idle != s.Idle || c.Legacy != s.Legacy {
		t.Fatalf("client %+v\nserver %+v", c, s)
	}
}

// TestBoundedMemory: a frame makes the machines allocate in proportion to its own
// size, TRAPS S4, whatever fields it is full of.
func TestBoundedMemory(t *testing.T) {
	full := append([]byte{1, 255}, bytes.Repeat([]byte{'k'}, 256)...)
	blocks := map[string]framing.RawHeader{
		"empty fields":   append(framing.RawHeader{1, 1, 0x10, 1}, make([]byte, framing.MaxHeaderLen-5)...),
		"as many as may": append(framing.RawHeader{1, 1, 0x10, 1}, make([]byte, 2*(MaxFields-1))...),
		"full fields":    append(framing.RawHeader{1, 1, 0x10, 1}, bytes.Repeat(full, 254)...),
		"crate HELLO":    make(framing.RawHeader, framing.MaxHeaderLen-1),
	}
	for name, h := range blocks {
		for _, typ := range []framing.Type{framing.TypeHello, framing.TypeErr} {
			const runs = 20
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range runs {
				NewServer(Params{}).Receive(framing.Frame{Type: typ, Flags: framing.FlagCRC, Header: h})
			}
			runtime.ReadMemStats(&after)
			per := int(after.TotalAlloc-before.TotalAlloc) / runs
			if limit := 2*len(h) + 80*MaxFields; per > limit {
				t.Errorf("%s in %v: %d bytes allocated for a block of %d", name, typ, per, len(h))
			}
		}
	}
}
