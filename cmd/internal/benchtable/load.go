package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// target is what wrk loads.
type target struct {
	name    string
	address string // host:port
	path    string
	paths   []string // asked in turn instead of path, if there are any
	header  map[string]string
	body    string
	// connections, if not 0, are another number than the load's.
	connections int

	rates []float64 // requests a second, by round
	p99s  []float64 // milliseconds
}

func (t *target) rate() float64 { return median(t.rates) }
func (t *target) p99() float64  { return median(t.p99s) }

// wrkThreads: more would only take the processors from what is measured.
const wrkThreads = 2

// load runs wrk against every target in turn, several rounds, so that whatever
// else the machine does hits all alike.
func (b *bench) load(ctx context.Context, connections, rounds int, round time.Duration, targets ...*target) error {
	wrk, err := tool("wrk", "`apt install wrk`, `brew install wrk`")
	if err != nil {
		return err
	}
	for i, t := range targets {
		if err := os.WriteFile(b.script(i), []byte(t.script()), 0o600); err != nil {
			return err
		}
		// What is warmed up once stays so: connections, pools, branch predictors.
		if err := t.measure(ctx, wrk, b.script(i), connections, time.Second, false); err != nil {
			return err
		}
	}
	for range rounds {
		for i, t := range targets {
			if err := t.measure(ctx, wrk, b.script(i), connections, round, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) script(i int) string { return filepath.Join(b.dir, fmt.Sprintf("load%d.lua", i)) }

// script is wrk's: one request, and figures for a program to read.
func (t *target) script() string {
	var s strings.Builder
	fmt.Fprintf(&s, "wrk.method = 'POST'\nwrk.body = %s\n", strconv.Quote(t.body))
	for name, value := range t.header {
		fmt.Fprintf(&s, "wrk.headers[%s] = %s\n", strconv.Quote(name), strconv.Quote(value))
	}
	if len(t.paths) > 0 {
		s.WriteString("local list, n = {}, 0\ninit = function(args)\n")
		for _, path := range t.paths {
			fmt.Fprintf(&s, "  list[#list + 1] = wrk.format(nil, %s)\n", strconv.Quote(path))
		}
		s.WriteString("end\nrequest = function() n = n % #list + 1; return list[n] end\n")
	}
	s.WriteString(`
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("figures %d %d %.3f %d\n", summary.requests, summary.duration,
    latency:percentile(99) / 1000, e.connect + e.read + e.write + e.status + e.timeout))
end
`)
	return s.String()
}

func (t *target) measure(ctx context.Context, wrk, script string, connections int, d time.Duration, counts bool) error {
	if t.connections != 0 {
		connections = t.connections
	}
	ctx, cancel := context.WithTimeout(ctx, d+15*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, wrk, "--threads", strconv.Itoa(min(wrkThreads, connections)), "--connections", strconv.Itoa(connections),
		"--duration", fmt.Sprintf("%ds", int(d.Seconds())), "--timeout", "10s", "--script", script, "http://"+t.address+t.path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("wrk on %s: %w: %s", t.name, err, oneLine(string(out)))
	}
	var requests, microseconds, failed, p99 float64
	_, figures, _ := strings.Cut(string(out), "\nfigures ")
	if _, err := fmt.Sscan(figures, &requests, &microseconds, &p99, &failed); err != nil {
		return fmt.Errorf("wrk on %s: no figures in its output: %w", t.name, err)
	}
	if failed > 0 || requests == 0 {
		return fmt.Errorf("wrk on %s: %.0f of %.0f requests failed", t.name, failed, requests)
	}
	if counts {
		t.rates = append(t.rates, requests/microseconds*1e6)
		t.p99s = append(t.p99s, p99)
	}
	return nil
}
