package auto

import (
	"time"

	"github.com/vstp-go/vstp/reliable"
)

// A Decider decides for one session. It is not safe for concurrent use.
type Decider struct {
	cfg Config
}

// New returns a Decider.
func New(cfg Config) *Decider { return &Decider{cfg: cfg.WithDefaults()} }

// Decide says what is to be done.
func (d *Decider) Decide(in Input) Decision { return Decision{} }

// Moved tells of a move: an own one, one of the peer, or a forced one.
func (d *Decider) Moved(now time.Time, to reliable.Carrier, forced bool) {}

// SetPin pins the session to c, or ends that.
func (d *Decider) SetPin(pinned bool, c reliable.Carrier) { d.cfg.Pinned, d.cfg.Pin = pinned, c }

// Scores returns the score of each carrier in milliseconds, for logs.
func (d *Decider) Scores(now time.Time) [2]float64 { return [2]float64{} }
