package endpoint

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// parkedRole returns a role of which the background goroutine rests.
func parkedRole() *readRole {
	return &readRole{possible: true, resume: make(chan struct{}, 1), grace: graceTurn, parked: true}
}

// exchanges is a client that has n exchanges, each of which takes some microseconds.
func exchanges(o *readRole, n int) {
	for range n {
		if o.take() {
			time.Sleep(20 * time.Microsecond)
			o.release()
		}
		time.Sleep(5 * time.Microsecond)
	}
}

// nextGrace returns how long the next grace would be.
func nextGrace(o *readRole) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.grace
}

// resumed returns how long it takes until the background goroutine reads.
func resumed(o *readRole) time.Duration {
	start := time.Now()
	<-o.resume
	return time.Since(start)
}

// Short exchanges make the grace longer, and never longer than maxGrace; whoever stops
// is waited for once, and begins with a short one again.
func TestGraceGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := parkedRole()
		exchanges(o, steadyTurns-1)
		require.LessOrEqual(t, resumed(o), 2*graceTurn)

		o = parkedRole()
		exchanges(o, 10_000)
		require.Equal(t, maxGrace, nextGrace(o))
		require.LessOrEqual(t, resumed(o), 2*maxGrace) // the one under way had exchanges
		require.Equal(t, graceTurn, nextGrace(o))
	})
}

// A turn with much to read makes the grace short: what comes next may be much, too,
// and the socket's buffer must not overflow meanwhile.
func TestGraceOfRush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := parkedRole()
		exchanges(o, 10_000)
		require.True(t, o.take())
		o.rush()
		o.release()
		require.Equal(t, graceTurn, nextGrace(o))
		<-o.resume // the grace under way was as long as before
		o.mu.Lock()
		o.parked, o.skip = true, 0
		o.mu.Unlock()
		exchanges(o, steadyTurns-1)
		require.LessOrEqual(t, resumed(o), 2*graceTurn)
	})
}
