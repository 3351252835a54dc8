package wireshark_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// defaultPort is the one under which the dissector looks without being told.
const defaultPort = 6969

// Directions.
const (
	toServer = 0
	toClient = 1
)

// A piece is what one Read of a relay returned.
type piece struct {
	dir  int
	data []byte
}

// A recording is the traffic of one TCP connection or one pair of UDP sockets.
type recording struct {
	udp        bool
	serverPort uint16 // as the capture says; it has no need to be true
	cuts       []int  // TCP: lengths of the segments, in turn; nil: as they came

	mu     sync.Mutex
	pieces []piece
	frozen bool // it is in a capture; what still comes is not recorded
	done   sync.WaitGroup
}

func (r *recording) add(dir int, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.frozen {
		r.pieces = append(r.pieces, piece{dir, bytes.Clone(data)})
	}
}

// sent returns the datagrams of a direction, or the bytes of a stream as one.
func (r *recording) sent(dir int) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all [][]byte
	for _, p := range r.pieces {
		switch {
		case p.dir != dir:
		case r.udp || len(all) == 0:
			all = append(all, bytes.Clone(p.data))
		default:
			all[0] = append(all[0], p.data...)
		}
	}
	return all
}

// relayTCP passes one connection on to the address to, and records it. The recording is
// complete when done.Wait returns.
func relayTCP(t *testing.T, to string) (string, *recording) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	r := &recording{serverPort: defaultPort}
	r.done.Go(func() {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer server.Close()
		var both sync.WaitGroup
		both.Go(func() { r.pass(server, client, toServer) })
		both.Go(func() { r.pass(client, server, toClient) })
		both.Wait()
	})
	return ln.Addr().String(), r
}

func (r *recording) pass(dst, src net.Conn, dir int) {
	b := make([]byte, 32<<10)
	for {
		n, err := src.Read(b)
		r.add(dir, b[:n])
		if n > 0 {
			if _, err := dst.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err == io.EOF {
				dst.(*net.TCPConn).CloseWrite()
			}
			return
		}
	}
}

// relayUDP passes the datagrams of one client on to the address to, and records them.
func relayUDP(t *testing.T, to string) (string, *recording) {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	server, err := net.Dial("udp", to)
	require.NoError(t, err)
	front.SetReadBuffer(4 << 20)
	server.(*net.UDPConn).SetReadBuffer(4 << 20)
	r := &recording{udp: true, serverPort: defaultPort}
	client := make(chan net.Addr, 1) // the address, once it is known
	var loops sync.WaitGroup
	loops.Go(func() {
		b := make([]byte, 65536)
		for first := true; ; {
			n, from, err := front.ReadFrom(b)
			if err != nil {
				if first {
					close(client)
				}
				return
			}
			if first {
				client <- from
				first = false
			}
			r.add(toServer, b[:n])
			server.Write(b[:n])
		}
	})
	loops.Go(func() {
		addr, ok := <-client
		if !ok {
			return
		}
		b := make([]byte, 65536)
		for {
			n, err := server.Read(b)
			if err != nil {
				return
			}
			r.add(toClient, b[:n])
			front.WriteTo(b[:n], addr)
		}
	})
	t.Cleanup(func() {
		front.Close()
		server.Close()
		loops.Wait()
	})
	return front.LocalAddr().String(), r
}

// A capture is a pcap file that is being made.
type capture struct {
	buf     bytes.Buffer
	clock   uint32 // microseconds; a millisecond between packets
	ports   uint16 // client ports given out
	snap    int    // bytes kept of a packet; 0: all
	packets int
}

func newCapture() *capture {
	c := &capture{ports: 40000}
	var h [24]byte
	binary.LittleEndian.PutUint32(h[0:], 0xa1b2c3d4)
	binary.LittleEndian.PutUint16(h[4:], 2)
	binary.LittleEndian.PutUint16(h[6:], 4)
	binary.LittleEndian.PutUint32(h[16:], 262144)
	binary.LittleEndian.PutUint32(h[20:], 101) // LINKTYPE_RAW: IP without a layer below
	c.buf.Write(h[:])
	return c
}

// packet writes an IPv4 packet from 10.0.0.1 (the client) to 10.0.0.2, or back. RFC 791 §3.1
func (c *capture) packet(dir int, protocol byte, transport []byte) {
	h := make([]byte, 20, 20+len(transport))
	h[0] = 0x45
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(transport)))
	h[8], h[9] = 64, protocol
	copy(h[12:], []byte{10, 0, 0, byte(1 + dir), 10, 0, 0, byte(2 - dir)})
	p := append(h, transport...)
	kept := len(p)
	if c.snap > 0 {
		kept = min(kept, c.snap)
	}
	c.clock += 1000
	c.packets++
	var rec [16]byte
	binary.LittleEndian.PutUint32(rec[0:], 1_700_000_000+c.clock/1_000_000)
	binary.LittleEndian.PutUint32(rec[4:], c.clock%1_000_000)
	binary.LittleEndian.PutUint32(rec[8:], uint32(kept))
	binary.LittleEndian.PutUint32(rec[12:], uint32(len(p)))
	c.buf.Write(rec[:])
	c.buf.Write(p[:kept])
}

// add writes a recording, and returns the client's port, by which its packets are known.
func (c *capture) add(r *recording) uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = true
	c.ports++
	if r.udp {
		for _, p := range r.pieces {
			c.datagram(p.dir, c.ports, r.serverPort, p.data)
		}
		return c.ports
	}
	tcp := tcpWriter{c: c, client: c.ports, server: r.serverPort, seq: [2]uint32{0x01020304, 0xfffffff0}} // one wraps round
	tcp.segment(toServer, synFlag, nil)
	tcp.segment(toClient, synFlag|ackFlag, nil)
	tcp.segment(toServer, ackFlag, nil)
	turn := 0
	for _, p := range r.pieces {
		for data := p.data; len(data) > 0; {
			n := min(len(data), 1460)
			if len(r.cuts) > 0 {
				n = min(len(data), r.cuts[turn%len(r.cuts)])
				turn++
			}
			tcp.segment(p.dir, ackFlag|pshFlag, data[:n])
			data = data[n:]
		}
	}
	tcp.segment(toServer, finFlag|ackFlag, nil)
	tcp.segment(toClient, finFlag|ackFlag, nil)
	tcp.segment(toServer, ackFlag, nil)
	return c.ports
}

// datagram writes one. RFC 768
func (c *capture) datagram(dir int, client, server uint16, data []byte) {
	ports := [2]uint16{client, server}
	p := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(p[0:], ports[dir])
	binary.BigEndian.PutUint16(p[2:], ports[1-dir])
	binary.BigEndian.PutUint16(p[4:], uint16(8+len(data)))
	c.packet(dir, 17, append(p, data...))
}

// Bits of the TCP header.
const (
	finFlag = 0x01
	synFlag = 0x02
	pshFlag = 0x08
	ackFlag = 0x10
)

// A tcpWriter makes up the segments of a connection. RFC 9293 §3.1
type tcpWriter struct {
	c              *capture
	client, server uint16
	seq            [2]uint32
}

func (w *tcpWriter) segment(dir int, flags byte, data []byte) {
	ports := [2]uint16{w.client, w.server}
	p := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(p[0:], ports[dir])
	binary.BigEndian.PutUint16(p[2:], ports[1-dir])
	binary.BigEndian.PutUint32(p[4:], w.seq[dir])
	if flags&ackFlag != 0 {
		binary.BigEndian.PutUint32(p[8:], w.seq[1-dir])
	}
	p[12], p[13] = 5<<4, flags
	binary.BigEndian.PutUint16(p[14:], 65535)
	w.c.packet(dir, 6, append(p, data...))
	w.seq[dir] += uint32(len(data))
	if flags&(synFlag|finFlag) != 0 {
		w.seq[dir]++
	}
}

// write makes the file.
func (c *capture) write(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "vstp.pcap")
	require.NoError(t, os.WriteFile(name, c.buf.Bytes(), 0o600))
	return name
}
