package reliable

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// split cuts a frame as who reads a byte stream does, if StreamData says so.
func split(a *Assoc, frame []byte) (head, data, trailer []byte, ok bool) {
	at, n := StreamData(frame, a.NextRead())
	if n == 0 {
		return nil, nil, nil, false
	}
	return frame[:at], frame[at : at+n], frame[at+n:], true
}

// TestStreamData: what is found of a frame, and that less of it says nothing else.
func TestStreamData(t *testing.T) {
	s := streamRig(t)
	c := s.ends[0]
	c.AppendFrame(s.now, nil)
	at := int64(0)
	for _, n := range []int{1, 5, 5000, 16, 10_000, 64} {
		c.Write(s.now, 0, make([]byte, n))
		frame := c.AppendFrame(s.now, nil)
		from, k := StreamData(frame, at)
		size := int(binary.BigEndian.Uint32(frame[7:]))
		if k == 0 || from+k != packetHeaderLen+size {
			t.Errorf("%d bytes at %d: %d at %d", n, at, k, from)
		}
		if _, k := StreamData(frame, at+1); k != 0 {
			t.Error("other bytes are wanted")
		}
		for m := range from + 20 {
			if f, l := StreamData(frame[:min(m, len(frame))], at); l != 0 && (f != from || l != k) {
				t.Errorf("of %d bytes: %d at %d", m, l, f)
			}
		}
		at += int64(k)
	}
	c.CloseWrite(0)
	if _, k := StreamData(c.AppendFrame(s.now, nil), at); k != 0 {
		t.Error("the end of the stream")
	}
}

// TestReceiveFrameData: two receivers, of which one reads data past its engine where it
// can, give the same bytes and answers. Frames come again, too, and Reads do not always
// come in time.
func TestReceiveFrameData(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	one, two := streamRig(t), streamRig(t)
	var sent, got1, got2 []byte
	buf := make([]byte, 1<<20)
	past, not := 0, 0
	var frames [][]byte
	for range 400 {
		now := one.now.Add(time.Duration(rnd.IntN(3)) * time.Millisecond)
		one.now, two.now = now, now
		c := one.ends[0]
		p := make([]byte, 1+rnd.IntN(1<<rnd.IntN(18)))
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		for _, s := range []*rig{one, two} {
			for _, a := range s.ends {
				a.Advance(now)
			}
		}
		n, err := c.Write(now, 0, p)
		if err != nil {
			t.Fatal(err)
		}
		two.ends[0].Write(now, 0, p[:n])
		sent = append(sent, p[:n]...)
		for {
			f := c.AppendFrame(now, nil)
			if len(f) == 0 {
				break
			}
			if f2 := two.ends[0].AppendFrame(now, nil); !bytes.Equal(f, f2) {
				t.Fatal("other frames")
			}
			frames = append(frames, f)
			if rnd.IntN(10) == 0 {
				frames = append(frames, frames[rnd.IntN(len(frames))])
			}
		}
		for k := rnd.IntN(len(frames) + 1); k > 0; k-- {
			f := frames[0]
			frames = frames[1:]
			one.ends[1].ReceiveFrame(now, bytes.Clone(f))
			if head, data, trailer, ok := split(two.ends[1], f); ok {
				damaged := bytes.Clone(data)
				damaged[rnd.IntN(len(damaged))]++
				if r, read := two.ends[1].ReceiveFrameData(now, head, damaged, trailer); r.Opened || read {
					t.Fatal("a wrong CRC")
				}
				if rnd.IntN(20) == 0 { // what is being read comes another way meanwhile
					two.ends[1].ReceiveFrame(now, bytes.Clone(f))
				}
				r, read := two.ends[1].ReceiveFrameData(now, head, bytes.Clone(data), trailer)
				if !r.Opened {
					t.Fatal("not opened")
				}
				if read {
					past++
					got2 = append(got2, data...)
				} else {
					not++
				}
			} else {
				two.ends[1].ReceiveFrame(now, bytes.Clone(f))
			}
			if rnd.IntN(3) > 0 {
				n, _ := two.ends[1].Read(now, 0, buf)
				got2 = append(got2, buf[:n]...)
			}
		}
		n, _ = one.ends[1].Read(now, 0, buf)
		got1 = append(got1, buf[:n]...)
		n, _ = two.ends[1].Read(now, 0, buf)
		got2 = append(got2, buf[:n]...)
		if !bytes.Equal(got1, sent[:len(got1)]) || !bytes.Equal(got2, got1) {
			t.Fatalf("%d and %d bytes of %d", len(got1), len(got2), len(sent))
		}
		b := one.ends[1].AppendFrame(now, nil)
		two.ends[1].AppendFrame(now, nil)
		if len(b) > 0 { // credit may have been given in another order
			one.ends[0].ReceiveFrame(now, b)
			two.ends[0].ReceiveFrame(now, b)
		}
	}
	if t.Logf("%d frames past the engine, %d not", past, not); past < 100 || not == 0 {
		t.Error("little was tried")
	}
}

// TestReceiveFrameDataRefuses: what does not add up is not opened, and what nobody wants to
// read any more is dropped.
func TestReceiveFrameDataRefuses(t *testing.T) {
	s := streamRig(t)
	c, p := s.ends[0], s.ends[1]
	p.ReceiveFrame(s.now, c.AppendFrame(s.now, nil))
	c.Write(s.now, 0, make([]byte, 5000))
	f := c.AppendFrame(s.now, nil)
	head, data, trailer, _ := split(p, f)
	for name, pieces := range map[string][3][]byte{
		"no head":       {nil, data, trailer},
		"too short":     {head, data[1:], trailer},
		"no trailer":    {head, data, nil},
		"half trailer":  {head, data, trailer[1:]},
		"head too long": {f[:len(head)+1], data[1:], trailer},
	} {
		if r, read := p.ReceiveFrameData(s.now, pieces[0], pieces[1], pieces[2]); r.Opened || read {
			t.Error(name)
		}
	}
	p.StopReading(s.now, 0)
	if r, read := p.ReceiveFrameData(s.now, head, data, trailer); !r.Opened || read {
		t.Error("read by nobody")
	}
	if n, err := p.Read(s.now, 0, make([]byte, 10)); n > 0 || err == io.EOF {
		t.Error(n, err)
	}
}

func FuzzStreamData(f *testing.F) {
	f.Add([]byte("VT\x01\x03\x02\x0f\x00\x00\x00\x00\x05\x01\x0c\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x0a\x00\x01x"), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, want int64) {
		at, n := StreamData(b, want)
		if n < 0 || at < 0 || n > MaxFrame || n > 0 && (at > len(b) || want < 0 || want+int64(n) > framing.MaxVarint) {
			t.Fatalf("%d at %d", n, at)
		}
	})
}
