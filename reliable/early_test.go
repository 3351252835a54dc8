package reliable

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// newEarlyRig is a rig whose client has no answer yet, and does not know the id of the
// server; what it sends is dropped until the server may have it.
func newEarlyRig(t *testing.T, remembered func(*Limits)) (s *rig, c, v *Assoc) {
	t.Helper()
	s, c, v = newNullRig(t)
	cfg := c.c
	cfg.Early, cfg.PeerID = true, ConnID{9, 9}
	remembered(&cfg.Peer)
	c = New(s.now, &cfg)
	s.ends[0] = c
	return s, c, v
}

func asBefore(*Limits) {}

// established ends the handshake of a rig as the server wants it.
func established(s *rig, accepted bool) {
	c, v := s.ends[0], s.ends[1]
	c.Established(s.now, v.c.LocalID, v.c.Local, 30*time.Second, accepted)
}

// TestEarlyBytes: 0-RTT packets are "of TYPE HELLO, with source id in place of packet", and
// "share their numbers with the packets that follow". PROTOCOL §8.9.
func TestEarlyBytes(t *testing.T) {
	s, c, v := newEarlyRig(t, asBefore)
	if b := c.AppendDatagram(s.now, nil); len(b) != 0 {
		t.Fatalf("nothing to say: %x", b)
	}
	c.Write(s.now, 0, []byte("hi"))
	c.WriteControl([]byte("HELLO"))
	b := c.AppendDatagram(s.now, nil)
	want := joined(unhex("56 54 01 01 40 0f 00 00 00 00 1d 01 0c 18 01 00 00 00 00 00 00 00 00 00 00 00"+
		"06 00 05 48 45 4c 4c 4f 0a 00 02 68 69"), nullTag)
	if !bytes.Equal(b, want) {
		t.Fatalf("%x\nwant\n%x", b, want)
	}
	// It gets nothing before, and sends no ACK.
	if got := c.Receive(s.now, forgeSealed(c, framing.TypeData, 0, []byte{1})); got.Opened || len(c.AppendDatagram(s.now, nil)) != 0 {
		t.Error(got)
	}
	if got := v.Receive(s.now, b); !got.Opened {
		t.Error(got)
	}
	buf := make([]byte, 9)
	if n, _ := v.Read(s.now, 0, buf); string(buf[:n]) != "hi" || string(v.ReadControl()) != "HELLO" {
		t.Errorf("%q %q", buf[:n], v.ReadControl())
	}
	established(s, true)
	b = c.AppendDatagram(s.now, nil)
	want = joined(unhex("56 54 01 03 40 0f 00 00 00 00 18 01 0c 01 02 00 00 00 00 00 00 00 00 00 00 01 01 00 00 00 00 00 00 00"), nullTag)
	if !bytes.Equal(b, want) {
		t.Fatalf("%x\nwant\n%x", b, want)
	}
	v.Receive(s.now, b)
	c.Receive(s.now, v.AppendDatagram(s.now, nil))
	if c.loss.inflight != 0 || c.streams.get(0).out.len() != 0 || c.control.unacked() || c.Err() != nil || v.Err() != nil {
		t.Error(c.loss.inflight, c.Err(), v.Err())
	}
	c.Established(s.now, ConnID{5}, Limits{}, 0, false) // once only
	if c.c.PeerID != v.c.LocalID {
		t.Error("established twice")
	}
}

// TestEarlyChunks: 0-RTT packets hold no ACK, HANDSHAKE_DONE and path chunks. §8.9.
func TestEarlyChunks(t *testing.T) {
	for _, tt := range []struct {
		chunks []byte
		ok     bool
	}{
		{[]byte{1}, true},
		{[]byte{0, 0}, true},
		{cryptoChunk(0, "x"), true},
		{streamChunk(0, 0, "x", true, true), true},
		{appendMessage(nil, true, []byte{0}, []byte("hi")), true},
		{appendValues(nil, chunkMaxData, 9), true},
		{appendValues(nil, chunkResetStream, 0, 1, 9), true},
		{appendClose(nil, 0, ""), true},
		{unhex("02 00 00 00 00"), false},
		{unhex("01 1e"), false},
		{unhex("1a 01 02 03 04 05 06 07 08"), false},
		{unhex("1b 01 02 03 04 05 06 07 08"), false},
	} {
		s, _, v := newNullRig(t)
		v.AppendDatagram(s.now, nil) // so that an ACK could be right
		v.Receive(s.now, forgeSealed(v, framing.TypeHello, 0, tt.chunks))
		var pe *ProtocolError
		if isError := errors.As(v.Err(), &pe); isError == tt.ok || isError && pe.Code != framing.CodeProtocol {
			t.Errorf("%x: %v", tt.chunks, v.Err())
		}
	}
}

// earlyWork is what a client has sent before it has an answer.
type earlyWork struct {
	data     []byte
	control  []byte
	messages []*Outgoing
	streams  []StreamID
}

func doEarly(t *testing.T, s *rig, c *Assoc) *earlyWork {
	t.Helper()
	w := &earlyWork{data: messageBody(3, 30000), control: messageBody(4, 3000)}
	if n, err := c.Write(s.now, 0, w.data); n != len(w.data) || err != nil {
		t.Fatal(n, err)
	}
	c.CloseWrite(0)
	c.WriteControl(w.control)
	for range 5 {
		id, err := c.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		c.Write(s.now, id, []byte("stream"))
		c.CloseWrite(id)
		w.streams = append(w.streams, id)
	}
	return w
}

func doEarlyMessages(t *testing.T, s *rig, c *Assoc) (w *earlyWork) {
	t.Helper()
	w = &earlyWork{}
	for i := range 40 {
		m := &Outgoing{Payload: messageBody(uint64(i), 100*i), Ordered: i%2 == 0, Repair: true, Ack: i%3 == 0, Channel: uint64(i % 4)}
		if err := c.SendMessage(s.now, m); err != nil {
			t.Fatal(err)
		}
		w.messages = append(w.messages, m)
		if i%7 == 6 {
			s.flush(0)
			c.CancelMessage(s.now, w.messages[i-3])
		}
	}
	return w
}

// TestEarly: whatever of the 0-RTT packets is lost, and whether they are accepted, all
// arrives once; with limits that are those remembered, larger, or (where the server has
// refused) smaller.
func TestEarly(t *testing.T) {
	smaller := func(l *Limits) {
		l.MaxData, l.MaxStreamData, l.MaxStreams = 1<<30, 1<<30, 1000
		l.MaxMessages = 1 << 30
	}
	larger := func(l *Limits) {
		l.MaxData, l.MaxStreamData, l.MaxStreams, l.MaxMessages = 10000, 8000, 6, 9000
	}
	for _, tt := range []struct {
		name       string
		accepted   bool
		remembered func(*Limits)
		loss       float64
		wait       time.Duration
	}{
		{"accepted", true, asBefore, 0, 50 * time.Millisecond},
		{"accepted, lost", true, asBefore, 0.5, 50 * time.Millisecond},
		{"accepted, slow", true, asBefore, 0.5, 5 * time.Second},
		{"accepted, more", true, larger, 0.3, 50 * time.Millisecond},
		{"refused", false, asBefore, 0, 50 * time.Millisecond},
		{"refused, at once", false, asBefore, 0, 0},
		{"refused, more", false, larger, 0.3, 50 * time.Millisecond},
		{"refused, less", false, smaller, 0.3, 50 * time.Millisecond},
		{"refused, slow", false, smaller, 0.3, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, messages := range []bool{false, true} {
				s, c, v := newEarlyRig(t, tt.remembered)
				v.c.Local.MaxData, v.c.Local.MaxStreamData, v.c.Local.MaxStreams = 20000, 15000, 6
				v.c.Local.MaxMessages = 30000
				if tt.name == "accepted" || tt.name == "accepted, lost" || tt.name == "accepted, slow" {
					c.c.Peer = v.c.Local
					cfg := c.c
					c = New(s.now, &cfg)
					s.ends[0] = c
				}
				scfg := v.c
				v = New(s.now, &scfg)
				s.ends[1] = v
				s.links[0].loss = tt.loss
				if !tt.accepted {
					s.links[0].down = true
				}
				s.links[1].down = true // the client could not open it
				var w *earlyWork
				if messages {
					w = doEarlyMessages(t, s, c)
				} else {
					w = doEarly(t, s, c)
				}
				window := c.cc.window()
				s.wait(tt.wait)
				if c.Stats().ProbeTimeouts != 0 {
					t.Error("a probe timeout without an answer")
				}
				s.links[0].down, s.links[1].down = false, false
				s.links[0].loss = min(tt.loss, 0.2)
				established(s, tt.accepted)
				if c.cc.window() != window || c.c.IdleTimeout != 30*time.Second || !tt.accepted && c.loss.inflight != 0 {
					t.Error("window", c.cc.window(), window, c.c.IdleTimeout, c.loss.inflight)
				}
				checkEarly(t, s, w)
				if c.Err() != nil || v.Err() != nil {
					t.Fatal(c.Err(), v.Err())
				}
				s.wait(10 * time.Second)
				atRest(t, c)
				s.shutdown(t, 0)
			}
		})
	}
}

// checkEarly waits until all that was sent early has arrived.
func checkEarly(t *testing.T, s *rig, w *earlyWork) {
	t.Helper()
	c, v := s.ends[0], s.ends[1]
	data := map[StreamID][]byte{}
	ends := map[StreamID]bool{}
	buf := make([]byte, 1000)
	got := map[uint64]int{}
	last := map[int]int{}
	s.run(time.Minute, func() bool {
		for _, id := range append(w.streams, 0) {
			for {
				n, err := v.Read(s.now, id, buf)
				data[id] = append(data[id], buf[:n]...)
				ends[id] = ends[id] || err == io.EOF
				if n == 0 {
					break
				}
			}
		}
		for {
			in, ok := v.ReceiveMessage(s.now)
			if !ok {
				break
			}
			for i, m := range w.messages {
				if i%256 == int(in.Payload[0]) && len(in.Payload) == 8+100*i {
					got[uint64(i)]++
					if m.Ordered && i < last[i%4] {
						t.Errorf("message %d after %d", i, last[i%4])
					}
					last[i%4] = i
				}
			}
		}
		all := len(v.ReadControl()) == len(w.control) && (w.data == nil || ends[0])
		for _, id := range w.streams {
			all = all && ends[id]
		}
		for _, m := range w.messages {
			all = all && m.Done()
		}
		return all
	})
	if !bytes.Equal(data[0], w.data) || !bytes.Equal(v.ReadControl(), w.control) {
		t.Fatalf("%d of %d bytes, control %d of %d; %v %v\n%+v", len(data[0]), len(w.data), len(v.ReadControl()), len(w.control), c.Err(), v.Err(), c.Stats())
	}
	for _, id := range w.streams {
		if string(data[id]) != "stream" {
			t.Fatalf("stream %d: %q", id, data[id])
		}
	}
	for i, m := range w.messages {
		if !m.Done() || m.Err() == nil && got[uint64(i)] != 1 || m.Err() != nil && m.Err() != ErrCanceled || got[uint64(i)] > 1 {
			t.Fatalf("message %d: %v, %v, came %d times", i, m.Done(), m.Err(), got[uint64(i)])
		}
	}
}

// TestEarlyTooLarge: a message that the server of now does not take fails.
func TestEarlyTooLarge(t *testing.T) {
	s, c, v := newEarlyRig(t, asBefore)
	v.c.Local.MaxMessage = 100
	v.c.Local.MaxStreams = 1
	r := record(s)
	large, small := &Outgoing{Payload: make([]byte, 101), Ordered: true}, &Outgoing{Payload: make([]byte, 100), Ordered: true}
	for _, m := range []*Outgoing{large, small} {
		if err := c.SendMessage(s.now, m); err != nil {
			t.Fatal(err)
		}
	}
	id, err := c.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	c.Write(s.now, id, []byte("x"))
	s.links[0].down = true
	s.flush(0)
	s.links[0].down = false
	c.ResetStream(id, 7) // due, when the server allows no stream any more
	established(s, false)
	s.wait(time.Second)
	if large.Err() != ErrMessageTooLarge || small.Err() != nil || !small.Done() || r.count(0, EventMessageDone) != 2 {
		t.Error(large.Err(), small.Err(), small.Done())
	}
	if _, ok := v.ReceiveMessage(s.now); !ok || c.Err() != nil || v.Err() != nil || v.peerOpened != 1 {
		t.Error(c.Err(), v.Err(), v.peerOpened)
	}
	atRest(t, c)
	v.maxPeerStreams, v.maxStreamsDue = 5, true
	s.wait(time.Second)
	if v.peerOpened != 2 || v.streams.get(id) == nil || v.streams.get(id).readErr != ErrStreamReset || c.Err() != nil || v.Err() != nil {
		t.Error(v.peerOpened, c.Err(), v.Err())
	}
}

// TestEarlyClose: CLOSE goes in 0-RTT packets, and in others once they may be sent.
func TestEarlyClose(t *testing.T) {
	s, c, v := newEarlyRig(t, asBefore)
	c.Close(s.now, 5, "why")
	b := c.AppendDatagram(s.now, nil)
	if want := append(unhex("1c 05 03"), "why"...); !bytes.Equal(b[packetHeaderLen:len(b)-16], want) || b[3] != byte(framing.TypeHello) {
		t.Fatalf("%x", b)
	}
	established(s, true)
	s.wait(10 * time.Second)
	var pe *ProtocolError
	if !errors.As(v.Err(), &pe) || pe.Code != 5 || !pe.Remote || !c.Done() || !v.Done() {
		t.Error(v.Err(), c.Done())
	}
}

// TestEarlyIsPatient: before there is an answer, neither the idle timeout of the session
// before nor keep-alive means anything, and no probe timeout runs. RFC 9002 §6.2.1.
func TestEarlyIsPatient(t *testing.T) {
	s, c, v := newEarlyRig(t, asBefore)
	cfg := c.c
	cfg.IdleTimeout, cfg.KeepAlive = time.Second, 300*time.Millisecond
	c = New(s.now, &cfg)
	s.ends[0] = c
	c.Write(s.now, 0, []byte("hi"))
	s.links[0].down = true
	s.wait(9 * time.Second)
	if n := c.Stats().PacketsSent; n != 1 || c.Err() != nil || !c.Timeout().IsZero() {
		t.Error(n, c.Err(), c.Timeout())
	}
	s.links[0].down = false
	established(s, true)
	begin := s.now
	s.run(time.Second, func() bool { return v.streams.get(0).in.highest == 2 })
	if d := s.now.Sub(begin); d > 200*time.Millisecond {
		t.Errorf("repeated after %v", d)
	}
	s.links[1].down = true
	s.wait(40 * time.Second)
	if c.Err() != ErrIdleTimeout {
		t.Error("the new idle timeout is not that of the handshake", c.Err())
	}
}
