package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/carrier"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
)

// memBearer returns a Bearer and what is at the other end of its connection.
func memBearer(buffer int) (*Bearer, *memconn.Conn) {
	a, b := memconn.Pipe(buffer)
	return newBearer(carrier.New(a), nil), b
}

// TestBearerRefuses: what is no packet ends the byte stream, as early as it shows.
func TestBearerRefuses(t *testing.T) {
	fixed := func(typ framing.Type, flags framing.Flags, header int, payload int64) []byte {
		return framing.AppendFixed(nil, typ, flags, header, payload)
	}
	for _, tt := range []struct {
		name string
		b    []byte
		code framing.ErrorCode
	}{
		{"not VSTP", []byte("G"), framing.CodeProtocol},
		{"another version", []byte("VT\x02"), framing.CodeVersion},
		{"another type", []byte("VT\x01\x09"), framing.CodeUnexpected},
		{"HELLO", fixed(framing.TypeHello, crc, 4, 0), framing.CodeUnexpected},
		{"WELCOME", fixed(framing.TypeWelcome, crc, 4, 0), framing.CodeUnexpected},
		{"PING", fixed(framing.TypePing, 0, 0, 0), framing.CodeUnexpected},
		{"BYE", fixed(framing.TypeBye, 0, 0, 0), framing.CodeUnexpected},
		{"byte stream", fixed(framing.TypeData, 0, 0, 5), framing.CodeProtocol},
		{"message", fixed(framing.TypeData, 0, 4, 5), framing.CodeProtocol},
		{"sealed", fixed(framing.TypeData, framing.FlagSealed, 15, 40), framing.CodeProtocol},
		{"compressed", fixed(framing.TypeData, framing.FlagComp, 15, 40), framing.CodeProtocol},
		{"unknown flag", fixed(framing.TypeData, 8, 15, 40), framing.CodeProtocol},
		{"a longer header", fixed(framing.TypeData, 0, 16, 40), framing.CodeProtocol},
		{"another key", append(fixed(framing.TypeData, 0, 15, 40), 1, 12, 2), framing.CodeProtocol},
		{"another length", append(fixed(framing.TypeData, 0, 15, 40), 1, 11, 1), framing.CodeProtocol},
		{"too large by one", fixed(framing.TypeData, 0, 15, MaxPacket-25), framing.CodeTooLarge},
		{"too large by its CRC", fixed(framing.TypeData, crc, 15, MaxPacket-29), framing.CodeTooLarge},
		{"as large as can be", fixed(framing.TypeData, 0, 15, 1<<32-1), framing.CodeTooLarge},
		{"a large ERR", fixed(framing.TypeErr, crc, 65535, 2000), framing.CodeTooLarge},
		{"a damaged ERR", damage(frame(framing.TypeErr, crc, nums(framing.KeyCode, 7), nil), -1), framing.CodeChecksum},
		{"unknown flag on ERR", fixed(framing.TypeErr, 8, 0, 0), framing.CodeProtocol},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, peer := memBearer(0)
			good := packet(0, 3)
			peer.Write(append(bytes.Clone(good), tt.b...)) // and nothing more
			wantPackets(t, b, good)
			for range 2 {
				_, err := b.ReadPacket()
				wantLocal(t, tt.name, err, tt.code)
			}
			if b.large != nil {
				t.Error("a buffer is left")
			}
			b.Close()
			peer.Close()
		})
	}
}

// TestBearerEnd: by ERR, between packets, inside one, and by an error of the carrier.
func TestBearerEnd(t *testing.T) {
	good := packet(0, 40)
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"between packets", nil, io.EOF},
		{"in the fixed header", good[:5], io.ErrUnexpectedEOF},
		{"in the header", good[:20], io.ErrUnexpectedEOF},
		{"in the payload", good[:len(good)-1], io.ErrUnexpectedEOF},
		{"reset", nil, broken},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, peer := memconn.Pipe(0)
			b := newBearer(carrier.New(a), nil)
			peer.Write(append(bytes.Clone(good), tt.b...))
			if tt.want == broken {
				a.FailRead(broken)
			}
			peer.CloseWrite()
			wantPackets(t, b, good)
			for range 2 {
				if _, err := b.ReadPacket(); !errors.Is(err, tt.want) {
					t.Errorf("%s: %v", tt.name, err)
				}
			}
			b.Close()
			if _, err := b.ReadPacket(); err != net.ErrClosed {
				t.Errorf("after Close: %v", err)
			}
			if err := b.Write(good); err != net.ErrClosed {
				t.Errorf("after Close: %v", err)
			}
			if b.Close() != nil {
				t.Error("Close twice")
			}
			peer.Close()
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b, peer := memBearer(0)
		refusal, err := handshake.AppendErr(nil, framing.CodeAttach, "not this one", framing.Header{{Key: "k", Value: "v"}})
		if err != nil {
			t.Fatal(err)
		}
		peer.Write(append(bytes.Clone(good), refusal...))
		wantPackets(t, b, good)
		var remote *handshake.RemoteError
		if _, err := b.ReadPacket(); !errors.As(err, &remote) || remote.Code != framing.CodeAttach || remote.Reason != "not this one" || len(remote.Header) != 1 {
			t.Error(err)
		}
		b.Close()
		peer.Close()
	})
}

// TestBearerPieces: packets come whole, however the stream is cut.
func TestBearerPieces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			var packets [][]byte
			for range 60 {
				packets = append(packets, packet(0, rnd.IntN(1+1<<rnd.IntN(17))%(MaxPacket-25)))
			}
			b, peer := memBearer(1 << rnd.IntN(18))
			go func() {
				all := bytes.Join(packets, nil)
				for len(all) > 0 {
					n := min(len(all), 1+rnd.IntN(1<<rnd.IntN(18)))
					peer.Write(all[:n])
					all = all[n:]
					if rnd.IntN(4) == 0 {
						synctest.Wait()
					}
				}
				peer.CloseWrite()
			}()
			wantPackets(t, b, packets...)
			if _, err := b.ReadPacket(); err != io.EOF {
				t.Error(err)
			}
			b.Close()
			peer.Close()
		})
	}
}

// TestBearerClose: blocked calls return, on sockets and with TLS too, and with a Write
// that waits for another one.
func TestBearerClose(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		cc, sc, _ := autoConfigs(m)
		c, s := bearers(t, cc, sc)
		reads, writes := make(chan error, 1), make(chan error, 2)
		go func() {
			_, err := c.ReadPacket()
			reads <- err
		}()
		for range 2 {
			go func() {
				for {
					if err := c.Write(packet(0, 60000)); err != nil {
						writes <- err
						return
					}
				}
			}()
		}
		for last := time.Now(); time.Since(last) < 100*time.Millisecond; time.Sleep(10 * time.Millisecond) {
			if len(c.wtok) == 0 {
				last = time.Now() // not yet blocked
			}
		}
		c.Close()
		for range 2 {
			if err := <-writes; err != net.ErrClosed {
				t.Errorf("%s: Write: %v", m.name, err)
			}
		}
		if err := <-reads; err != net.ErrClosed {
			t.Errorf("%s: ReadPacket: %v", m.name, err)
		}
		s.Close()
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// TestBearerBlocked is the same in memory, where it is certain what blocks.
func TestBearerBlocked(t *testing.T) {
	for _, m := range modes {
		bubble(t, func(t *testing.T) {
			cc, sc, _ := autoConfigs(m)
			c, s, _, _ := m.pair(t, cc, sc)
			cb, sb := c.Detach(), s.Detach()
			errs := make(chan error, 3)
			for range 2 {
				go func() { errs <- cb.Write(bytes.Repeat(packet(0, 1000), 300)) }()
			}
			go func() {
				_, err := cb.ReadPacket()
				errs <- err
			}()
			synctest.Wait()
			if len(errs) != 0 {
				t.Fatalf("%s: nothing blocks", m.name)
			}
			cb.Close()
			for range 3 {
				if err := <-errs; err != net.ErrClosed {
					t.Errorf("%s: %v", m.name, err)
				}
			}
			sb.Close()
		})
	}
}

// TestBearerBrokenWrite: half a packet is the last word of a carrier.
func TestBearerBrokenWrite(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		bubble(t, func(t *testing.T) {
			cc, sc, _ := autoConfigs(m)
			c, s, conn, _ := m.pair(t, cc, sc)
			cb, sb := c.Detach(), s.Detach()
			broken := errors.New("broken")
			conn.FailWriteAt(conn.Written()+100, broken)
			for range 2 {
				if err := cb.Write(packet(0, 1000)); !errors.Is(err, broken) {
					t.Errorf("%s: %v", m.name, err)
				}
			}
			cb.Close()
			if _, err := sb.ReadPacket(); err == nil {
				t.Error("half a packet")
			}
			sb.Close()
		})
	}
}

// TestBearerIdle: while nothing comes, a socket has no buffer; and nothing is allocated
// for packets.
func TestBearerIdle(t *testing.T) {
	cc, sc, _ := autoConfigs(mode{})
	c, s := bearers(t, cc, sc)
	p := packet(0, 30000)
	for _, m := range []int{1, 5, 1} {
		for range m {
			if err := c.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		for range m {
			wantPackets(t, s, p)
		}
	}
	if !s.raw.ok() {
		t.Skip("no such thing on this system")
	}
	s.NetConn().SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	s.r += s.last
	s.last = 0
	if err := s.fill(1); err == nil {
		t.Fatal("something has come")
	}
	if s.large != nil || s.small != nil {
		t.Error("a buffer is kept")
	}
	s.NetConn().SetReadDeadline(time.Time{})
	n := testing.AllocsPerRun(100, func() {
		c.Write(p)
		if _, err := s.ReadPacket(); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 && !raceEnabled {
		t.Errorf("%v allocations a packet", n)
	}
}

func BenchmarkBearer(b *testing.B) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		b.Run(m.name, func(b *testing.B) {
			cc, sc, _ := autoConfigs(m)
			c, s := bearers(b, cc, sc)
			p := bytes.Repeat(packet(0, MaxPacket-26), 4)
			b.SetBytes(MaxPacket)
			b.ReportAllocs()
			go func() {
				for c.Write(p) == nil {
				}
			}()
			for b.Loop() {
				if _, err := s.ReadPacket(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
