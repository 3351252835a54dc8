package reliable

import "container/heap"

// When a message is looked at again: its lifetime, and its attempts.

// attemptEnds is when the attempt under way counts as failed.
func (a *Assoc) attemptEnds(m *Outgoing) instant {
	r := &a.c.Retry
	d := r.AckTimeout
	if m.attempts < r.MaxRetries {
		delay := r.MaxDelay
		if m.attempts < 32 {
			if x := r.Delay << m.attempts; x>>m.attempts == r.Delay && x < delay {
				delay = x
			}
		}
		d += delay
	}
	return m.progress.add(d)
}

// schedule has messageDue look at m at t, or earlier.
func (a *Assoc) schedule(m *Outgoing, t instant) {
	switch {
	case m.index < 0:
		m.due = t
		heap.Push(&a.timers, m)
	case t < m.due:
		m.due = t
		heap.Fix(&a.timers, m.index)
	}
}

func (a *Assoc) unschedule(m *Outgoing) {
	if m.index >= 0 && len(a.timers) > m.index && a.timers[m.index] == m {
		heap.Remove(&a.timers, m.index)
	}
	m.index = -1
}

// messagesDue looks at the messages whose time has come.
func (a *Assoc) messagesDue(t instant) {
	for len(a.timers) > 0 && a.timers[0].due <= t {
		m := a.timers[0]
		heap.Pop(&a.timers)
		a.messageDue(t, m)
	}
}

func (a *Assoc) messageDue(t instant, m *Outgoing) {
	if m.expires != 0 && t >= m.expires {
		a.settleMessage(m, ErrExpired)
		return
	}
	if m.Ack && m.started && a.c.Retry.AckTimeout > 0 {
		if ends := a.attemptEnds(m); t >= ends {
			if m.attempts >= a.c.Retry.MaxRetries {
				a.settleMessage(m, ErrNoAck)
				return
			}
			m.attempts++
			m.progress = t
			a.retry(m)
		}
		a.schedule(m, a.attemptEnds(m))
	}
	if m.Ack && !m.started && a.c.Retry.AckTimeout > 0 {
		silence := a.silence(t)
		if silence >= a.patience {
			a.settleMessage(m, ErrNoAck)
			return
		}
		a.schedule(m, t.add(a.patience-silence))
	}
	if m.expires != 0 {
		a.schedule(m, m.expires)
	}
}

// retry has everything sent again that was sent and not acknowledged. The probes let
// some of it out although the window may be full of what was lost.
func (a *Assoc) retry(m *Outgoing) {
	a.stats.MessageRetries++
	if a.on == ByteStream { // which repeats by itself
		a.pingDue = true
		a.loss.probes = max(a.loss.probes, 1)
		return
	}
	m.lost.add(0, m.next)
	for _, r := range m.acked {
		m.lost.remove(r.start, r.end)
	}
	if m.canSend() {
		a.enqueueMessage(m)
		a.loss.probes = max(a.loss.probes, 1)
	}
}

// A messageHeap has the message first that is due first.
type messageHeap []*Outgoing

func (h messageHeap) Len() int           { return len(h) }
func (h messageHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h messageHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *messageHeap) Push(x any) {
	m := x.(*Outgoing)
	m.index = len(*h)
	*h = append(*h, m)
}
func (h *messageHeap) Pop() any {
	old := *h
	m := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	m.index = -1
	return m
}
