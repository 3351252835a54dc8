package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// A memory is what this process holds after a garbage collection.
type memory struct {
	heapInuse, heapAlloc, stackInuse uint64
	rss                              uint64
	goroutines                       int
}

func readMemory() memory {
	// Twice, as sync.Pool lets go of its content in two steps.
	runtime.GC()
	runtime.GC()
	debug.FreeOSMemory()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return memory{
		heapInuse: ms.HeapInuse, heapAlloc: ms.HeapAlloc, stackInuse: ms.StackInuse,
		rss:        residentBytes(),
		goroutines: runtime.NumGoroutine(),
	}
}

// perConn returns the growth since start for each of n connections, in KiB.
func (m memory) perConn(start memory, n int) values {
	kib := func(a, b uint64) float64 { return (float64(a) - float64(b)) / 1024 / float64(n) }
	return values{
		"heap":       kib(m.heapInuse, start.heapInuse),
		"live":       kib(m.heapAlloc, start.heapAlloc),
		"stack":      kib(m.stackInuse, start.stackInuse),
		"rss":        kib(m.rss, start.rss),
		"goroutines": float64(m.goroutines-start.goroutines) / float64(n),
	}
}

// A footprint is what one end of a transfer needs beyond what it had before the first
// connection. Nothing of it is looked at while the transfer is measured.
type footprint struct {
	base memory
	rss  uint64 // peak
	live uint64
}

func (f *footprint) start() {
	f.base = readMemory()
	resetResidentPeak()
}

// stop is called at the end of the measurement, with the transfer under way.
func (f *footprint) stop() {
	f.rss = residentPeak()
	runtime.GC()
	sample := []metrics.Sample{{Name: liveHeap}}
	metrics.Read(sample)
	f.live = sample[0].Value.Uint64()
}

// values returns MiB.
func (f *footprint) values() values {
	mib := func(now, base uint64) float64 { return max(0, float64(now)-float64(base)) / (1 << 20) }
	v := values{"live": mib(f.live, f.base.heapAlloc)}
	if f.rss > 0 {
		v["rss"] = mib(f.rss, f.base.rss)
	}
	return v
}

// liveHeap is the metric of what the last garbage collection has found alive.
const liveHeap = "/gc/heap/live:bytes"

// A memoryPeak is what one end of messages needs at most beyond what it had before the first
// connection: live heap as the garbage collector has found it, and resident memory, with
// all garbage, of which a receiver of []byte has some as soon as it has received two.
type memoryPeak struct {
	base memory
	stop chan struct{}
	wg   sync.WaitGroup

	mu         sync.Mutex
	messages   int
	live       uint64
	first, all uint64 // resident, until the first message was whole; and until the end
}

// peakEvery is how often one looks for the result of another garbage collection.
const peakEvery = 2 * time.Millisecond

func (k *memoryPeak) start() {
	k.base = readMemory()
	resetResidentPeak()
	k.stop = make(chan struct{})
	k.wg.Go(func() {
		tick := time.NewTicker(peakEvery)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: liveHeap}}
		for {
			select {
			case <-k.stop:
				return
			case <-tick.C:
			}
			metrics.Read(sample)
			k.mu.Lock()
			k.live = max(k.live, sample[0].Value.Uint64())
			k.mu.Unlock()
		}
	})
}

// received notes that a message is whole, and that it is still held.
func (k *memoryPeak) received() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.messages++; k.messages == 1 {
		k.first = residentPeak()
	}
}

// values ends it. The figures are shares of a message of that size.
func (k *memoryPeak) values(size int) values {
	k.all = residentPeak()
	close(k.stop)
	k.wg.Wait()
	share := func(now, base uint64) float64 { return max(0, float64(now)-float64(base)) / float64(size) }
	v := values{"live": share(k.live, k.base.heapAlloc)}
	if k.all > 0 {
		v["rss.first"], v["rss"] = share(k.first, k.base.rss), share(k.all, k.base.rss)
	}
	return v
}
