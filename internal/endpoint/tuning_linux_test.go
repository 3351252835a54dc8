package endpoint

import (
	"testing"

	"github.com/vstp-go/vstp/internal/udpio"
)

// BenchmarkTuning is BenchmarkBulk with what docs/TUNING.md tells about, one thing at a time.
func BenchmarkTuning(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
		o    udpio.Options
		set  func(c *Config)
	}{
		{"1472", 1472, udpio.Options{}, nil},
		{"1472/NoGRO", 1472, udpio.Options{NoGRO: true}, nil},
		{"1472/NoGSO", 1472, udpio.Options{NoGSO: true}, nil},
		{"1472/NoMMsg", 1472, udpio.Options{NoMMsg: true}, nil},
		{"1472/NoGSO+NoGRO", 1472, udpio.Options{NoGSO: true, NoGRO: true}, nil},
		{"1472/NoGSO+NoGRO+NoMMsg", 1472, udpio.Options{NoGSO: true, NoGRO: true, NoMMsg: true}, nil},
		{"1472/Off", 1472, udpio.Options{NoFastPath: true}, nil},
		{"1472/BufferOfSystem", 1472, udpio.Options{Buffer: -1}, nil},
		{"1472/Buffer1MiB", 1472, udpio.Options{Buffer: 1 << 20}, nil},
		{"1472/NoCRC", 1472, udpio.Options{}, func(c *Config) { c.Checksum = false }},
		{"1472/Window1MiB", 1472, udpio.Options{}, func(c *Config) { c.ReceiveWindow = 1 << 20 }},
		{"1200", 1200, udpio.Options{}, nil},
		{"8972", 8972, udpio.Options{}, nil},
		{"65507", 65507, udpio.Options{}, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg := testConfig()
			cfg.Checksum, cfg.MaxDatagram = true, c.size
			if c.set != nil {
				c.set(cfg)
			}
			benchmarkBulk(b, cfg, c.o)
		})
	}
}
