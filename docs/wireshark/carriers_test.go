package wireshark_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPacketsOnStream: packets that a byte stream carries are shown as those of datagrams,
// behind a handshake of their own and behind an attach. PROTOCOL §7.14.
func TestPacketsOnStream(t *testing.T) {
	needTshark(t)
	example := map[string][]byte{}
	for _, g := range goldens(t) {
		_, name, _ := strings.Cut(g.title, " ")
		example[name] = g.bytes
	}
	packets := append(append([]byte{}, example["Packet: PING"]...), example["Packet: MOVE"]...)
	for _, opening := range []string{"on a byte stream", "that attaches"} {
		rec := &recording{serverPort: defaultPort, cuts: oddCuts}
		rec.add(toServer, example["Carriers: HELLO "+opening])
		rec.add(toClient, example["Carriers: WELCOME "+opening])
		rec.add(toServer, packets)
		c := newCapture()
		port := c.add(rec)
		frames := framesOf(dissect(t, c.write(t)), port, toServer)
		require.Len(t, frames, 3)
		var chunks []string
		for _, n := range frames {
			require.Empty(t, n.experts())
			for _, k := range n.all("vstp.chunk") {
				chunks = append(chunks, shownChunk(k))
			}
		}
		require.Equal(t, []string{"PING", "MOVE sequence=3 carrier=tcp"}, chunks)
		require.Equal(t, []string{"12"}, frames[2].shows("vstp.packet_number"))
	}
}
