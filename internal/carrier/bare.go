package carrier

import (
	"net"
	"syscall"
)

// maxSeal is how much is sealed before it goes to the socket: less than maxSealed with
// what the records add, and enough for few system calls.
const maxSeal = 128 << 10

// WriteAll sends bufs, and returns when all of it is with the socket: no deadline is to be
// set any more, and an error is final. Close makes it return. It is for who does without
// WriteFrame from now on. Bufs and its elements are used up.
func (c *Carrier) WriteAll(bufs *net.Buffers) error {
	if c.werr == nil {
		c.werr = c.writeAll(bufs)
	}
	return c.werr
}

func (c *Carrier) writeAll(bufs *net.Buffers) error {
	if c.tls == nil {
		return c.writeBare(bufs)
	}
	if err := c.writeRest(); err != nil {
		return err
	}
	for len(*bufs) > 0 {
		err := c.sealSome(bufs)
		if err == nil {
			err = c.writeRecords()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeBare is writeAll in plaintext.
func (c *Carrier) writeBare(bufs *net.Buffers) error {
	conn := c.bare()
	if c.writev {
		_, err := bufs.WriteTo(conn)
		return err
	}
	// One Write, as some connections make a packet of each.
	p := bufferPool.Get().(*[]byte)
	*p = (*p)[:0]
	for _, b := range *bufs {
		*p = append(*p, b...)
	}
	*bufs = (*bufs)[len(*bufs):]
	_, err := conn.Write(*p)
	bufferPool.Put(p)
	return err
}

// TryWrite sends as much of bufs as the socket takes at once, and takes that from the front
// of bufs. It waits for nothing. If anything is left, also of what lies in the Carrier, it
// is not done: WriteAll does the rest.
func (c *Carrier) TryWrite(bufs *net.Buffers) (done bool, err error) {
	if c.werr != nil || !c.CanTry() {
		return false, c.werr
	}
	full := false
	if c.tls != nil {
		full, err = c.trySealed(bufs)
	} else {
		full, err = c.try.write(bufs)
	}
	c.werr = err
	return !full && err == nil, err
}

// trySealed is TryWrite inside TLS. What is sealed and finds no room is kept.
func (c *Carrier) trySealed(bufs *net.Buffers) (full bool, err error) {
	for {
		if len(c.rest) > 0 {
			c.iov[0] = c.rest
			c.bufs = c.iov[:1]
			full, err = c.try.write(&c.bufs)
			c.rest = c.iov[0]
			c.iov[0], c.bufs = nil, nil
			if full || err != nil {
				return full, err
			}
		}
		c.dropRest()
		if len(*bufs) > 0 {
			if err := c.sealSome(bufs); err != nil {
				return false, err
			}
		}
		c.seal.mu.Lock()
		b := c.seal.buf
		c.seal.buf = nil
		c.seal.mu.Unlock()
		if b == nil {
			return false, nil
		}
		c.rest, c.restBuf = *b, b
	}
}

// dropRest gives back the memory of what has been sent.
func (c *Carrier) dropRest() {
	c.rest = nil
	if c.restBuf != nil {
		bufferPool.Put(c.restBuf)
		c.restBuf = nil
	}
}

// CanTry reports whether TryWrite can do anything.
func (c *Carrier) CanTry() bool {
	if c.try == nil && c.writev {
		c.try = newTryWriter(c.conn)
	}
	return c.try != nil
}

// sealSome seals up to maxSeal bytes from the front of bufs.
func (c *Carrier) sealSome(bufs *net.Buffers) error {
	c.seal.cork(true)
	defer c.seal.cork(false)
	for room := maxSeal; room > 0 && len(*bufs) > 0; {
		b := (*bufs)[0]
		n := min(len(b), room)
		if _, err := c.tls.Write(b[:n]); err != nil {
			return err
		}
		room -= n
		if (*bufs)[0] = b[n:]; n == len(b) {
			(*bufs)[0] = nil
			*bufs = (*bufs)[1:]
		}
	}
	return nil
}

// writeRest sends the records that TryWrite has left over.
func (c *Carrier) writeRest() error {
	if len(c.rest) == 0 {
		return nil
	}
	_, err := c.conn.Write(c.rest)
	c.dropRest()
	return err
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
