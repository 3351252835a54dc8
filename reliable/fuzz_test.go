package reliable

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// forge makes a packet for a that is right but for its chunks.
func forge(a *Assoc, pn packetNumber, chunks []byte) []byte {
	if a.c.Protection != nil {
		return forgeSealed(a, framing.TypeData, pn, chunks)
	}
	return forgePlain(a, pn, chunks)
}

// forgePlain is forge without a seal: on the byte stream, everything is.
func forgePlain(a *Assoc, pn packetNumber, chunks []byte) []byte {
	b := framing.AppendFixed(nil, framing.TypeData, framing.FlagCRC, packetFieldLen, int64(len(chunks)))
	b = append(b, 1, 12, framing.KeyPacket[0])
	b = append(b, a.c.LocalID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(pn))
	b = append(b, chunks...)
	return framing.AppendTrailer(b, framing.Checksum(0, b))
}

// bounds fails if an association holds more than its limits allow.
func bounds(t *testing.T, a *Assoc) {
	t.Helper()
	held := int64(0)
	for _, s := range a.streams {
		for _, b := range s.in.blocks {
			held += int64(len(b))
		}
		if len(s.in.have) > maxOutOfOrder {
			t.Fatalf("%d gaps in a stream", len(s.in.have))
		}
	}
	if held > 2*a.c.Local.MaxData+int64(len(a.streams)+1)*2*blockLen {
		t.Fatalf("streams hold %d bytes", held)
	}
	held = 0
	for _, p := range a.partials {
		if p.parity != nil {
			kept := int64(0)
			for _, b := range p.parity.blocks {
				for _, s := range b {
					kept += int64(len(s.data))
				}
			}
			if kept >= p.total {
				t.Fatalf("%d bytes of parity for a message of %d", kept, p.total)
			}
		}
		held += int64(len(p.body))
		for _, b := range p.blocks {
			held += int64(len(b))
		}
	}
	if held > a.c.Local.MaxMessages {
		t.Fatalf("messages hold %d bytes", held)
	}
	if len(a.acks.received) > maxAckRanges || len(a.pathResponses) > maxPathResponses || len(a.messagesDone) > 2*maxOpenMessages+1 ||
		len(a.streams) > maxStreams+2 || a.unread > maxUnreadMessages || a.unreadBytes > maxUnreadBytes {
		t.Fatalf("%d ranges, %d responses, %d spans of messages, %d streams, %d unread", len(a.acks.received), len(a.pathResponses), len(a.messagesDone), len(a.streams), a.unread)
	}
	if m := a.moves; m != nil && (len(m.moved) > maxMoved || len(m.elsewhere) > maxPathResponses || len(m.challenges) > maxChallenges) {
		t.Fatalf("%d moved, %d responses, %d challenges", len(m.moved), len(m.elsewhere), len(m.challenges))
	}
	if c := a.control; c != nil && (cap(c.in.b) > 2*maxControl || len(c.in.have) > maxControlPieces || c.out.len() > maxControl) {
		t.Fatalf("control stream: %d bytes in %d pieces, %d out", cap(c.in.b), len(c.in.have), c.out.len())
	}
	if a.loss.inflight < 0 || a.eliciting < 0 || a.messages < 0 || a.openMessages < 0 || a.unrepaired < 0 {
		t.Fatalf("counters below zero: %d %d %d %d %d", a.loss.inflight, a.eliciting, a.messages, a.openMessages, a.unrepaired)
	}
}

// FuzzReceive gives an association, in any state that the script brings it to, packets
// with any chunks. It must neither panic nor hold more than its bounds, nor send
// without end, nor let time stand still (traps R3, R4, S3, S5, S6).
func FuzzReceive(f *testing.F) {
	f.Add([]byte{0, 5, byte(chunkPing), 0, 0, 0, 0})
	f.Add(append([]byte{1, 9, 2, 3, 3, 40}, appendStreamHead(nil, 0, 0, 3, true, false)...))
	f.Add(append([]byte{0, 30}, appendAck(nil, []pnRange{{0, 1}, {3, 4}}, 100, 100)...))
	f.Add(append([]byte{1, 200, 2, 2, 0, 20}, appendFragmentHead(nil, 0, 100, 7, 3, false)...))
	f.Add(append([]byte{0, 40}, joined(parityChunk(0, []byte("a message in three parts"), 10, 3, 0, 1), fragmentChunk(0, 24, 0, "a message in three p", false))...))
	f.Add(append([]byte{0, 20}, appendCancel(nil, 3, 1000, true, 2, 1)...))
	f.Add(append([]byte{4, 0, 0, 20}, appendClose(nil, 7, "why")...))
	f.Add(append([]byte{0, 20}, appendValues(nil, chunkResetStream, 0, 5, 1000)...))
	f.Add(append([]byte{0, 20}, appendValues(nil, chunkMaxMessages, framing.MaxVarint)...))
	f.Add(append([]byte{1, 100, 0, 20}, appendValues(nil, chunkStopSending, 0, 5)...))
	f.Fuzz(func(t *testing.T, script []byte) { fuzzReceive(t, script, nil) })
}

// FuzzReceiveSealed is FuzzReceive with packets that anyone can seal.
func FuzzReceiveSealed(f *testing.F) {
	f.Add([]byte{0, 5, byte(chunkPing), 0, 0, 0, 0})
	f.Add([]byte{0, 5, byte(chunkCrypto), 0, 2, 'h', 'i', 12, 8, 1, 12, 9, 1})
	f.Add([]byte{0, 5, byte(chunkCrypto), 0x42, 0, 1, 'i', 0, 1, byte(chunkHandshakeDone)})
	f.Add([]byte{12, 6, 200, 12, 7, 5, 1, byte(chunkPing), 7, 50, 12, 10, 3, 255})
	f.Fuzz(func(t *testing.T, script []byte) {
		fuzzReceive(t, script, func(c *Config) { c.Protection = new(nullProtection) })
	})
}

// FuzzReceiveFrames is FuzzReceive, also with frames of the byte stream, and moves.
func FuzzReceiveFrames(f *testing.F) {
	f.Add([]byte{6, 5, byte(chunkPing), 0, 0, 0, 0})
	f.Add([]byte{4, 12, 1, 1, 200, 3, 50, 0, 4, byte(chunkMove), 5, 0, byte(chunkPing)})
	f.Add([]byte{0, 6, byte(chunkMove), 1, 1, byte(chunkMove), 2, 0, 6, 3, byte(chunkMove), 3, 1, 4, 13, 2, 4, 11, 0})
	f.Add([]byte{4, 14, 4, 14, 6, 18, byte(chunkPathChallenge), 1, 2, 3, 4, 5, 6, 7, 8, byte(chunkPathResponse), 1, 0, 0, 0, 0, 0, 0, 0, 4, 0})
	f.Add(append([]byte{4, 12, 1, 1, 200, 1, 200, 4, 12, 0, 6, 30}, appendAck(nil, []pnRange{{0, 1}, {3, 4}}, 100, 100)...))
	f.Fuzz(func(t *testing.T, script []byte) {
		config := func(c *Config) { c.Moves = true }
		if len(script) > 0 && script[0]&64 != 0 {
			config = func(c *Config) { c.Moves, c.Carrier, c.Protection = true, ByteStream, new(nullProtection) }
		}
		fuzzReceive(t, script, config)
	})
}

// fuzzReceive runs a script against an association; what is in it, the code says.
func fuzzReceive(t *testing.T, script []byte, seal func(c *Config)) {
	s := newRig(t, 1, wire{delay: time.Millisecond}, func(c *Config) {
		if seal != nil {
			seal(c)
		}
		c.Local.MaxStreamData, c.Local.MaxData = 20000, 30000
		c.Peer.MaxStreamData, c.Peer.MaxData = 20000, 30000
		c.ReceiveWindow = 40000
		c.Local.Parity, c.Peer.Parity, c.Redundancy = true, true, 3
	})
	a := s.ends[1]
	choices := byte(11)
	if a.moves != nil {
		choices = 15
		s.pipe = &pipe{gen: 1, delay: time.Millisecond}
		for _, a := range s.ends {
			a.SetAttached(s.now, Datagrams, true)
			a.SetAttached(s.now, ByteStream, true)
		}
	}
	pn := packetNumber(1 << 10)
	next := func() byte {
		if len(script) == 0 {
			return 0
		}
		b := script[0]
		script = script[1:]
		return b
	}
	for len(script) > 0 {
		switch op := next(); op % 8 {
		case 0, 5, 6: // a packet
			n := min(int(next()), len(script))
			pn += packetNumber(op>>3) - 3
			p := forge(a, max(pn, 0), script[:n])
			if a.moves != nil && op%8 == 6 {
				a.ReceiveFrame(s.now, forgePlain(a, max(pn, 0), script[:n]))
				p = nil
			}
			if a.c.Protection != nil && op%8 == 5 && op&64 != 0 {
				p = forgeSealed(a, framing.TypeHello, max(pn, 0), script[:n])
			}
			a.Receive(s.now, p)
			script = script[n:]
			pn++
		case 1:
			a.Write(s.now, 0, make([]byte, 10*int(next())))
		case 2:
			a.SendMessage(s.now, &Outgoing{Payload: make([]byte, 20*int(next())), Ack: op&8 != 0, Ordered: op&16 != 0, Redundant: op&128 != 0, Lifetime: time.Duration(op>>5) * time.Second})
		case 3:
			s.now = s.now.Add(time.Duration(next()) * time.Millisecond)
			a.Advance(s.now)
		case 4:
			switch next() % choices {
			case 0:
				a.Shutdown(s.now)
			case 1:
				a.CloseWrite(0)
			case 2:
				a.StopReading(s.now, 0)
			case 3:
				a.Read(s.now, 0, make([]byte, 100))
			case 4:
				a.ReceiveMessage(s.now)
			case 5:
				a.DatagramTooLarge(s.now, 1400)
			case 6:
				a.WriteControl(make([]byte, 100*int(next())))
			case 7:
				a.ReadControl()
			case 8:
				a.ConsumeControl(int(next()))
			case 9:
				a.SendHandshakeDone()
			case 10:
				if a.c.Protection != nil {
					k := a.c.Protection.(*nullProtection)
					k.updated = true
					if next() == 255 {
						k.err = errTestKeys
					}
				}
			case 11:
				a.PathChanged(s.now, time.Duration(op)*time.Millisecond, op&8 != 0)
			case 12:
				a.Move(s.now, Carrier(next()))
			case 13:
				c := next()
				a.SetAttached(s.now, Carrier(c>>1), c&1 != 0)
			case 14:
				if b := a.AppendFrameChallenge(s.now, nil, [8]byte{1}); len(b) > 0 && op&8 != 0 {
					s.sendFrame(1, b)
				}
				a.AppendChallenge(s.now, nil, [8]byte{2}, 1200)
				if cs := a.CarrierStats(s.now, a.Active()); cs.Rate < 0 || cs.Silence < 0 {
					t.Fatalf("%+v", cs)
				}
			}
		case 7:
			s.run(time.Duration(next())*time.Millisecond, func() bool { return false })
		}
		window := a.cc.window()
		for n := 0; ; n++ {
			if len(a.AppendDatagram(s.now, nil)) == 0 && len(a.AppendFrame(s.now, nil)) == 0 {
				break
			}
			if n > 1000+window/500 {
				t.Fatal("sends without end")
			}
		}
		for a.NextEvent().Kind != EventNone {
		}
		bounds(t, a)
	}
	s.run(3*time.Minute, func() bool { return false })
	bounds(t, a)
}

// FuzzReassembly puts a message together from fragments by a script, against a
// model that knows which bytes have come (traps F1 to F5).
func FuzzReassembly(f *testing.F) {
	f.Add(uint32(10), []byte{0, 0, 5, 5, 0, 5})
	f.Add(uint32(70000), []byte{0, 0, 255, 128, 10, 255, 255, 255, 255})
	f.Add(uint32(1), []byte{0, 0, 1})
	f.Fuzz(func(t *testing.T, total uint32, script []byte) {
		total = total%200000 + 1
		want := messageBody(uint64(total), int(total))[:total]
		var pool blockPool
		m := &partial{total: int64(total)}
		have := make([]bool, total)
		got := int64(0)
		for len(script) >= 3 && got < int64(total) {
			off := (int(binary.BigEndian.Uint16(script)) * 3) % int(total)
			n := min(max(1, int(script[2])*int(script[2])), int(total)-off)
			script = script[3:]
			if !m.write(&pool, int64(off), want[off:off+n]) {
				t.Fatal("no room for a few gaps")
			}
			for i := off; i < off+n; i++ {
				if !have[i] {
					have[i] = true
					got++
				}
			}
			if m.got != got {
				t.Fatalf("has %d bytes, %d have come", m.got, got)
			}
			held := int64(len(m.body))
			for _, b := range m.blocks {
				held += int64(len(b))
			}
			if held > (bodyShare+1)*got+int64(len(have))/blockLen+2*blockLen*int64(len(m.have)+2) {
				t.Fatalf("holds %d for %d", held, got)
			}
		}
		if got == int64(total) && !bytes.Equal(m.body, want) {
			t.Fatal("not what was sent")
		}
	})
}
