package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// planBehind wants what is behind the first k bytes of each packet's chunks.
func planBehind(k int) func(begin []byte) (at, n int) {
	return func(begin []byte) (at, n int) {
		at = framing.FixedLen + packetHeader + k
		if len(begin) < at {
			return 0, 0
		}
		return at, int(binary.BigEndian.Uint32(begin[7:])) - k
	}
}

// randomPacket is a packet with that many bytes behind the header.
func randomPacket(rnd *rand.Rand, flags framing.Flags, n int) []byte {
	p := packet(flags, n)
	for i := framing.FixedLen + packetHeader; i < len(p); i++ {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// readTo reads packets until the end, and returns what they were, and how many went past
// the buffer.
func readTo(t *testing.T, b *Bearer, rnd *rand.Rand) (all []byte, past int) {
	buf := make([]byte, 64<<10)
	for {
		p := buf[:rnd.IntN(len(buf)+1)]
		head, n, trailer, err := b.ReadPacketTo(p, planBehind(rnd.IntN(18)))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			clear(buf)
			b.SetReadDeadline(time.Now().Add(time.Duration(rnd.IntN(2000)) * time.Microsecond))
			continue
		case err == io.EOF:
			return all, past
		case err != nil:
			t.Fatal(err)
		}
		all = append(append(append(all, head...), p[:n]...), trailer...)
		if n > 0 {
			past++
		}
	}
}

// TestBearerPast: packets come whole, in pieces or not, however the stream is cut, and however
// often a deadline comes in between.
func TestBearerPast(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	past := 0
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			var want []byte
			for range 60 {
				flags := framing.Flags(0)
				if rnd.IntN(2) == 0 {
					flags = framing.FlagCRC
				}
				want = append(want, randomPacket(rnd, flags, rnd.IntN(1+1<<rnd.IntN(17))%(MaxPacket-29))...)
			}
			b, peer := memBearer(1 << rnd.IntN(18))
			cuts := rand.New(rand.NewPCG(rnd.Uint64(), 2))
			go func() {
				for all := want; len(all) > 0; {
					n := min(len(all), 1+cuts.IntN(1<<cuts.IntN(18)))
					peer.Write(all[:n])
					if all = all[n:]; cuts.IntN(2) == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				peer.CloseWrite()
			}()
			b.SetReadDeadline(time.Now().Add(time.Millisecond))
			got, n := readTo(t, b, rand.New(rand.NewPCG(rnd.Uint64(), 1)))
			if past += n; !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, other than the %d", len(got), len(want))
			}
			b.Close()
			peer.Close()
		})
	}
	if past < 100 {
		t.Errorf("%d packets went past the buffer", past)
	}
}

// TestBearerPastSocket is the same on sockets, and inside TLS.
func TestBearerPastSocket(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		t.Run(m.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(5, 6))
			cc, sc, _ := autoConfigs(m)
			c, s := bearers(t, cc, sc)
			var want []byte
			for range 300 {
				want = append(want, randomPacket(rnd, 0, rnd.IntN(1+1<<rnd.IntN(17))%(MaxPacket-29))...)
			}
			go func() {
				for all := want; len(all) > 0; {
					n := min(len(all), 1+rand.IntN(200_000))
					c.Write(all[:n])
					all = all[n:]
				}
				c.car.CloseWrite()
			}()
			s.SetReadDeadline(time.Now().Add(time.Millisecond))
			got, past := readTo(t, s, rnd)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, other than the %d", len(got), len(want))
			}
			if past == 0 {
				t.Error("no packet went past the buffer")
			}
			c.Close()
			s.Close()
		})
	}
}

// TestBearerPastEnds: a stream that ends inside a packet, and one that is closed here.
func TestBearerPastEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		buf := make([]byte, 64<<10)
		b, peer := memBearer(0)
		p := packet(0, 50_000)
		go func() {
			peer.Write(p[:40_000])
			peer.CloseWrite()
		}()
		if _, _, _, err := b.ReadPacketTo(buf, planBehind(3)); err != io.ErrUnexpectedEOF {
			t.Error(err)
		}
		b, peer = memBearer(0)
		go func() {
			peer.Write(p[:40_000])
			b.Close()
		}()
		if _, _, _, err := b.ReadPacketTo(buf, planBehind(3)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}
