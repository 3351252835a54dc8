package reliable

// An itemKind is what a packet carried that somebody wants to hear of.
type itemKind uint8

const (
	itemStream      itemKind = iota + 1 // bytes of a stream
	itemMessage                         // bytes of a message's body
	itemDatagram                        // a whole message that is not repaired
	itemAck                             // an ACK: end is what may be forgotten
	itemCancel                          // CANCEL
	itemMaxStreams                      // MAX_STREAMS
	itemBlocked                         // STREAM_BLOCKED
	itemDataBlocked                     // DATA_BLOCKED
	itemReset                           // RESET_STREAM
	itemStop                            // STOP_SENDING
	itemMaxData                         // credit of the association
	itemMaxStream                       // credit of a stream
	itemMaxMsgs                         // credit for messages
	itemPing                            // asked for by Ping
	itemProbe                           // path MTU probe: end is the size
	itemControl                         // bytes of the control stream
	itemDone                            // HANDSHAKE_DONE
	itemMove                            // MOVE: end is its sequence
	itemParity                          // a parity shard: start is its block
)

// A sentItem is one thing in a packet.
type sentItem struct {
	kind       itemKind
	fin        bool  // itemStream: FIN was with it
	nth        uint8 // itemMessage: which of the packets with all of msg; 0 for a part
	stream     *stream
	msg        *Outgoing
	cancel     *cancelled
	start, end int64
}

// packetState is where a packet's life has come to.
type packetState uint8

const (
	packetSettled packetState = iota // acknowledged, lost, or never sent
	packetSent                       // sent, nothing heard
	packetSkipped                    // a number left out: who acknowledges it, lies
	packetResting                    // left on a byte stream that is not active any more, see moveState.rests
)

// inlineItems is how many items a packet record holds by itself.
const inlineItems = 2

// A sentPacket is what is remembered of a packet until it is settled.
type sentPacket struct {
	ratePacket
	pn        packetNumber
	next      packetNumber // the next one in flight, or -1
	size      int32
	state     packetState
	eliciting bool // the peer acknowledges it; in bytes in flight
	carrier   Carrier
	nitems    uint8
	items     [inlineItems]sentItem
	more      []sentItem
}

// add notes an item.
func (p *sentPacket) add(it sentItem) {
	if int(p.nitems) < inlineItems {
		p.items[p.nitems] = it
		p.nitems++
		return
	}
	p.more = append(p.more, it)
}

// sentPackets holds the records of packets from base to next-1 in a ring, and a list
// of those in flight in the order of their numbers.
type sentPackets struct {
	ring       []sentPacket // a power of two
	base, next packetNumber
	head, tail packetNumber // in flight; -1 is none
}

func (s *sentPackets) init() { s.head, s.tail = -1, -1 }

// at returns the record of pn, which lies between base and next.
func (s *sentPackets) at(pn packetNumber) *sentPacket {
	return &s.ring[int(pn)&(len(s.ring)-1)]
}

// get returns the record of pn, or nil if there is none (any more).
func (s *sentPackets) get(pn packetNumber) *sentPacket {
	if pn < s.base || pn >= s.next {
		return nil
	}
	return s.at(pn)
}

// push makes a record for the next number.
func (s *sentPackets) push() *sentPacket {
	if n := int(s.next - s.base); n == len(s.ring) {
		ring := make([]sentPacket, max(2, 2*n))
		for pn := s.base; pn < s.next; pn++ {
			ring[int(pn)&(len(ring)-1)] = *s.at(pn)
		}
		s.ring = ring
	}
	p := &s.ring[int(s.next)&(len(s.ring)-1)]
	more := p.more
	clear(more)
	*p = sentPacket{pn: s.next, next: -1, more: more[:0]}
	s.next++
	return p
}

// unpush takes the last push back.
func (s *sentPackets) unpush() { s.next-- }

// link puts the last record into the list of those in flight.
func (s *sentPackets) link(p *sentPacket) {
	p.state = packetSent
	if s.tail >= 0 {
		s.at(s.tail).next = p.pn
	} else {
		s.head = p.pn
	}
	s.tail = p.pn
}

// unlink takes p, behind prev (-1 for none), out of the list.
func (s *sentPackets) unlink(prev packetNumber, p *sentPacket) {
	p.state = packetSettled
	if prev >= 0 {
		s.at(prev).next = p.next
	} else {
		s.head = p.next
	}
	if s.tail == p.pn {
		s.tail = prev
	}
}

// trim forgets the records before the first in flight.
func (s *sentPackets) trim() {
	end := s.head
	if end < 0 {
		end = s.next
	}
	for ; s.base < end; s.base++ {
		p := s.at(s.base)
		if p.state == packetSkipped && end-s.base < 1<<10 && s.head >= 0 {
			break // still a trap
		}
		p.items = [inlineItems]sentItem{} // lets go of what they point to
		clear(p.more)
		p.more = p.more[:0]
	}
}

// release gives memory back that an association at rest does not need.
func (s *sentPackets) release() {
	if s.head < 0 {
		s.base = s.next
		s.ring = nil
	}
}
