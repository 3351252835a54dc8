package carrier

import (
	"net"
	"syscall"
)

// maxSeal is how much is sealed before it goes to the socket: less than maxSealed with
// what the records add, and enough for few system calls.
const maxSeal = 128 << 10

// WriteAll sends p, and returns when all of it is with the socket: no deadline is to be
// set any more, and an error is final. Close makes it return. It is for who does without
// WriteFrame from now on.
func (c *Carrier) WriteAll(p []byte) error {
	if c.werr != nil {
		return c.werr
	}
	if c.tls == nil {
		_, err := c.bare().Write(p)
		c.werr = err
		return err
	}
	for len(p) > 0 {
		n := min(len(p), maxSeal)
		c.seal.cork(true)
		_, err := c.tls.Write(p[:n])
		c.seal.cork(false)
		if err == nil {
			err = c.writeRecords()
		}
		if err != nil {
			c.werr = err
			return err
		}
		p = p[n:]
	}
	return nil
}

// writeRecords sends what TLS has made, all of it.
func (c *Carrier) writeRecords() error {
	for {
		c.seal.mu.Lock()
		b := c.seal.buf
		c.seal.buf = nil
		c.seal.mu.Unlock()
		if b == nil {
			return nil
		}
		if _, err := c.conn.Write(*b); err != nil {
			return err
		}
		bufferPool.Put(b)
	}
}

// RawConn returns the socket where it can be read without a detour, in plaintext, or nil.
func (c *Carrier) RawConn() syscall.RawConn {
	if !c.CanReadv() {
		return nil
	}
	return c.vec.rawConn()
}

// bare returns the connection without what makes it survive deadlines.
func (c *Carrier) bare() net.Conn {
	if p, ok := c.conn.(*pumped); ok {
		return p.Conn
	}
	return c.conn
}
