package vstp_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// dialTrips is how many round trips a dial by TCP takes at most: to connect, TLS, HELLO.
func (a *autoSim) dialTrips() time.Duration {
	if a.sealed {
		return 3*autoRTT + 10*ms // certificates take their time on the wire
	}
	return 2 * autoRTT
}

// Both work: a connection begins on UDP, has a standby soon, and stays where it is.
func TestAutoSimBoth(t *testing.T) {
	eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
		start := time.Now()
		c, s := a.dialWarm()
		require.Equal(t, vstp.CarrierUDP, c.Carrier())
		require.Equal(t, vstp.CarrierUDP, s.Carrier())
		require.Equal(t, 1, a.tcpDials())
		up, down := a.flow(c, s, 5<<20), a.flow(s, c, 3<<20)
		up.finish()
		down.finish()
		t.Logf("%v in all", time.Since(start))
		require.Empty(t, movesOf(c))
		require.Empty(t, movesOf(s))
		a.close(c, s)
	})
}

// UDP is blocked from the start: a dial costs the head start, once, and the connection is
// on TCP until UDP works. Trap A2.
func TestAutoSimUDPBlocked(t *testing.T) {
	eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
		a.blockUDP(true)
		start := time.Now()
		c, s := a.dial()
		took := time.Since(start)
		require.LessOrEqual(t, took, vstp.DefaultHeadStart+a.dialTrips()+autoDelay)
		require.Equal(t, vstp.CarrierTCP, c.Carrier())
		require.Equal(t, vstp.CarrierTCP, s.Carrier())
		start = time.Now()
		c2, s2 := a.dial()
		t.Logf("%v, and when it is remembered %v", took, time.Since(start))
		require.LessOrEqual(t, time.Since(start), a.dialTrips()+autoDelay)
		a.end(c2, s2)

		f, down := a.slowFlow(c, s, -1, 1000, 20*ms), a.flow(s, c, 4<<20)
		down.finish()
		time.Sleep(time.Minute)
		require.Empty(t, movesOf(c))

		a.blockUDP(false)
		time.Sleep(2 * time.Minute)
		f.finish()
		m := movedTo(t, c, "udp")
		t.Logf("%s; gap %v", story(movesOf(c)), f.gap(m.Time.Add(-time.Second), m.Time.Add(time.Second)))
		require.Equal(t, vstp.CarrierUDP, s.Carrier())
		require.Len(t, movesOf(c), 1)
		a.close(c, s)
	})
}

// TCP is blocked, stalls or is refused at the dial: nobody notices, and the connection
// goes on without a standby until there can be one. Trap A3.
func TestAutoSimTCPBlocked(t *testing.T) {
	faults := map[string]func(a *autoSim, on bool){
		"blocked": func(a *autoSim, on bool) { a.blockTCP(on) },
		"stalled": func(a *autoSim, on bool) { a.stallTCP(on) },
		"refused": func(a *autoSim, on bool) { a.tcp(func(p *simnet.TCPPath) { p.Refused = on }) },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
				fault(a, true)
				start := time.Now()
				c, s := a.dial()
				took := time.Since(start)
				require.LessOrEqual(t, took, 3*autoRTT)
				require.Equal(t, vstp.CarrierUDP, c.Carrier())
				up, down := a.flow(c, s, 4<<20), a.slowFlow(s, c, -1, 1000, 200*ms)
				time.Sleep(10 * time.Minute)
				up.finish()
				require.Empty(t, movesOf(c))
				dials := a.tcpDials()
				require.LessOrEqual(t, dials, 20, "attempts in ten minutes")
				fault(a, false)
				time.Sleep(2 * time.Minute)
				start = time.Now()
				a.blockUDP(true)
				time.Sleep(2 * time.Second)
				down.finish()
				gap := down.gap(start.Add(-time.Second), start.Add(2*time.Second))
				t.Logf("dial %v, %d attempts in ten minutes, gap %v: %s", took, dials, gap, story(movesOf(c)))
				require.LessOrEqual(t, gap, 500*ms)
				require.Equal(t, vstp.CarrierTCP, c.Carrier())
				a.close(c, s)
			})
		})
	}
}

// A server that listens on one of both only.
func TestAutoSimHalfServers(t *testing.T) {
	for name, udp := range map[string]bool{"udp": true, "tcp": false} {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
				a.ln.Close()
				config := a.seal(nil)
				if udp {
					pc := vstp.NewPacketConn(a.sh.ListenPacket(autoPort+1), config)
					ln, err := pc.ListenStream()
					require.NoError(t, err)
					a.ln = ln.(*vstp.Listener)
					defer pc.Close()
				} else {
					ln, err := a.sh.ListenTCP(autoPort + 1)
					require.NoError(t, err)
					a.ln = vstp.NewListener(ln, config)
				}
				start := time.Now()
				cc, err := a.dialer.Dial("auto", netip.AddrPortFrom(a.sh.Addr(), autoPort+1).String())
				require.NoError(t, err)
				t.Logf("after %v", time.Since(start))
				require.LessOrEqual(t, time.Since(start), vstp.DefaultHeadStart+a.dialTrips()+5*ms)
				c := cc.(*vstp.Conn)
				ss, err := a.ln.Accept()
				require.NoError(t, err)
				s := ss.(*vstp.Conn)
				a.conns = append(a.conns, c, s)
				up, down := a.flow(c, s, 1<<20), a.flow(s, c, 1<<20)
				up.finish()
				down.finish()
				require.ErrorIs(t, c.Move(context.Background(), vstp.CarrierAny), vstp.ErrNotSupported)
				a.close(c, s)
			})
		})
	}
}

// Nothing works at the dial: one error, in time. Trap A3.
func TestAutoSimBothBlockedAtDial(t *testing.T) {
	config := &vstp.Config{HandshakeTimeout: 4 * time.Second}
	for name, fault := range map[string]func(a *autoSim, on bool){
		"blocked": func(a *autoSim, on bool) { a.blockTCP(on) },
		"stalled": func(a *autoSim, on bool) { a.stallTCP(on) },
	} {
		t.Run(name, func(t *testing.T) {
			eachAuto(t, autoOptions{client: config}, func(t *testing.T, a *autoSim) {
				a.blockUDP(true)
				fault(a, true)
				start := time.Now()
				_, err := a.dialer.Dial("auto", a.address())
				require.Error(t, err)
				t.Logf("after %v: %v", time.Since(start), err)
				require.LessOrEqual(t, time.Since(start), config.HandshakeTimeout+2*time.Second)
				var timeout interface{ Timeout() bool }
				require.True(t, errors.As(err, &timeout) && timeout.Timeout(), "%v", err)

				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				start = time.Now()
				_, err = a.dialer.DialContext(ctx, "auto", a.address())
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, time.Second, time.Since(start))
				a.close()
			})
		})
	}
}

// A load balancer gives the TCP port to another server: that refuses what it does not
// know, and the connection goes on without a standby.
func TestAutoSimElsewhere(t *testing.T) {
	eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
		other := a.net.Host("10.0.0.3")
		ln := a.listenOn(other, a.config)
		defer ln.Close()
		strangers := make(chan *vstp.Conn, 9)
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				strangers <- c.(*vstp.Conn)
			}
		}()
		a.mu.Lock()
		a.tcpTo = netip.AddrPortFrom(other.Addr(), autoPort)
		a.mu.Unlock()
		c, s := a.dialWarm()
		f := a.slowFlow(c, s, -1, 1000, 100*ms)
		time.Sleep(10 * time.Minute)
		dials := a.tcpDials()
		t.Logf("%d attempts in ten minutes", dials)
		require.Positive(t, dials)
		require.LessOrEqual(t, dials, 30)
		require.Empty(t, strangers)
		require.Empty(t, movesOf(c))

		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := c.Move(ctx, vstp.CarrierTCP)
		t.Logf("Move: %v", err)
		require.Error(t, err)
		f.finish()
		a.mu.Lock()
		a.tcpTo = netip.AddrPort{}
		a.mu.Unlock()
		time.Sleep(2 * time.Minute)
		require.NoError(t, c.Move(context.Background(), vstp.CarrierTCP))
		a.close(c, s)
	})
}
