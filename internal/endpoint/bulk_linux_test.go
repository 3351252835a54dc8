package endpoint

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/udpio"
)

// BenchmarkBulk is one byte stream over loopback, both ends in this process: Writes of
// 64 KiB, Reads into 64 KiB. The processor time is that of both ends and the kernel; wall
// time says little on a busy machine. Datagrams of 1,472 bytes stand for a network.
func BenchmarkBulk(b *testing.B) {
	for _, c := range []struct {
		name     string
		tls, crc bool
		size     int
		o        udpio.Options
	}{
		{"Bare", false, false, 0, udpio.Options{}},
		{"CRC", false, true, 0, udpio.Options{}},
		{"TLS", true, false, 0, udpio.Options{}},
		{"CRC-1472", false, true, 1472, udpio.Options{}},
		{"TLS-1472", true, false, 1472, udpio.Options{}},
		{"CRC-1472-NoGSO", false, true, 1472, udpio.Options{NoGSO: true, NoGRO: true}},
		{"TLS-1472-Off", true, false, 1472, udpio.Options{NoFastPath: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg := testConfig()
			if c.tls {
				cfg = sealedConfig()
			}
			cfg.Checksum, cfg.MaxDatagram = c.crc, c.size
			benchmarkBulk(b, cfg, c.o)
		})
	}
}

func benchmarkBulk(b *testing.B, cfg *Config, o udpio.Options) {
	var ends [2]*Endpoint
	for i := range ends {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		e := New(udpio.New(pc, o), cfg)
		b.Cleanup(func() { e.Close() })
		ends[i] = e
	}
	c, s := connect(b, ends[0], ends[1])
	done := make(chan int64)
	go func() {
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, make([]byte, 64<<10))
		done <- n
	}()
	p := make([]byte, 64<<10)
	write := func() {
		if _, err := c.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	for range 1024 { // the path is known, and memory there
		write()
	}
	before, acks := cpuTime(b), ends[0].Stats().DatagramsReceived
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		write()
	}
	gb := float64(b.N) * float64(len(p)) / 1e9
	b.ReportMetric((cpuTime(b)-before).Seconds()/gb, "cpu-s/GB")
	b.ReportMetric(float64(ends[0].Stats().DatagramsReceived-acks)/gb, "acks/GB")
	if st := c.Stats(); testing.Verbose() {
		b.Logf("rtt %v (least %v), window %d, lost %d of %d packets of %d", st.RTT, st.MinRTT, st.CongestionWindow, st.PacketsLost, st.PacketsSent, st.MTU)
	}
	c.Close()
	<-done
}

// cpuTime is what this process and the kernel for it have computed so far.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
