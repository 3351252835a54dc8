package vstp_test

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
)

// seedRandom has crypto/rand give the same bytes in each run of t, for connection ids and what
// controllers leave to chance.
//
// For the race detector, the variable that cryptotest sets is read by whatever an earlier test
// has left running: there the one that reads is set before all tests, and what it reads changes.
func seedRandom(t *testing.T, seed uint64) {
	t.Helper()
	if !raceEnabled {
		cryptotest.SetGlobalRandom(t, seed)
		return
	}
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	random.seeded.Store(&lockedReader{r: mathrand.NewChaCha8(key)})
	t.Cleanup(func() { random.seeded.Store(nil) })
}

var random = &randomReader{system: rand.Reader}

// A randomReader reads the system's bytes or seeded ones.
type randomReader struct {
	system io.Reader
	seeded atomic.Pointer[lockedReader]
}

func (r *randomReader) Read(p []byte) (int, error) {
	if s := r.seeded.Load(); s != nil {
		return s.Read(p)
	}
	return r.system.Read(p)
}

// A lockedReader is a reader for several goroutines.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}
