package simnet

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// failing is a test whose failure is wanted.
type failing struct {
	testing.TB
	failed  bool
	out     strings.Builder
	cleanup []func()
}

func (f *failing) Cleanup(c func()) { f.cleanup = append(f.cleanup, c) }
func (f *failing) Failed() bool     { return f.failed }

func (f *failing) Logf(format string, args ...any) {
	f.TB.Helper()
	for _, a := range args {
		if s, ok := a.(string); ok {
			f.out.WriteString(s)
		}
	}
}

func (f *failing) Errorf(format string, args ...any) {
	f.failed = true
	if s, ok := args[1].(string); ok {
		f.out.WriteString(s)
	}
}

func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{TB: t, failed: true}
		n := New(f, Options{Trace: 2, Path: Path{Delay: time.Millisecond, MTU: 100}})
		a, b := n.Host("10.0.0.1").ListenPacket(1), n.Host("10.0.0.2").ListenPacket(2)
		for _, s := range []string{"a", "b", strings.Repeat("c", 99)} {
			time.Sleep(time.Second)
			a.WriteTo([]byte(s), b.LocalAddr())
		}
		f.cleanup[0]()
		want := "2s 10.0.0.1:1>10.0.0.2:2 #1, 1 bytes, ok +1ms: 62\n" +
			"3s 10.0.0.1:1>10.0.0.2:2 #2, 99 bytes, too large: " + strings.Repeat("63", 32) + "\n"
		if got := f.out.String(); got != want {
			t.Errorf("got:\n%swant:\n%s", got, want)
		}
	})
}

// TestLimit: a test that would go on for ever fails and ends.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{TB: t}
		n := New(f, Options{})
		a := n.Host("10.0.0.1").ListenPacket(1)
		for {
			a.SetReadDeadline(time.Now().Add(time.Minute))
			_, _, err := a.ReadFrom(nil)
			if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
				break
			}
		}
		if !f.failed || time.Since(n.start) != defaultLimit || !strings.Contains(f.out.String(), "TestLimit") || strings.Contains(f.out.String(), "TestMain") {
			t.Errorf("failed: %v, after %v", f.failed, time.Since(n.start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := New(t, Options{Limit: -1})
		time.Sleep(1000 * time.Hour)
		n.Host("10.0.0.1").ListenPacket(1)
	})
}
