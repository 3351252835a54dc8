package fileproto

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// A script is a peer that does what it is told, in order.
type script struct {
	peer
	c *fakeConn
}

func (s *script) say(op string, b body) { s.peer.send(ctx, op, b) }
func (s *script) hear()                 { s.peer.receive(ctx, 5*time.Second) }
func (s *script) content(b []byte)      { s.c.Write(b) }

// raw sends a payload that is no JSON of ours.
func (s *script) raw(op, payload string) {
	s.c.SendMessage(ctx, &vstp.Message{Header: vstp.Header{{Key: opKey, Value: op}}, Payload: []byte(payload), Ordered: true})
}

func newScript(c *fakeConn) *script { return &script{newPeer(c, time.Second), c} }

// A client survives what servers may do, and never writes outside its directory or
// gives a file its name without the right digest.
func TestHostileServer(t *testing.T) {
	sum := digest(sha256.Sum256([]byte("hello"))).String()
	wrong := digest(sha256.Sum256([]byte("other"))).String()
	tests := []struct {
		name string
		play func(s *script)
		want error
	}{
		{"close", func(s *script) {}, io.ErrUnexpectedEOF},
		{"garbage", func(s *script) { s.raw(opFile, "{") }, ErrProtocol},
		{"other type", func(s *script) { s.raw(opFile, `{"size":"x"}`) }, ErrProtocol},
		{"huge number", func(s *script) { s.raw(opFile, `{"size":1e300}`) }, ErrProtocol},
		{"huge message", func(s *script) { s.raw(opFile, string(bytes.Repeat([]byte(" "), MaxControl+1))) }, ErrProtocol},
		{"other operation", func(s *script) { s.say(opStored, body{}) }, ErrProtocol},
		{"negative size", func(s *script) { s.say(opFile, body{Size: -1}) }, ErrProtocol},
		{"offset not asked for", func(s *script) { s.say(opFile, body{Size: 10, Offset: 5}) }, ErrProtocol},
		{"offset beyond size", func(s *script) { s.say(opFile, body{Size: 1, Offset: 2}) }, ErrProtocol},
		{"claims much, sends little", func(s *script) {
			s.say(opFile, body{Size: 1 << 62})
			s.content([]byte("hello"))
		}, io.ErrUnexpectedEOF},
		{"no digest", func(s *script) {
			s.say(opFile, body{Size: 5})
			s.content([]byte("hello"))
		}, io.ErrUnexpectedEOF},
		{"bad digest", func(s *script) {
			s.say(opFile, body{Size: 5})
			s.content([]byte("hello"))
			s.say(opDone, body{SHA256: "00"})
		}, ErrProtocol},
		{"wrong digest", func(s *script) {
			s.say(opFile, body{Size: 5})
			s.content([]byte("hello"))
			s.say(opDone, body{SHA256: wrong})
		}, ErrDigest},
		{"error with escapes", func(s *script) { s.say(opError, body{Code: "x", Text: "\x1b[2J"}) }, nil},
		{"good", func(s *script) {
			s.say(opFile, body{Size: 5, Mode: 0o7777})
			s.content([]byte("hello"))
			s.say(opDone, body{SHA256: sum})
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			a, b := fakePair()
			done := make(chan struct{})
			go func() {
				defer close(done)
				s := newScript(b)
				s.hear()
				tt.play(s)
				b.Close()
			}()
			err := NewClient(a, 5*time.Second).Get(ctx, r.root, []File{{Remote: "f", Local: "f"}})
			a.Close()
			<-done
			switch {
			case tt.name == "good":
				require.NoError(t, err)
				info, err := os.Stat(filepath.Join(r.dir, "f"))
				require.NoError(t, err)
				require.Equal(t, os.FileMode(0o777), info.Mode()) // no set-uid bit from a peer
				return
			case tt.want == nil:
				require.Error(t, err)
			default:
				require.ErrorIs(t, err, tt.want)
			}
			require.NoFileExists(t, filepath.Join(r.dir, "f"))
		})
	}
}

// A server that neither answers nor closes does not hold a client for ever.
func TestSilentPeers(t *testing.T) {
	r := newRig(t)
	files := []File{{Remote: "f", Local: "f"}}
	t.Run("no content", func(t *testing.T) {
		a, b := fakePair()
		go func() {
			s := newScript(b)
			s.hear()
			s.say(opFile, body{Size: 5})
			s.content([]byte("he"))
		}()
		err := NewClient(a, 50*time.Millisecond).Get(ctx, r.root, files)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		b.Close()
	})
	t.Run("no answer", func(t *testing.T) {
		a, b := fakePair()
		_, err := NewClient(a, 50*time.Millisecond).Stat(ctx, "f")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		b.Close()
	})
	t.Run("client without content", func(t *testing.T) {
		a, b := fakePair()
		r.server.Stall = 50 * time.Millisecond
		newScript(a).say(opPut, body{Path: "f", Size: 10, Eager: true})
		require.ErrorIs(t, r.server.Serve(ctx, b), os.ErrDeadlineExceeded)
		a.Close()
	})
}

func TestHostileListing(t *testing.T) {
	dir := Entry{Path: ".", Dir: true}
	tests := map[string]func(s *script){
		"nothing":  func(s *script) { s.say(opEntries, body{}) },
		"no first": func(s *script) { s.say(opEntries, body{Entries: []Entry{{Path: "a"}}}) },
		"empty, more": func(s *script) {
			s.say(opEntries, body{Entries: []Entry{dir}, More: true})
			s.say(opEntries, body{More: true})
		},
		"escape":          func(s *script) { s.say(opEntries, body{Entries: []Entry{dir, {Path: "../x"}}}) },
		"absolute":        func(s *script) { s.say(opEntries, body{Entries: []Entry{dir, {Path: "/x"}}}) },
		"negative":        func(s *script) { s.say(opEntries, body{Entries: []Entry{dir, {Path: "x", Size: -1}}}) },
		"itself twice":    func(s *script) { s.say(opEntries, body{Entries: []Entry{dir, dir}}) },
		"below a file":    func(s *script) { s.say(opEntries, body{Entries: []Entry{{Path: "."}, {Path: "x"}}}) },
		"other operation": func(s *script) { s.say(opInfo, body{}) },
		"endless": func(s *script) {
			all := make([]Entry, 2000)
			for i := range all {
				all[i] = Entry{Path: "x"}
			}
			all[0] = dir
			for s.peer.send(ctx, opEntries, body{Entries: all, More: true}) == nil {
				all[0] = Entry{Path: "x"}
			}
		},
	}
	for name, play := range tests {
		t.Run(name, func(t *testing.T) {
			a, b := fakePair()
			done := make(chan struct{})
			go func() {
				defer close(done)
				s := newScript(b)
				s.hear()
				play(s)
			}()
			c := NewClient(a, 5*time.Second)
			c.maxEntries = 50_000
			_, err := c.List(ctx, ".")
			require.ErrorIs(t, err, ErrProtocol)
			<-done
		})
	}
	t.Run("info without entry", func(t *testing.T) {
		a, b := fakePair()
		newScript(b).say(opInfo, body{})
		_, err := NewClient(a, time.Second).Stat(ctx, ".")
		require.ErrorIs(t, err, ErrProtocol)
	})
}

// A server ends the connection of a client that breaks the protocol, and keeps
// nothing but a partial file.
func TestHostileClient(t *testing.T) {
	tests := map[string]func(s *script){
		"garbage":           func(s *script) { s.raw(opGet, "[]") },
		"unknown operation": func(s *script) { s.say("rm", body{Path: "x"}) },
		"answer":            func(s *script) { s.say(opFile, body{Path: "x"}) },
		"huge eager":        func(s *script) { s.say(opPut, body{Path: "x", Size: MaxEager + 1, Eager: true}) },
		"negative eager":    func(s *script) { s.say(opPut, body{Path: "x", Size: -1, Eager: true}) },
		"huge refused":      func(s *script) { s.say(opPut, body{Path: "../x", Size: 1 << 40, Eager: true}) },
		"other offset": func(s *script) {
			s.say(opPut, body{Path: "x", Size: 10})
			s.hear()
			s.say(opContent, body{Offset: 3})
		},
		"no content message": func(s *script) {
			s.say(opPut, body{Path: "x", Size: 10})
			s.hear()
			s.say(opDone, body{})
		},
		"no digest": func(s *script) {
			s.say(opPut, body{Path: "x", Size: 1, Eager: true})
			s.content([]byte("x"))
			s.say(opDone, body{SHA256: "x"})
		},
		"early close": func(s *script) {
			s.say(opPut, body{Path: "x", Size: 10, Eager: true})
			s.content([]byte("x"))
		},
	}
	for name, play := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			require.Error(t, r.run(func(_ *Client, fc *fakeConn) {
				play(newScript(fc))
				if name != "early close" {
					_, err := fc.ReceiveMessage(ctx)
					require.Error(t, err)
				}
			}), name)
			require.NoFileExists(t, filepath.Join(r.serverDir, "x"))
		})
	}
	t.Run("wrong digest", func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.run(func(c *Client, fc *fakeConn) {
			s := newScript(fc)
			s.say(opPut, body{Path: "x", Size: 1, Eager: true})
			s.content([]byte("x"))
			s.say(opDone, body{SHA256: fmt.Sprintf("%064d", 0)})
			_, err := s.expect(ctx, opStored)
			require.ErrorIs(t, err, ErrDigest)
		}))
		r.only(r.serverDir)
	})
}

// A client's list may name a file that is a FIFO on the server; opening it must not
// wait for a writer. And a partial file may be anything that somebody put there.
func TestStrangeFiles(t *testing.T) {
	r := newRig(t)
	require.NoError(t, os.Mkdir(filepath.Join(r.dir, partName("f", false)), 0o755))
	r.write(r.serverDir, "f", []byte("x"))
	makeFIFO(t, filepath.Join(r.serverDir, "fifo"))
	makeFIFO(t, filepath.Join(r.dir, partName("g", false)))
	r.write(r.serverDir, "g", []byte("x"))
	require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
		for _, name := range []string{"f", "fifo", "g"} {
			require.Error(t, c.Get(ctx, r.root, []File{{Remote: name, Local: name}}), name)
		}
		require.Error(t, c.Put(ctx, r.root, []File{{Remote: "x", Local: partName("g", false)}}))
	}))
}
