package sealed

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails a run that leaves goroutines of crypto/tls behind. Trap C7.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
