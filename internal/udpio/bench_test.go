package udpio

import (
	"net"
	"testing"
)

// BenchmarkBulk writes 40 datagrams a time over loopback. Plain is a socket of package
// net, one datagram a call.
func BenchmarkBulk(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"1200", 1200}, {"1452", 1452}} {
		for _, mode := range []struct {
			name string
			o    Options
		}{
			{"GSO+GRO", Options{}}, {"GSO", Options{NoGRO: true}},
			{"MMsg", Options{NoGSO: true, NoGRO: true}}, {"Plain", Options{NoFastPath: true}},
		} {
			b.Run(size.name+"/"+mode.name, func(b *testing.B) { benchmarkBulk(b, mode.o, size.n) })
		}
	}
}

func benchmarkBulk(b *testing.B, o Options, size int) {
	c, d := listen(b, "udp4", "127.0.0.1:0", o), listen(b, "udp4", "127.0.0.1:0", o)
	to := addrOf(b, d.LocalAddr())
	const segments = 40
	data := make([]byte, segments*size)
	// window is below the socket buffers, so that nothing is lost: a datagram takes
	// more room there than its size.
	const window = 8
	tokens := make(chan struct{}, window)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ps := make([]Packet, 16)
		for got, batches := 0, 0; batches < b.N; {
			n, err := d.Read(ps)
			if err != nil {
				return
			}
			for _, p := range ps[:n] {
				got += len(p.Data)
			}
			for ; got >= len(data); got -= len(data) {
				batches++
				<-tokens
			}
		}
	}()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		tokens <- struct{}{}
		if err := c.Write(data, size, to, Local{}); err != nil {
			b.Fatal(err)
		}
	}
	<-done
}

// BenchmarkPingPong is one datagram there and one back.
func BenchmarkPingPong(b *testing.B) {
	b.Run("Fast", func(b *testing.B) { benchmarkPingPong(b, Options{}) })
	b.Run("Off", func(b *testing.B) { benchmarkPingPong(b, Options{NoFastPath: true}) })
	b.Run("Net", func(b *testing.B) {
		x, y := listenNet(b), listenNet(b)
		data := make([]byte, 64)
		go func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := y.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				y.WriteToUDPAddrPort(buf[:n], from)
			}
		}()
		to := y.LocalAddr().(*net.UDPAddr).AddrPort()
		buf := make([]byte, 2048)
		b.ReportAllocs()
		for b.Loop() {
			x.WriteToUDPAddrPort(data, to)
			x.ReadFromUDPAddrPort(buf)
		}
	})
}

func listenNet(b *testing.B) *net.UDPConn {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { pc.Close() })
	return pc
}

func benchmarkPingPong(b *testing.B, o Options) {
	x, y := listen(b, "udp4", "127.0.0.1:0", o), listen(b, "udp4", "127.0.0.1:0", o)
	go func() {
		ps := make([]Packet, 16)
		for {
			n, err := y.Read(ps)
			if err != nil {
				return
			}
			for _, p := range ps[:n] {
				y.Write(p.Data, p.SegSize, p.Addr, p.Local)
			}
		}
	}()
	data, to, ps := make([]byte, 64), addrOf(b, y.LocalAddr()), make([]Packet, 16)
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Write(data, 0, to, Local{}); err != nil {
			b.Fatal(err)
		}
		if _, err := x.Read(ps); err != nil {
			b.Fatal(err)
		}
	}
}
