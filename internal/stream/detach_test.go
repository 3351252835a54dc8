package stream

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// TestDetachedIsForgotten: a Bearer keeps nothing of the session that it came from, which is
// 2 KB for each connection.
func TestDetachedIsForgotten(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cc, sc, _ := autoConfigs(m)
				c, s, _, _ := m.pair(t, cc, sc)
				cb, sb := c.Detach(), s.Detach()
				gone := [...]weak.Pointer[Session]{weak.Make(c), weak.Make(s)}
				c, s = nil, nil
				exchange(t, cb, sb)
				time.Sleep(time.Minute) // timers of the handshake
				synctest.Wait()
				for range 3 {
					runtime.GC()
				}
				for i, p := range gone {
					if p.Value() != nil {
						t.Errorf("the session of end %d is still there", i)
					}
				}
				exchange(t, cb, sb)
				cb.Close()
				sb.Close()
			})
		})
	}
}
