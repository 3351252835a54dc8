package reliable

import (
	"math/rand/v2"
	"time"
)

// simPath is a network of one bottleneck: a droptail queue that is served at a rate,
// then a delay, and the way back, which is only a delay.
type simPath struct {
	rate   float64       // bytes per second
	rtt    time.Duration // without a queue
	queue  int           // bytes
	loss   float64       // share lost at random, after the bottleneck
	burst  float64       // mean length of a burst of losses in packets; 0 and 1 are independent losses
	jitter time.Duration // most that is added at random on the way back; the order is kept
	police bool          // no queue is built: what comes faster than rate is dropped when queue bytes of credit are used up
}

func (p simPath) bdp() float64 { return p.rate * p.rtt.Seconds() }

// simFlow is a sender with its receiver.
type simFlow struct {
	ctl   controller
	start instant
	mtu   int
	every int           // packets per ACK; 2 if zero
	delay time.Duration // longest delay of an ACK; 5 ms if zero
	batch time.Duration // ACKs arrive at multiples of it only
	tick  time.Duration // timers fire at multiples of it only
	limit int           // bytes in flight that the receiver allows; 0 is any
	on    time.Duration // the application sends so long,
	off   time.Duration // then pauses so long

	pacer     pacer
	packets   []simPacket // from base on
	base      int
	next      int // packet number
	inflight  int
	largest   int // acknowledged, -1
	srtt      time.Duration
	rttvar    time.Duration
	minRTT    time.Duration
	lastRTT   time.Duration
	timer     instant
	pto       instant
	probes    int
	toAck     []simAck
	ackAt     instant
	lastBack  instant
	highest   int
	acked     []ackedPacket
	lostList  []ackedPacket
	delivered int64 // bytes that came to the receiver
	lostBytes int64
	sentBytes int64
	marks     []int64 // delivered, each 100 ms
}

type simPacket struct {
	ratePacket
	size  int
	state uint8 // 0 in flight, 1 acknowledged, 2 lost
}

type simAck struct {
	pn   int
	came instant
}

type simKind uint8

const (
	simWake simKind = iota
	simDepart
	simArrive
	simAckTimer
	simAckArrive
	simChange
	simMark
)

type simEvent struct {
	at   instant
	seq  int
	kind simKind
	flow *simFlow
	pn   int
	acks []simAck
	f    func()
}

// simHeap is a heap by time, then by order.
type simHeap []simEvent

func (h simHeap) less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}

func (h *simHeap) push(e simEvent) {
	*h = append(*h, e)
	q := *h
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.less(i, up) {
			break
		}
		q[i], q[up] = q[up], q[i]
		i = up
	}
}

func (h *simHeap) pop() simEvent {
	q := *h
	e := q[0]
	n := len(q) - 1
	q[0] = q[n]
	q[n] = simEvent{}
	q = q[:n]
	*h = q
	for i := 0; ; {
		least := i
		for _, down := range [2]int{2*i + 1, 2*i + 2} {
			if down < n && q.less(down, least) {
				least = down
			}
		}
		if least == i {
			return e
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
}

type simQueued struct {
	flow *simFlow
	pn   int
	size int
}

// sim runs flows over a path, by events.
type sim struct {
	path   simPath
	flows  []*simFlow
	rng    *rand.Rand
	now    instant
	events simHeap
	seq    int
	q      []simQueued
	qBytes int
	bad    bool    // in a burst of losses
	dead   bool    // everything is lost
	credit float64 // of the policer
	last   instant

	qSum  float64 // bytes * seconds
	qMax  int
	qLast instant
	qFrom instant
	drops int
}

func newSim(seed uint64, p simPath, flows ...*simFlow) *sim {
	s := &sim{path: p, flows: flows, rng: rand.New(rand.NewPCG(seed, 1)), now: 1, credit: float64(p.queue)}
	for _, f := range flows {
		if f.mtu == 0 {
			f.mtu = 1400
		}
		if f.every == 0 {
			f.every = 2
		}
		if f.delay == 0 {
			f.delay = 5 * time.Millisecond
		}
		f.largest = -1
		f.highest = -1
		f.start = max(f.start, 1)
		f.ctl.mtuChanged(f.mtu)
		f.pacer.init(f.start)
		s.push(simEvent{at: f.start, kind: simWake, flow: f})
		f.timer = f.start
	}
	s.push(simEvent{at: 0, kind: simMark})
	return s
}

func (s *sim) push(e simEvent) {
	s.seq++
	e.seq = s.seq
	s.events.push(e)
}

// at runs f at a time.
func (s *sim) at(d time.Duration, f func()) {
	s.push(simEvent{at: instant(d), kind: simChange, f: f})
}

// run runs until a time.
func (s *sim) run(d time.Duration) {
	end := instant(d)
	for len(s.events) > 0 && s.events[0].at <= end {
		e := s.events.pop()
		s.now = e.at
		switch e.kind {
		case simWake:
			if e.flow.timer == e.at {
				e.flow.timer = 0
				s.wake(e.flow)
			}
		case simDepart:
			s.depart()
		case simArrive:
			s.arrive(e.flow, e.pn)
		case simAckTimer:
			if e.flow.ackAt == e.at {
				s.sendAck(e.flow)
			}
		case simAckArrive:
			s.ackArrived(e.flow, e.acks)
		case simChange:
			e.f()
			for _, f := range s.flows {
				s.wake(f)
			}
		case simMark:
			for _, f := range s.flows {
				f.marks = append(f.marks, f.delivered)
			}
			s.push(simEvent{at: s.now.add(100 * time.Millisecond), kind: simMark})
		}
	}
	s.now = end
	s.account()
}

// resetQueue begins the statistics of the queue.
func (s *sim) resetQueue() {
	s.account()
	s.qSum, s.qMax, s.qFrom = 0, 0, s.now
}

func (s *sim) account() {
	s.qSum += float64(s.qBytes) * s.now.sub(s.qLast).Seconds()
	s.qLast = s.now
}

// queueMean returns the mean queue in bytes since resetQueue.
func (s *sim) queueMean() float64 { return s.qSum / s.now.sub(s.qFrom).Seconds() }

func (s *sim) setTimer(f *simFlow, at instant) {
	if f.tick > 0 && at%instant(f.tick) != 0 {
		at = (at/instant(f.tick) + 1) * instant(f.tick)
	}
	at = max(at, s.now+1)
	if f.timer == 0 || at < f.timer {
		f.timer = at
		s.push(simEvent{at: at, kind: simWake, flow: f})
	}
}

func (f *simFlow) hasData(now instant) (bool, instant) {
	if f.off == 0 {
		return true, 0
	}
	cycle := instant(f.on + f.off)
	t := (now - f.start) % cycle
	if t < instant(f.on) {
		return true, 0
	}
	return false, now - t + cycle
}

// wake sends what may go.
func (s *sim) wake(f *simFlow) {
	if s.now < f.start {
		return
	}
	if f.pto != 0 && s.now >= f.pto && f.inflight > 0 {
		s.timeout(f)
	}
	for {
		data, again := f.hasData(s.now)
		if !data {
			f.ctl.appLimited(f.inflight)
			s.setTimer(f, again)
			break
		}
		if f.limit > 0 && f.inflight+f.mtu > f.limit {
			if f.inflight+f.mtu <= f.ctl.window() {
				f.ctl.appLimited(f.inflight)
			}
			break
		}
		if f.inflight+f.mtu > f.ctl.window() {
			break
		}
		f.pacer.setRate(f.ctl.pacingRate())
		f.pacer.setBurst(f.mtu, f.ctl.window())
		if at := f.pacer.next(s.now, f.mtu); at > s.now {
			s.setTimer(f, at)
			break
		}
		s.send(f)
	}
	if f.pto != 0 {
		s.setTimer(f, f.pto)
	}
}

func (s *sim) send(f *simFlow) {
	p := simPacket{size: f.mtu}
	f.ctl.packetSent(s.now, &p.ratePacket, f.mtu, f.inflight)
	f.pacer.packetSent(s.now, f.mtu)
	f.packets = append(f.packets, p)
	f.inflight += f.mtu
	f.sentBytes += int64(f.mtu)
	pn := f.next
	f.next++
	s.armPTO(f)
	s.enqueue(simQueued{f, pn, f.mtu})
}

func (s *sim) armPTO(f *simFlow) {
	if f.inflight == 0 {
		f.pto = 0
		return
	}
	d := 600 * time.Millisecond
	if f.srtt > 0 {
		d = f.srtt + max(4*f.rttvar, time.Millisecond) + f.delay
	}
	f.pto = s.now.add(min(d<<min(f.probes, 10), 2*time.Second))
}

func (s *sim) timeout(f *simFlow) {
	f.probes++
	if f.probes == 3 {
		f.ctl.persistentCongestion(s.now)
	}
	s.send(f) // a probe
}

func (f *simFlow) lose(i int) {
	p := &f.packets[i]
	if p.state != 0 {
		return
	}
	p.state = 2
	f.lostBytes += int64(p.size)
	f.lostList = append(f.lostList, ackedPacket{p.ratePacket, p.size})
}

func (f *simFlow) trim() {
	n := 0
	for n < len(f.packets) && f.packets[n].state != 0 {
		n++
	}
	f.packets = f.packets[n:]
	f.base += n
}

func (s *sim) enqueue(p simQueued) {
	s.account()
	if s.path.police {
		s.credit = min(s.credit+s.path.rate*s.now.sub(s.last).Seconds(), float64(s.path.queue))
		s.last = s.now
		if s.credit < float64(p.size) {
			s.drops++
			return
		}
		s.credit -= float64(p.size)
		s.forward(p)
		return
	}
	if s.qBytes+p.size > s.path.queue+p.size && len(s.q) > 0 {
		s.drops++
		return
	}
	s.q = append(s.q, p)
	s.qBytes += p.size
	s.qMax = max(s.qMax, s.qBytes)
	if len(s.q) == 1 {
		s.serve()
	}
}

func (s *sim) serve() {
	d := time.Duration(float64(s.q[0].size) / s.path.rate * 1e9)
	s.push(simEvent{at: s.now.add(d), kind: simDepart})
}

func (s *sim) depart() {
	s.account()
	p := s.q[0]
	s.q = s.q[1:]
	s.qBytes -= p.size
	if len(s.q) > 0 {
		s.serve()
	}
	s.forward(p)
}

func (s *sim) forward(p simQueued) {
	if s.dead || s.lose() {
		return
	}
	s.push(simEvent{at: s.now.add(s.path.rtt / 2), kind: simArrive, flow: p.flow, pn: p.pn})
}

func (s *sim) lose() bool {
	if s.path.loss == 0 {
		return false
	}
	if s.path.burst <= 1 {
		return s.rng.Float64() < s.path.loss
	}
	// Two states (Gilbert): in the bad one everything is lost.
	if s.bad {
		s.bad = s.rng.Float64() >= 1/s.path.burst
	} else {
		s.bad = s.rng.Float64() < s.path.loss/(1-s.path.loss)/s.path.burst
	}
	return s.bad
}

func (s *sim) arrive(f *simFlow, pn int) {
	f.delivered += int64(f.mtu)
	f.toAck = append(f.toAck, simAck{pn, s.now})
	gap := pn != f.highest+1
	f.highest = max(f.highest, pn)
	if len(f.toAck) >= f.every || gap {
		s.sendAck(f)
	} else if f.ackAt == 0 {
		f.ackAt = s.now.add(f.delay)
		s.push(simEvent{at: f.ackAt, kind: simAckTimer, flow: f})
	}
}

func (s *sim) sendAck(f *simFlow) {
	f.ackAt = 0
	if s.dead || len(f.toAck) == 0 {
		f.toAck = nil
		return
	}
	at := s.now.add(s.path.rtt - s.path.rtt/2)
	if s.path.jitter > 0 {
		at = at.add(time.Duration(s.rng.Int64N(int64(s.path.jitter))))
	}
	if f.batch > 0 && at%instant(f.batch) != 0 {
		at = (at/instant(f.batch) + 1) * instant(f.batch)
	}
	at = max(at, f.lastBack)
	f.lastBack = at
	s.push(simEvent{at: at, kind: simAckArrive, flow: f, acks: f.toAck})
	f.toAck = nil
}

func (s *sim) ackArrived(f *simFlow, acks []simAck) {
	sample := ackSample{now: s.now, prior: f.inflight}
	f.acked, f.lostList = f.acked[:0], f.lostList[:0]
	for _, a := range acks {
		if a.pn < f.base || f.packets[a.pn-f.base].state != 0 {
			if a.pn < f.base || f.packets[a.pn-f.base].state == 2 {
				f.ctl.spurious(s.now, f.mtu)
			}
			continue
		}
		p := &f.packets[a.pn-f.base]
		p.state = 1
		f.acked = append(f.acked, ackedPacket{p.ratePacket, p.size})
		sample.ackedLen += p.size
		if a.pn > f.largest {
			f.largest = a.pn
			// Without the delay of the ACK, which the receiver reports.
			sample.rtt = s.now.sub(p.sent) - acks[len(acks)-1].came.sub(a.came)
		}
	}
	if len(f.acked) == 0 {
		return
	}
	f.probes = 0
	if r := sample.rtt; r > 0 {
		f.lastRTT = r
		if f.srtt == 0 {
			f.srtt, f.rttvar, f.minRTT = r, r/2, r
		}
		f.minRTT = min(f.minRTT, r)
		f.rttvar += ((f.srtt - r).Abs() - f.rttvar) / 4
		f.srtt += (r - f.srtt) / 8
	}
	late := s.now.add(-max(f.srtt, f.lastRTT) * 9 / 8)
	for i := range f.packets {
		pn := f.base + i
		if pn >= f.largest {
			break
		}
		if p := &f.packets[i]; p.state == 0 && (pn+3 <= f.largest || p.sent < late) {
			f.lose(i)
			sample.lostLen += p.size
		}
	}
	f.trim()
	f.inflight -= sample.ackedLen + sample.lostLen
	sample.inflight = f.inflight
	sample.acked, sample.lost = f.acked, f.lostList
	sample.srtt, sample.minRTT = f.srtt, f.minRTT
	f.ctl.acked(&sample)
	s.armPTO(f)
	s.wake(f)
}

// rateBetween returns what arrived between two times, multiples of 100 ms, in bytes per second.
func (f *simFlow) rateBetween(from, to time.Duration) float64 {
	i, j := int(from/(100*time.Millisecond)), int(to/(100*time.Millisecond))
	j = min(j, len(f.marks)-1)
	return float64(f.marks[j]-f.marks[i]) / (to - from).Seconds()
}

func jain(x ...float64) float64 {
	var sum, sq float64
	for _, v := range x {
		sum += v
		sq += v * v
	}
	return sum * sum / (float64(len(x)) * sq)
}

// share returns what arrived between two times in seconds, in terms of the rate of the path.
func (f *simFlow) share(s *sim, from, to int) float64 {
	return f.rateBetween(time.Duration(from)*time.Second, time.Duration(to)*time.Second) / s.path.rate
}

func (f *simFlow) lossRate() float64 { return float64(f.lostBytes) / float64(max(f.sentBytes, 1)) }
