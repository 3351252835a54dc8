package reliable

import (
	"encoding/binary"

	"github.com/vstp-go/vstp/framing"
)

// A Protection seals the packets of an association and opens those of its peer.
// PROTOCOL §8.4, §8.7. Like the association, of which it is a part, it is not safe for
// concurrent use.
type Protection interface {
	// Overhead is how many bytes Seal appends: the tag of the AEAD.
	Overhead() int

	// Seal seals the packet b[start:]: 26 bytes of header, of which the length is right
	// already, and the chunks. It sets the phase bit, encrypts, appends the tag and masks
	// the header.
	Seal(b []byte, start int, pn uint64) []byte

	// SealFrom is Seal for a packet of which b[start:] is only the header. The chunks lie
	// in other memory, and stay as they are.
	SealFrom(b []byte, start int, chunks []byte, pn uint64) []byte

	// Open opens a packet in place. Next is the number after the largest that was
	// received. Packets of type HELLO are opened with the early keys. Where it reports
	// false, the packet may have been changed.
	Open(packet []byte, next uint64) (pn uint64, chunks []byte, ok bool)

	// Acked tells that the peer has packet pn.
	Acked(pn uint64)

	// Updated reports whether the peer has begun to use new keys since the last call:
	// DropOld is due in three probe timeouts.
	Updated() bool

	// DropOld forgets the keys for reading before the present ones.
	DropOld()

	// Update begins a key update, if that is allowed now. Seal does so by itself, long
	// before it has to.
	Update() bool

	// Err tells that the keys must not be used any more, and cannot be replaced. RFC
	// 9001 §6.6.
	Err() error
}

// dropOldPTOs is how long keys for reading outlive an update. PROTOCOL §8.7.
const dropOldPTOs = 3

// openSealed is open with Protection.
func (a *Assoc) openSealed(p []byte) (pn packetNumber, chunks []byte, ok bool) {
	if a.c.Early || len(p) < packetHeaderLen+a.c.Protection.Overhead() || !a.oursSealed(p) ||
		uint64(binary.BigEndian.Uint32(p[7:])) != uint64(len(p)-packetHeaderLen) {
		return 0, nil, false
	}
	n, chunks, ok := a.c.Protection.Open(p, uint64(a.acks.next))
	return packetNumber(n), chunks, ok && n < 1<<62
}

// oursSealed is ours with Protection. In 0-RTT packets is the id of the client that has
// sent them. PROTOCOL §8.9.
func (a *Assoc) oursSealed(p []byte) bool {
	if p[0] != framing.Magic0 || p[1] != framing.Magic1 || p[2] != framing.Version ||
		framing.Flags(p[4])&^framing.FlagPhase != framing.FlagSealed ||
		binary.LittleEndian.Uint16(p[5:]) != uint16(packetFieldLen) || p[11] != 1 || p[12] != byte(len(ConnID{})+4) {
		return false
	}
	switch framing.Type(p[3]) {
	case framing.TypeData:
		return p[13] == framing.KeyPacket[0] && ConnID(p[14:22]) == a.c.LocalID
	case framing.TypeHello:
		return !a.c.Client && p[13] == framing.KeySourceID[0] && ConnID(p[14:22]) == a.c.PeerID
	}
	return false
}

// isEarly reports whether a packet that was opened is a 0-RTT packet.
func isEarly(p []byte) bool { return framing.Type(p[3]) == framing.TypeHello }

// inEarly reports whether a chunk may be in a 0-RTT packet. PROTOCOL §8.9.
func (t chunkType) inEarly() bool {
	switch t {
	case chunkAck, chunkHandshakeDone, chunkPathChallenge, chunkPathResponse, chunkMove:
		return false
	}
	return true
}

// keysOpened is called after a packet was given to Protection.Open.
func (a *Assoc) keysOpened(t instant, ok bool) {
	k := a.c.Protection
	switch {
	case k == nil:
	case !ok:
		a.checkKeys(t)
	case k.Updated():
		a.dropOldAt = t.add(dropOldPTOs * a.rtt.pto(a.c.Peer.AckDelay))
	}
}

// checkKeys ends an association whose keys are used up, without a word: nothing can be
// sealed any more. It reports whether it goes on.
func (a *Assoc) checkKeys(t instant) bool {
	if a.c.Protection == nil || a.on == ByteStream || a.c.Protection.Err() == nil {
		return true
	}
	a.end(t, ErrKeysUsedUp)
	return false
}

// dropOldKeys is called by Advance.
func (a *Assoc) dropOldKeys(t instant) {
	if a.dropOldAt != 0 && t >= a.dropOldAt {
		a.dropOldAt = 0
		a.c.Protection.DropOld()
	}
}
