package stream

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/internal/session"
)

// Options of a fuzzed session, in the first byte of the input.
const (
	fuzzClient    = 1 << iota
	fuzzCRC       // the CRC is agreed upon
	fuzzZstd      // so is compression
	fuzzHandshake // the peer's handshake is not made for it: the input is all it sends
	fuzzScript    // the input is a script of frames, not bytes
	fuzzLegacy    // client: the crate profile
	fuzzDeaf      // the peer reads nothing
	fuzzTimes     // keep-alive and idle timeout
)

// script turns b into frames of which most are valid: each begins with a byte that
// chooses a kind, and one or two that fill it in.
func script(b []byte, flags framing.Flags) (out []byte) {
	id, open, offset := uint64(0), uint64(0), uint64(0)
	next := func() byte {
		if len(b) == 0 {
			return 0
		}
		x := b[0]
		b = b[1:]
		return x
	}
	payload := func() string { return string(make([]byte, int(next())<<(next()%7))) }
	for len(b) > 0 {
		switch kind := next(); kind % 16 {
		case 0, 1:
			out = append(out, streamData(flags, payload())...)
		case 2:
			id += uint64(next() % 4)
			out = append(out, message(flags|framing.Flags(next()&1), id, payload())...)
			id++
		case 3:
			id++
			open, offset = id, 1
			out = append(out, fragment(flags|framing.Flags(kind>>7), open, 1000, 0, "x")...)
			id++
		case 4, 5:
			p := payload() + "x"
			out = append(out, fragment(flags, open, 1000, offset, p)...)
			offset += uint64(len(p))
		case 6:
			out = append(out, frame(framing.TypeData, flags, nums(framing.KeyCancel, open^uint64(kind>>7)), nil)...)
		case 7:
			n := int(next() % 18)
			out = append(out, frame(framing.TypePing, flags, field(framing.KeyPing, b[:min(len(b), n)]...), nil)...)
		case 8:
			out = append(out, frame(framing.TypePong, flags, field(framing.KeyPing, 0, 0, 0, 0, 0, 0, 0, next()), nil)...)
		case 9, 10:
			out = append(out, frame(framing.TypeAck, flags, nums(framing.KeyMessage, uint64(next()%4)), nil)...)
		case 11:
			var h []byte
			if next()%2 == 0 {
				h = field(framing.KeyClose)
			}
			out = append(out, frame(framing.TypeBye, flags, h, nil)...)
		case 12:
			out = append(out, frame(framing.TypeErr, crc, nums(framing.KeyCode, uint64(next())), []byte("text"))...)
		case 13:
			out = append(out, frame(framing.TypeData, flags|comp, nil, rleZstd(int64(int8(next())), int(next())))...)
		case 14:
			out = append(out, frame(framing.TypeData, flags|framing.Flags(next()&1), field("msg-id", '0'+next()%10), []byte("hi"))...)
		case 15: // anything
			typ, fl := framing.Type(next()%10), framing.Flags(next())
			out = append(out, frame(typ, fl, b[:min(len(b), int(kind>>4))], nil)...)
		}
	}
	return out
}

// FuzzSession gives a session arbitrary bytes, or frames in arbitrary order, while its
// application does arbitrary things: nothing panics, hangs or is left behind. S5, S6.
func FuzzSession(f *testing.F) {
	add := func(options byte, b ...byte) { f.Add(options, uint64(1), b) }
	add(0)
	add(fuzzClient, streamData(0, "hello")...)
	add(fuzzCRC, join(message(crc|ack, 0, "m"), fragment(crc, 1, 6, 0, "abc"), frame(framing.TypePing, crc, nil, nil), fragment(crc, 1, 6, 3, "def"), frame(framing.TypeBye, crc, nil, nil))...)
	add(fuzzZstd, frame(framing.TypeData, comp, nil, rleZstd(1000, 1000))...)
	add(fuzzZstd|fuzzDeaf, frame(framing.TypeData, comp, nums(framing.KeyMessage, 0), rleZstd(1<<30, 1<<20))...)
	add(fuzzHandshake, hello(handshake.Params{})...)
	add(fuzzHandshake|fuzzClient, join(frame(framing.TypeWelcome, crc, welcomeFields, nil), streamData(0, "x"))...)
	add(fuzzHandshake, join(frame(framing.TypeHello, 0, nil, nil), []byte{0x90, 0xa2, 0x94, 0x64})...)
	add(fuzzHandshake, 22, 3, 1, 2, 0, 1, 0, 1)
	add(fuzzClient|fuzzLegacy, frame(framing.TypeData, crc, field("msg-id", '1'), []byte("hi"))...)
	add(fuzzScript, 0, 5, 0, 2, 0, 1, 3, 0, 3, 4, 9, 1, 0, 6, 7, 8, 0, 11, 1)
	add(fuzzScript|fuzzClient|fuzzDeaf|fuzzTimes, 2, 0, 1, 200, 6, 2, 0, 1, 200, 6, 0, 255, 6, 7, 7, 7, 7, 9, 0, 9, 1, 11, 0)
	add(fuzzScript|fuzzHandshake, 14, 1, 1, 14, 0, 1, 7, 0, 11, 0)
	add(fuzzScript|fuzzZstd|fuzzCRC, 13, 100, 100, 13, 10, 100, 12, 7)
	f.Fuzz(func(t *testing.T, options byte, seed uint64, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		synctest.Test(t, func(t *testing.T) { fuzzSession(t, options, seed, b) })
	})
}

func fuzzSession(t *testing.T, options byte, seed uint64, b []byte) {
	has := func(o byte) bool { return options&o != 0 }
	rnd := rand.New(rand.NewPCG(seed, 7))
	cfg := testConfig(has(fuzzClient))
	params := handshake.Params{Checksum: has(fuzzCRC)}
	cfg.Params.Checksum = has(fuzzCRC)
	cfg.Params.MaxMessage = 1 << 20
	if has(fuzzZstd) {
		params.Compression, cfg.Params.Compression = []byte{1}, []byte{1}
	}
	if has(fuzzTimes) {
		cfg.KeepAlive, cfg.Params.Idle = time.Second, 5*time.Second
	}
	var flags framing.Flags
	if has(fuzzCRC) {
		flags = crc
	}
	if has(fuzzScript) {
		b = script(b, flags)
	}
	var s *Session
	var p *peer
	switch {
	case has(fuzzHandshake), has(fuzzLegacy) && cfg.Client:
		cfg.Legacy = has(fuzzLegacy) && cfg.Client
		a, c := memconn.Pipe(100 + rnd.IntN(1<<(4+rnd.IntN(12))))
		s, p = New(a, cfg), newPeer(t, c)
	default:
		s, p = open(t, cfg, params, 1+rnd.IntN(1<<(8+rnd.IntN(8)))+200)
	}
	if rnd.IntN(2) == 0 {
		s.NetConn().(*memconn.Conn).SetMaxRead(1 + rnd.IntN(300))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, 8))
		for len(b) > 0 {
			n := min(len(b), 1+rnd.IntN(1+len(b)))
			if _, err := p.c.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
			time.Sleep(time.Duration(n%3) * time.Second)
		}
		if seed%2 == 0 {
			p.c.CloseWrite()
		}
	})
	if !has(fuzzDeaf) {
		go io.Copy(io.Discard, p.c)
	}
	for range 3 {
		a, b := rnd.Uint64(), rnd.Uint64()
		wg.Go(func() { fuzzApplication(t, s, rand.New(rand.NewPCG(a, b))) })
	}
	// The peer's writes may wait for an application that has ended.
	time.AfterFunc(5*time.Minute, func() { s.Close() })
	wg.Wait()
	start := time.Now()
	s.Close()
	if d := time.Since(start); d > cfg.Linger {
		t.Errorf("Close took %v", d)
	}
	wantAll(t, s, func(what string, err error) {
		if !errors.Is(err, net.ErrClosed) && err != session.ErrNotSupported {
			if _, ok := s.Result(); ok {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
	})
	time.Sleep(cfg.Linger + time.Second)
	synctest.Wait()
	if !s.NetConn().(*memconn.Conn).Closed() {
		t.Error("the carrier is open")
	}
	p.c.Close()
}

// fuzzApplication does some of everything.
func fuzzApplication(t *testing.T, s *Session, rnd *rand.Rand) {
	for range rnd.IntN(20) {
		start := time.Now()
		d := time.Duration(1+rnd.IntN(3000)) * time.Millisecond
		ctx, cancel := context.WithTimeout(context.Background(), d)
		s.SetReadDeadline(start.Add(d))
		s.SetWriteDeadline(start.Add(d))
		size := rnd.IntN(1 << (1 + rnd.IntN(17)))
		switch rnd.IntN(9) {
		case 0, 1:
			s.Read(make([]byte, size))
		case 2, 3:
			s.ReceiveMessage(ctx)
		case 4:
			s.Write(make([]byte, size))
		case 5:
			s.SendMessage(ctx, &session.Message{Payload: make([]byte, size), ReqAck: size%2 == 0})
		case 6:
			s.Ping(ctx)
		case 7:
			if size == 0 {
				s.CloseWrite()
			}
			s.Stats()
		case 8:
			if rnd.IntN(20) == 0 {
				s.CloseWithError(framing.CodeInternal, "fuzz")
			}
		}
		cancel()
		// Others move the deadlines, but no further than theirs.
		if took := time.Since(start); took > 4*time.Minute {
			t.Errorf("a call took %v", took)
		}
	}
}
