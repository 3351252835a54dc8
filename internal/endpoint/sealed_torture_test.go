package endpoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
)

// TestSealedTorture: all of it at once, with ends that come and go when they like. What is
// read is what was written, everything returns in time, and nothing is left.
func TestSealedTorture(t *testing.T) {
	seeds := 20
	if testing.Short() {
		seeds = 5
	}
	simnet.Run(t, seeds, func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		client, server := sealedConfig(), sealedConfig()
		client.EarlyData, server.EarlyData = rnd.IntN(2) == 0, rnd.IntN(3) > 0
		if rnd.IntN(3) == 0 {
			server.MaxUnvalidated = -1
		}
		if rnd.IntN(3) == 0 {
			server.Header = framing.Header{{Key: "a", Value: "b"}}
		}
		if rnd.IntN(4) == 0 {
			server.ServerTLS.ClientAuth = tls.RequestClientCert
		}
		if rnd.IntN(4) == 0 {
			server.ServerTLS.CurvePreferences = []tls.CurveID{tls.CurveP256}
		}
		if rnd.IntN(3) == 0 {
			server.AcceptBacklog = 2
		}
		if rnd.IntN(3) == 0 {
			server.Verify = func(ctx context.Context, _ *Hello) (framing.Header, error) {
				select {
				case <-time.After(300 * time.Millisecond):
					return nil, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		}
		path := simnet.Path{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, Corrupt: 0.02}
		d := newDuo(t, seed, path, client, server)
		d.b.Listen()
		from, to := addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort
		a := newAttacker(t, seed)
		stop := attack(t, 20*time.Millisecond, func() {
			b := a.forge()
			d.net.Inject(from, to, b)
			d.net.Inject(to, from, b)
		})

		want := pattern(30000)
		var all sync.WaitGroup
		all.Go(func() {
			for {
				s, err := d.b.Accept(t.Context())
				if err != nil {
					return
				}
				patience := time.Duration(len(want)) * time.Millisecond / time.Duration(1+s.id[0]%50)
				all.Go(func() {
					s.SetReadDeadline(time.Now().Add(patience))
					if got, _ := io.ReadAll(s); !bytes.HasPrefix(want, got) {
						t.Error("the server reads other bytes")
					}
					s.Write(want)
					if s.id[1]%8 == 0 {
						s.CloseWithError(framing.CodeApplication, "enough")
					}
					s.Close()
				})
			}
		})
		addr := addrOf(t, d.b)
		var dials sync.WaitGroup
		for i := range 12 {
			after := time.Duration(rnd.IntN(4000)) * time.Millisecond
			patience := time.Duration(rnd.IntN(2000)) * time.Millisecond
			bytesOut := rnd.IntN(len(want))
			dials.Go(func() {
				time.Sleep(after)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if i%4 == 3 {
					d.a.SendMessage(ctx, &session.Message{Payload: want[:bytesOut], Repair: true}, addr)
					return
				}
				start := time.Now()
				c, err := d.a.DialStream(ctx, addr)
				if took := time.Since(start); took > patience {
					t.Error("dialing took", took, "of", patience)
				}
				if err != nil {
					return
				}
				c.SetReadDeadline(time.Now().Add(3 * patience))
				c.SetWriteDeadline(time.Now().Add(3 * patience))
				c.Write(want[:bytesOut])
				c.CloseWrite()
				if got, _ := io.ReadAll(c); !bytes.HasPrefix(want, got) {
					t.Error("the client reads other bytes")
				}
				c.Close()
			})
		}
		if seed%3 == 0 {
			time.Sleep(2 * time.Second)
			if seed%2 == 0 {
				all.Go(func() { d.a.Close() })
			} else {
				all.Go(func() { d.b.Close() })
			}
		}
		dials.Wait()
		time.Sleep(time.Minute)
		d.b.CloseListen()
		all.Wait()
		stop()
		settle(t, d.a, d.b)
	})
}
