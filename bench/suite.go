package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A suite is everything that the report is made of, by the flags of each of its parts: one
// command, with a report that can be compared from one version to the next.

// suites are what -suite knows. The parts run one after the other, on loopback and then over
// links.
var suites = map[string][]string{
	"full": {
		"-tests fine-bulk,fine-rr -fine 70",
		"-tests bulk -rounds 3 -seconds 0.7",
		"-tests rr -rounds 3 -seconds 0.5",
		"-tests message -rounds 3 -seconds 0.1",
		"-tests allocs",
		"-tests dials,handshakes -rounds 3 -seconds 0.4",
		"-tests idle -idle 10000",
		"-link all -rounds 2 -seconds 9 -only " + linkPeers + ",vstp-rudp",
		"-link 100mbit,40ms,loss=1% -link 100mbit,40ms,loss=5% -link-tests messages -rounds 2 -seconds 10 " +
			"-only tcp-bbr,quic,kcp,kcp-fec,sctp-messages,vstp-rudp-messages,vstp-rudp-red",
		"-link 100mbit,40ms -link 100mbit,40ms,loss=1% -link-tests short -rounds 1 -seconds 8 -only " + linkPeers + ",vstp-rudp,vstp-auto",
		"-link 100mbit,40ms -link-tests start -rounds 3 -seconds 3 -only " + linkPeers + ",vstp-rudp",
		"-link 100mbit,40ms -rounds 2 -seconds 12 -flows 2*vstp-rudp,4*vstp-rudp,vstp-rudp+tcp-cubic,vstp-rudp+tcp-bbr",
		"-link 100mbit,40ms -rounds 2 -seconds 12 -stagger 4s -flows 2*vstp-rudp",
		"-tests moves -rounds 1 -only vstp-auto,vstp-auto-tls",
	},
	"quick": {
		"-tests fine-bulk,fine-rr -fine 50 -only tcp,tcp-again," + quickLoopback,
		"-tests bulk,rr -rounds 2 -seconds 0.3 -only tcp,tcp-again,udp,http2,grpc,yamux,vstp-udp," + quickLoopback,
		"-tests message -rounds 2 -seconds 0.1 -only tcp,quic,vstp-udp,vstp-rudp",
		"-tests allocs -only tcp," + quickLoopback,
		"-tests dials -rounds 1 -seconds 0.3 -only tcp,quic,vstp-rudp,vstp-rudp-tls,vstp",
		"-tests idle -idle 2000 -only tcp,quic,vstp,vstp-rudp",
		"-link all -rounds 1 -seconds 5 -only tcp-bbr,quic,vstp-rudp",
		"-link 100mbit,40ms,loss=1% -link 100mbit,40ms,loss=5% -link-tests messages -rounds 1 -seconds 10 -only tcp-bbr,quic,kcp-fec,vstp-rudp-messages,vstp-rudp-red",
		"-link 100mbit,40ms -link-tests short,start -rounds 1 -seconds 3 -only tcp-cubic,tcp-bbr,quic,vstp-rudp",
		"-link 100mbit,40ms -rounds 1 -seconds 8 -flows 2*vstp-rudp,4*vstp-rudp,vstp-rudp+tcp-cubic,vstp-rudp+tcp-bbr",
		"-link 100mbit,40ms -rounds 1 -seconds 8 -stagger 3s -flows 2*vstp-rudp",
	},
	// For the tests of this module.
	"tiny": {
		"-tests bulk,message -message-sizes 200000 -rounds 2 -seconds 0.02 -only tcp,vstp-rudp,quic",
		"-tests idle -idle 20 -only tcp,vstp-rudp",
		"-link 20mbit,4ms -link-tests bulk,messages,start -rounds 1 -seconds 0.3 -only tcp-cubic,vstp-rudp",
	},
}

const (
	linkPeers     = "tcp-cubic,tcp-bbr,quic,kcp-fec,sctp"
	quickLoopback = "tls,vstp-nocrc,vstp,vstp-tls,quic,kcp,sctp,vstp-rudp,vstp-rudp-tls,vstp-auto"

	suiteReport = "RESULTS.md"
	suiteDir    = "results" // beside the report, of the figures and plots
)

// steps returns the options of each part of the suite.
func (o *options) steps() ([]*options, error) {
	var steps []*options
	for _, text := range suites[o.suite] {
		step, err := parseFlags(strings.Fields(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		step.quiet, step.spin, step.seed = o.quiet, o.spin, o.seed
		steps = append(steps, step)
	}
	return steps, nil
}

// runSuite measures all parts of the suite that an interrupted run has not, and writes the
// report. What was measured is saved after each table.
func (c *controller) runSuite(ctx context.Context, args []string) error {
	o := c.options
	defer func() { c.options = o }()
	steps, err := o.steps()
	if err != nil {
		return err
	}
	report := o.outFile
	if report == "" {
		report = suiteReport
	}
	dir := filepath.Join(filepath.Dir(report), suiteDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := o.jsonFile
	if file == "" {
		file = filepath.Join(dir, "results.json")
	}
	res := newResult(args)
	res.Suite = o.suite
	if o.resume {
		if err := res.resume(file); err != nil {
			return err
		}
	}
	for _, step := range steps {
		c.options = step
		groups := step.linkGroups()
		if len(step.links) == 0 {
			for _, test := range step.tests {
				groups = append(groups, step.groups(test)...)
			}
		} else if err := canLink(); err != nil {
			res.Skipped = err.Error()
			continue
		}
		for _, g := range groups {
			if res.group(g.ID) != nil {
				continue
			}
			if err := c.runGroup(ctx, g); err != nil {
				return err
			}
			res.Groups = append(res.Groups, g)
			res.finish()
			if err := writeJSON(file, res); err != nil {
				return err
			}
		}
	}
	res.finish()
	res.Plots = res.plots(filepath.Base(dir))
	for _, p := range res.Plots {
		if err := os.WriteFile(filepath.Join(dir, p.file), []byte(p.svg), 0o644); err != nil {
			return err
		}
	}
	text := res.markdown()
	fmt.Print(text)
	return errors.Join(writeJSON(file, res), os.WriteFile(report, []byte(text), 0o644))
}

// resume takes over what an interrupted run of the same suite has measured.
func (res *result) resume(file string) error {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var old result
	if err := json.Unmarshal(b, &old); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if old.Suite != res.Suite || !slices.Equal(old.Modules, res.Modules) || old.Go != res.Go {
		return fmt.Errorf("%s is of another suite, or of other versions", file)
	}
	res.Groups, res.Resumed = old.Groups, len(old.Groups)
	return nil
}

func writeJSON(file string, res *result) error {
	b, err := json.Marshal(res) // not indented: a full suite has more than a megabyte
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
