package vstp

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
)

// A legacyMessages is what Dial of "udp" returns a Conn over when Config.Legacy is set:
// the messages of one peer in the crate profile, in which nothing is negotiated and
// nothing ends. It has the endpoint for itself. PROTOCOL §6.5.
type legacyMessages struct {
	e      *endpoint.Endpoint
	to     udpio.Addr
	closed atomic.Bool

	bytesOut, bytesIn, msgsOut, msgsIn atomic.Uint64
}

var _ connSession = (*legacyMessages)(nil)

func (s *legacyMessages) Handshake(context.Context) error { return nil }

func (s *legacyMessages) Read(p []byte) (int, error) {
	m, err := s.ReceiveMessage(context.Background())
	if err != nil {
		return 0, err
	}
	return copy(p, m.Payload), nil
}

func (s *legacyMessages) Write(p []byte) (int, error) {
	if err := s.SendMessage(context.Background(), &session.Message{Payload: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadFrom sends a message for each piece that r gives.
func (s *legacyMessages) ReadFrom(r io.Reader) (n int64, err error) {
	b := make([]byte, 32<<10)
	for {
		m, rerr := r.Read(b)
		if m > 0 {
			if _, err := s.Write(b[:m]); err != nil {
				return n, err
			}
			n += int64(m)
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, &session.CopyError{Err: rerr}
		}
	}
}

// WriteTo writes each message with one Write.
func (s *legacyMessages) WriteTo(w io.Writer) (n int64, err error) {
	for {
		m, err := s.ReceiveMessage(context.Background())
		if err != nil {
			return n, err
		}
		k, err := w.Write(m.Payload)
		n += int64(k)
		if err != nil {
			return n, &session.CopyError{Err: err}
		}
	}
}

func (s *legacyMessages) SendMessage(ctx context.Context, m *session.Message) error {
	if err := s.e.SendMessage(ctx, m, s.to); err != nil {
		return err
	}
	s.msgsOut.Add(1)
	s.bytesOut.Add(uint64(len(m.Payload)))
	return nil
}

// ReceiveMessage returns the next message of the peer. What others send is dropped, as
// by a connected socket.
func (s *legacyMessages) ReceiveMessage(ctx context.Context) (*session.Message, error) {
	for {
		m, addr, err := s.e.ReceiveMessage(ctx)
		if err != nil {
			return nil, err
		}
		if from, err := udpio.AddrOf(addr); err != nil || from.AddrPort != s.to.AddrPort {
			continue
		}
		s.msgsIn.Add(1)
		s.bytesIn.Add(uint64(len(m.Payload)))
		return m, nil
	}
}

func (s *legacyMessages) Ping(context.Context) (time.Duration, error) {
	return 0, session.ErrNotSupported
}

func (s *legacyMessages) CloseWrite() error { return session.ErrNotSupported }

func (s *legacyMessages) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.e.Close()
}

func (s *legacyMessages) CloseWithError(framing.ErrorCode, string) error { return s.Close() }

func (s *legacyMessages) LocalAddr() net.Addr  { return s.e.LocalAddr() }
func (s *legacyMessages) RemoteAddr() net.Addr { return s.to.NetAddr() }

func (s *legacyMessages) SetReadDeadline(t time.Time) error  { return s.e.SetReadDeadline(t) }
func (s *legacyMessages) SetWriteDeadline(t time.Time) error { return s.e.SetWriteDeadline(t) }

func (s *legacyMessages) NetConn() net.Conn              { return nil }
func (s *legacyMessages) TLSState() *tls.ConnectionState { return nil }

func (s *legacyMessages) Result() (handshake.Result, bool) { return handshake.LegacyResult(), true }

func (s *legacyMessages) Stats() session.Stats {
	st := s.e.Stats()
	return session.Stats{
		BytesSent:        s.bytesOut.Load(),
		BytesReceived:    s.bytesIn.Load(),
		WireSent:         st.BytesSent,
		WireReceived:     st.BytesReceived,
		MessagesSent:     s.msgsOut.Load(),
		MessagesReceived: s.msgsIn.Load(),
		PacketsSent:      st.DatagramsSent,
		PacketsReceived:  st.DatagramsReceived,
		PacketsDropped:   st.Malformed,
	}
}
