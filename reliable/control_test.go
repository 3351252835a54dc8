package reliable

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

func cryptoChunk(offset uint64, data string) []byte {
	return append(appendValues(nil, chunkCrypto, offset, uint64(len(data))), data...)
}

// nextChunks returns the chunks of the next packet of an end with nullProtection.
func nextChunks(t *testing.T, s *rig, a *Assoc) []byte {
	t.Helper()
	b := a.AppendDatagram(s.now, nil)
	if len(b) == 0 {
		return nil
	}
	chunks, ok := bytes.CutSuffix(b[packetHeaderLen:], nullTag)
	if !ok {
		t.Fatalf("%x", b)
	}
	return chunks
}

// TestControlBytes: CRYPTO and HANDSHAKE_DONE go before other data. PROTOCOL §7.5, §8.8.
func TestControlBytes(t *testing.T) {
	s, _, v := newNullRig(t)
	v.Write(s.now, 0, []byte("data"))
	if !v.WriteControl([]byte("WEL")) || !v.WriteControl([]byte("COME")) || !v.WriteControl(nil) {
		t.Fatal("no room")
	}
	v.SendHandshakeDone()
	v.SendHandshakeDone()
	want := unhex("01 1e 06 00 07 57 45 4c 43 4f 4d 45 0a 00 04 64 61 74 61")
	if b := nextChunks(t, s, v); !bytes.Equal(b, want) {
		t.Fatalf("%x\nwant\n%x", b, want)
	}
	v.WriteControl([]byte("!"))
	v.SendHandshakeDone()
	if b, want := nextChunks(t, s, v), unhex("06 07 01 21 00 00 00 00"); !bytes.Equal(b, want) {
		t.Fatalf("%x\nwant\n%x", b, want)
	}
	if b := nextChunks(t, s, v); b != nil {
		t.Fatalf("%x", b)
	}
}

// TestControlRepair: what is lost is sent again, by ranges, and HANDSHAKE_DONE too (trap R7).
func TestControlRepair(t *testing.T) {
	s, c, v := newNullRig(t)
	r := record(s)
	s.wait(time.Second)
	body := messageBody(7, 20000)
	v.WriteControl(body)
	v.SendHandshakeDone()
	n := 0
	s.links[1].drop = func(b []byte) bool { n++; return n <= 3 || n == 6 }
	begin := s.now
	s.run(time.Minute, func() bool { return len(c.ReadControl()) == len(body) && c.control.done == doneKnown })
	if d := s.now.Sub(begin); !bytes.Equal(c.ReadControl(), body) || d > 300*time.Millisecond {
		t.Errorf("%d bytes after %v", len(c.ReadControl()), d)
	}
	s.wait(time.Second)
	if r.count(0, EventHandshakeDone) != 1 || r.count(0, EventControl) == 0 || v.control.pending() || v.control.unacked() || v.control.done != doneKnown {
		t.Errorf("%+v", v.control)
	}
	if again := v.Stats().BytesRetransmitted; again < 4000 || again > 8000 {
		t.Errorf("%d bytes again", again)
	}
}

// TestControlReceived: "any cut": pieces that overlap, come twice, too early, or empty.
func TestControlReceived(t *testing.T) {
	s, c, _ := newNullRig(t)
	pn := packetNumber(0)
	receive := func(off int, data string) {
		t.Helper()
		c.Receive(s.now, forgeSealed(c, framing.TypeData, pn, cryptoChunk(uint64(off), data)))
		pn++
		if c.Err() != nil {
			t.Fatal(c.Err())
		}
	}
	events := func() (n int) {
		for e := c.NextEvent(); e.Kind != EventNone; e = c.NextEvent() {
			if e.Kind == EventControl {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		off     int
		data    string
		consume int
		want    string // after
		events  int
	}{
		{0, "", 0, "", 0},
		{5, "56", 0, "", 0},
		{5, "5", 0, "", 0},
		{0, "01", 0, "01", 1},
		{1, "1", 1, "1", 0},
		{0, "012", 0, "12", 1},
		{0, "0", 0, "12", 0},
		{2, "2345678", 3, "45678", 1},
		{0, "012345678", 0, "45678", 0},
		{11, "bc", 0, "45678", 0},
		{8, "89ab", 0, "456789abc", 1},
		{13, "", 99, "", 0},
		{0, "0123456789abcd", 0, "d", 1},
		{13, "de", 1, "e", 1},
		{14, "ef", 2, "", 1},
	} {
		receive(tt.off, tt.data)
		if n := events(); n != tt.events {
			t.Errorf("%+v: %d events", tt, n)
		}
		c.ReadControl()
		c.ConsumeControl(tt.consume)
		if got := string(c.ReadControl()); got != tt.want {
			t.Fatalf("%+v: %q", tt, got)
		}
	}
	if c.control.in.b != nil || c.control.in.base != 16 {
		t.Errorf("%+v", c.control.in)
	}
}

// TestControlBounds: "a receiver keeps at most 131,072 bytes beyond what it has taken";
// the rest is as if it had been lost, and so are too many pieces (trap S3).
func TestControlBounds(t *testing.T) {
	s, c, v := newNullRig(t)
	pn := packetNumber(0)
	receive := func(off uint64, data string) bool {
		t.Helper()
		before := c.Stats().PacketsRefused
		got := c.Receive(s.now, forgeSealed(c, framing.TypeData, pn, cryptoChunk(off, data)))
		pn++
		bounds(t, c)
		if c.Err() != nil || !got.Opened || c.acks.duplicate(pn-1) == (c.Stats().PacketsRefused > before) {
			t.Fatal(c.Err(), got)
		}
		return c.Stats().PacketsRefused == before
	}
	if !receive(maxControl-1, "x") || receive(maxControl, "x") || receive(maxControl-1, "xx") || receive(framing.MaxVarint-1, "x") {
		t.Error("the bound is elsewhere")
	}
	for i := 1; i < maxControlPieces; i++ {
		if !receive(uint64(2*i), "x") {
			t.Fatal(i)
		}
	}
	if receive(5000, "x") || !receive(2, "xxx") || !receive(5000, "x") {
		t.Error("the bound of pieces is elsewhere")
	}
	all := string(make([]byte, 1000))
	for i := 0; i < maxControl; i += 1000 {
		if !receive(uint64(i), all[:min(1000, maxControl-i)]) {
			t.Fatal(i)
		}
	}
	if n := len(c.ReadControl()); n != maxControl {
		t.Fatal(n)
	}
	c.ConsumeControl(1)
	if !receive(maxControl, "x") || receive(maxControl+1, "x") {
		t.Error("the bound does not follow")
	}
	// The sender.
	if v.WriteControl(make([]byte, maxControl+1)) || !v.WriteControl(make([]byte, maxControl-1)) || v.WriteControl(make([]byte, 2)) ||
		!v.WriteControl([]byte{1}) || v.WriteControl([]byte{1}) {
		t.Error("the bound for sending is elsewhere")
	}
	s.wait(time.Second)
	if !v.WriteControl(make([]byte, maxControl)) && v.control.unacked() {
		t.Error("no room again")
	}
}

// TestControlManyFrames: to take what has come in small frames costs no more than in a
// large one.
func TestControlManyFrames(t *testing.T) {
	var f flatBuffer
	begin := time.Now()
	for round := range int64(20) {
		f.write(round*maxControl, make([]byte, maxControl))
		for range maxControl {
			f.consume(1)
		}
	}
	if d := time.Since(begin); d > 2*time.Second || f.base != 20*maxControl {
		t.Error(d, f.base)
	}
}

// TestControlRules: "CRYPTO and HANDSHAKE_DONE break the rules in an association that is
// not sealed, HANDSHAKE_DONE also if a client sends it"; HAVE is no chunk of packets. §7.5.
func TestControlRules(t *testing.T) {
	_, cc, cv := newNullRig(t)
	p := newRig(t, 1, wire{})
	for _, tt := range []struct {
		name   string
		a      *Assoc
		typ    framing.Type
		chunks []byte
	}{
		{"CRYPTO, plaintext client", p.ends[0], framing.TypeData, cryptoChunk(0, "x")},
		{"HANDSHAKE_DONE, plaintext server", p.ends[1], framing.TypeData, []byte{0x1e}},
		{"HANDSHAKE_DONE, from a client", cv, framing.TypeData, []byte{0x1e}},
		{"HAVE", cc, framing.TypeData, []byte{7, 0}},
	} {
		tt.a.Receive(p.now, forge(tt.a, 3, tt.chunks))
		var pe *ProtocolError
		if !errors.As(tt.a.Err(), &pe) || pe.Code != framing.CodeProtocol || pe.Remote {
			t.Errorf("%s: %v", tt.name, tt.a.Err())
		}
	}
	p = newRig(t, 1, wire{})
	a := p.ends[1]
	if a.WriteControl([]byte("x")) || a.ReadControl() != nil {
		t.Error("a control stream without keys")
	}
	a.ConsumeControl(1)
	a.SendHandshakeDone()
	p.wait(time.Second)
	atRest(t, a)
}

// TestControlAtTheEnd: Shutdown waits until the peer has the control data, so that a refusal
// arrives, which can be read after the end; nothing is taken any more then.
func TestControlAtTheEnd(t *testing.T) {
	for seed := range uint64(10) {
		s := newRig(t, seed, wire{delay: 10 * time.Millisecond, loss: 0.3}, func(c *Config) { c.Protection = new(nullProtection) })
		c, v := s.ends[0], s.ends[1]
		s.wait(time.Second)
		body := messageBody(1, 3000)
		v.WriteControl(body)
		v.Shutdown(s.now)
		if v.Err() != nil {
			t.Fatal(v.Err())
		}
		if !s.run(time.Minute, func() bool { return v.Done() && c.Done() }) || c.Err() != ErrPeerClosed || v.Err() != ErrClosed {
			t.Fatal(c.Err(), v.Err())
		}
		if !bytes.Equal(c.ReadControl(), body) || v.WriteControl([]byte("x")) || c.WriteControl([]byte("x")) {
			t.Errorf("seed %d: %d bytes", seed, len(c.ReadControl()))
		}
		c.ConsumeControl(1000)
		if !bytes.Equal(c.ReadControl(), body[1000:]) {
			t.Error(seed)
		}
	}
}
