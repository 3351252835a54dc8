package sealed

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestCounts: what a handshake takes, if nothing is lost.
func TestCounts(t *testing.T) {
	const rtt = 2 * oneWay
	for _, want := range []struct {
		kind           string
		client, server int           // datagrams
		done           time.Duration // at the client; the server is half a round trip behind
	}{
		{"plain", 2, 2, rtt},        // HELLO, and HELLO sealed; WELCOME, and WELCOME sealed
		{"post-quantum", 3, 3, rtt}, // the keys are larger than a datagram
		{"cookie", 5, 4, 2 * rtt},
		{"retry", 5, 3, 2 * rtt},
		{"client certificate", 2, 2, rtt},
		{"chain", 3, 10, 2 * rtt}, // more than three times the HELLO
		{"chains", 11, 10, 2 * rtt},
	} {
		t.Run(want.kind, func(t *testing.T) {
			n := newNetwork(t, kind(want.kind))
			if !n.run(time.Minute) {
				t.Fatal(n.client.Err(), n.server.Err())
			}
			n.agreed()
			if n.sent != [2]int{want.client, want.server} || n.clientDone != want.done || n.serverDone != want.done+oneWay {
				t.Error(n.sent, n.clientDone, n.serverDone)
			}
		})
	}
}

// TestEachDatagram: whatever happens to one of the datagrams, the handshake gets over it.
func TestEachDatagram(t *testing.T) {
	fates := []struct {
		name   string
		delays []time.Duration
		limit  time.Duration // more than that it must not take longer
	}{
		{"lost", nil, 500 * time.Millisecond},
		{"twice", []time.Duration{0, 0}, 0},
		{"twice, much later", []time.Duration{0, 300 * time.Millisecond}, 0},
		{"behind the next", []time.Duration{time.Nanosecond}, time.Nanosecond},
		{"late", []time.Duration{40 * time.Millisecond}, 40 * time.Millisecond},
		{"last of all", []time.Duration{10 * time.Second}, 500 * time.Millisecond},
	}
	for _, k := range kinds {
		clean := newNetwork(t, kind(k.name))
		if !clean.run(time.Minute) {
			t.Fatal(clean.client.Err(), clean.server.Err())
		}
		for _, f := range fates {
			for side, datagrams := range clean.sent {
				for i := range datagrams {
					t.Run(fmt.Sprintf("%s/%s/%d.%d", k.name, f.name, side, i), func(t *testing.T) {
						n := newNetwork(t, kind(k.name))
						n.fate = func(toServer bool, n int) []time.Duration {
							if toServer == (side == 0) && n == i {
								return f.delays
							}
							return []time.Duration{0}
						}
						if !n.run(time.Minute) {
							t.Fatal(n.client.Err(), n.server.Err())
						}
						n.agreed()
						if late := n.serverDone - clean.serverDone; late > f.limit {
							t.Errorf("it takes %v longer", late)
						}
					})
				}
			}
		}
	}
}

// TestRandomLoss: at 30 % loss, with duplicates and reordering.
func TestRandomLoss(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			var longest, all time.Duration
			seeds := 200
			if testing.Short() || len(kind(k.name).server.Certificates[0].Certificate) > 1 {
				seeds = 50
			}
			for seed := range seeds {
				rnd := rand.New(rand.NewPCG(uint64(seed), 1))
				n := newNetwork(t, kind(k.name))
				n.fate = func(bool, int) (delays []time.Duration) {
					for range 1 + rnd.IntN(5)/4 {
						if rnd.IntN(10) >= 3 {
							delays = append(delays, time.Duration(rnd.IntN(100))*time.Millisecond*time.Duration(rnd.IntN(2)))
						}
					}
					return delays
				}
				if !n.run(time.Minute) {
					t.Fatalf("seed %d: %v, %v", seed, n.client.Err(), n.server.Err())
				}
				n.agreed()
				longest = max(longest, n.serverDone)
				all += n.serverDone
			}
			t.Logf("%v, at most %v", all/time.Duration(seeds), longest)
			if longest > 15*time.Second {
				t.Error("too long")
			}
		})
	}
}
