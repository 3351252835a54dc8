package auto

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vstp-go/vstp/reliable"
)

func TestMemory(t *testing.T) {
	var m Memory
	_, ok := m.Get("a", epoch)
	require.False(t, ok)
	m.Forget("a")
	m.Put("a", reliable.ByteStream, epoch, time.Minute)
	c, ok := m.Get("a", epoch.Add(time.Minute-1))
	require.True(t, ok)
	require.Equal(t, reliable.ByteStream, c)
	_, ok = m.Get("a", epoch.Add(time.Minute))
	require.False(t, ok, "until its time is over")
	m.Put("a", reliable.Datagrams, epoch, time.Minute)
	m.Put("a", reliable.Datagrams, epoch, 0)
	_, ok = m.Get("a", epoch)
	require.False(t, ok, "no time to live")
	m.Put("a", reliable.Datagrams, epoch, time.Minute)
	m.Forget("a")
	_, ok = m.Get("a", epoch)
	require.False(t, ok)
}

// TestMemoryBounded: trap S3.
func TestMemoryBounded(t *testing.T) {
	m := NewMemory(3)
	for i := range 10 {
		m.Put(strconv.Itoa(i), reliable.ByteStream, epoch, time.Minute)
		require.LessOrEqual(t, len(m.entries), 3)
	}
	for i := range 10 {
		_, ok := m.Get(strconv.Itoa(i), epoch)
		require.Equal(t, i >= 7, ok, "the oldest goes out")
	}
	m.Put("7", reliable.Datagrams, epoch, time.Hour) // is the newest now
	m.Put("new", reliable.Datagrams, epoch, time.Hour)
	_, ok := m.Get("7", epoch)
	require.True(t, ok)
	m.Put("newer", reliable.Datagrams, epoch.Add(time.Minute), time.Hour)
	_, ok = m.Get("7", epoch.Add(time.Minute))
	require.True(t, ok, "what has expired goes first")

	var zero Memory
	for i := range 2 * defaultMemory {
		zero.Put(strconv.Itoa(i), 0, epoch, time.Hour)
	}
	require.Len(t, zero.entries, defaultMemory)
}

func TestMemoryConcurrent(t *testing.T) {
	m := NewMemory(8)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				key := strconv.Itoa((g + i) % 20)
				m.Put(key, reliable.Carrier(i&1), epoch, time.Minute)
				m.Get(key, epoch)
				m.Forget(key)
			}
		})
	}
	wg.Wait()
}
