package udpio

import (
	"log/slog"
	"sync"
	"time"
)

// logKind is what a warning is about; each kind has its own rate.
type logKind int

const (
	logBuffers logKind = iota
	logRead
	logGSO
	logMMsg
	logSource
	logKinds
)

// logEvery is the least time between two warnings of one kind, trap S12.
const logEvery = time.Minute

type limiter struct {
	logger *slog.Logger

	mu   sync.Mutex
	last [logKinds]time.Time
	held [logKinds]int // warnings suppressed since then
}

func (l *limiter) warn(kind logKind, msg string, args ...any) {
	if l.logger == nil {
		return
	}
	now := time.Now()
	l.mu.Lock()
	if last := l.last[kind]; !last.IsZero() && now.Sub(last) < logEvery {
		l.held[kind]++
		l.mu.Unlock()
		return
	}
	held := l.held[kind]
	l.last[kind], l.held[kind] = now, 0
	l.mu.Unlock()
	if held > 0 {
		args = append(args, "suppressed", held)
	}
	l.logger.Warn(msg, args...)
}
