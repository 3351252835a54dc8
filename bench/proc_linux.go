package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time of this process, user and system.
func cpuTime() time.Duration {
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// residentBytes returns the resident set size of this process.
func residentBytes() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// resetResidentPeak has residentPeak begin anew. If that is not allowed, it does not.
func resetResidentPeak() { os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// residentPeak returns the largest resident set size of this process, 0 if unknown.
func residentPeak() uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			n, _ := strconv.ParseUint(kib, 10, 64)
			return n << 10
		}
	}
	return 0
}

// raiseFileLimit raises the limit of open files as far as allowed and returns it.
func raiseFileLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1024
	}
	limit.Cur = limit.Max
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	return int(limit.Cur)
}

// canSpin tells that spin works on this system.
const canSpin = true

// spin keeps each CPU busy at idle priority until stop is closed: whatever else
// wants to run, runs at once.
func spin(stop <-chan struct{}) error {
	cpus := runtime.NumCPU()
	// One more, for the goroutine that waits for stop.
	runtime.GOMAXPROCS(cpus + 1)
	errs := make(chan error, cpus)
	var done atomic.Bool
	defer done.Store(true)
	for cpu := range cpus {
		go func() {
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(cpu)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				errs <- fmt.Errorf("sched_setaffinity: %w", err)
				return
			}
			attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}
			if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
				errs <- fmt.Errorf("sched_setattr: %w", err)
				return
			}
			for !done.Load() {
			}
		}()
	}
	select {
	case err := <-errs:
		return err
	case <-stop:
		return nil
	}
}

// A cpuStat is the first line of /proc/stat, in ticks.
type cpuStat struct{ total, idle, steal uint64 }

func readCPUStat() cpuStat {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuStat{}
	}
	first, _, _ := bytes.Cut(b, []byte("\n"))
	var s cpuStat
	for i, f := range strings.Fields(string(first)) {
		// cpu user nice system idle iowait irq softirq steal guest guest_nice;
		// the guests are in user and nice already.
		if i == 0 || i > 8 {
			continue
		}
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			continue
		}
		s.total += n
		switch i {
		case 4, 5:
			s.idle += n
		case 8:
			s.steal += n
		}
	}
	return s
}

// udpOffload makes a socket take several datagrams of this size in one Write, or give
// several in one Read if the size is zero.
func udpOffload(conn *net.UDPConn, segment int) error {
	option, value := unix.UDP_GRO, 1
	if segment > 0 {
		option, value = unix.UDP_SEGMENT, segment
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, option, value)
	}); cerr != nil {
		return cerr
	}
	return err
}

// systemFacts returns the CPU model, the kernel and its TCP settings that matter here.
func systemFacts() (cpu, kernel, tcp string) {
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = strings.TrimSpace(v)
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control"); err == nil {
		tcp = strings.TrimSpace(string(b))
	}
	return cpu, kernel, tcp
}

// loadAverage returns the load of the last minute.
func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}
