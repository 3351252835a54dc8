package vstp_test

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// startLatencies has the server send messages like m as soon as it has accepted, one every
// 10 ms, and returns how long each took. What is lost of the handshake counts.
func startLatencies(t *testing.T, l *simLink, m vstp.Message, count int) []time.Duration {
	t.Helper()
	accepted := make(chan time.Time, 1)
	sent := async(func() error {
		conn, err := l.ln.Accept()
		if err != nil {
			return err
		}
		begin := time.Now()
		accepted <- begin
		for i := range count {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * 10 * time.Millisecond)))
			m := m
			m.Payload = binary.BigEndian.AppendUint32(make([]byte, 0, 200), uint32(i))[:200]
			if err := conn.(*vstp.Conn).SendMessage(context.Background(), &m); err != nil {
				return err
			}
		}
		return nil
	})
	conn, err := l.client.DialStream(context.Background(), l.server.LocalAddr())
	require.NoError(t, err)
	begin := <-accepted
	took := make([]time.Duration, count)
	for range count {
		got, err := conn.(*vstp.Conn).ReceiveMessage(context.Background())
		require.NoError(t, err)
		i := binary.BigEndian.Uint32(got.Payload)
		require.Zero(t, took[i], "message %d again", i)
		took[i] = time.Since(begin) - time.Duration(i)*10*time.Millisecond
	}
	require.NoError(t, <-sent)
	return took
}

// A server that speaks at once does not wait for the client's timer when WELCOME is lost: the
// client sees by the packets that it was. PROTOCOL §7.3.
func TestSimMessagesBehindLostWelcome(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name      string
		config    *vstp.Config
		lost      int // from WELCOME on
		redundant bool
		max       time.Duration
	}{
		{"nothing", nil, 0, false, 21 * ms},
		{"WELCOME", nil, 1, false, 65 * ms},
		{"WELCOME and a message", nil, 2, false, 115 * ms},
		{"nothing, redundant", nil, 0, true, 21 * ms},
		{"WELCOME, redundant", nil, 1, true, 65 * ms},
		{"WELCOME and a message, redundant", nil, 2, true, 70 * ms},
		{"TLS", sealedConfig(nil), 1, true, 25 * ms}, // where WELCOME comes before the server may send
	} {
		t.Run(tt.name, func(t *testing.T) {
			simnet.Run(t, 1, func(t *testing.T, seed uint64) {
				l := newSimLink(t, seed, fastPath(0, 1), tt.config)
				l.net.Path(l.sh, l.ch).Filter(func(n int, _ []byte) bool { return n >= 1 && n < 1+tt.lost })
				took := startLatencies(t, l, vstp.Message{Redundant: tt.redundant}, 100)
				require.LessOrEqual(t, slices.Max(took), tt.max)
				l.close()
			})
		})
	}
}

// The same as above with everything that can be lost, again and again: what a handshake
// costs is in the tail of few messages, and over many connections in that of all.
func TestSimMessagesFromTheStart(t *testing.T) {
	var all []time.Duration
	seeds := 30
	if raceEnabled {
		seeds = 3 // too few for bounds
	}
	simnet.Run(t, seeds, func(t *testing.T, seed uint64) {
		l := newSimLink(t, seed, fastPath(0.05, 1), nil)
		all = append(all, startLatencies(t, l, vstp.Message{Redundant: true}, 200)...)
		l.close()
	})
	slices.Sort(all)
	n := len(all)
	t.Logf("p50 %v, p99 %v, p99.9 %v, max %v", all[n/2], all[n*99/100], all[n*999/1000], all[n-1])
	if raceEnabled {
		return
	}
	require.LessOrEqual(t, all[n*99/100], 30*time.Millisecond)
	require.LessOrEqual(t, all[n*999/1000], 100*time.Millisecond)
}
