// Package sealed is the handshake of datagrams with TLS: crypto/tls decides, and this
// carries its bytes in HELLO, WELCOME and handshake packets, with loss recovery, and
// takes the keys. PROTOCOL §8.5.
//
//	Client, Server (what is said, and when) ──▶ end (levels, keys) ──▶ tlsvstp.Handshake
//	                 │                              └─▶ crypto (pieces of one level)
//	                 └─▶ packets (handshake packets)
//
// The machines do no I/O, have no clock, and are not safe for concurrent use. But
// their methods can take as long as crypto/tls needs to compute, or as a callback of
// its configuration does, so whoever reads a socket must not call them itself.
package sealed

import (
	"crypto/tls"
	"errors"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/tlsvstp"
)

// An end is what client and server have in common.
type end struct {
	tls      *tlsvstp.Handshake
	initial  crypto
	hs       crypto
	packets  packets
	onParams func([]byte) error
	tickets  []byte // TLS bytes of the Application level, for the control stream

	// Keys of packets, until Install.
	read, write, earlyRead, earlyWrite *tlsvstp.Keys

	resumed []byte // the server's parameters that 0-RTT begins with

	handshakeKeys bool // nothing of the Initial level is taken any more
	earlyKeys     bool
	earlyRejected bool
	done          bool
	fresh         bool // there is something that was never sent
	err           error
}

// feed gives TLS what has arrived, and takes what comes of it.
func (e *end) feed() {
	for e.err == nil && e.tls != nil {
		e.pump()
		level, data := tlsvstp.LevelInitial, []byte(nil)
		if e.handshakeKeys {
			level, data = tlsvstp.LevelHandshake, e.hs.next()
		} else {
			data = e.initial.next()
		}
		if data == nil || e.err != nil || e.done {
			return
		}
		if err := e.tls.Receive(level, data); err != nil {
			e.pump() // it may have an alert, or the reason
			e.fail(err)
		}
	}
}

// pump takes what TLS has to say.
func (e *end) pump() {
	for {
		ev := e.tls.NextEvent()
		switch ev.Kind {
		case tlsvstp.EventNone:
			return
		case tlsvstp.EventData:
			e.fresh = true
			switch ev.Level {
			case tlsvstp.LevelInitial:
				e.initial.out = append(e.initial.out, ev.Data...)
			case tlsvstp.LevelHandshake:
				e.hs.out = append(e.hs.out, ev.Data...)
			default:
				e.tickets = append(e.tickets, ev.Data...)
			}
		case tlsvstp.EventReadKeys:
			switch ev.Level {
			case tlsvstp.LevelEarly:
				e.earlyKeys = true
				e.earlyRead = ev.Keys
			case tlsvstp.LevelHandshake:
				e.packets.read = ev.Keys
				e.handshakeKeys = true
			default:
				e.read = ev.Keys
			}
		case tlsvstp.EventWriteKeys:
			switch ev.Level {
			case tlsvstp.LevelEarly:
				e.earlyKeys = true
				e.earlyWrite = ev.Keys
			case tlsvstp.LevelHandshake:
				e.packets.write = ev.Keys
			default:
				e.write = ev.Keys
			}
		case tlsvstp.EventParams:
			if e.onParams != nil {
				if err := e.onParams(ev.Data); err != nil {
					e.fail(err)
				}
			}
		case tlsvstp.EventResumed:
			e.resumed = ev.Data
		case tlsvstp.EventEarlyRejected:
			e.earlyRejected = true
		case tlsvstp.EventDone:
			e.done = true
		case tlsvstp.EventError:
			e.fail(ev.Err)
		}
	}
}

// fail notes why the handshake cannot go on. The first reason stays.
func (e *end) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

// take takes a handshake packet, decrypting it in place. It reports whether the packet
// was the peer's, and whether it says anything that was not known.
func (e *end) take(b []byte, typ framing.Type) (ok, news bool) {
	c, ok := e.packets.open(b, typ)
	if !ok {
		return false, false
	}
	if c.hasHave {
		news = e.hs.peerHasUpTo(c.have)
	}
	for _, p := range c.pieces {
		news = e.hs.add(p.offset, p.data) || news
	}
	if c.closed {
		e.fail(&handshake.RemoteError{Code: c.code, Reason: c.reason})
	}
	return true, news || c.closed
}

// Done reports that TLS is satisfied with the peer: the association can begin.
func (e *end) Done() bool { return e.done && e.err == nil }

// Err returns why the handshake has failed: a *handshake.RemoteError, a
// *handshake.Error, or what crypto/tls has found, with a tls.AlertError in it.
func (e *end) Err() error { return e.err }

// Install gives p the keys of packets that have come since it was called last. Nobody
// else may use p meanwhile.
func (e *end) Install(p *tlsvstp.Protection) {
	if e.earlyRead != nil {
		p.SetEarlyRead(e.earlyRead)
	}
	if e.earlyWrite != nil && e.write == nil {
		p.SetEarlyWrite(e.earlyWrite)
	}
	if e.write != nil {
		p.SetWrite(e.write)
	}
	if e.read != nil {
		p.SetRead(e.read)
	}
	e.read, e.write, e.earlyRead, e.earlyWrite = nil, nil, nil, nil
}

// State returns what TLS has found out.
func (e *end) State() tls.ConnectionState {
	if e.tls == nil {
		return tls.ConnectionState{}
	}
	return e.tls.State()
}

// Close ends what crypto/tls does. The keys stay good.
func (e *end) Close() {
	if e.tls != nil {
		e.tls.Close()
	}
}

// closing returns how a failed end tells the peer.
func closing(err error) (framing.ErrorCode, string) {
	var own *handshake.Error
	var alert tls.AlertError
	switch {
	case errors.As(err, &own):
		return own.Code, own.Reason
	case errors.As(err, &alert):
		return framing.CodeAlert, alert.Error()
	}
	return framing.CodeInternal, ""
}

// remote reports whether the peer has given up, and knows.
func remote(err error) bool {
	var r *handshake.RemoteError
	return errors.As(err, &r)
}

// errIDs is for transport parameters that belong to other packets than those that came.
var errIDs = &handshake.Error{Code: framing.CodeProtocol, Reason: "the connection ids of the handshake do not agree"}
