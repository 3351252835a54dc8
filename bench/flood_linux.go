package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canFlood reports why there can be no flood, or nil.
func canFlood() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("a raw socket, for which root is needed: %w", err)
	}
	return unix.Close(fd)
}

const (
	floodBatch  = 64 // datagrams of a system call
	floodPorts  = 16 // source ports; addresses are random
	ipUDPHeader = 28
)

// A flooder sends datagrams whose source addresses are random ones of 127.0.0.0/8. What
// is sent back arrives at sockets with little room, for else the system would answer
// each with an ICMP message, which hosts elsewhere do not do at our cost.
type flooder struct {
	fd     int
	to     unix.RawSockaddrInet4
	t      *template
	random *rand.ChaCha8
	sinks  []*net.UDPConn
	ports  []uint16
	bufs   [floodBatch][]byte
	iov    [floodBatch]unix.Iovec
	msgs   [floodBatch]mmsghdr
}

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

func newFlooder(to string, t *template) (*flooder, error) {
	addr, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, err
	}
	f := &flooder{t: t, random: rand.NewChaCha8([32]byte{1})}
	f.to.Family = unix.AF_INET
	f.to.Addr = addr.Addr().As4()
	for range floodPorts {
		sink, err := net.ListenUDP("udp4", &net.UDPAddr{})
		if err != nil {
			f.close()
			return nil, err
		}
		sink.SetReadBuffer(1)
		f.sinks = append(f.sinks, sink)
		f.ports = append(f.ports, uint16(sink.LocalAddr().(*net.UDPAddr).Port))
	}
	if f.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		f.close()
		return nil, err
	}
	for i := range f.bufs {
		b := make([]byte, ipUDPHeader+len(t.b))
		b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		copy(b[16:], f.to.Addr[:])
		binary.BigEndian.PutUint16(b[22:], addr.Port())
		binary.BigEndian.PutUint16(b[24:], uint16(8+len(t.b)))
		f.bufs[i] = b
		f.iov[i].Base = &b[0]
		f.iov[i].SetLen(len(b))
		h := &f.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&f.to))
		h.Namelen = unix.SizeofSockaddrInet4
		h.Iov = &f.iov[i]
		h.SetIovlen(1)
	}
	return f, nil
}

func (f *flooder) close() {
	for _, s := range f.sinks {
		s.Close()
	}
	if f.fd > 0 {
		unix.Close(f.fd)
	}
}

// send sends n datagrams.
func (f *flooder) send(n int) (sent int, err error) {
	random := func(p []byte) { f.random.Read(p) }
	for sent < n {
		m := min(n-sent, floodBatch)
		for i := range m {
			b := f.bufs[i]
			r := uint32(f.random.Uint64())
			b[12], b[13], b[14], b[15] = 127, byte(r), byte(r>>8), 1+byte(r>>16)%254
			binary.BigEndian.PutUint16(b[20:], f.ports[r>>24%floodPorts])
			f.t.fill(b[ipUDPHeader:], random)
		}
		k, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&f.msgs[0])), uintptr(m), 0, 0, 0)
		if errno != 0 {
			return sent, fmt.Errorf("sendmmsg: %w", errno)
		}
		sent += int(k)
	}
	return sent, nil
}

// socketDrops returns how many datagrams the system has dropped for which a UDP socket
// had no room.
func socketDrops(addr string) uint64 {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0
	}
	text, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(text)) {
		f := strings.Fields(l)
		if len(f) < 13 {
			continue
		}
		_, port, _ := strings.Cut(f[1], ":")
		if p, err := strconv.ParseUint(port, 16, 16); err == nil && uint16(p) == a.Port() {
			n, _ := strconv.ParseUint(f[12], 10, 64)
			return n
		}
	}
	return 0
}
