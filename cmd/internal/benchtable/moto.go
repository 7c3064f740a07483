package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	motoName = "moto_server"
	// memoryAim is in MB, for the daemon with an endpoint of four simulated
	// instances or four processes, loaded or not.
	memoryAim       = 30
	motoConnections = 8
	motoRounds      = 3
	motoRound       = 3 * time.Second
)

func isMoto(program string) bool { return filepath.Base(program) == motoName }

// motoProgram finds moto_server itself, not a version switcher's wrapper, whose
// start would count.
func motoProgram(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "python3", "-c", `import sysconfig; print(sysconfig.get_path("scripts"))`).Output()
	if err == nil {
		if path, err := exec.LookPath(filepath.Join(strings.TrimSpace(string(out)), motoName)); err == nil {
			return path, nil
		}
	}
	return tool(motoName, "`pip install 'moto[server]'`")
}

func startMoto(ctx context.Context, program string) (*server, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return serve(ctx, address, program, "-H", host, "-p", port)
}

// queue gives moto the answer that its InvokeEndpoint sends back for as long as
// requests are the same.
func (s *server) queue(ctx context.Context) error {
	_, err := s.send(ctx, http.MethodPost, "/moto-api/static/sagemaker/endpoint-results",
		fmt.Sprintf(`{"results":[{"Body":%q,"ContentType":"text/csv","InvokedProductionVariant":"AllTraffic"}]}`, requestBody),
		map[string]string{"Content-Type": "application/json"})
	return err
}

// stage is the memory of a server at a point of its life.
type stage struct {
	what string
	memory
}

// motoLoad compares the two emulators without workers behind them: requests per
// second and memory.
func (b *bench) motoLoad(ctx context.Context) ([]row, error) {
	ours, err := b.startSagelocal(ctx, "")
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	mine, err := ours.prepare(ctx)
	if err != nil {
		return nil, err
	}
	invoke, look := ours.target("sagelocal", true), ours.target("sagelocal", false)
	targets := []*target{invoke, look}

	var theirs []stage
	var rival *server
	var missing []row
	program, err := motoProgram(ctx)
	if err == nil {
		if rival, err = startMoto(ctx, program); err != nil {
			return nil, err
		}
		defer rival.stop()
		if err := rival.queue(ctx); err != nil {
			return nil, err
		}
		if theirs, err = rival.prepare(ctx); err != nil {
			return nil, err
		}
		targets = append(targets, rival.target(motoName, true), rival.target(motoName, false))
	} else {
		missing = append(missing, row{what: "beside moto_server", beside: motoName, theirs: oneLine(err.Error())})
	}
	if err := b.load(ctx, motoConnections, motoRounds, motoRound, targets...); err != nil {
		return missing, err
	}

	if mine, err = ours.stage(mine, "after that load"); err != nil {
		return nil, err
	}
	var rows []row
	for i, what := range []string{"InvokeEndpoint, simulated, 8 connections", "DescribeEndpoint, 8 connections"} {
		r := row{what: what, ours: perSecond(targets[i].rate())}
		if rival != nil {
			t := targets[i+2]
			ratio := targets[i].rate() / t.rate()
			r.beside, r.theirs, r.ratio = t.name, perSecond(t.rate()), times(ratio)
			r.aim, r.reached = "≥ 100 ×", reached(ratio >= 100)
		}
		rows = append(rows, r)
	}
	if rival != nil {
		if theirs, err = rival.stage(theirs, ""); err != nil {
			return nil, err
		}
	}
	for i, m := range mine {
		r := row{what: "memory, " + m.what, ours: m.String(), aim: "< 30 MB", reached: reached(m.rss < memoryAim)}
		if rival != nil {
			r.beside, r.theirs, r.ratio = motoName, theirs[i].String(), times(m.rss/theirs[i].rss)
		}
		rows = append(rows, r)
	}
	return append(rows, missing...), nil
}

// prepare measures the idle server, makes an endpoint and measures again.
func (s *server) prepare(ctx context.Context) ([]stage, error) {
	time.Sleep(time.Second) // until what starting took is given back
	stages, err := s.stage(nil, "idle")
	if err != nil {
		return nil, err
	}
	if err := s.createEndpoint(ctx, "simulated", proxyWorkers); err != nil {
		return nil, err
	}
	if err := s.invoke(ctx); err != nil {
		return nil, err
	}
	return s.stage(stages, "one endpoint with 4 simulated instances")
}

func (s *server) stage(before []stage, what string) ([]stage, error) {
	if runtime.GOOS != "linux" {
		return before, nil // there is no /proc
	}
	m, err := memoryOf(s.pid())
	return append(before, stage{what, m}), err
}

func (s *server) target(name string, invoke bool) *target {
	t := &target{name: name, address: s.address, path: invokePath, body: string(requestBody), header: map[string]string{
		"Content-Type": "text/csv", "Authorization": authorization,
	}}
	if !invoke {
		t.path, t.body = "/", describe
		t.header["Content-Type"], t.header["X-Amz-Target"] = controlType, "SageMaker.DescribeEndpoint"
	}
	return t
}

// Runs of a start: moto takes seconds, sagelocal milliseconds.
const (
	starts     = 11
	motoStarts = 3
	startAim   = 50 // milliseconds
)

// firstAnswer is the time from starting a process until an endpoint, created
// through its API, has answered an invocation.
func (b *bench) firstAnswer(ctx context.Context) ([]row, error) {
	ours, err := startTimes(ctx, starts, func() (*server, error) { return b.startSagelocal(ctx, "") })
	if err != nil {
		return nil, err
	}
	r := row{
		what: "process start to first answer", ours: milliseconds(median(ours)), beside: motoName,
		aim: "< 50 ms", reached: reached(median(ours) < startAim),
	}
	program, err := motoProgram(ctx)
	if err != nil {
		r.theirs = oneLine(err.Error())
		return []row{r}, nil
	}
	theirs, err := startTimes(ctx, motoStarts, func() (*server, error) { return startMoto(ctx, program) })
	if err != nil {
		return []row{r}, err
	}
	r.theirs, r.ratio = milliseconds(median(theirs)), times(median(ours)/median(theirs))
	return []row{r}, nil
}

func startTimes(ctx context.Context, runs int, start func() (*server, error)) ([]float64, error) {
	var figures []float64
	for range runs {
		began := time.Now()
		s, err := start()
		if err != nil {
			return nil, err
		}
		err = s.createEndpoint(ctx, "simulated", 1)
		if err == nil {
			err = s.invoke(ctx)
		}
		took := time.Since(began)
		s.stop()
		if err != nil {
			return nil, err
		}
		figures = append(figures, float64(took)/float64(time.Millisecond))
	}
	return figures, nil
}
