package vstp

import (
	"runtime"
	"sync"
	"weak"

	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/session"
)

// A connTable finds the Conn of a session, so that OnMove is told of the one that the
// application has. It keeps neither of them.
type connTable struct {
	network string
	onConn  func(*Conn) // of AutoConfig

	mu    sync.Mutex
	conns map[weak.Pointer[endpoint.Session]]weak.Pointer[Conn]
}

// of returns the Conn of s.
func (t *connTable) of(s *endpoint.Session) *Conn {
	key := weak.Make(s)
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.conns[key].Value(); c != nil {
		return c
	}
	c := newConn(s, t.network)
	if t.conns == nil {
		t.conns = make(map[weak.Pointer[endpoint.Session]]weak.Pointer[Conn])
	}
	t.conns[key] = weak.Make(c)
	runtime.AddCleanup(c, t.dropped, key)
	if t.onConn != nil {
		t.onConn(c)
	}
	return c
}

// dropped forgets a Conn that nobody has any more.
func (t *connTable) dropped(key weak.Pointer[endpoint.Session]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[key].Value() == nil { // it may have got another one
		delete(t.conns, key)
	}
}

// moves resolves what both sides say about moves. The table is of all connections that it
// is for.
func (c *Config) moves(conns *connTable) *endpoint.AutoConfig {
	if c == nil {
		c = &Config{}
	}
	a := &endpoint.AutoConfig{
		Decide:          c.Auto.decide(),
		StandbyInterval: c.Auto.standbyInterval(),
	}
	conns.onConn = c.Auto.onConn
	if hook := c.Auto.OnMove; hook != nil {
		a.OnMove = func(s *endpoint.Session, m session.Move) { hook(conns.of(s), m) }
	}
	return a
}
