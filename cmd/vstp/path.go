package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/progress"
)

// pathStats are what the library knows at the end about connections over UDP and on auto: counts
// of all together, and the state of the first. Times are in seconds.
type pathStats struct {
	Sent          uint64  `json:"packets_sent"`
	Received      uint64  `json:"packets_received"`
	Lost          uint64  `json:"packets_lost"`
	Retransmitted uint64  `json:"packets_retransmitted"`
	Dropped       uint64  `json:"packets_dropped"`
	Repeated      uint64  `json:"bytes_retransmitted"`
	WireSent      uint64  `json:"wire_bytes_sent"`
	WireReceived  uint64  `json:"wire_bytes_received"`
	RTT           float64 `json:"rtt_seconds"` // smoothed
	MinRTT        float64 `json:"min_rtt_seconds"`
	RTTVar        float64 `json:"rtt_deviation_seconds"`
	MTU           int     `json:"mtu"`
	Window        int     `json:"congestion_window"`
	Bandwidth     float64 `json:"bandwidth_bytes_per_second,omitempty"`
	Controller    string  `json:"controller"`
	Moves         uint64  `json:"moves,omitempty"` // between carriers
}

// pathOf returns what is known about conns, nil if they are streams of the system.
func pathOf(conns ...*vstp.Conn) *pathStats {
	var p *pathStats
	for _, c := range conns {
		s := c.Stats()
		if s.PacketsSent == 0 {
			continue
		}
		if p == nil {
			p = &pathStats{
				RTT: s.RTT.Seconds(), MinRTT: s.MinRTT.Seconds(), RTTVar: s.RTTVar.Seconds(),
				MTU: s.MTU, Window: s.CongestionWindow, Bandwidth: s.Bandwidth, Controller: s.Controller,
			}
		}
		p.Sent += s.PacketsSent
		p.Received += s.PacketsReceived
		p.Lost += s.PacketsLost
		p.Retransmitted += s.PacketsRetransmitted
		p.Dropped += s.PacketsDropped
		p.Repeated += s.BytesRetransmitted
		p.WireSent += s.WireSent
		p.WireReceived += s.WireReceived
		p.Moves += s.Moves
	}
	return p
}

// print writes p, if there is any, for people.
func (p *pathStats) print(w io.Writer) {
	if p == nil {
		return
	}
	sec := func(s float64) string { return ms(time.Duration(s * float64(time.Second))) }
	fmt.Fprintf(w, "path: rtt %s (min %s, deviation %s), MTU %d, %s, window %s\n",
		sec(p.RTT), sec(p.MinRTT), sec(p.RTTVar), p.MTU, oneLine(p.Controller), progress.Bytes(int64(p.Window)))
	fmt.Fprintf(w, "packets: %d sent, %d lost, %d retransmitted (%s), %d received, %d dropped\n",
		p.Sent, p.Lost, p.Retransmitted, progress.Bytes(int64(p.Repeated)), p.Received, p.Dropped)
	if p.Moves > 0 {
		fmt.Fprintf(w, "%s between UDP and TCP\n", plural(int(p.Moves), "move"))
	}
}

// printJSON writes v for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
