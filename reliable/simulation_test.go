package reliable

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A wire is one direction of a simulated path. Its fields may be changed at any time.
type wire struct {
	delay     time.Duration
	jitter    time.Duration // uniform, on top; packets overtake each other
	loss      float64
	dup       float64
	corrupt   float64
	rate      float64 // bytes per second; 0 is no limit
	queue     int     // bytes that wait at most; 0 is no limit
	mtu       int     // larger ones vanish; 0 is no limit
	down      bool
	drop      func(datagram []byte) bool
	freeAt    time.Time // when the last byte queued has left
	maxQueue  int
	sent      int
	delivered int64
}

// A wirePacket is on its way to one end.
type wirePacket struct {
	at  time.Time
	seq int
	to  int
	b   []byte
	gen int // of the byte stream; 0 is a datagram
}

type wireHeap []wirePacket

func (h wireHeap) Len() int { return len(h) }
func (h wireHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h wireHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *wireHeap) Push(x any)   { *h = append(*h, x.(wirePacket)) }
func (h *wireHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// A rig is two associations, client and server, with a path between them, in
// virtual time: what it does depends on the seed alone.
type rig struct {
	t       testing.TB
	now     time.Time
	start   time.Time
	rng     *rand.Rand
	ends    [2]*Assoc // 0 is the client
	links   [2]wire   // from that end
	way     wireHeap
	seq     int
	onEvent func(end int, e Event)
	steps   int
	pipe    *pipe // the byte stream, nil if there is none
}

// A pipe is a byte stream, both ways.
type pipe struct {
	gen   int // of the connection
	delay time.Duration
	rate  float64
	room  int // bytes on their way at most; 0 is no limit
	stall [2]bool
	busy  [2]int // bytes on their way, by sending end
	last  [2]time.Time
	held  [2][]wirePacket // while it stalls
	sent  [2]int
	see   func(from int, b []byte)
}

// sendFrame puts a frame on the way from an end.
func (s *rig) sendFrame(from int, b []byte) {
	p := s.pipe
	p.sent[from]++
	if len(b) > MaxFrame {
		s.t.Fatalf("frame of %d bytes", len(b))
	}
	if p.see != nil {
		p.see(from, b)
	}
	at := s.now
	if at.Before(p.last[from]) {
		at = p.last[from]
	}
	if p.rate > 0 {
		at = at.Add(time.Duration(float64(len(b)) / p.rate * 1e9))
	}
	p.last[from] = at
	p.busy[from] += len(b)
	s.seq++
	x := wirePacket{at.Add(p.delay), s.seq, 1 - from, append([]byte(nil), b...), p.gen}
	if p.stall[from] {
		p.held[from] = append(p.held[from], x)
		return
	}
	heap.Push(&s.way, x)
}

// flow ends the stall of what an end sends.
func (s *rig) flow(from int) {
	p := s.pipe
	p.stall[from] = false
	for _, x := range p.held[from] {
		if x.at.Before(s.now) {
			x.at = s.now
		}
		heap.Push(&s.way, x)
	}
	p.held[from] = nil
}

// cut breaks the byte stream: what is on its way is lost.
func (s *rig) cut() {
	p := s.pipe
	p.gen++
	p.busy, p.last, p.held, p.stall = [2]int{}, [2]time.Time{}, [2][]wirePacket{}, [2]bool{}
}

// arrived gives an end what has come.
func (s *rig) arrived(x wirePacket) {
	a := s.ends[x.to]
	if x.gen == 0 {
		s.links[1-x.to].delivered += int64(len(x.b))
		a.Receive(s.now, x.b)
		return
	}
	if x.gen != s.pipe.gen {
		return
	}
	s.pipe.busy[1-x.to] -= len(x.b)
	if got := a.ReceiveFrame(s.now, x.b); !got.Opened {
		s.t.Fatalf("frame % x not opened", x.b[:min(len(x.b), 40)])
	}
}

func rigConfig() (c, s Config) {
	limits := Limits{
		MaxDatagram: 1472, MaxData: 1536 << 10, MaxStreamData: 1 << 20, MaxStreams: 16,
		MaxMessage: 100 << 20, MaxMessages: MessageWindow(100 << 20), AckDelay: DefaultAckDelay,
	}
	c = Config{
		Client: true, LocalID: ConnID{1}, PeerID: ConnID{2}, Checksum: true, Local: limits, Peer: limits, SearchMTU: 1472,
		IdleTimeout: time.Minute,
		Retry:       Retry{MaxRetries: 3, AckTimeout: 2 * time.Second, Delay: 100 * time.Millisecond, MaxDelay: 5 * time.Second},
	}
	s = c
	s.Client, s.LocalID, s.PeerID = false, c.PeerID, c.LocalID
	return c, s
}

func newRig(t testing.TB, seed uint64, link wire, config ...func(*Config)) *rig {
	s := &rig{t: t, rng: rand.New(rand.NewPCG(seed, 1))}
	s.start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s.now = s.start
	s.links = [2]wire{link, link}
	cc, sc := rigConfig()
	cc.Seed, sc.Seed = seed, seed+1
	for _, f := range config {
		f(&cc)
		f(&sc)
	}
	if sealRigs {
		sealConfigs(t, &cc, &sc)
	}
	s.ends[0], s.ends[1] = New(s.now, &cc), New(s.now, &sc)
	return s
}

// send puts a datagram on the way from an end.
func (s *rig) send(from int, b []byte) {
	l := &s.links[from]
	l.sent++
	if l.down || l.mtu > 0 && len(b) > l.mtu || l.drop != nil && l.drop(b) || s.rng.Float64() < l.loss {
		return
	}
	at := s.now
	if l.rate > 0 {
		if l.freeAt.Before(s.now) {
			l.freeAt = s.now
		}
		waiting := int(l.freeAt.Sub(s.now).Seconds() * l.rate)
		if l.queue > 0 && waiting+len(b) > l.queue {
			return
		}
		l.maxQueue = max(l.maxQueue, waiting+len(b))
		l.freeAt = l.freeAt.Add(time.Duration(float64(len(b)+28) / l.rate * 1e9))
		at = l.freeAt
	}
	n := 1
	if s.rng.Float64() < l.dup {
		n = 2
	}
	for range n {
		d := l.delay
		if l.jitter > 0 {
			d += time.Duration(s.rng.Int64N(int64(l.jitter)))
		}
		c := append([]byte(nil), b...)
		if s.rng.Float64() < l.corrupt {
			c[s.rng.IntN(len(c))] ^= 1 << s.rng.IntN(8)
		}
		s.seq++
		heap.Push(&s.way, wirePacket{at.Add(d), s.seq, 1 - from, c, 0})
	}
}

// flush lets an end send all it can.
func (s *rig) flush(end int) {
	a := s.ends[end]
	for n := 0; ; n++ {
		b := a.AppendDatagram(s.now, nil)
		if len(b) == 0 {
			break
		}
		if len(b) > MaxMTU {
			s.t.Fatalf("datagram of %d bytes", len(b))
		}
		s.send(end, b)
		if n > 1<<16 {
			s.t.Fatal("an end sends without end")
		}
	}
	for p := s.pipe; p != nil && (p.room == 0 || p.busy[end] < p.room); {
		b := a.AppendFrame(s.now, nil)
		if len(b) == 0 {
			break
		}
		s.sendFrame(end, b)
	}
	for e := a.NextEvent(); e.Kind != EventNone; e = a.NextEvent() {
		if s.onEvent != nil {
			s.onEvent(end, e)
		}
	}
}

// step goes to the next thing that happens before limit, and reports false if there is none.
func (s *rig) step(limit time.Time) bool {
	s.flush(0)
	s.flush(1)
	next := limit
	if len(s.way) > 0 && s.way[0].at.Before(next) {
		next = s.way[0].at
	}
	for end, a := range s.ends {
		at := a.Timeout()
		if p := s.pipe; p != nil && p.room > 0 && p.busy[end] >= p.room && !at.IsZero() && !at.After(s.now) {
			at = s.now.Add(time.Millisecond) // what is due has to wait
		}
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	if !next.Before(limit) {
		s.now = limit
		return false
	}
	if next.After(s.now) {
		s.now, s.steps = next, 0
	} else if s.steps++; s.steps > 100000 {
		s.t.Fatalf("time stands still at %v: timeouts %v %v", s.now.Sub(s.start), s.ends[0].Timeout().Sub(s.now), s.ends[1].Timeout().Sub(s.now))
	}
	for len(s.way) > 0 && !s.way[0].at.After(s.now) {
		p := heap.Pop(&s.way).(wirePacket)
		s.arrived(p)
	}
	for _, a := range s.ends {
		if at := a.Timeout(); !at.IsZero() && !at.After(s.now) {
			a.Advance(s.now)
		}
	}
	return true
}

// run lets everything happen until done says so, or d is over.
func (s *rig) run(d time.Duration, done func() bool) bool {
	limit := s.now.Add(d)
	for !done() {
		if !s.step(limit) {
			return done()
		}
	}
	return true
}

func (s *rig) since() time.Duration { return s.now.Sub(s.start) }

// bulk sends n bytes on stream 0 from one end, and returns how long it took.
func (s *rig) bulk(from int, n int, limit time.Duration) (time.Duration, error) {
	return s.bulkWith(from, n, limit, func() {})
}

// bulkWith is bulk, and calls each at every step.
func (s *rig) bulkWith(from int, n int, limit time.Duration, each func()) (time.Duration, error) {
	const period = 4093
	pattern := make([]byte, 512<<10)
	for i := range pattern {
		pattern[i] = byte(i % period * 7 >> 3)
	}
	written, read := 0, 0
	begin := s.now
	buf := make([]byte, 256<<10)
	var failure error
	ok := s.run(limit, func() bool {
		each()
		for written < n {
			p := pattern[written%period:][:min(64<<10, n-written)]
			m, err := s.ends[from].Write(s.now, 0, p)
			if err != nil {
				failure = err
				return true
			}
			written += m
			if m < len(p) {
				break
			}
		}
		for {
			m, err := s.ends[1-from].Read(s.now, 0, buf)
			if !bytes.Equal(buf[:m], pattern[read%period:][:m]) {
				failure = fmt.Errorf("wrong bytes from %d on", read)
				return true
			}
			read += m
			if m == 0 || err != nil {
				if err != nil {
					failure = err
				}
				break
			}
		}
		return failure != nil || read == n
	})
	if failure == nil && !ok {
		failure = fmt.Errorf("%d of %d bytes arrived after %v; sender %+v", read, n, s.now.Sub(begin), s.ends[from].Stats())
	}
	return s.now.Sub(begin), failure
}

// TestSimulatedBulk holds goodput on links, from the first packet on, to its marks.
func TestSimulatedBulk(t *testing.T) {
	for _, tt := range []struct {
		rate float64
		rtt  time.Duration
		loss float64
		min  float64
	}{
		{100, 40 * time.Millisecond, 0, 0.94},
		{100, 40 * time.Millisecond, 0.01, 0.91},
		{100, 40 * time.Millisecond, 0.05, 0.86},
		{50, 200 * time.Millisecond, 0.02, 0.80},
		{1000, 2 * time.Millisecond, 0, 0.9},
		{10, 20 * time.Millisecond, 0.3, 0.3},
	} {
		if raceEnabled && tt.rate > 100 {
			continue // too many packets
		}
		t.Run(fmt.Sprint(tt.rate, tt.rtt, tt.loss), func(t *testing.T) {
			s := newRig(t, 1, wire{delay: tt.rtt / 2, loss: tt.loss, rate: tt.rate * mbit, queue: int(tt.rate * mbit * tt.rtt.Seconds())})
			n := int(tt.rate * mbit * 10)
			d, err := s.bulk(0, n, 100*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			share := float64(n) / d.Seconds() / (tt.rate * mbit)
			st := s.ends[0].Stats()
			t.Logf("goodput %.3f of the rate, queue %.2f BDP, %d lost of %d, late %d, retransmitted %.3f, PTO %d, MTU %d, cwnd %d %s",
				share, float64(s.links[0].maxQueue)/(tt.rate*mbit*tt.rtt.Seconds()), st.PacketsLost, st.PacketsSent, st.PacketsLate,
				float64(st.BytesRetransmitted)/float64(n), st.ProbeTimeouts, st.MTU, st.CongestionWindow, st.State)
			if sealRigs {
				tt.min -= 0.01 // packets have 12 bytes more around them
			}
			if share < tt.min {
				t.Errorf("goodput below %.2f", tt.min)
			}
		})
	}
}
