package endpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/sealed"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/tlsvstp"
)

// A rogue is a server that finishes the handshake, and then says what it likes.
type rogue struct {
	t    *testing.T
	pc   *simnet.Conn
	m    *sealed.Server
	p    *tlsvstp.Protection
	to   net.Addr
	peer handshake.ConnID
	pn   uint64
	off  uint64
}

func newRogue(t *testing.T, pc *simnet.Conn, confirm bool) *rogue {
	r := &rogue{t: t, pc: pc}
	cfg := sealedConfig()
	b := make([]byte, 2000)
	for r.m == nil || !r.m.Done() {
		pc.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			t.Error(err)
			return nil
		}
		r.to = from
		_, _, kind := handshake.RouteID(b[:n])
		switch kind {
		case handshake.KindHello:
			h, err := handshake.ParseHello(b[:n])
			if err != nil {
				t.Error(err)
				continue
			}
			if r.m == nil {
				r.peer = h.SourceID
				r.m = sealed.NewServer(context.Background(), cfg.ServerTLS, handshake.ConnID{9, 9}, h.SourceID, nil,
					func(*handshake.SealedParams) (*handshake.SealedParams, error) {
						return &handshake.SealedParams{Confirm: confirm, DatagramParams: handshake.DatagramParams{
							Credit: handshake.Credit{MaxData: 1 << 20, MaxStreamData: 1 << 20, MaxMessages: 1 << 20}}}, nil
					})
			}
			r.m.Hello(&h, n, true)
		case handshake.KindSealedHello:
			r.m.Packet(b[:n])
		}
		for _, d := range r.m.AppendFlight(nil) {
			pc.WriteTo(d, from)
		}
	}
	r.p = tlsvstp.NewProtection()
	r.m.Install(r.p)
	return r
}

func (r *rogue) say(chunks []byte) {
	b := framing.AppendFixed(nil, framing.TypeData, framing.FlagSealed, 15, int64(len(chunks)+16))
	b = append(append(b, 1, 12, 1), r.peer[:]...)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = r.p.Seal(append(b, chunks...), 0, r.pn)
	r.pn++
	r.pc.WriteTo(b, r.to)
}

func (r *rogue) control(frame []byte) {
	for len(frame) > 0 {
		n := min(1000, len(frame))
		b := framing.AppendVarint([]byte{6}, r.off)
		b = framing.AppendVarint(b, uint64(n))
		r.say(append(b, frame[:n]...))
		r.off += uint64(n)
		frame = frame[n:]
		if r.pn%16 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// TestSealedRogueServer: whatever a server says once it has shown its certificate, a client
// ends in an error, in time, sends little, and leaves nothing behind.
func TestSealedRogueServer(t *testing.T) {
	welcome, _ := handshake.AppendControlWelcome(nil, nil)
	refusal, _ := handshake.AppendControlErr(nil, framing.CodeRefused, "no", nil)
	hello, _ := handshake.AppendControlHello(nil, nil)
	tls := func(b ...byte) []byte { return append(bytes.Clone(welcome), handshake.AppendControlData(nil, b)...) }
	times := func(n int, f func(r *rogue)) func(r *rogue) {
		return func(r *rogue) {
			r.control(welcome)
			for range n {
				f(r)
			}
		}
	}
	const unexpected, never = "must not come", "handshake timeout" // as HANDSHAKE_DONE does not come
	for _, c := range []struct {
		name string
		f    func(r *rogue)
		want string // in the error
	}{
		{"nothing", func(*rogue) {}, never},
		{"WELCOME twice", func(r *rogue) { r.control(append(bytes.Clone(welcome), welcome...)) }, unexpected},
		{"ERR after WELCOME", func(r *rogue) { r.control(append(bytes.Clone(welcome), refusal...)) }, unexpected},
		{"ERR", func(r *rogue) { r.control(refusal) }, "refused"},
		{"HELLO", func(r *rogue) { r.control(hello) }, unexpected},
		{"HANDSHAKE_DONE and no WELCOME", func(r *rogue) { r.say([]byte{0x1e}) }, "timeout"},
		{"HANDSHAKE_DONE again and again", times(200, func(r *rogue) { r.say([]byte{0x1e, 0x1e}) }), "idle timeout"},
		{"ACK of what was never sent", func(r *rogue) { r.say([]byte{2, 60, 0, 0, 1}) }, "never sent"},
		{"challenges", times(200, func(r *rogue) { r.say(bytes.Repeat([]byte{0x1a, 1, 2, 3, 4, 5, 6, 7, 8}, 100)) }), never},
		{"key updates", times(100, func(r *rogue) {
			r.say([]byte{1})
			time.Sleep(20 * time.Millisecond)
			r.p.Acked(r.pn - 1)
			r.p.DropOld()
			r.p.Update()
		}), never},
		{"tickets", func(r *rogue) {
			ticket, err := r.m.Tickets()
			if err != nil {
				r.t.Error(err)
			}
			times(1000, func(r *rogue) { r.control(handshake.AppendControlData(nil, ticket)) })(r)
		}, never},
		{"junk for tickets", times(100, func(r *rogue) { r.control(handshake.AppendControlData(nil, make([]byte, 60000))) }), never},
		{"a ticket without end", func(r *rogue) {
			r.control(tls(4, 0xff, 0xff, 0xff))
			for range 50 {
				r.control(handshake.AppendControlData(nil, make([]byte, 60000)))
			}
		}, never},
		{"KeyUpdate of TLS", func(r *rogue) { r.control(tls(24, 0, 0, 1, 1)) }, never},
		{"CertificateRequest of TLS", func(r *rogue) { r.control(tls(13, 0, 0, 3, 0, 0, 0)) }, never},
	} {
		for _, confirm := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { rogueServer(t, c.f, c.want, confirm) })
			})
		}
	}
}

func rogueServer(t *testing.T, f func(r *rogue), want string, confirm bool) {
	n := simnet.New(t, simnet.Options{Seed: 1, Path: simnet.Path{Delay: 5 * time.Millisecond}, Limit: time.Hour})
	a := newEndpoint(t, n.Host("10.0.0.1").ListenPacket(0), sealedConfig())
	pc := n.Host("10.0.0.2").ListenPacket(6969)
	defer pc.Close()
	start := time.Now()
	ended := make(chan error, 1)
	go func() {
		s, err := a.DialStream(t.Context(), mustAddr(t, pc.LocalAddr()))
		if err == nil {
			_, err = s.Read(make([]byte, 1))
			s.Close()
		}
		ended <- err
	}()
	r := newRogue(t, pc, confirm)
	if r == nil {
		t.Fatal("no client")
	}
	defer r.m.Close()
	f(r)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), want) || time.Since(start) > 35*time.Second {
		t.Error(err, time.Since(start))
	}
	settle(t, a)
	w := &wire{pc, nil}
	sent := 0
	for b := w.recv(); b != nil; b = w.recv() {
		sent += len(b)
	}
	if sent > 300_000 {
		t.Errorf("%d bytes are answered with %d", r.off, sent)
	}
}
