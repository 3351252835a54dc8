package endpoint

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
)

// What strangers can make an endpoint do is bounded here; the numbers are in Config.
// Whoever is over a bound waits or is refused. Associations that exist notice nothing.
// Trap S1, S2.

// Prefixes that count as one source: what a customer of an access network usually has
// to himself.
const (
	prefixV4 = 24
	prefixV6 = 56
)

// prefixOf returns the source that a belongs to.
func prefixOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := prefixV6
	if a.Is4() {
		bits = prefixV4
	}
	p, _ := a.Prefix(bits) // in range
	return p
}

// A prefixCount counts what comes from each source.
type prefixCount map[netip.Prefix]int

func (c prefixCount) add(p netip.Prefix) { c[p]++ }

func (c prefixCount) remove(p netip.Prefix) {
	if c[p]--; c[p] <= 0 {
		delete(c, p)
	}
}

// maxRetriesPerSecond bounds the cookies that are given out while the socket has more
// than there is time for: writing one takes ten times what dropping a HELLO does, and what
// the reader does not get to in time is lost for all. Those who get none come again.
const maxRetriesPerSecond = 20_000

// A rateLimit is a token bucket that holds what comes in a quarter of a second.
type rateLimit struct {
	perSecond float64
	tokens    float64
	last      time.Time
}

func (l *rateLimit) init(perSecond int) { l.perSecond = float64(perSecond) }

func (l *rateLimit) burst() float64 { return max(l.perSecond/4, 1) }

// take reports whether one more is allowed now.
func (l *rateLimit) take(now time.Time) bool {
	if l.last.IsZero() {
		l.tokens, l.last = l.burst(), now
	}
	if d := now.Sub(l.last); d > 0 {
		l.tokens = min(l.tokens+d.Seconds()*l.perSecond, l.burst())
		l.last = now
	}
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// A resetLimit bounds the answers to packets with an unknown id. Endpoint.mu guards it.
type resetLimit struct {
	window time.Time // second in which they are counted
	count  int
}

// take reports whether one more is allowed.
func (l *resetLimit) take(now time.Time) bool {
	if now.Sub(l.window) >= time.Second {
		l.window, l.count = now, 0
	}
	l.count++
	return l.count <= resetsPerSecond
}

// cookieKeys makes cookies with a key that is replaced again and again: who learns one,
// or has collected cookies, cannot use that for long.
type cookieKeys struct {
	mu          sync.Mutex // for readers of several sockets; not held for what costs time
	now, before handshake.CookieKey
	since       time.Time
	random      func([]byte)
}

// cookieKeyLife is how long a key makes cookies. It checks them for as long again,
// which is more than they live.
const cookieKeyLife = 5 * time.Minute

func (k *cookieKeys) init(now time.Time, random func([]byte)) {
	k.random, k.since = random, now
	random(k.now[:])
	random(k.before[:])
}

// keys returns those that are good, after making a new one if it is time.
func (k *cookieKeys) keys(at time.Time) (now, before handshake.CookieKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at.Sub(k.since) >= cookieKeyLife {
		k.before, k.since = k.now, at
		k.random(k.now[:])
	}
	return k.now, k.before
}

// Append and Check are those of handshake.CookieKey.
func (k *cookieKeys) Append(b []byte, now time.Time, addr []byte, id handshake.ConnID) []byte {
	key, _ := k.keys(now)
	return key.Append(b, now, addr, id)
}

func (k *cookieKeys) Check(now time.Time, addr []byte, id handshake.ConnID, cookie []byte) bool {
	key, before := k.keys(now)
	return key.Check(now, addr, id, cookie) || before.Check(now, addr, id, cookie)
}
