package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/progress"
)

// autoFlags are the flags for connections of auto.
type autoFlags struct {
	pin       carrierFlag
	prefer    carrierFlag
	noStandby bool
}

// A carrierFlag is the name of a carrier, or nothing.
type carrierFlag struct{ c vstp.Carrier }

func (f *carrierFlag) Set(s string) error {
	switch s {
	case "udp":
		f.c = vstp.CarrierUDP
	case "tcp":
		f.c = vstp.CarrierTCP
	default:
		return fmt.Errorf("it is udp or tcp")
	}
	return nil
}

func (f *carrierFlag) Type() string { return "carrier" }

func (f *carrierFlag) String() string {
	if f.c == vstp.CarrierAny {
		return ""
	}
	return f.c.String()
}

func (a *autoFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.Var(&a.pin, "pin", "on auto, the only `carrier` to use: udp or tcp")
	fs.Var(&a.prefer, "prefer", "on auto, the `carrier` to begin with, and to be on where both are good: udp (if not given) or tcp")
	fs.BoolVar(&a.noStandby, "no-standby", false, "on auto, no TCP connection is kept beside UDP for the case that it fails")
}

// check refuses flags that mean nothing on the network.
func (a *autoFlags) check(f *netFlags) error {
	for name, given := range map[string]bool{
		"pin": a.pin.c != vstp.CarrierAny, "prefer": a.prefer.c != vstp.CarrierAny, "no-standby": a.noStandby,
	} {
		if given && !f.isAuto() {
			return usagef("--%s is for --network auto, where there is a choice", name)
		}
	}
	if p, q := a.pin.c, a.prefer.c; p != vstp.CarrierAny && q != vstp.CarrierAny && p != q {
		return usagef("--pin %v and --prefer %v exclude each other", p, q)
	}
	return nil
}

// apply sets the options of c. log gets the moves with -v.
func (a *autoFlags) apply(f *netFlags, c *vstp.Config, log io.Writer) {
	c.Auto.Pin, c.Auto.Prefer, c.Auto.NoStandby = a.pin.c, a.prefer.c, a.noStandby
	c.Auto.Memory = new(vstp.CarrierMemory) // for commands that dial more than once
	if f.verbose {
		if c.Logger != nil {
			c.Logger = slog.New(withoutMoves{c.Logger.Handler()})
		}
		c.Auto.OnMove = func(c *vstp.Conn, m vstp.Move) {
			f.infof(log, "%s: %s", c.RemoteAddr(), moveText(m))
		}
	}
}

// withoutMoves drops the library's message of a move, which is told in other words.
type withoutMoves struct{ slog.Handler }

// Handle implements slog.Handler.
func (h withoutMoves) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "vstp: moved to another carrier" {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// isAuto reports whether the network is one whose connections move between carriers.
func (f *netFlags) isAuto() bool { return isAuto(f.network) }

func isAuto(network string) bool { return strings.HasPrefix(network, "auto") }

// moveText words a move.
func moveText(m vstp.Move) string {
	s := fmt.Sprintf("moved from %s to %s: %s", m.From, m.To, m.Reason)
	if m.Gap >= time.Millisecond/2 {
		s += fmt.Sprintf("; nothing came for %v", m.Gap.Round(time.Millisecond))
	}
	if m.Resent > 0 {
		s += fmt.Sprintf("; %s sent again", progress.Bytes(int64(m.Resent)))
	}
	return s
}

// via says what carries a connection that could be carried by something else, "" for
// others.
func via(c *vstp.Conn) string {
	st := c.ConnectionState()
	if !isAuto(st.Network) {
		return ""
	}
	return " via " + st.Carrier
}
