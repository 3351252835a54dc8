package sealed

import (
	"encoding/binary"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/tlsvstp"
)

// Handshake packets. PROTOCOL §8.5.
const (
	maxDatagram = handshake.MaxHandshakeDatagram
	maxPackets  = 1 << 16 // of each direction

	chunkPadding = 0x00
	chunkCrypto  = 0x06
	chunkHave    = 0x07
	chunkClose   = 0x1c

	fieldLen = 2 + 1 + 8 + 4
)

// A packets seals and opens handshake packets of one association.
type packets struct {
	write, read *tlsvstp.Keys
	typ         framing.Type // of those that are sent
	peer        handshake.ConnID
	pn          uint64
}

// begin appends the header of the next packet.
func (p *packets) begin(b []byte) []byte {
	b = framing.AppendFixed(b, p.typ, framing.FlagSealed, fieldLen, 0)
	b = append(b, 1, byte(len(p.peer)+4), framing.KeyPacket[0])
	b = append(b, p.peer[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(p.pn))
	return b
}

// seal completes the packet that is all of b.
func (p *packets) seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[7:], uint32(len(b)-tlsvstp.HeaderLen+p.write.Overhead()))
	b = p.write.SealPacket(b, 0, p.pn)
	p.pn++
	return b
}

// append appends the packets that hold out from offset on, at least one, each with
// what this end has of the peer's level.
func (p *packets) append(to [][]byte, out []byte, offset, has uint64) [][]byte {
	for first := true; first || offset < uint64(len(out)); first = false {
		if p.pn >= maxPackets {
			return to
		}
		b := p.begin(make([]byte, 0, maxDatagram))
		b = framing.AppendVarint(append(b, chunkHave), has)
		if rest := out[min(offset, uint64(len(out))):]; len(rest) > 0 {
			room := maxDatagram - p.write.Overhead() - len(b) - 1 - framing.VarintLen(offset) - 2
			n := min(room, len(rest))
			b = framing.AppendVarint(append(b, chunkCrypto), offset)
			b = framing.AppendVarint(b, uint64(n))
			b = append(b, rest[:n]...)
			offset += uint64(n)
		}
		to = append(to, p.seal(b))
	}
	return to
}

// appendClose appends a packet with CLOSE.
func (p *packets) appendClose(to [][]byte, code framing.ErrorCode, reason string) [][]byte {
	if p.write == nil || p.pn >= maxPackets {
		return to
	}
	b := p.begin(nil)
	b = framing.AppendVarint(append(b, chunkClose), uint64(code))
	b = framing.AppendVarint(b, uint64(len(reason)))
	return append(to, p.seal(append(b, reason...)))
}

// A content is what a handshake packet says. Its slices are views.
type content struct {
	have    uint64
	pieces  []piece
	closed  bool
	code    framing.ErrorCode
	reason  string
	hasHave bool
}

// open returns what is in a packet, and whether it is one of the peer's. The datagram
// is decrypted in place.
func (p *packets) open(b []byte, typ framing.Type) (c content, ok bool) {
	if p.read == nil || len(b) < tlsvstp.HeaderLen+p.read.Overhead()+1 || len(b) > 1<<16 || framing.Type(b[3]) != typ ||
		binary.BigEndian.Uint32(b[7:]) != uint32(len(b)-tlsvstp.HeaderLen) {
		return c, false
	}
	pn, chunks, err := p.read.OpenPacket(b, 0)
	if err != nil || pn >= maxPackets {
		return c, false
	}
	return c, c.parse(chunks)
}

func (c *content) parse(b []byte) bool {
	varint := func() (v uint64) {
		v, n := framing.ConsumeVarint(b)
		if n < 0 {
			b = nil
			return 1 << 63
		}
		b = b[n:]
		return v
	}
	for len(b) > 0 {
		t := b[0]
		b = b[1:]
		switch t {
		case chunkPadding:
		case chunkHave:
			if c.have = varint(); c.have > framing.MaxVarint {
				return false
			}
			c.hasHave = true
		case chunkCrypto:
			offset, n := varint(), varint()
			if n > uint64(len(b)) || offset > framing.MaxVarint {
				return false
			}
			c.pieces = append(c.pieces, piece{offset, b[:n]})
			b = b[n:]
		case chunkClose:
			code, n := varint(), varint()
			if n > uint64(len(b)) || code > framing.MaxVarint {
				return false
			}
			c.closed, c.code = true, framing.ErrorCode(code)
			c.reason = string(b[:min(n, framing.MaxReasonLen)])
			return true
		default:
			return false
		}
	}
	return true
}
