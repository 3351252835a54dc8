package main

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/xtaci/kcp-go/v5"
)

// kcpContender has the settings that the documentation of kcp-go calls its fastest:
// no delays, retransmission after two duplicate acknowledgements, no congestion control.
func kcpContender() *contender {
	c := kcpOver(0, 0)
	c.name, c.what = "kcp", "kcp-go, nodelay 1,10,2,1, windows of 1024, stream mode, neither FEC nor encryption"
	return c
}

// kcpFECContender sends 3 packets of parity after 10 of data.
func kcpFECContender() *contender {
	c := kcpOver(10, 3)
	c.name, c.what = "kcp-fec", "the same with forward error correction: 3 packets of parity for 10"
	c.tests = []string{"bulk", "rr", "link"}
	return c
}

func kcpOver(data, parity int) *contender {
	return &contender{
		tests: []string{"bulk", "fine-bulk", "rr", "fine-rr", "message", "link"},
		bases: map[string]string{"bulk": "quic", "message": "quic", "rr": "udp"},
		listen: func(_ *env, host string) (acceptor, error) {
			ln, err := kcp.ListenWithOptions(host+":0", nil, data, parity)
			if err != nil {
				return nil, err
			}
			ln.SetReadBuffer(kcpSocketBuffer)
			ln.SetWriteBuffer(kcpSocketBuffer)
			a := newChanAcceptor(ln.Addr().String(), ln.Close)
			go func() {
				for {
					s, err := ln.AcceptKCP()
					if err != nil {
						return
					}
					go acceptKCP(a, s)
				}
			}()
			return a, nil
		},
		dial: func(_ *env, addr string) (stream, error) {
			s, err := kcp.DialWithOptions(addr, nil, data, parity)
			if err != nil {
				return nil, err
			}
			s.SetReadBuffer(kcpSocketBuffer)
			s.SetWriteBuffer(kcpSocketBuffer)
			tuneKCP(s)
			// There is no handshake: the first byte makes the server's end.
			if _, err := s.Write([]byte{0}); err != nil {
				s.Close()
				return nil, err
			}
			return &kcpStream{s: s, client: true}, nil
		},
	}
}

const (
	kcpSocketBuffer = 4 << 20
	kcpLinger       = 2 * time.Second
)

func tuneKCP(s *kcp.UDPSession) {
	//lint:ignore SA1019 the mode is not the default, and there is no other way to set it
	s.SetStreamMode(true)
	s.SetNoDelay(1, 10, 2, 1)
	s.SetWindowSize(1024, 1024)
}

func acceptKCP(a *chanAcceptor, s *kcp.UDPSession) {
	tuneKCP(s)
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil || !a.put(&kcpStream{s: s}) {
		s.Close()
	}
}

// A kcpStream adds what kcp-go has not, an end: it puts the length in front of each
// Write, and zero is the end.
type kcpStream struct {
	s      *kcp.UDPSession
	client bool
	head   [4]byte // of Write
	parts  [2][]byte

	left  int // of the Write that is being read
	ended bool
	next  [4]byte
}

func (k *kcpStream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	binary.BigEndian.PutUint32(k.head[:], uint32(len(p)))
	k.parts = [2][]byte{k.head[:], p}
	n, err := k.s.WriteBuffers(k.parts[:])
	return max(0, n-len(k.head)), err
}

func (k *kcpStream) Read(p []byte) (int, error) {
	if k.ended {
		return 0, io.EOF
	}
	if k.left == 0 {
		if _, err := io.ReadFull(k.s, k.next[:]); err != nil {
			return 0, err
		}
		if k.left = int(binary.BigEndian.Uint32(k.next[:])); k.left == 0 {
			k.ended = true
			return 0, io.EOF
		}
	}
	n, err := k.s.Read(p[:min(k.left, len(p))])
	k.left -= n
	return n, err
}

// Close sends the end. The server's session stays: closing it would throw away what was
// not yet acknowledged. For the same reason the client waits for the server's end.
func (k *kcpStream) Close() error {
	clear(k.head[:])
	_, err := k.s.Write(k.head[:])
	if errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	if k.client {
		k.s.SetReadDeadline(time.Now().Add(kcpLinger))
		io.Copy(io.Discard, struct{ io.Reader }{k})
		k.s.Close()
	}
	return err
}

// retransmitted returns the share of segments that this process has sent again.
func (k *kcpStream) retransmitted() float64 {
	stats := kcp.DefaultSnmp.Copy()
	return share(stats.RetransSegs, stats.OutSegs)
}
