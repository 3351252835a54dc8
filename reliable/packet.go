package reliable

import (
	"encoding/binary"

	"github.com/vstp-go/vstp/framing"
)

// A packet is a DATA frame of which the header block is just connection id and
// packet number. PROTOCOL §7.1.
//
//	56 54 01 03 FLAGS | 0f 00 | PAY_LEN (4) | 01 0c 01 | id (8) | number (4) | chunks | CRC (0, 4)
//
// With Config.Protection, it is sealed. PROTOCOL §8.4.
//
//	56 54 01 03 FLAGS | 0f 00 | PAY_LEN (4) | 01 0c 01 | id (8) | number (4) | chunks | tag (16)
const (
	packetFieldLen  = 2 + 1 + len(ConnID{}) + 4
	packetHeaderLen = framing.FixedLen + packetFieldLen
)

// A StreamID names a stream. Bit 0 is 0 for streams that the client opened. Stream
// 0 is there from the start.
type StreamID uint64

// A packetNumber counts the packets of one direction, from 0 to 2^62-1.
type packetNumber int64

// overhead is what a packet has beside its chunks.
func (a *Assoc) overhead() int { return packetHeaderLen + a.trailer }

// appendHeader appends the header of packet pn. The length comes with seal.
func (a *Assoc) appendHeader(b []byte, pn packetNumber) []byte {
	b = append(b, a.header[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(pn))
}

// makeHeader prepares what all packets have in common.
func (a *Assoc) makeHeader() {
	typ, key, id := framing.TypeData, framing.KeyPacket[0], a.c.PeerID
	var flags framing.Flags
	a.trailer = 0
	switch {
	case a.sealed():
		flags = framing.FlagSealed
		a.trailer = a.c.Protection.Overhead()
		if a.c.Early { // PROTOCOL §8.9
			typ, key, id = framing.TypeHello, framing.KeySourceID[0], a.c.LocalID
		}
	case a.checked():
		flags = framing.FlagCRC
		a.trailer = framing.TrailerLen
	}
	b := framing.AppendFixed(a.header[:0], typ, flags, packetFieldLen, 0)
	b = append(b, 1, byte(len(ConnID{})+4), key)
	copy(a.header[len(b):], id[:])
}

// seal completes packet pn, which begins at b[start:]: its length, and the CRC or what
// Protection does.
func (a *Assoc) seal(b []byte, start int, pn packetNumber) []byte {
	if v := a.vector(); v != nil && v.ext > 0 {
		return a.sealVector(b, start, v)
	}
	p := b[start:]
	if a.pool.behind() > 0 {
		return a.sealTail(b, start, pn)
	}
	if a.sealed() {
		binary.BigEndian.PutUint32(p[7:], uint32(len(p)-packetHeaderLen+a.trailer))
		return a.c.Protection.Seal(b, start, uint64(pn))
	}
	binary.BigEndian.PutUint32(p[7:], uint32(len(p)-packetHeaderLen))
	if a.checked() {
		b = framing.AppendTrailer(b, framing.Checksum(0, p))
	}
	return b
}

// checked reports whether packets without a seal end in a CRC: inside TLS, which
// Protection stands for, they do not.
func (a *Assoc) checked() bool { return a.c.Checksum && a.c.Protection == nil }

// open checks a packet, and returns its number and chunks, which are a view. A sealed
// packet is opened in place.
func (a *Assoc) open(p []byte) (pn packetNumber, chunks []byte, ok bool) {
	if a.c.Protection != nil {
		return a.openSealed(p)
	}
	return a.openPlain(p)
}

// openPlain is open without Protection.
func (a *Assoc) openPlain(p []byte) (pn packetNumber, chunks []byte, ok bool) {
	end := len(p)
	if end < packetHeaderLen || !a.ours(p) {
		return 0, nil, false
	}
	if framing.Flags(p[4]).Has(framing.FlagCRC) {
		end -= framing.TrailerLen
		if end < packetHeaderLen || framing.Checksum(0, p[:end]) != binary.BigEndian.Uint32(p[end:]) {
			return 0, nil, false
		}
	} else if a.checked() {
		return 0, nil, false
	}
	if binary.BigEndian.Uint32(p[7:]) != uint32(end-packetHeaderLen) {
		return 0, nil, false
	}
	pn = decodeNumber(a.acks.next, binary.BigEndian.Uint32(p[packetHeaderLen-4:]))
	return pn, p[packetHeaderLen:end], pn >= 0
}

// ours compares everything that is the same in all packets to this association.
func (a *Assoc) ours(p []byte) bool {
	return p[0] == framing.Magic0 && p[1] == framing.Magic1 && p[2] == framing.Version &&
		p[3] == byte(framing.TypeData) && framing.Flags(p[4])&^framing.FlagCRC == 0 &&
		binary.LittleEndian.Uint16(p[5:]) == uint16(packetFieldLen) && p[11] == 1 && p[12] == byte(len(ConnID{})+4) &&
		p[13] == framing.KeyPacket[0] && ConnID(p[14:22]) == a.c.LocalID
}

// decodeNumber returns the number nearest to next of which low are the lowest bits,
// or -1. RFC 9000 §A.3.
func decodeNumber(next packetNumber, low uint32) packetNumber {
	const window = 1 << 32
	n := next&^(window-1) | packetNumber(low)
	switch {
	case n+window/2 <= next:
		n += window
	case n > next+window/2 && n >= window:
		n -= window
	}
	if n >= 1<<62 {
		return -1
	}
	return n
}
