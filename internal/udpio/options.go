package udpio

import (
	"os"
	"strings"
)

// offloadEnv names the environment variable that switches offloads off.
const offloadEnv = "VSTP_UDP_OFFLOAD"

// steeringOff reports whether it switches Steer off.
func steeringOff() bool {
	for word := range strings.SplitSeq(os.Getenv(offloadEnv), ",") {
		if strings.EqualFold(strings.TrimSpace(word), "nosteer") {
			return true
		}
	}
	return false
}

func (o *Options) applyEnv() {
	for word := range strings.SplitSeq(os.Getenv(offloadEnv), ",") {
		switch strings.ToLower(strings.TrimSpace(word)) {
		case "off":
			o.NoFastPath = true
		case "nogso":
			o.NoGSO = true
		case "nogro":
			o.NoGRO = true
		case "nommsg":
			o.NoMMsg = true
		}
	}
}
