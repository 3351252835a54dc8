package reliable

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// newNullRig is a rig with sealed packets that can be read.
func newNullRig(t *testing.T, config ...func(*Config)) (s *rig, c, v *Assoc) {
	t.Helper()
	s = newRig(t, 1, wire{delay: time.Millisecond}, append([]func(*Config){func(c *Config) {
		c.Protection = new(nullProtection)
		c.Checksum = false
	}}, config...)...)
	return s, s.ends[0], s.ends[1]
}

func nullOf(a *Assoc) *nullProtection { return a.c.Protection.(*nullProtection) }

// TestSealedBytes: the layout of PROTOCOL §8.4, with a tag of 16 bytes ee and nothing
// encrypted.
func TestSealedBytes(t *testing.T) {
	s, c, v := newNullRig(t)
	c.Write(s.now, 0, []byte("hi"))
	b := c.AppendDatagram(s.now, []byte("x"))
	want := joined([]byte("x"), unhex("56 54 01 03 40 0f 00 00 00 00 16  01 0c 01 02 00 00 00 00 00 00 00  00 00 00 00"+
		"01 0a 00 02 68 69"), nullTag)
	if !bytes.Equal(b, want) {
		t.Fatalf("%x\nwant\n%x", b, want)
	}
	v.Receive(s.now, b[1:])
	if n, err := v.Read(s.now, 0, make([]byte, 9)); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	b = v.AppendDatagram(s.now, nil)
	if !bytes.HasPrefix(b, unhex("56 54 01 03 40 0f 00 00 00 00 18 01 0c 01 01 00 00 00 00 00 00 00 00 00 00 00 02 00 00 00 00")) ||
		!bytes.HasSuffix(b, nullTag) || len(b) < minSealedPing {
		t.Fatalf("%x, %d bytes", b, len(b))
	}
	c.Receive(s.now, b)
	if !slices.Equal(nullOf(c).acked, []uint64{0}) || nullOf(v).acked != nil {
		t.Error(nullOf(c).acked, nullOf(v).acked)
	}
}

// TestSealedOnly: "packets of an association whose handshake was sealed are sealed: one
// without SEALED is dropped", and one with it in an association that is not. §8.4, §7.1.
func TestSealedOnly(t *testing.T) {
	s, c, v := newNullRig(t)
	p := newRig(t, 1, wire{delay: time.Millisecond}, func(c *Config) { c.Checksum = false })
	s.wait(time.Second)
	ping := []byte{byte(chunkPing)}
	good := forgeSealed(v, framing.TypeData, 99, ping)
	changed := func(i int, x byte) []byte {
		b := bytes.Clone(good)
		b[i] = x
		return b
	}
	plain := forge(p.ends[1], 99, ping)
	opens := nullOf(v).opens
	for name, b := range map[string][]byte{
		"plaintext with CRC": plain,
		"plaintext":          joined(unhex("56540103000f000000000101 0c0102000000 00000000 00000063 01")),
		"SEALED and CRC":     changed(4, 0x42),
		"SEALED and FRAG":    changed(4, 0x50),
		"magic":              changed(1, 'V'),
		"version":            changed(2, 2),
		"WELCOME":            changed(3, byte(framing.TypeWelcome)),
		"HELLO with packet":  changed(3, byte(framing.TypeHello)),
		"another id":         changed(14, 9),
		"another key":        changed(13, 0x18),
		"length":             changed(10, good[10]-1),
		"large length":       changed(7, 1),
		"header length":      changed(5, 0x0e),
		"field length":       changed(12, 0x0b),
		"short":              good[:packetHeaderLen+15],
		"header":             good[:packetHeaderLen],
		"nothing":            {},
		"0-RTT of another":   append(forgeSealed(c, framing.TypeHello, 99, ping)[:len(good):len(good)], 0)[:len(good)],
	} {
		before := v.Stats().PacketsDropped
		got := v.Receive(s.now, b)
		if got.Opened || v.Stats().PacketsDropped != before+1 || v.Err() != nil {
			t.Errorf("%s: %+v, %v", name, got, v.Err())
		}
	}
	if nullOf(v).opens != opens {
		t.Error("a packet of another form was given to Open")
	}
	if got := v.Receive(s.now, changed(len(good)-1, 0)); got.Opened || v.Err() != nil {
		t.Error("a wrong tag", got, v.Err())
	}
	if got := v.Receive(s.now, changed(4, 0xc0)); !got.Opened || !got.Latest {
		t.Error("FLAGS may have the phase bit", got)
	}
	if got := v.Receive(s.now, bytes.Clone(good)); got.Opened || v.Stats().PacketsDuplicate != 1 {
		t.Error("a number is received once", got)
	}
	// The other way round.
	if got := p.ends[1].Receive(s.now, forgeSealed(p.ends[1], framing.TypeData, 99, ping)); got.Opened || p.ends[1].Err() != nil {
		t.Error("sealed packet in plaintext association", got)
	}
	// A client never takes what only clients send.
	if got := c.Receive(s.now, forgeSealed(c, framing.TypeHello, 99, ping)); got.Opened {
		t.Error("a client takes a 0-RTT packet")
	}
}

// TestSealedSizes: "sizes are those of UDP payloads", also with a tag; packets that ask for
// an answer have 50 bytes. §7.11, §8.10.
func TestSealedSizes(t *testing.T) {
	s, c, v := newNullRig(t)
	largest, smallest := 0, 9999
	s.links[0].drop = func(b []byte) bool {
		largest, smallest = max(largest, len(b)), min(smallest, len(b))
		return false
	}
	c.Ping()
	s.wait(time.Second)
	if largest != minSealedPing {
		t.Errorf("a PING of %d bytes", largest)
	}
	if _, err := s.bulk(0, 1<<20, time.Minute); err != nil {
		t.Fatal(err)
	}
	if largest != 1472 || smallest < minSealedPing-16 {
		t.Errorf("datagrams of %d to %d bytes", smallest, largest)
	}
	if c.Err() != nil || v.Err() != nil {
		t.Error(c.Err(), v.Err())
	}
}

// TestOldKeysAreDropped: "it keeps the old keys for reading for three probe timeouts". §8.7.
func TestOldKeysAreDropped(t *testing.T) {
	s, c, v := newNullRig(t, func(c *Config) { c.IdleTimeout = 0 })
	s.wait(5 * time.Second) // also until memory was given back
	s.wait(time.Second)
	if at := v.Timeout(); !at.IsZero() {
		t.Fatal(at)
	}
	nullOf(v).updated = true
	c.Ping()
	b := c.AppendDatagram(s.now, nil)
	v.Receive(s.now, b)
	s.flush(1)
	begin := s.now
	want := begin.Add(3 * v.ProbeTimeout())
	s.run(time.Minute, func() bool { return nullOf(v).drops > 0 })
	if !s.now.Equal(want) || nullOf(v).drops != 1 {
		t.Errorf("after %v, want %v", s.now.Sub(begin), want.Sub(begin))
	}
	s.wait(time.Minute)
	if nullOf(v).drops != 1 || nullOf(c).drops != 0 {
		t.Error(nullOf(v).drops, nullOf(c).drops)
	}
	// Each update begins the time anew.
	for range 2 {
		nullOf(v).updated = true
		c.Ping()
		begin = s.now
		v.Receive(s.now, c.AppendDatagram(s.now, nil))
		s.now = s.now.Add(v.ProbeTimeout())
	}
	s.run(time.Minute, func() bool { return nullOf(v).drops > 1 })
	if d := s.now.Sub(begin); nullOf(v).drops != 2 || d != 3*v.ProbeTimeout() {
		t.Error(nullOf(v).drops, d)
	}
}

// TestKeysUsedUp: an association whose keys are used up ends, and says nothing more; RFC
// 9001 §6.6: "the endpoint MUST stop using the connection".
func TestKeysUsedUp(t *testing.T) {
	for name, f := range map[string]func(s *rig, a *Assoc){
		"sealing": func(s *rig, a *Assoc) { a.Ping() },
		"opening": func(s *rig, a *Assoc) {
			b := forgeSealed(a, framing.TypeData, 77, []byte{1})
			b[len(b)-1] = 0
			a.Receive(s.now, b)
		},
		"closing": func(s *rig, a *Assoc) { a.Close(s.now, 5, "") },
	} {
		t.Run(name, func(t *testing.T) {
			s, c, _ := newNullRig(t)
			s.wait(time.Second)
			r := record(s)
			nullOf(c).err = errTestKeys
			f(s, c)
			n := c.Stats().PacketsSent
			s.wait(time.Second)
			want := ErrKeysUsedUp
			if name == "closing" {
				want = ErrClosed
			}
			if c.Err() != want || !c.Done() || c.Stats().PacketsSent != n || r.count(0, EventClosed) != 1 {
				t.Error(c.Err(), c.Done(), c.Stats().PacketsSent-n)
			}
			if _, err := c.Write(s.now, 0, []byte("x")); err != want {
				t.Error(err)
			}
		})
	}
}

// TestNoKeys: an association that has no keys sends nothing, loses nothing and does not spin.
func TestNoKeys(t *testing.T) {
	s, c, v := newNullRig(t)
	k := &keylessProtection{nullProtection: nullOf(c), none: true}
	c.c.Protection = k
	c.Write(s.now, 0, []byte("hi"))
	c.WriteControl([]byte("control"))
	s.wait(time.Second)
	if st := c.Stats(); st.PacketsSent != 0 || c.Err() != nil {
		t.Fatal(st.PacketsSent, c.Err())
	}
	k.none = false
	s.wait(time.Second)
	b := make([]byte, 10)
	if n, _ := v.Read(s.now, 0, b); string(b[:n]) != "hi" || string(v.ReadControl()) != "control" {
		t.Errorf("%q, %q", b[:n], v.ReadControl())
	}
}

type keylessProtection struct {
	*nullProtection
	none bool
}

func (k *keylessProtection) Seal(b []byte, start int, pn uint64) []byte {
	if k.none {
		return b[:start]
	}
	return k.nullProtection.Seal(b, start, pn)
}

func (k *keylessProtection) SealFrom(b []byte, start int, chunks []byte, pn uint64) []byte {
	return k.Seal(append(b, chunks...), start, pn)
}

// TestKeysCanChange: an end that sends nothing but ACKs asks for one of them now and then:
// it "MUST NOT begin an update before a packet of the present phase was acknowledged". §8.7.
func TestKeysCanChange(t *testing.T) {
	s, c, v := newNullRig(t)
	for range 3 * maxUnasked {
		for range 2 {
			c.SendMessage(s.now, &Outgoing{Payload: []byte("x")})
			s.flush(0)
		}
		s.wait(time.Millisecond)
		for range 2 {
			v.ReceiveMessage(s.now)
		}
	}
	if n := v.Stats().PacketsSent; n < 3*maxUnasked {
		t.Fatal(n)
	}
	last := uint64(0)
	for _, pn := range nullOf(v).acked {
		if pn-last > maxUnasked+100 {
			t.Errorf("no acknowledgement between packets %d and %d", last, pn)
		}
		last = pn
	}
	if n := len(nullOf(v).acked); n > 20 || last < 2*maxUnasked {
		t.Error(n, last)
	}
}
