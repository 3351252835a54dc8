package endpoint

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/udpio"
)

// Tokens keeps what servers have given for the next handshake, which takes a round trip
// less then. Each is used once. The zero value is ready to use, by any number of
// endpoints. PROTOCOL §7.3.
type Tokens struct {
	mu  sync.Mutex
	all map[tokenPlace]*tokenEntry
	use uint64 // orders the entries
}

// A tokenPlace is where a token is good. What this end is called where is of importance
// only in so far as no server learns from a token that a client was at another address before.
type tokenPlace struct {
	server netip.AddrPort
	local  netip.Addr // invalid if not known
}

type tokenEntry struct {
	tokens [][]byte // the youngest last
	last   time.Time
	use    uint64
}

// maxTokenPlaces bounds the servers of which there are tokens; beyond it, that one is
// forgotten of which nothing was heard for longest. maxTokensEach is how many are kept of
// one: whoever dials several times at once.
const (
	maxTokenPlaces = 256
	maxTokensEach  = 4
)

// put keeps a token.
func (t *Tokens) put(now time.Time, p tokenPlace, token []byte) {
	if len(token) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.all[p]
	if e == nil {
		if t.all == nil {
			t.all = make(map[tokenPlace]*tokenEntry)
		}
		if len(t.all) >= maxTokenPlaces {
			t.makeRoom()
		}
		e = new(tokenEntry)
		t.all[p] = e
	}
	if len(e.tokens) >= maxTokensEach {
		e.tokens = append(e.tokens[:0], e.tokens[1:]...)
	}
	t.use++
	e.tokens, e.last, e.use = append(e.tokens, token), now, t.use
}

func (t *Tokens) makeRoom() {
	var oldest tokenPlace
	least := uint64(0)
	for p, e := range t.all {
		if least == 0 || e.use < least {
			oldest, least = p, e.use
		}
	}
	delete(t.all, oldest)
}

// take returns a token, which nobody else gets, or nil.
func (t *Tokens) take(now time.Time, p tokenPlace) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.all[p]
	if e == nil {
		return nil
	}
	age := now.Sub(e.last)
	if age < 0 || age >= handshake.TokenLifetime {
		delete(t.all, p)
		return nil
	}
	n := len(e.tokens) - 1
	token := e.tokens[n]
	e.tokens[n] = nil
	if e.tokens = e.tokens[:n]; n == 0 {
		delete(t.all, p)
	}
	return token
}

// tokens returns where this end keeps those of servers.
func (e *Endpoint) tokens() *Tokens {
	if e.cfg.Tokens != nil {
		return e.cfg.Tokens
	}
	return &e.ownTokens
}

// tokenPlace returns where tokens of a server are good.
func (e *Endpoint) tokenPlace(server udpio.Addr) tokenPlace {
	p := tokenPlace{server: server.AddrPort}
	if a, ok := e.LocalAddr().(*net.UDPAddr); ok {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.IsUnspecified() {
			p.local = ip.Unmap()
		}
	}
	return p
}

// keepToken keeps what a server has given for the next handshake.
func (s *Session) keepToken(token []byte) {
	s.ep.tokens().put(time.Now(), s.ep.tokenPlace(s.remote), token)
}

// useToken returns a token for a handshake that begins now, or nil.
func (e *Endpoint) useToken(server udpio.Addr) []byte {
	return e.tokens().take(time.Now(), e.tokenPlace(server))
}

// A tokenIssuer gives tokens to clients, and takes each once.
type tokenIssuer struct {
	key  handshake.TokenKey
	used usedTokens // Endpoint.mu guards it
}

func (i *tokenIssuer) init(random func([]byte)) {
	var key [32]byte
	random(key[:])
	i.key = handshake.NewTokenKey(key)
}

// newToken makes one for a client that gets it at its address, and nowhere else.
func (e *Endpoint) newToken(to netip.Addr, rtt time.Duration) []byte {
	t := handshake.Token{Issued: time.Since(e.epoch), RTT: rtt}
	e.cfg.random(t.ID[:])
	return e.issuer.key.Append(nil, &t, to.AsSlice())
}

// takesToken reports whether h has a token that shows its sender's address: one that was
// given to that address, and was not used before, but by this client. It notes that it
// is used now.
func (e *Endpoint) takesToken(now time.Time, h *handshake.DatagramHello, from netip.AddrPort) (rtt time.Duration, ok bool) {
	at := now.Sub(e.epoch)
	t, ok := e.issuer.key.Open(at, from.Addr().AsSlice(), h.Cookie)
	if !ok {
		return 0, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.clients.all[clientKey{from, h.SourceID}] != nil
	return min(t.RTT, helloDelay), known || e.issuer.used.first(at, &t)
}

// usedTokens knows which tokens were used: all of those that it may be asked about, as it
// takes none that are older than what it remembers.
type usedTokens struct {
	now, before map[[handshake.TokenIDLen]byte]struct{}
	since       time.Duration // when now began
	horizon     time.Duration // what was used since then is known
}

// maxUsedTokens bounds what is remembered of used tokens. When it is reached, those that
// were made before its younger half began are of no use any more, and cost their
// owners a round trip.
const maxUsedTokens = 1 << 16

// first reports whether t may be used, which it is from now on.
func (u *usedTokens) first(now time.Duration, t *handshake.Token) bool {
	if u.now == nil || len(u.now) >= maxUsedTokens/2 || now-u.since >= handshake.TokenLifetime {
		if len(u.before) > 0 {
			u.horizon = u.since
		}
		u.before = u.now
		u.now, u.since = make(map[[handshake.TokenIDLen]byte]struct{}), now
	}
	_, a := u.now[t.ID]
	_, b := u.before[t.ID]
	if a || b || t.Issued < u.horizon {
		return false
	}
	u.now[t.ID] = struct{}{}
	return true
}
