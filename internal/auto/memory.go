package auto

import (
	"sync"
	"time"

	"github.com/vstp-go/vstp/reliable"
)

// defaultMemory bounds a Memory that was not told its size. One entry is an address.
const defaultMemory = 1024

// A Memory knows which carrier worked for a destination, so that the next session
// begins there. It has a bounded number of entries and drops the oldest. The zero value
// is ready to use. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	max     int // 0 stands for defaultMemory
	entries map[string]memoryEntry
	puts    uint64 // orders the entries
}

type memoryEntry struct {
	carrier reliable.Carrier
	expires time.Time
	put     uint64
}

// NewMemory returns a Memory of at most max destinations. If max is not positive, it is 1024.
func NewMemory(max int) *Memory {
	return &Memory{max: max}
}

// Put remembers for ttl that c worked for key. If ttl is not positive, it forgets key.
func (m *Memory) Put(key string, c reliable.Carrier, now time.Time, ttl time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ttl <= 0 {
		delete(m.entries, key)
		return
	}
	if m.entries == nil {
		m.entries = make(map[string]memoryEntry)
	}
	if _, ok := m.entries[key]; !ok && len(m.entries) >= orDefault(m.max, defaultMemory) {
		m.makeRoom(now)
	}
	m.puts++
	m.entries[key] = memoryEntry{carrier: c, expires: now.Add(ttl), put: m.puts}
}

// makeRoom drops what has expired, or else the entry that was put first.
func (m *Memory) makeRoom(now time.Time) {
	oldest, found, expired := "", false, false
	for key, e := range m.entries {
		if !now.Before(e.expires) {
			delete(m.entries, key)
			expired = true
		} else if !found || e.put < m.entries[oldest].put {
			oldest, found = key, true
		}
	}
	if !expired && found {
		delete(m.entries, oldest)
	}
}

// Get returns the carrier that worked for key, if it is still known.
func (m *Memory) Get(key string, now time.Time) (c reliable.Carrier, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	if !ok || !now.Before(e.expires) {
		delete(m.entries, key)
		return 0, false
	}
	return e.carrier, true
}

// Forget drops what is known about key.
func (m *Memory) Forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
}
