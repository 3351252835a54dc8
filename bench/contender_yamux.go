package main

import (
	"io"
	"net"

	"github.com/hashicorp/yamux"
)

func yamuxContender() *contender {
	return &contender{
		name: "yamux", what: "one yamux stream over TCP", base: "tcp",
		tests: []string{"bulk", "fine-bulk", "rr", "fine-rr", "message", "dials", "idle"},
		listen: func(_ *env, host string) (acceptor, error) {
			ln, err := listenTCP(host)
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
					go acceptYamux(a, conn)
				}
			}()
			return a, nil
		},
		dial: func(_ *env, addr string) (stream, error) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				return nil, err
			}
			session, err := yamux.Client(conn, yamuxConfig())
			if err != nil {
				conn.Close()
				return nil, err
			}
			s, err := session.Open()
			if err != nil {
				session.Close()
				return nil, err
			}
			return &yamuxStream{s, session}, nil
		},
	}
}

func acceptYamux(a *chanAcceptor, conn net.Conn) {
	session, err := yamux.Server(conn, yamuxConfig())
	if err != nil {
		conn.Close()
		return
	}
	for {
		s, err := session.Accept()
		// The session ends with its carrier, when the client closes it: closing it
		// here would cut off what the stream's Close has only queued.
		if err != nil || !a.put(s) {
			return
		}
	}
}

func yamuxConfig() *yamux.Config {
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	return config
}

// A yamuxStream is the only stream of its session.
type yamuxStream struct {
	net.Conn
	session *yamux.Session
}

func (s *yamuxStream) Close() error {
	err := s.Conn.Close()
	if serr := s.session.Close(); err == nil {
		err = serr
	}
	return err
}
