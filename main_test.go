package vstp_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails a run that leaves goroutines behind (trap C7). goleak waits for a
// moment by itself; it is asked again for as long as a closed connection may drain
// in the background, which is Config.Linger where the peer does not close.
func TestMain(m *testing.M) {
	if raceEnabled {
		rand.Reader = random
	}
	code := m.Run()
	if code == 0 {
		if err := findLeaks(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// findLeaks returns what goleak still finds after some seconds.
func findLeaks(options ...goleak.Option) (err error) {
	for range 20 { // of about 0.4 s
		if err = goleak.Find(options...); err == nil {
			return nil
		}
	}
	return err
}
