package reliable

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/vstp-go/vstp/framing"
)

var errTestKeys = errors.New("test: keys used up")

// nullTag is the tag of packets that nullProtection has sealed.
var nullTag = bytes.Repeat([]byte{0xee}, 16)

// A nullProtection encrypts nothing, and takes what has the right tag.
type nullProtection struct {
	acked   []uint64
	updated bool
	drops   int
	opens   int
	from    int // calls of SealFrom
	err     error
}

func (k *nullProtection) Overhead() int { return len(nullTag) }

func (k *nullProtection) Seal(b []byte, start int, pn uint64) []byte {
	if binary.BigEndian.Uint32(b[start+packetHeaderLen-4:]) != uint32(pn) {
		panic("another number than in the header")
	}
	return append(b, nullTag...)
}

func (k *nullProtection) SealFrom(b []byte, start int, chunks []byte, pn uint64) []byte {
	if len(b) != start+packetHeaderLen {
		panic("more than a header")
	}
	k.from++
	return k.Seal(append(b, chunks...), start, pn)
}

func (k *nullProtection) Open(p []byte, next uint64) (uint64, []byte, bool) {
	k.opens++
	chunks, ok := bytes.CutSuffix(p[packetHeaderLen:], nullTag)
	pn := decodeNumber(packetNumber(next), binary.BigEndian.Uint32(p[packetHeaderLen-4:]))
	return uint64(pn), chunks, ok && pn >= 0
}

func (k *nullProtection) Acked(pn uint64) { k.acked = append(k.acked, pn) }
func (k *nullProtection) Updated() bool {
	u := k.updated
	k.updated = false
	return u
}
func (k *nullProtection) DropOld()     { k.drops++ }
func (k *nullProtection) Update() bool { return false }
func (k *nullProtection) Err() error   { return k.err }

// forgeSealed is forge for an association with nullProtection: a packet, or with type
// HELLO one of 0-RTT.
func forgeSealed(a *Assoc, typ framing.Type, pn packetNumber, chunks []byte) []byte {
	b := framing.AppendFixed(nil, typ, framing.FlagSealed, packetFieldLen, int64(len(chunks)+len(nullTag)))
	key, id := framing.KeyPacket[0], a.c.LocalID
	if typ == framing.TypeHello {
		key, id = framing.KeySourceID[0], a.c.PeerID
	}
	b = append(b, 1, 12, key)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(pn))
	return joined(b, chunks, nullTag)
}
