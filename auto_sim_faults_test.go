package vstp_test

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// UDP is blocked in the middle of a transfer, with the standby warm, and comes back.
// Payload flows again within 500 ms, and the way back is not noticed. Trap A2.
func TestAutoSimUDPDies(t *testing.T) {
	for name, upload := range map[string]bool{"upload": true, "download": false} {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				w, r := c, s
				if !upload {
					w, r = s, c
				}
				f := a.flow(w, r, -1)
				time.Sleep(3 * time.Second)
				start := time.Now()
				a.blockUDP(true)
				time.Sleep(10 * time.Second)
				gap := f.gap(start.Add(-time.Second), time.Now())
				rate := f.rate(start.Add(2*time.Second), time.Now())
				a.blockUDP(false)
				time.Sleep(20 * time.Second)
				f.finish()
				back := movedTo(t, c, "udp")
				backGap := f.gap(back.Time.Add(-500*ms), back.Time.Add(2*time.Second))
				t.Logf("gap %v, then %.1f MB/s; back after %v, gap %v: %s", gap, rate/1e6,
					back.Time.Sub(start.Add(10*time.Second)), backGap, story(movesOf(c)))
				require.LessOrEqual(t, gap, 500*ms)
				require.Greater(t, rate, 0.8*float64(autoRate))
				require.LessOrEqual(t, backGap, sized(2*autoRTT, 3*autoRTT)) // one frame, where nothing is lost
				require.Len(t, movesOf(c), 2)
				a.close(c, s)
			})
		})
	}
}

// UDP is blocked in one direction only.
func TestAutoSimUDPDiesOneWay(t *testing.T) {
	for name, there := range map[string]bool{"to the server": true, "to the client": false} {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				up, down := a.slowFlow(c, s, -1, 1000, 5*ms), a.slowFlow(s, c, -1, 1000, 5*ms)
				time.Sleep(3 * time.Second)
				start := time.Now()
				p := a.net.Path(a.sh, a.ch)
				if there {
					p = a.net.Path(a.ch, a.sh)
				}
				p.Update(func(p *simnet.Path) { p.Down = true })
				time.Sleep(5 * time.Second)
				up.finish()
				down.finish()
				gaps := [2]time.Duration{up.gap(start, start.Add(4*time.Second)), down.gap(start, start.Add(4*time.Second))}
				t.Logf("gaps %v, %s", gaps, story(movesOf(c)))
				require.LessOrEqual(t, max(gaps[0], gaps[1]), 500*ms)
				require.Equal(t, vstp.CarrierTCP, c.Carrier())
				a.close(c, s)
			})
		})
	}
}

// UDP is throttled to a sixteenth, 1 Mbit/s, by a shaper or a policer, while TCP is fast; and a path
// that loses 40 %. Bulk moves to TCP.
func TestAutoSimUDPBad(t *testing.T) {
	for name, bad := range map[string]func(p *simnet.Path){
		"shaper":  func(p *simnet.Path) { p.Rate, p.Queue = autoRate/16, int(autoRate/40) },
		"bloat":   func(p *simnet.Path) { p.Rate, p.Queue = autoRate/16, int(autoRate/2) },
		"policer": func(p *simnet.Path) { p.Rate, p.Queue, p.Police = autoRate/16, 15_000, true },
		"loss":    func(p *simnet.Path) { p.Loss = 0.4 },
	} {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				f := a.flow(c, s, -1)
				time.Sleep(3 * time.Second)
				start := time.Now()
				a.udp(bad)
				time.Sleep(60 * time.Second)
				f.finish()
				st := c.Stats()
				t.Logf("%.2f MB/s in the first 10 s, then %.2f; gap %v; %d moves: %s", f.rate(start, start.Add(10*time.Second))/1e6,
					f.rate(start.Add(10*time.Second), start.Add(60*time.Second))/1e6,
					f.gap(start, start.Add(60*time.Second)), st.Moves, story(st.RecentMoves))
				if m := st.RecentMoves; len(m) > 0 {
					t.Logf("first move after %v", m[0].Time.Sub(start))
				}
				require.Positive(t, st.Moves)
				require.LessOrEqual(t, st.Moves, uint64(9)) // it looks whether UDP is better now, ever more seldom
				require.Greater(t, f.rate(start.Add(30*time.Second), start.Add(60*time.Second)), 0.6*float64(autoRate))
				a.close(c, s)
			})
		})
	}
}

// onTCP returns a connection that is on TCP because it prefers that.
func onTCP(a *autoSim) (c, s *vstp.Conn) {
	a.t.Helper()
	a.dialer = a.newDialer(&vstp.Config{Auto: vstp.AutoConfig{Prefer: vstp.CarrierTCP}})
	c, s = a.dialWarm()
	require.Equal(a.t, vstp.CarrierTCP, c.Carrier())
	require.Equal(a.t, vstp.CarrierTCP, s.Carrier())
	return c, s
}

// TCP is in use, and stalls, without a reset, or is reset, or forgotten by a NAT. Trap A3.
func TestAutoSimTCPDies(t *testing.T) {
	for name, fault := range map[string]func(a *autoSim){
		"stalls":    func(a *autoSim) { a.stallTCP(true) },
		"blocked":   func(a *autoSim) { a.blockTCP(true) },
		"reset":     func(a *autoSim) { a.net.ResetTCP(a.ch, a.sh) },
		"forgotten": func(a *autoSim) { a.net.ForgetTCP(a.ch, a.sh) },
	} {
		for way, upload := range map[string]bool{"upload": true, "download": false} {
			t.Run(name+" "+way, func(t *testing.T) {
				eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
					c, s := onTCP(a)
					w, r := c, s
					if !upload {
						w, r = s, c
					}
					f := a.flow(w, r, -1)
					time.Sleep(3 * time.Second)
					start := time.Now()
					fault(a)
					time.Sleep(10 * time.Second)
					f.finish()
					gap := f.gap(start.Add(-time.Second), start.Add(9*time.Second))
					t.Logf("gap %v: %s", gap, story(movesOf(c)))
					require.LessOrEqual(t, gap, 2500*ms) // a TCP may pause for a while by itself
					require.Equal(t, "udp", movesOf(c)[0].To)
					a.close(c, s)
				})
			})
		}
	}
}

// TCP is reset while it is the only carrier: it comes back by itself.
func TestAutoSimOnlyTCPReset(t *testing.T) {
	eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
		a.blockUDP(true)
		c, s := a.dialWarm()
		up, down := a.slowFlow(c, s, -1, 1000, 10*ms), a.slowFlow(s, c, -1, 1000, 10*ms)
		var worst time.Duration
		for range 5 {
			time.Sleep(5 * time.Second)
			start := time.Now()
			require.Positive(t, a.net.ResetTCP(a.ch, a.sh))
			time.Sleep(3 * time.Second)
			worst = max(worst, up.gap(start, time.Now()), down.gap(start, time.Now()))
		}
		up.finish()
		down.finish()
		t.Logf("gap %v", worst)
		require.LessOrEqual(t, worst, 500*ms)
		require.Empty(t, movesOf(c))
		a.close(c, s)
	})
}

// Both are dead for ten seconds, and come back, either first or both at once.
func TestAutoSimBothDieAndReturn(t *testing.T) {
	for name, back := range map[string]func(a *autoSim){
		"both": func(a *autoSim) { a.blockUDP(false); a.blockTCP(false) },
		"udp":  func(a *autoSim) { a.blockUDP(false) },
		"tcp":  func(a *autoSim) { a.blockTCP(false) },
	} {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				up, down := a.flow(c, s, -1), a.slowFlow(s, c, -1, 1000, 10*ms)
				time.Sleep(2 * time.Second)
				a.blockUDP(true)
				a.blockTCP(true)
				time.Sleep(10 * time.Second)
				start := time.Now()
				back(a)
				time.Sleep(20 * time.Second)
				up.finish()
				down.finish()
				first := max(up.gap(start, start.Add(15*time.Second)), down.gap(start, start.Add(15*time.Second)))
				t.Logf("%v without anything after they are back: %s", first, story(movesOf(c)))
				require.LessOrEqual(t, first, 5*time.Second)
				a.close(c, s)
			})
		})
	}
}

// Both are dead for good: one error, the same at both ends, within the idle timeout, for
// those who read and those who write. Trap A3.
func TestAutoSimBothDead(t *testing.T) {
	const idle = 20 * time.Second
	config := &vstp.Config{IdleTimeout: idle}
	for name, onTCPFirst := range map[string]bool{"udp": false, "tcp": true} {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{client: config, server: config}, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				if onTCPFirst {
					require.NoError(t, c.Move(context.Background(), vstp.CarrierTCP))
				}
				f := a.flow(c, s, -1)
				time.Sleep(2 * time.Second)
				start := time.Now()
				a.blockUDP(true)
				a.blockTCP(true)
				for name, end := range map[string]<-chan error{
					"client's Read":  async(func() error { _, err := c.Read(make([]byte, 1)); return err }),
					"server's Read":  async(func() error { <-f.done; return f.err }),
					"client's Write": f.sent,
				} {
					err := <-end
					require.ErrorIs(t, err, vstp.ErrIdleTimeout, name)
					// A PING after half of the time, to which nothing comes, begins it again
					// (RFC 9000 §10.1).
					require.LessOrEqual(t, time.Since(start), idle+idle/2+time.Second, name)
				}
				t.Logf("after %v, %s; %s", time.Since(start), story(movesOf(c)), story(movesOf(s)))
				require.GreaterOrEqual(t, time.Since(start), idle-time.Second)
				_, err := c.Write([]byte("x"))
				require.ErrorIs(t, err, vstp.ErrIdleTimeout)
				require.LessOrEqual(t, c.Stats().Moves, uint64(8))
				a.close(c, s)
			})
		})
	}
}

// The client gets another address, in the middle of transfers: its UDP path goes on from
// there, and its TCP connection is gone. Trap A6.
func TestAutoSimAddressChanges(t *testing.T) {
	for name, tcp := range map[string]bool{"on udp": false, "on tcp": true} {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				if tcp {
					require.NoError(t, c.Pin(vstp.CarrierTCP))
					require.NoError(t, c.Move(context.Background(), vstp.CarrierTCP))
					require.NoError(t, c.Pin(vstp.CarrierAny))
				}
				up, down := a.slowFlow(c, s, -1, 1000, 50*ms), a.slowFlow(s, c, -1, 1000, 50*ms)
				time.Sleep(2 * time.Second)
				start := time.Now()
				old, now := a.ch, a.net.Host("10.9.0.1")
				a.net.ForgetTCP(old, a.sh)
				require.NoError(t, a.udpSock().Rebind(now, 0))
				a.mu.Lock()
				a.ch = now
				a.mu.Unlock()
				time.Sleep(20 * time.Second)
				gap := max(up.gap(start, time.Now()), down.gap(start, time.Now()))
				t.Logf("gap %v: %s", gap, story(movesOf(c)))
				require.LessOrEqual(t, gap, 2500*ms)
				time.Sleep(3 * time.Minute) // there is a standby from the new address
				start = time.Now()
				a.blockUDP(true)
				time.Sleep(5 * time.Second)
				up.finish()
				down.finish()
				gap = max(up.gap(start, start.Add(4*time.Second)), down.gap(start, start.Add(4*time.Second)))
				t.Logf("then gap %v: %s", gap, story(movesOf(c)))
				require.LessOrEqual(t, gap, 500*ms)
				require.Equal(t, vstp.CarrierTCP, c.Carrier())
				a.close(c, s)
			})
		})
	}
}

// The server is started anew: clients are told soon after the first packet that reaches it.
func TestAutoSimServerRestarted(t *testing.T) {
	for name, within := range map[string]time.Duration{
		"udp alone": autoRTT + 5*ms, // a standby is asked too, that may be with another server
		"udp":       autoRTT + 4*autoRTT + 50*ms,
	} {
		t.Run(name, func(t *testing.T) {
			config := &vstp.Config{Auto: vstp.AutoConfig{NoStandby: name == "udp alone"}}
			eachAuto(t, autoOptions{client: config}, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				a.restart()
				time.Sleep(time.Second)
				start := time.Now()
				c.Write(make([]byte, 1000)) // the answer is smaller: PROTOCOL §8.10
				_, err := c.Read(make([]byte, 1))
				t.Logf("%v: %v", time.Since(start), err)
				require.ErrorIs(t, err, vstp.ErrReset)
				require.LessOrEqual(t, time.Since(start), within)
				a.close(c, s)
			})
		})
	}
	t.Run("tcp", func(t *testing.T) { // with UDP blocked: a reset, and nobody who knows it
		eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
			a.blockUDP(true)
			c, s := a.dialWarm()
			a.restart()
			time.Sleep(time.Second)
			start := time.Now()
			c.Write([]byte("x"))
			_, err := c.Read(make([]byte, 1))
			t.Logf("%v: %v", time.Since(start), err)
			require.ErrorIs(t, err, vstp.ErrReset)
			require.LessOrEqual(t, time.Since(start), autoRTT+a.dialTrips()+5*ms)
			a.close(c, s)
		})
	})
}

// The standby dies while nobody looks, and the operating system says nothing: it is
// noticed and mended before it is needed. Trap A8.
func TestAutoSimStandbyDies(t *testing.T) {
	for name, fault := range map[string]func(a *autoSim){
		"forgotten": func(a *autoSim) { a.net.ForgetTCP(a.ch, a.sh) },
		"stalled for a while": func(a *autoSim) {
			a.stallTCP(true)
			time.AfterFunc(5*time.Minute, func() { a.stallTCP(false) })
		},
		"reset": func(a *autoSim) { a.net.ResetTCP(a.ch, a.sh) },
	} {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				fault(a)
				time.Sleep(10 * time.Minute)
				dials := a.tcpDials()
				require.GreaterOrEqual(t, dials, 2)
				f := a.flow(c, s, -1)
				time.Sleep(2 * time.Second)
				start := time.Now()
				a.blockUDP(true)
				time.Sleep(5 * time.Second)
				f.finish()
				gap := f.gap(start, start.Add(4*time.Second))
				t.Logf("%d connections, gap %v: %s", dials, gap, story(movesOf(c)))
				require.LessOrEqual(t, gap, sized(500*ms, 700*ms))
				a.close(c, s)
			})
		})
	}
	t.Run("udp", func(t *testing.T) { // the standby is UDP, and its NAT forgets it
		eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
			c, s := onTCP(a)
			require.NoError(t, a.udpSock().Rebind(a.ch, 0))
			time.Sleep(10 * time.Minute)
			f := a.flow(s, c, -1)
			time.Sleep(2 * time.Second)
			start := time.Now()
			a.stallTCP(true)
			time.Sleep(8 * time.Second)
			f.finish()
			gap := f.gap(start, start.Add(7*time.Second))
			t.Logf("gap %v: %s", gap, story(movesOf(c)))
			require.LessOrEqual(t, gap, sized(2500*ms, 6000*ms))
			a.close(c, s)
		})
	})
}

// Without a standby a connection is made when it is needed, and not before.
func TestAutoSimNoStandby(t *testing.T) {
	config := &vstp.Config{Auto: vstp.AutoConfig{NoStandby: true}}
	eachAuto(t, autoOptions{client: config}, func(t *testing.T, a *autoSim) {
		c, s := a.dialWarm()
		require.Zero(t, a.tcpDials())
		f := a.flow(c, s, -1)
		time.Sleep(2 * time.Second)
		start := time.Now()
		a.blockUDP(true)
		time.Sleep(5 * time.Second)
		f.finish()
		gap := f.gap(start, start.Add(4*time.Second))
		t.Logf("gap %v: %s", gap, story(movesOf(c)))
		require.LessOrEqual(t, gap, 500*ms+a.dialTrips())
		a.close(c, s)
	})
}

// A client that goes away without a word, as one that was killed, on TCP: its server
// waits for it to come back until the idle timeout, and not longer.
func TestAutoSimClientDies(t *testing.T) {
	config := &vstp.Config{IdleTimeout: 20 * time.Second}
	eachAuto(t, autoOptions{client: config, server: config}, func(t *testing.T, a *autoSim) {
		a.blockUDP(true)
		c, s := a.dialWarm()
		start := time.Now()
		a.net.ResetTCP(a.ch, a.sh)
		a.blockTCP(true)
		require.NoError(t, s.SetReadDeadline(start.Add(10*time.Second)))
		_, err := s.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, s.SetReadDeadline(time.Time{}))
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, vstp.ErrIdleTimeout)
		require.False(t, errors.Is(err, io.EOF))
		require.LessOrEqual(t, time.Since(start), 21*time.Second)
		a.close(c, s)
	})
}
