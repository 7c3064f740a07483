package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/sagelocal/sagelocal/dataplane/routelab"
)

// benchProgress shows how far the bench is: on a terminal a line that is written
// over, elsewhere a line now and then.
type benchProgress struct {
	out      io.Writer
	terminal bool
	every    time.Duration

	stop    chan struct{}
	stopped sync.WaitGroup
}

const (
	progressOnTerminal = 200 * time.Millisecond
	progressElsewhere  = 10 * time.Second
)

func newBenchProgress(out io.Writer, load *routelab.Load, runs int) *benchProgress {
	p := &benchProgress{out: out, every: progressElsewhere}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.terminal, p.every = true, progressOnTerminal
	}
	if load.Duration > 0 && load.Requests == 0 {
		each := load.WarmUp + load.Duration
		fmt.Fprintf(out, "%d runs of %v, about %v in all; Ctrl-C ends it with what was measured\n", runs, each, time.Duration(runs)*each)
	}
	return p
}

func (p *benchProgress) begun(run, of int, rec *routelab.Recorder) {
	p.stop = make(chan struct{})
	p.stopped.Go(func() {
		ticker := time.NewTicker(p.every)
		defer ticker.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-ticker.C:
				p.show(run, of, rec.Progress())
			}
		}
	})
}

func (p *benchProgress) ended(run, of int, r *routelab.Run) {
	close(p.stop)
	p.stopped.Wait()
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	fmt.Fprintf(p.out, "[%d/%d] %s, repetition %d: %d requests in %.3gs, P99 %v, %d errors\n", run, of, r.Strategy, r.Repetition,
		r.Requests, r.Seconds, time.Duration(r.Latency.ValueAtPercentile(99)).Round(10*time.Microsecond), r.Failed())
}

func (p *benchProgress) show(run, of int, now routelab.Progress) {
	line := fmt.Sprintf("[%d/%d] %s #%d  ", run, of, now.Strategy, now.Repetition)
	if now.WarmUp {
		line += fmt.Sprintf("warm-up  %d in flight", now.InFlight)
	} else {
		line += fmt.Sprintf("%.0fs", now.Elapsed.Seconds())
		if now.Length > 0 {
			line += fmt.Sprintf("/%.0fs", now.Length.Seconds())
		}
		line += fmt.Sprintf("  %.0f/s  P99 %v  %d in flight  %d errors", now.PerSecond, now.P99.Round(100*time.Microsecond), now.InFlight, now.Errors)
	}
	if now.NotSent > 0 {
		line += fmt.Sprintf("  %d not sent", now.NotSent)
	}
	if !p.terminal {
		fmt.Fprintln(p.out, line)
		return
	}
	if f, ok := p.out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && len(line) >= width && width > 1 {
			line = line[:width-1]
		}
	}
	fmt.Fprint(p.out, "\r\x1b[K", line)
}
