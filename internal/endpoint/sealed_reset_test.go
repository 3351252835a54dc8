package endpoint

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/internal/udpio"
)

// TestSealedReset: a server that was started anew is believed at once, if it has the key
// of the one before, and nobody else.
func TestSealedReset(t *testing.T) {
	for _, c := range []struct {
		name string
		same bool // the new server has the key
	}{{"same key", true}, {"other key", false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := sealedConfig()
				cfg.ResetKey = &[32]byte{1, 2, 3}
				const rtt = 40 * time.Millisecond
				d := newDuo(t, 1, simnet.Path{Delay: rtt / 2}, cfg, cfg)
				client, _ := connect(t, d.a, d.b)
				time.Sleep(time.Second)
				d.b.sock.Close() // as if the process had died
				time.Sleep(time.Second)

				again := *cfg
				if !c.same {
					again.ResetKey = &[32]byte{4}
				}
				newEndpoint(t, d.hb.ListenPacket(6969), &again)
				start := time.Now()
				if _, err := client.Write([]byte("is anybody there?")); err != nil {
					t.Fatal(err)
				}
				_, err := client.Read(make([]byte, 1))
				took := time.Since(start)
				switch {
				case c.same && (err != session.ErrReset || took != rtt):
					t.Error(err, took)
				case !c.same && (err != session.ErrIdleTimeout || took < 20*time.Second):
					t.Error(err, took)
				}
			})
		})
	}
}

// TestSealedResetForged: without the token, an ERR ends nothing, though it names the
// right id and comes from the right address. Nor does one with the token of another
// socket with the same key, where whoever knows the id can ask for it.
func TestSealedResetForged(t *testing.T) {
	cfg := sealedConfig()
	cfg.ResetKey = &[32]byte{1, 2, 3}
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		sibling := newEndpoint(t, d.hb.ListenPacket(7000), cfg)
		id := handshake.ConnID(s.id)
		forged := [][]byte{
			handshake.AppendUnknownID(nil, id),
			handshake.AppendReset(nil, id, [16]byte{}),
			handshake.AppendReset(nil, id, sibling.resetToken(s.id, udpio.Local{})),
			handshake.AppendReset(nil, id, sibling.resetToken(s.id, s.local)),
		}
		for _, b := range forged {
			d.b.write(b, addrOf(t, d.a), udpio.Local{})
		}
		time.Sleep(time.Second)
		if n := d.a.Stats().Dropped; n < uint64(len(forged)) {
			t.Errorf("%d of %d dropped", n, len(forged))
		}
		go s.Write([]byte("still here"))
		if b := make([]byte, 10); true {
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "still here" {
				t.Error(err)
			}
		}
	})
}
