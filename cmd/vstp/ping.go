package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/hist"
)

func newPing(o *options) *cobra.Command {
	var (
		f        *netFlags
		asJSON   bool
		count    int
		interval time.Duration
	)
	cmd := &cobra.Command{
		Use:   "ping ADDRESS",
		Short: "Measure dial time and round trips",
		Long: `ping connects to a vstp server, whatever it serves, and measures the time of PING
and PONG frames on that one connection. The server's application is not involved,
but must be reading. --timeout bounds each round trip, too. With TLS it tells the
version, the cipher suite, and who the server is.

Ctrl-C ends it with the summary. It fails if an answer is missing.`,
		Example: `  vstp ping host
  vstp ping --network rudp -c 3 --json host
  vstp ping -c 100 -i 10ms --ca ca.pem host:6969
  vstp ping --network udp --ca ca.pem host
  vstp ping --pin tcp host`,
		Args: exactArgs(1, "ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 || interval <= 0 {
				return usagef("--count cannot be negative, --interval must be positive")
			}
			config, err := f.client(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			start := time.Now()
			c, err := f.dial(cmd.Context(), config, args[0])
			if err != nil {
				return err
			}
			defer c.Close()
			p := &pinger{out: cmd.OutOrStdout(), quiet: o.quiet, dial: time.Since(start), addr: args[0]}
			if asJSON {
				p.out = io.Discard
			}
			fmt.Fprintf(p.out, "connected by %s in %s\n", describe(c), ms(p.dial))
			if t := tlsOf(c).line(); t != "" {
				fmt.Fprintln(p.out, oneLine(t))
			}
			err = p.run(cmd.Context(), c, count, interval, f.timeout)
			path := pathOf(c)
			if asJSON {
				return errors.Join(err, p.json(cmd.OutOrStdout(), c, path))
			}
			p.summary()
			path.print(p.out)
			return err
		},
	}
	f = addNetFlags(cmd, o, dials|talks)
	cmd.Flags().IntVarP(&count, "count", "c", 0, "stop after so many; 0 goes on until interrupted")
	cmd.Flags().DurationVarP(&interval, "interval", "i", time.Second, "time from one to the next")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON, and nothing before")
	return cmd
}

// A pinger counts round trips.
type pinger struct {
	out        io.Writer
	quiet      bool
	addr       string
	dial       time.Duration
	sent, lost int
	rtt        hist.Histogram
}

// run pings until count is reached, ctx ends or the connection does.
func (p *pinger) run(ctx context.Context, c *vstp.Conn, count int, interval, timeout time.Duration) error {
	next := time.NewTicker(interval)
	defer next.Stop()
	for ctx.Err() == nil {
		p.sent++
		if err := p.once(ctx, c, timeout); err != nil {
			return err
		}
		if p.sent == count {
			break
		}
		select {
		case <-next.C:
		case <-ctx.Done():
		}
	}
	if p.lost > 0 {
		return fmt.Errorf("%d of %d pings got no answer", p.lost, p.sent)
	}
	return nil
}

// once makes one round trip. An answer that is late is no error.
func (p *pinger) once(ctx context.Context, c *vstp.Conn, timeout time.Duration) error {
	pctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d, err := c.Ping(pctx)
	switch {
	case err == nil:
		p.rtt.Add(d)
		if !p.quiet {
			fmt.Fprintf(p.out, "from %s: seq=%d time=%s%s\n", c.RemoteAddr(), p.sent, ms(d), via(c))
		}
	case ctx.Err() != nil:
		p.sent-- // interrupted
	case pctx.Err() != nil && (errors.Is(err, context.DeadlineExceeded) || isTimeout(err)):
		p.lost++
		fmt.Fprintf(p.out, "seq=%d no answer in %s\n", p.sent, timeout)
	default:
		p.lost++
		return err
	}
	return nil
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func (p *pinger) summary() {
	loss := 0.0
	if p.sent > 0 {
		loss = 100 * float64(p.lost) / float64(p.sent)
	}
	fmt.Fprintf(p.out, "--- %s ---\n%d sent, %d answered, %.4g%% lost, dialed in %s\n",
		oneLine(p.addr), p.sent, p.rtt.Count(), loss, ms(p.dial))
	if p.rtt.Count() > 0 {
		fmt.Fprintf(p.out, "round trip min/avg/max = %s/%s/%s, p50/p99 = %s/%s\n", ms(p.rtt.Min()),
			ms(p.rtt.Mean()), ms(p.rtt.Max()), ms(p.rtt.Quantile(0.5)), ms(p.rtt.Quantile(0.99)))
	}
}

// pingReport is the output of --json. Times are in seconds.
type pingReport struct {
	Address  string     `json:"address"`
	Network  string     `json:"network"`
	Carrier  string     `json:"carrier"` // at the end
	Dial     float64    `json:"dial_seconds"`
	Sent     int        `json:"sent"`
	Answered uint64     `json:"answered"`
	RTT      *tripStats `json:"round_trip,omitempty"`
	TLS      *tlsReport `json:"tls,omitempty"`
	Path     *pathStats `json:"path,omitempty"`
}

func (p *pinger) json(w io.Writer, c *vstp.Conn, path *pathStats) error {
	rep := pingReport{
		Address: p.addr, Network: networkOf(c.ConnectionState()), Carrier: c.ConnectionState().Carrier, Dial: p.dial.Seconds(),
		Sent: p.sent, Answered: p.rtt.Count(), TLS: tlsOf(c), Path: path,
	}
	if rep.Answered > 0 {
		rep.RTT = newTripStats(&p.rtt)
	}
	return printJSON(w, rep)
}

// ms words a short time with three digits.
func ms(d time.Duration) string {
	return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
}
