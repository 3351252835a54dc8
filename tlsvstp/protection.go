package tlsvstp

import (
	"errors"
	"math"
)

// ErrKeyLimit says that the keys of a connection must not be used any more: they
// have sealed as many packets as is safe and could not be replaced, or too many
// packets did not open. RFC 9001 §6.6.
var ErrKeyLimit = errors.New("tlsvstp: the keys are used up")

// sealsBeforeUpdate is how many packets are sealed with one key before it is
// replaced by itself: half of what AES-GCM allows, so that the peer has all the time
// it may want to acknowledge a packet.
const sealsBeforeUpdate = 1 << 22

// A Protection protects the packets of an association in both directions: it has the
// keys of the Application level and changes them over time (PROTOCOL §8.7, RFC 9001
// §6), and those of 0-RTT before (PROTOCOL §8.9). It is used by one goroutine at a
// time.
//
// It opens a packet again that comes again: to find replays is left to the caller.
type Protection struct {
	// Of 0-RTT. A client has the first one, a server the second one.
	earlyWrite, earlyRead *Keys

	// Of the present phase. Those to read the one after it with are there in time: to
	// make them takes longer than to use them, and that would tell whether a phase bit
	// was believed (RFC 9001 §6.3).
	write          *Keys
	read, nextRead *Keys

	// prevRead are the keys before read, until DropOld.
	prevRead *Keys

	// phase is the bit in FLAGS of packets that are sealed with write.
	phase byte

	// What was sealed with the keys in use.
	sealed   uint64 // how many packets
	first    uint64 // number of the first one, if any
	acked    bool   // one of them was acknowledged, in a packet of the present phase
	nextSeal uint64 // all numbers below are used up, with whatever keys

	// What was opened. Ranges of numbers show which keys a packet may have that comes
	// late: RFC 9001 §6.4, §6.5.
	oldEnd  uint64 // all that was opened with keys before read is below
	low     uint64 // lowest number that was opened with read; noNumber if none was
	high    uint64 // highest one
	lastOld bool   // the last packet was opened with keys before read
	failed  uint64 // how many packets did not open, with whatever keys

	updated bool

	// Limits, in packets. Fields for tests.
	updateAfter, sealLimit, openLimit uint64
}

const noNumber = math.MaxUint64

// NewProtection returns a Protection without keys, with which nothing opens.
func NewProtection() *Protection {
	return &Protection{low: noNumber, updateAfter: sealsBeforeUpdate, sealLimit: gcmSealLimit, openLimit: gcmOpenLimit}
}

// SetWrite sets the keys for sealing of the first phase. Early ones are forgotten.
func (p *Protection) SetWrite(k *Keys) {
	p.write, p.earlyWrite = k, nil
	p.sealLimit = k.suite.sealLimit
	p.sealed = 0
}

// SetRead sets the keys for opening of the first phase.
func (p *Protection) SetRead(k *Keys) {
	p.read, p.nextRead = k, k.Next()
	p.openLimit = min(p.openLimit, k.suite.openLimit)
}

// SetEarlyWrite sets the keys with which a client seals until SetWrite is called.
func (p *Protection) SetEarlyWrite(k *Keys) {
	p.earlyWrite = k
	p.sealLimit = k.suite.sealLimit
}

// SetEarlyRead sets the keys with which a server opens 0-RTT packets. Nil discards
// them.
func (p *Protection) SetEarlyRead(k *Keys) {
	p.earlyRead = k
	if k != nil {
		p.openLimit = min(p.openLimit, k.suite.openLimit)
	}
}

// Overhead returns how many bytes Seal adds.
func (p *Protection) Overhead() int { return tagLen }

// Seal seals the packet b[start:], like [Keys.SealPacket], and sets the phase bit.
// It returns b[:start], which is no packet, if there are no keys, or none that may be
// used (Err). Numbers only grow: it panics if one comes that was used before, for two
// packets of one number and key give the key away.
func (p *Protection) Seal(b []byte, start int, pn uint64) []byte {
	return p.SealFrom(b[:start+HeaderLen], start, b[start+HeaderLen:], pn)
}

// SealFrom is Seal for a packet of which b[start:] is only the header. The chunks lie in
// other memory, and stay as they are: it saves the copy.
func (p *Protection) SealFrom(b []byte, start int, chunks []byte, pn uint64) []byte {
	if p.sealed >= p.updateAfter {
		p.Update()
	}
	k, phase := p.write, p.phase
	if k == nil {
		k, phase = p.earlyWrite, 0
	}
	if k == nil || p.sealed >= p.sealLimit || pn > maxNumber {
		return b[:start]
	}
	if pn < p.nextSeal {
		panic("BUG: tlsvstp: a packet number is used twice")
	}
	if p.sealed == 0 {
		p.first = pn
	}
	p.sealed++
	p.nextSeal = pn + 1
	b[start+flagsOffset] = b[start+flagsOffset]&^phaseBit | phase
	if k.aead == nil {
		k.wake(nil)
	}
	return k.sealPacket(b, start, chunks, pn)
}

// Open opens a packet in place. Next is one more than the largest number that was
// received. 0-RTT packets, which are of type HELLO, are opened with the early keys,
// all others with those of their phase, and the first one of the next phase makes
// that the present one. The chunks are a part of packet, which is spoilt if ok is
// false.
func (p *Protection) Open(packet []byte, next uint64) (pn uint64, chunks []byte, ok bool) {
	if len(packet) < HeaderLen+tagLen {
		return 0, nil, false
	}
	const hello = 1
	if packet[typeOffset] == hello {
		return p.openEarly(packet, next)
	}
	if p.read == nil {
		return 0, nil, false
	}
	if p.read.aead == nil {
		p.wakeRead()
	}
	p.read.toggle(packet)
	pn = packetNumber(packet, next)

	k := p.read
	if packet[flagsOffset]&phaseBit != p.phase {
		// A lower number than the present phase has is of the one before. If those keys
		// are gone the next ones fail, and take as long.
		k = p.nextRead
		if pn < p.low && p.prevRead != nil {
			k = p.prevRead
		}
	}
	chunks, err := k.openBody(packet, pn)
	if err != nil {
		p.failed++
		return 0, nil, false
	}

	// It is authentic. What is wrong from here on is the peer's fault.
	switch k {
	case p.read:
		if pn < p.oldEnd {
			return 0, nil, false
		}
		p.opened(pn)
	case p.nextRead:
		if !p.mayFollow(pn) {
			return 0, nil, false
		}
		p.nextPhase()
		p.opened(pn)
	default:
		p.oldEnd = max(p.oldEnd, pn+1)
		p.lastOld = true
	}
	return pn, chunks, true
}

func (p *Protection) openEarly(packet []byte, next uint64) (pn uint64, chunks []byte, ok bool) {
	if p.earlyRead == nil {
		return 0, nil, false
	}
	if p.earlyRead.aead == nil {
		p.earlyRead.wake(nil)
	}
	pn, chunks, err := p.earlyRead.OpenPacket(packet, next)
	if err != nil {
		p.failed++
		return 0, nil, false
	}
	if pn >= p.low {
		return 0, nil, false
	}
	p.oldEnd = max(p.oldEnd, pn+1)
	p.lastOld = true
	return pn, chunks, true
}

// Rest gives memory up that is made again, in a microsecond or two, by the next call of
// Seal, or of Open, even if its packet is not authentic: all but secrets and the keys that
// come of them. An association calls it that has nothing to say for a while.
func (p *Protection) Rest() {
	for _, k := range [...]*Keys{p.write, p.read, p.nextRead, p.prevRead, p.earlyWrite, p.earlyRead} {
		k.rest()
	}
}

// wakeRead makes all for opening that Rest has given up, whichever of it the packet in hand
// needs, for the reason that nextRead is there.
func (p *Protection) wakeRead() {
	p.read.wake(nil)
	p.nextRead.wake(p.read)
	if p.prevRead != nil {
		p.prevRead.wake(p.read)
	}
}

// opened notes a packet of the present phase.
func (p *Protection) opened(pn uint64) {
	if p.low == noNumber {
		p.updated = p.prevRead != nil
	}
	p.low, p.high, p.lastOld = min(p.low, pn), max(p.high, pn), false
}

// mayFollow reports whether the peer may have begun the next phase with packet pn. It
// must not before one of its packets of this phase was acknowledged, which only a
// packet of ours of this phase can have done (RFC 9001 §6.1, §6.2). And "packets with
// higher packet numbers MUST be protected with either the same or newer packet
// protection keys" (§6.4).
func (p *Protection) mayFollow(pn uint64) bool {
	return p.write != nil && p.sealed > 0 && p.low != noNumber && pn > p.high
}

// nextPhase changes the keys of both directions.
func (p *Protection) nextPhase() {
	if p.low != noNumber {
		p.oldEnd = max(p.oldEnd, p.high+1)
	}
	p.prevRead, p.read, p.nextRead = p.read, p.nextRead, p.nextRead.Next()
	p.write = p.write.Next()
	p.phase ^= phaseBit
	p.sealed, p.acked = 0, false
	p.low, p.high = noNumber, 0
}

// Acked tells that the peer has acknowledged packet pn, in the packet that was opened
// last. An acknowledgement in an older phase than that of the packet breaks the rules
// (RFC 9001 §6.2), and does not count.
func (p *Protection) Acked(pn uint64) {
	if p.write != nil && p.sealed > 0 && pn >= p.first && !p.lastOld {
		p.acked = true
	}
}

// Updated reports whether the peer has begun to use new keys since the last call, with
// an update of its own or following ours. DropOld is due three probe timeouts later;
// if another call reports true meanwhile, later than that one.
func (p *Protection) Updated() bool {
	u := p.updated
	p.updated = false
	return u
}

// DropOld forgets the keys for opening packets of the phase before. It does nothing
// while the peer has not followed the last update, and so has no others.
func (p *Protection) DropOld() {
	if p.low != noNumber {
		p.prevRead = nil
	}
}

// Update begins a key update and reports true, if one is allowed: a packet of the
// present phase was acknowledged (RFC 9001 §6.1), and the keys before it were dropped
// (§6.5). Seal does this by itself.
func (p *Protection) Update() bool {
	if p.write == nil || p.read == nil || !p.acked || p.prevRead != nil || p.Err() != nil {
		return false
	}
	p.nextPhase()
	return true
}

// Err returns ErrKeyLimit if the association has to end because of its keys.
func (p *Protection) Err() error {
	if p.sealed >= p.sealLimit || p.failed >= p.openLimit {
		return ErrKeyLimit
	}
	return nil
}
