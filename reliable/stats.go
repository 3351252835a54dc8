package reliable

import "time"

// Counters are what an association did.
type Counters struct {
	PacketsSent, PacketsReceived uint64
	BytesSent, BytesReceived     uint64 // whole datagrams
	PacketsLost                  uint64 // declared lost
	PacketsLate                  uint64 // of those, arrived after all
	PacketsDropped               uint64 // received, and malformed
	PacketsDuplicate             uint64
	PacketsRefused               uint64 // received without room for their content
	PacketsRetransmitted         uint64 // sent with something in them that was sent before
	BytesRetransmitted           uint64 // of streams and messages
	RedundantSent                uint64 // bytes of copies and parity of messages
	RedundantRepaired            uint64 // lost packets with parts of messages that had arrived otherwise
	ShardsRebuilt                uint64 // of received messages, from parity
	ProbeTimeouts                uint64
	BlackHoles                   uint64 // path MTUs that stopped to pass

	Moves         uint64 // to another carrier, by this side
	MovesFollowed uint64 // of the peer
	MovesLate     uint64 // of the peer, not followed at once because there are too many
	BytesMoved    uint64 // of streams and messages, sent again because of moves

	MessagesSent, MessagesReceived uint64
	MessagesDropped                uint64 // received without room, and not repaired
	MessagesCanceled               uint64 // given up by the peer
	MessageRetries                 uint64
}

// Stats says what an association did, and how its path looks.
type Stats struct {
	Counters

	RTT, MinRTT, RTTVar time.Duration
	CongestionWindow    int
	InFlight            int
	PacingRate          float64 // bytes per second
	Bandwidth           float64 // estimate, bytes per second
	MTU                 int
	State               string // of the controller
}

// Stats returns the counters and the present state of the path.
func (a *Assoc) Stats() Stats {
	s := Stats{Counters: a.stats}
	s.RTT, s.MinRTT, s.RTTVar = a.rtt.smoothed, a.rtt.min, a.rtt.variance
	s.CongestionWindow = a.cc.window()
	s.InFlight = a.loss.inflight
	s.PacingRate = a.cc.pacingRate()
	s.Bandwidth = a.cc.bandwidth()
	s.MTU = a.mtu.current
	s.State = a.cc.state()
	return s
}
