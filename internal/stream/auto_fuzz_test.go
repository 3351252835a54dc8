package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/carrier"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/memconn"
)

// FuzzReadPacket: what is read is what was sent, in pieces that are packets, and nothing
// makes it hang or keep more than a packet.
func FuzzReadPacket(f *testing.F) {
	f.Add(uint16(1), packet(0, 10))
	f.Add(uint16(30), append(packet(framing.FlagCRC, 2000), packet(0, 0)...))
	f.Add(uint16(700), append(packet(0, 5), frame(framing.TypeErr, crc, nums(framing.KeyCode, 7), []byte("no"))...))
	f.Add(uint16(2000), framing.AppendFixed(nil, framing.TypeData, 0, 15, 1<<32-1))
	f.Fuzz(func(t *testing.T, ahead uint16, in []byte) {
		synctest.Test(t, func(t *testing.T) {
			a, peer := memconn.Pipe(len(in) + 1)
			n := min(int(ahead), len(in))
			b := newBearer(carrier.New(a), in[:n])
			peer.Write(in[n:])
			peer.CloseWrite()
			rest := in
			for {
				p, err := b.ReadPacket()
				if err != nil {
					checkEnd(t, rest, err)
					break
				}
				if len(p) > MaxPacket || len(p) < 26 || !bytes.HasPrefix(rest, p) {
					t.Fatalf("%x of %x", p, rest)
				}
				if f, n, err := framing.Parse(p, 0, framing.TrailerByFlag); (err != nil && !errors.Is(err, framing.ErrChecksum)) || err == nil && (n != len(p) || f.Type != framing.TypeData) {
					t.Fatalf("%x: %v", p, err)
				}
				rest = rest[len(p):]
			}
			b.Close()
			peer.Close()
		})
	})
}

// checkEnd looks whether err is right for what was left over.
func checkEnd(t *testing.T, rest []byte, err error) {
	t.Helper()
	var local *handshake.Error
	var remote *handshake.RemoteError
	switch {
	case err == io.EOF && len(rest) == 0:
	case err == io.ErrUnexpectedEOF && len(rest) > 0:
	case errors.As(err, &local):
	case errors.As(err, &remote) && rest[3] == byte(framing.TypeErr):
	default:
		t.Fatalf("%v with %x left", err, rest)
	}
}

// FuzzAttach: the first frame of a client who would move or attach, to a server that
// knows of carriers. Nothing is attached without the proof. The input is a header block.
func FuzzAttach(f *testing.F) {
	good := handshake.Attach{ServerID: autoServerID, N: 1, Proof: handshake.AttachProof(attachKey, false, autoServerID, autoClientID, 1, nil)}
	c := handshake.NewClient(handshake.Params{})
	c.Offer(autoOffer)
	hello, err := c.AppendHello(nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{hello, handshake.AppendAttachHello(nil, &good), handshake.AppendAttachHello(nil, &handshake.Attach{N: 2})} {
		f.Add(b[framing.FixedLen:len(b)-framing.TrailerLen], []byte{})
		f.Add(b[framing.FixedLen:len(b)-framing.TrailerLen], packet(0, 5))
	}
	f.Fuzz(func(t *testing.T, block, behind []byte) {
		if len(block) > framing.MaxHeaderLen {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			_, sc, a := autoConfigs(mode{})
			a.sessions[autoServerID] = &autoSession{k: attachKey}
			ca, sa := memconn.Pipe(1 << 20)
			ca.Write(append(frame(framing.TypeHello, crc, block, nil), behind...))
			ca.CloseWrite()
			s := New(sa, sc)
			err := s.Handshake(context.Background())
			if r := s.Auto(); err == nil && r != nil {
				if r.Attach != nil && !bytes.Contains(block, good.Proof[:]) {
					t.Error("attached without a proof")
				}
				b := s.Detach()
				p, err := b.ReadPacket()
				if err == nil && !bytes.HasPrefix(behind, p) {
					t.Errorf("%x of %x", p, behind)
				}
				b.Close()
			}
			s.Close()
			ca.Close()
		})
	})
}
