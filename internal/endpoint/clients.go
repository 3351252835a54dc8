package endpoint

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// maxClients bounds what is remembered of clients whose HELLO had a cookie that may
// come again.
const maxClients = 1 << 17

// A clientKey names a client before it has an association.
type clientKey struct {
	addr netip.AddrPort
	id   handshake.ConnID
}

// A client is one that has shown its address with a cookie. It is remembered as long
// as the cookie can come again, so that no HELLO makes two associations.
type client struct {
	key    clientKey
	addr   udpio.Addr
	local  udpio.Local
	born   time.Time
	seen   time.Time     // when a good cookie came last; Endpoint.mu guards it
	due    time.Time     // what order is by: not after seen, but for those just put back
	rtt    time.Duration // about
	stream bool          // has a place in the backlog
	prefix netip.Prefix  // where it comes from
	ctx    context.Context
	cancel context.CancelFunc

	mu sync.Mutex
	m  *handshake.DatagramServer // nil: a HELLO means nothing any more

	half    bool     // has no answer yet; Endpoint.mu guards it, and what follows
	counted bool     // in Endpoint.prefixes
	failed  bool     // with TLS: the handshake has come to nothing
	session *Session // if it was welcomed

	sealed *sealedServer // if the handshake is one with TLS
}

// A clientSet is all clients of an Endpoint. Endpoint.mu guards it.
type clientSet struct {
	all      map[clientKey]*client
	sessions map[*Session]*client
	byID     map[reliable.ConnID]*client // with TLS, until there is a session
	order    []*client                   // by due
	half     []*client                   // by age; some have an answer by now
	halfOpen int                         // how many in half have none
	halfOf   map[netip.Prefix][]*client  // half, by where they come from
	share    prefixCount                 // how many in halfOf have none

	unvalidated int // of those with TLS, how many have not shown their address
	ep          *Endpoint

	timer *time.Timer // forgets those whose time is over; nil until there are any
	armed bool
}

func (cs *clientSet) init(e *Endpoint) {
	cs.ep = e
	cs.all = make(map[clientKey]*client)
	cs.sessions = make(map[*Session]*client)
	cs.byID = make(map[reliable.ConnID]*client)
	cs.halfOf = make(map[netip.Prefix][]*client)
	cs.share = make(prefixCount)
}

const (
	// maxExpired is how many clients are looked at in one go: half a minute after
	// many have come at once, forgetting all of them would hold up everybody for milliseconds.
	maxExpired = 16

	// expireEvery is the least time between two goes of the timer.
	expireEvery = 2 * time.Millisecond
)

// arm has clients be forgotten when their time is over.
func (cs *clientSet) arm(now time.Time) {
	if cs.armed || len(cs.order) == 0 {
		return
	}
	cs.armed = true
	d := max(handshake.CookieLifetime-now.Sub(cs.order[0].due), expireEvery)
	if cs.timer != nil {
		cs.timer.Reset(d)
		return
	}
	t := time.AfterFunc(d, cs.expireDue)
	cs.timer = t
	context.AfterFunc(cs.ep.ctx, func() { t.Stop() })
}

// expireDue is what the timer calls.
func (cs *clientSet) expireDue() {
	e := cs.ep
	e.mu.Lock()
	defer e.mu.Unlock()
	if cs.armed = false; e.ctx.Err() != nil {
		return
	}
	now := time.Now()
	cs.expire(now, e.cfg.HandshakeTimeout)
	cs.arm(now)
}

// expire forgets clients whose cookies are too old, a few at a time.
func (cs *clientSet) expire(now time.Time, timeout time.Duration) {
	for n := 0; n < maxExpired && len(cs.order) > 0; n++ {
		c := cs.order[0]
		full := len(cs.order) >= maxClients
		if !full && now.Sub(c.due) <= handshake.CookieLifetime {
			break
		}
		cs.order[0] = nil
		cs.order = cs.order[1:]
		if full || now.Sub(c.seen) > handshake.CookieLifetime || cs.all[c.key] != c {
			cs.forget(c)
		} else { // a younger cookie of it may come again
			c.due = now
			cs.order = append(cs.order, c)
		}
	}
	for n := 0; n < maxExpired && len(cs.half) > 0 && (!cs.half[0].half || timeout > 0 && now.Sub(cs.half[0].born) > timeout); n++ {
		cs.popHalf()
	}
}

// forget drops c from everything but the lists.
func (cs *clientSet) forget(c *client) {
	cs.answered(c)
	if c.sealed != nil { // it stays in order for some time
		c.mu.Lock()
		c.sealed.over, c.sealed.early = true, nil
		c.mu.Unlock()
	}
	if cs.all[c.key] == c {
		delete(cs.all, c.key)
	}
	if c.session != nil {
		delete(cs.sessions, c.session)
	}
}

// answered notes that c is not half-open any more.
func (cs *clientSet) answered(c *client) {
	if c.half {
		c.half = false
		cs.halfOpen--
		if cs.share.remove(c.prefix); cs.share[c.prefix] == 0 {
			delete(cs.halfOf, c.prefix)
		}
		c.cancel()
		cs.endSealed(c)
	}
	if c.counted {
		c.counted = false
		cs.ep.prefixes.remove(c.prefix)
	}
}

// popHalf gives up the oldest of the half-open ones.
func (cs *clientSet) popHalf() {
	c := cs.half[0]
	cs.half[0] = nil
	cs.half = cs.half[1:]
	if c.half {
		cs.forget(c)
	}
}

// makeRoom gives up a half-open one for one from p. If a quarter of all comes from there
// already, it is one of those: who opens many from one place only takes his own.
func (cs *clientSet) makeRoom(p netip.Prefix) {
	if n := cs.share[p]; n == 0 || n < cs.ep.cfg.maxHandshakes()/4 {
		cs.popHalf()
		return
	}
	cs.prune(p)
	cs.forget(cs.halfOf[p][0])
}

// prune drops those at the begin of halfOf that have an answer.
func (cs *clientSet) prune(p netip.Prefix) {
	l := cs.halfOf[p]
	for len(l) > 0 && !l[0].half {
		l[0] = nil
		l = l[1:]
	}
	cs.halfOf[p] = l
}

// ended is called when a session is forgotten: what was said to its client need not
// be said again.
func (cs *clientSet) ended(s *Session) {
	if c := cs.sessions[s]; c != nil {
		delete(cs.sessions, s)
		c.session = nil
		c.mu.Lock()
		c.m = nil
		c.mu.Unlock()
	}
}
