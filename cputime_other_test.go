//go:build !linux

package vstp_test

import (
	"testing"
	"time"
)

// cpuTime is what the process has used of the processors, where that is known.
func cpuTime(testing.TB) time.Duration { return 0 }
