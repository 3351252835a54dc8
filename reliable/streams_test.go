package reliable

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// streamsModel has the client open many more streams than it may at a time, send on each
// and have it echoed. Both ends act on events alone, as blocked calls do: a wake-up that is
// missing shows as a standstill.
type streamsModel struct {
	t      *testing.T
	s      *rig
	left   int // to be opened
	writes [2]map[StreamID][]byte
	over   [2]map[StreamID]bool // io.EOF was read
	ended  int
}

// open opens as many as it may, and waits for EventStreamRoom.
func (m *streamsModel) open() {
	for ; m.left > 0; m.left-- {
		id, err := m.s.ends[0].OpenStream()
		if err == ErrStreams {
			return
		}
		if err != nil {
			m.t.Fatal(err)
		}
		m.writes[0][id] = messageBody(uint64(id), int(id)*100)
		m.write(0, id)
	}
}

func (m *streamsModel) write(end int, id StreamID) {
	p, ok := m.writes[end][id]
	if !ok {
		return
	}
	n, err := m.s.ends[end].Write(m.s.now, id, p)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.writes[end][id] = p[n:]; n == len(p) {
		delete(m.writes[end], id)
		m.s.ends[end].CloseWrite(id)
	}
}

func (m *streamsModel) read(end int, id StreamID, all []byte) []byte {
	b := make([]byte, 5000)
	for {
		n, err := m.s.ends[end].Read(m.s.now, id, b)
		all = append(all, b[:n]...)
		switch {
		case err == io.EOF && m.over[end][id]: // told again
			return nil
		case err == io.EOF && end == 1:
			m.over[1][id] = true
			m.writes[1][id] = all
			m.write(1, id)
			return nil
		case err == io.EOF:
			m.over[0][id] = true
			m.ended++
			if !bytes.Equal(all, messageBody(uint64(id), int(id)*100)) {
				m.t.Fatalf("stream %d: other bytes come back", id)
			}
			return nil
		case err != nil:
			m.t.Fatal(err)
		case n == 0:
			return all
		}
	}
}

func TestStreamRoom(t *testing.T) {
	for seed := range uint64(20) {
		s := newRig(t, seed, wire{delay: 5 * time.Millisecond, jitter: 20 * time.Millisecond, loss: 0.2, dup: 0.1}, func(c *Config) {
			c.KeepAlive = time.Second
			c.Local.MaxStreams, c.Peer.MaxStreams = 4, 4
		})
		const n = 100
		m := &streamsModel{t: t, s: s, left: n, writes: [2]map[StreamID][]byte{{}, {}}, over: [2]map[StreamID]bool{{}, {}}}
		got := [2]map[StreamID][]byte{{}, {}}
		s.onEvent = func(end int, e Event) {
			switch e.Kind {
			case EventReadable:
				got[end][e.Stream] = m.read(end, e.Stream, got[end][e.Stream])
			case EventWritable:
				m.write(end, e.Stream)
			case EventStreamRoom:
				m.open()
			}
		}
		m.open()
		if !s.run(10*time.Minute, func() bool { return m.ended == n }) {
			t.Fatalf("seed %d: %d of %d streams have ended, %d were not opened", seed, m.ended, n, m.left)
		}
		// The end is told too.
		for {
			if _, err := s.ends[1].OpenStream(); err == ErrStreams {
				break
			}
		}
		told := false
		s.onEvent = func(end int, e Event) { told = told || end == 1 && e.Kind == EventStreamRoom }
		s.ends[1].Close(s.now, 0, "")
		s.wait(time.Second)
		if !told {
			t.Error("who waits for a stream does not learn of the end")
		}
	}
}
