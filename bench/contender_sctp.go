package main

import (
	"io"
	"net"
	"slices"
	"time"

	"github.com/pion/logging"
	"github.com/pion/sctp"
	"github.com/pion/transport/v5/udp"
)

// sctpContender is an association of pion/sctp over UDP, without DTLS, in which a Write is
// one message or, if that is too large, several. Its Writes block, as a stream's do.
func sctpContender() *contender {
	return &contender{
		name: "sctp", what: "one ordered stream of pion/sctp over UDP, without DTLS",
		tests:     []string{"bulk", "fine-bulk", "rr", "fine-rr", "message", "dials", "idle", "link"},
		bases:     map[string]string{"bulk": "quic", "message": "quic", "rr": "udp"},
		idleConns: 1000,
		listen: func(_ *env, host string) (acceptor, error) {
			lc := udp.ListenConfig{ReadBufferSize: sctpSocketBuffer, WriteBufferSize: sctpSocketBuffer, Backlog: 4096}
			ln, err := lc.Listen("udp", &net.UDPAddr{IP: net.ParseIP(host)})
			if err != nil {
				return nil, err
			}
			a := newChanAcceptor(ln.Addr().String(), ln.Close)
			go func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					go acceptSCTP(a, conn)
				}
			}()
			return a, nil
		},
		dial: func(_ *env, addr string) (stream, error) { return dialSCTP(addr) },
	}
}

// sctpMessagesContender has the messages of it arrive in any order, so that none waits for
// another.
func sctpMessagesContender() *contender {
	c := sctpContender()
	c.name, c.what = "sctp-messages", "unordered messages of pion/sctp over UDP, without DTLS"
	c.tests, c.bases = []string{"link-messages"}, nil
	c.messages = func(s stream) messagePort {
		x := s.(*sctpStream)
		x.s.SetReliabilityParams(true, sctp.ReliabilityTypeReliable, 0)
		return sctpMessages{x}
	}
	return c
}

const (
	sctpSocketBuffer = 4 << 20
	sctpMessage      = 64 << 10 // the largest that all agree on
	sctpLinger       = 2 * time.Second

	sctpData = sctp.PayloadTypeWebRTCBinary
	sctpEnd  = sctp.PayloadTypeWebRTCString
)

func sctpOptions(conn net.Conn) []sctp.AssociationOption {
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	return []sctp.AssociationOption{
		sctp.WithNetConn(conn), sctp.WithBlockWrite(true), sctp.WithLoggerFactory(quiet), sctp.WithMaxMessageSize(sctpMessage),
	}
}

func dialSCTP(addr string) (*sctpStream, error) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return nil, err
	}
	conn.(*net.UDPConn).SetReadBuffer(sctpSocketBuffer)
	conn.(*net.UDPConn).SetWriteBuffer(sctpSocketBuffer)
	var options []sctp.ClientOption
	for _, o := range sctpOptions(conn) {
		options = append(options, o)
	}
	assoc, err := sctp.ClientWithOptions(options...)
	if err != nil {
		conn.Close()
		return nil, err
	}
	s, err := assoc.OpenStream(1, sctpData)
	if err == nil {
		// The peer learns of a stream by its first message.
		_, err = s.Write([]byte{0})
	}
	if err != nil {
		assoc.Close()
		return nil, err
	}
	return &sctpStream{assoc: assoc, s: s, client: true}, nil
}

func acceptSCTP(a *chanAcceptor, conn net.Conn) {
	var options []sctp.ServerOption
	for _, o := range sctpOptions(conn) {
		options = append(options, o)
	}
	assoc, err := sctp.ServerWithOptions(options...)
	if err != nil {
		conn.Close()
		return
	}
	s, err := assoc.AcceptStream()
	if err == nil {
		_, err = s.Read(make([]byte, sctpMessage))
	}
	if err != nil || !a.put(&sctpStream{assoc: assoc, s: s}) {
		assoc.Close()
	}
}

// An sctpStream makes bytes of messages. Closing a stream of SCTP may overtake what was
// written last, so a message of another type is the end.
type sctpStream struct {
	assoc  *sctp.Association
	s      *sctp.Stream
	client bool

	buf   []byte
	left  []byte // of the message that is being read
	ended bool
}

func (x *sctpStream) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, sctpMessage) {
		m, err := x.s.Write(part)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (x *sctpStream) Read(p []byte) (int, error) {
	if len(x.left) == 0 {
		if x.ended {
			return 0, io.EOF
		}
		// Without a copy, if there is room for any message.
		buf := p
		if len(p) < sctpMessage {
			if x.buf == nil {
				x.buf = make([]byte, sctpMessage)
			}
			buf = x.buf
		}
		n, kind, err := x.s.ReadSCTP(buf)
		if err != nil {
			return 0, err
		}
		if kind == sctpEnd {
			x.ended = true
			return 0, io.EOF
		}
		if len(p) >= sctpMessage {
			return n, nil
		}
		x.left = buf[:n]
	}
	n := copy(p, x.left)
	x.left = x.left[n:]
	return n, nil
}

// Close sends the end. The server's association stays, for what was not yet acknowledged,
// until the client has read the end.
func (x *sctpStream) Close() error {
	_, err := x.s.WriteSCTP([]byte{0}, sctpEnd)
	if !x.client {
		return nil // the client may be gone
	}
	x.s.SetReadDeadline(time.Now().Add(sctpLinger))
	io.Copy(io.Discard, struct{ io.Reader }{x})
	x.assoc.Abort("done") // Shutdown would wait for an acknowledgement that is delayed
	return err
}

// sctpMessages are those of a stream, as they are.
type sctpMessages struct{ x *sctpStream }

func (m sctpMessages) Send(p []byte) error {
	_, err := m.x.s.Write(p)
	return err
}

func (m sctpMessages) Receive() ([]byte, error) {
	p := make([]byte, linkMessage)
	n, err := m.x.s.Read(p)
	return p[:n], err
}
