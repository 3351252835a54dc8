package endpoint

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/simnet"
)

// The idle timeout that counts is the smaller one of both ends (PROTOCOL §4.3), and
// PING goes before half of it is over, whatever this end's KeepAlive says (§7.9).
func TestKeepAliveFollowsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		patient, hasty := testConfig(), testConfig()
		patient.KeepAlive = 15 * time.Second
		hasty.Idle = 4 * time.Second
		d := newDuo(t, 1, simnet.Path{Delay: 10 * time.Millisecond}, patient, hasty)
		client, server := connect(t, d.a, d.b)
		time.Sleep(time.Minute)
		if _, err := client.Write([]byte("still here")); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 16)
		if n, err := server.Read(p); err != nil || string(p[:n]) != "still here" {
			t.Fatal(string(p[:n]), err)
		}
	})
}
