package vstp_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// An hour at 30 % loss does not make a connection go to and fro: not with little traffic,
// and not with all that the path takes. Trap A4.
func TestAutoSimNoFlapping(t *testing.T) {
	slow := simnet.Path{Delay: autoDelay, Loss: 0.3, Rate: 12_500, Queue: 10_000}
	noFlapping(t, []flapping{
		{"light, both lose 30 %", simnet.Path{Delay: autoDelay, Loss: 0.3}, simnet.TCPPath{Delay: autoDelay, Loss: 0.3}, false, 300},
		{"bulk, both lose 30 %", slow, simnet.TCPPath{Delay: autoDelay, Loss: 0.3, Rate: slow.Rate}, true, 300},
		{"light, udp loses 30 %", simnet.Path{Delay: autoDelay, Loss: 0.3}, simnet.TCPPath{Delay: autoDelay}, false, 300},
		{"bulk, udp loses 30 %", slow, simnet.TCPPath{Delay: autoDelay, Rate: slow.Rate}, true, 300},
		{"light, equal", simnet.Path{Delay: autoDelay, Jitter: 5 * ms}, simnet.TCPPath{Delay: autoDelay}, false, 0},
	})
}

// flapping is a case of noFlapping.
type flapping struct {
	name  string
	udp   simnet.Path
	tcp   simnet.TCPPath
	bulk  bool
	moves uint64 // in an hour
}

func noFlapping(t *testing.T, cases []flapping) {
	hour := sized(time.Hour, 5*time.Minute)
	if testing.Short() {
		hour = 5 * time.Minute
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			eachAuto(t, autoOptions{udp: &c.udp, tcp: &c.tcp, buffer: 32 << 10}, func(t *testing.T, a *autoSim) {
				cc, s := a.dialWarm()
				var up *autoFlow
				if c.bulk {
					up = a.flow(cc, s, -1)
				} else {
					up = a.slowFlow(cc, s, -1, 100, time.Second)
				}
				down := a.slowFlow(s, cc, -1, 100, time.Second)
				time.Sleep(hour)
				up.finish()
				down.finish()
				moves := max(cc.Stats().Moves, s.Stats().Moves)
				t.Logf("%d moves in %v: %s", moves, hour, story(movesOf(cc)))
				require.LessOrEqual(t, moves, c.moves)
				a.close(cc, s)
			})
		})
	}
}

// What a connection that does nothing costs on the wire: the standby at most 200 bytes a
// minute, with all headers of TCP and IP. Trap A8.
func TestAutoSimIdleBytes(t *testing.T) {
	for _, on := range []vstp.Carrier{vstp.CarrierUDP, vstp.CarrierTCP} {
		t.Run(fmt.Sprintf("on %v", on), func(t *testing.T) {
			eachAuto(t, autoOptions{client: &vstp.Config{Auto: vstp.AutoConfig{Prefer: on}}}, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				require.Equal(t, on, c.Carrier())
				count := func() (udp, tcp uint64) {
					for _, w := range [][2]*simnet.Host{{a.ch, a.sh}, {a.sh, a.ch}} {
						u, t := a.net.Path(w[0], w[1]).Stats(), a.net.TCP(w[0], w[1]).Stats()
						udp += u.SentBytes + u.Sent*28
						tcp += t.Bytes + t.Segments*52 // an acknowledgement rides on the answer, but for one
					}
					return udp, tcp
				}
				const minutes = 60
				time.Sleep(time.Minute)
				udp, tcp := count()
				time.Sleep(minutes * time.Minute)
				udp2, tcp2 := count()
				t.Logf("bytes a minute: %d on UDP, %d on TCP", (udp2-udp)/minutes, (tcp2-tcp)/minutes)
				standby := tcp2 - tcp
				if on == vstp.CarrierTCP {
					standby = udp2 - udp
				}
				require.LessOrEqual(t, standby/minutes, uint64(200))
				require.Positive(t, standby)
				require.Empty(t, movesOf(c))
				require.Equal(t, 1, a.tcpDials())
				a.close(c, s)
			})
		})
	}
}
