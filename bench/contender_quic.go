package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"

	"github.com/quic-go/quic-go"
)

const quicProtocol = "bench"

func quicContender() *contender {
	return &contender{
		name: "quic", what: "one stream of quic-go, TLS 1.3",
		tests:     []string{"bulk", "fine-bulk", "rr", "fine-rr", "dials", "handshakes", "idle", "message", "link"},
		bases:     map[string]string{"rr": "udp"},
		idleConns: 1000,
		listen: func(e *env, host string) (acceptor, error) {
			ln, err := quic.ListenAddr(host+":0", quicTLS(e.serverTLS), nil)
			if err != nil {
				return nil, err
			}
			a := newChanAcceptor(ln.Addr().String(), ln.Close)
			go func() {
				for {
					conn, err := ln.Accept(context.Background())
					if err != nil {
						return
					}
					go acceptQUIC(a, conn)
				}
			}()
			return a, nil
		},
		dial: func(e *env, addr string) (stream, error) {
			conn, err := quic.DialAddr(context.Background(), addr, quicTLS(e.clientTLS), nil)
			if err != nil {
				return nil, err
			}
			s := &quicStream{conn: conn, client: true}
			if s.Stream, err = conn.OpenStreamSync(context.Background()); err == nil {
				// The peer learns of a stream by its first byte.
				_, err = s.Stream.Write([]byte{0})
			}
			if err != nil {
				conn.CloseWithError(0, "")
				return nil, err
			}
			return s, nil
		},
	}
}

func quicTLS(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.NextProtos = []string{quicProtocol}
	return config
}

func acceptQUIC(a *chanAcceptor, conn *quic.Conn) {
	s, err := conn.AcceptStream(context.Background())
	if err == nil {
		_, err = io.ReadFull(s, make([]byte, 1))
	}
	if err != nil || !a.put(&quicStream{Stream: s, conn: conn}) {
		conn.CloseWithError(0, "")
	}
}

// A quicStream is the only stream of its connection.
type quicStream struct {
	*quic.Stream
	conn   *quic.Conn
	client bool
}

// Read takes the client's end of the connection for the end of the stream.
func (s *quicStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	var closed *quic.ApplicationError
	if errors.As(err, &closed) && closed.ErrorCode == 0 {
		err = io.EOF
	}
	return n, err
}

// Close ends the stream. The client, which closes when it has all it wants, ends the
// connection too; a server that did so would cut off what the stream has only queued.
func (s *quicStream) Close() error {
	err := s.Stream.Close()
	if !s.client {
		return nil // the client may be gone already, in round trips
	}
	if cerr := s.conn.CloseWithError(0, ""); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("quic: %w", err)
	}
	return nil
}

// retransmitted returns the share of bytes that were sent in packets declared lost.
func (s *quicStream) retransmitted() float64 {
	stats := s.conn.ConnectionStats()
	return share(stats.BytesLost, stats.BytesSent)
}
