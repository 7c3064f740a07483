package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sagelocal/sagelocal/dataplane/routelab"
)

// benchLoad says how requests arrive and what they carry.
type benchLoad struct {
	users       int
	think       time.Duration
	thinkKind   string
	rate        float64
	arrivals    string
	trace       string
	maxInFlight int

	warmUp   time.Duration
	duration time.Duration
	requests int

	body        string
	bodyFile    string
	bodyDir     string
	contentType string
	prefixes    routelab.Prefixes
}

func (l *benchLoad) register(flags *pflag.FlagSet) {
	flags.IntVar(&l.users, "users", 0, "closed loop: users who each wait for an answer before they go on (default 4, with --compare 4 an instance)")
	flags.DurationVar(&l.think, "think-time", 0, "closed loop: a user's pause between answer and next request")
	flags.StringVar(&l.thinkKind, "think", "constant", "constant or exponential --think-time")
	flags.Float64Var(&l.rate, "rate", 0, "open loop: arrivals a second, whether answers come or not")
	flags.StringVar(&l.arrivals, "arrivals", "poisson", "open loop: poisson or constant")
	flags.StringVar(&l.trace, "trace", "", `open loop: replay a file of lines {"at_seconds": 0.5, "body": "...", "content_type": "..."}`)
	flags.IntVar(&l.maxInFlight, "max-in-flight", 1000, "open loop: requests in flight at most; later ones wait, and their latency counts from their arrival")
	flags.DurationVar(&l.warmUp, "warm-up", 5*time.Second, "at the start of every run, sent but not measured (0 with --trace)")
	flags.DurationVar(&l.duration, "duration", 30*time.Second, "of every run after the warm-up (with --trace the whole trace)")
	flags.IntVar(&l.requests, "requests", 0, "end a run after this many measured requests")
	flags.StringVar(&l.body, "body", "", `body of every request (default {"inputs": "Hello"})`)
	flags.StringVar(&l.bodyFile, "body-file", "", "file with the body of every request")
	flags.StringVar(&l.bodyDir, "body-dir", "", "directory whose files are bodies, each as likely; the type goes by the extension")
	flags.StringVar(&l.contentType, "content-type", "", "Content-Type of the bodies (default application/json)")
	flags.IntVar(&l.prefixes.Count, "prefixes", 0, "make bodies that begin with one of this many texts, for studies of PREFIX_AWARE")
	flags.IntVar(&l.prefixes.Bytes, "prefix-bytes", 4096, "length of each of the --prefixes")
	flags.IntVar(&l.prefixes.SuffixBytes, "suffix-bytes", 256, "length of what follows a prefix, different in every request")
	flags.Float64Var(&l.prefixes.Skew, "prefix-skew", 0, "draw the i-th prefix in proportion to 1/i^skew; 0 draws all alike")
}

// loadWords describe the load for the report.
type loadWords struct{ load, bodies string }

const defaultBenchBody = `{"inputs": "Hello"}`

func (l *benchLoad) build(f *benchFlags, changed func(string) bool) (*routelab.Load, loadWords, error) {
	var words loadWords
	load := &routelab.Load{
		WarmUp: l.warmUp, Duration: l.duration, Requests: l.requests, Timeout: f.target.timeout, Seed: f.seed,
	}
	var err error
	if load.Bodies, words.bodies, err = l.makeBodies(f.seed); err != nil {
		return nil, words, err
	}
	kinds := 0
	for _, given := range []bool{l.users != 0, l.rate != 0, l.trace != ""} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return nil, words, errors.New("give one of --users, --rate and --trace")
	case l.trace != "":
		err = l.replay(load, &words, changed)
	case l.rate != 0:
		err = l.openLoop(load, &words)
	default:
		err = l.closedLoop(load, &words, f)
	}
	if err != nil {
		return nil, words, err
	}
	return load, words, load.Validate()
}

func (l *benchLoad) closedLoop(load *routelab.Load, words *loadWords, f *benchFlags) error {
	load.Users = l.users
	if l.users == 0 {
		load.Users = 4
		if f.compare.on() {
			load.Users = 4 * f.compare.instances
		}
	}
	words.load = fmt.Sprintf("closed loop, %d users", load.Users)
	if l.think < 0 {
		return errors.New("--think-time is negative")
	}
	switch l.thinkKind {
	case "constant":
		if l.think > 0 {
			load.Think = routelab.ThinkConstant(l.think)
		}
	case "exponential":
		load.Think = routelab.ThinkExponential(l.think)
	default:
		return fmt.Errorf("--think %q is neither constant nor exponential", l.thinkKind)
	}
	if l.think > 0 {
		words.load += fmt.Sprintf(" who think for %v (%s)", l.think, l.thinkKind)
	}
	return nil
}

func (l *benchLoad) openLoop(load *routelab.Load, words *loadWords) error {
	if !(l.rate > 0) || math.IsInf(l.rate, 0) {
		return errors.New("--rate must be a number above zero")
	}
	switch l.arrivals {
	case "poisson":
		load.Arrivals = routelab.Poisson(l.rate)
	case "constant":
		load.Arrivals = routelab.Constant(l.rate)
	default:
		return fmt.Errorf("--arrivals %q is neither poisson nor constant", l.arrivals)
	}
	load.MaxInFlight = l.maxInFlight
	words.load = fmt.Sprintf("open loop, %v %s arrivals a second, at most %d in flight", l.rate, l.arrivals, l.maxInFlight)
	return nil
}

func (l *benchLoad) replay(load *routelab.Load, words *loadWords, changed func(string) bool) error {
	file, err := os.Open(l.trace)
	if err != nil {
		return fmt.Errorf("--trace: %w", err)
	}
	defer file.Close()
	recorded, err := routelab.ReadTrace(file, l.contentType)
	if err != nil {
		return fmt.Errorf("--trace %s: %w", l.trace, err)
	}
	load.Arrivals, load.MaxInFlight = routelab.Trace(recorded), l.maxInFlight
	if !changed("warm-up") {
		load.WarmUp = 0
	}
	if !changed("duration") {
		load.Duration = 0
	}
	words.load = fmt.Sprintf("open loop, %d arrivals of %s, at most %d in flight", len(recorded), filepath.Base(l.trace), l.maxInFlight)
	return nil
}

// makeBodies also says in words what they are.
func (l *benchLoad) makeBodies(seed uint64) (routelab.Bodies, string, error) {
	sources := 0
	for _, given := range []bool{l.body != "", l.bodyFile != "", l.bodyDir != "", l.prefixes.Count != 0} {
		if given {
			sources++
		}
	}
	if sources > 1 {
		return nil, "", errors.New("give one of --body, --body-file, --body-dir and --prefixes")
	}
	kind := cmp.Or(l.contentType, "application/json")
	switch {
	case l.prefixes.Count != 0:
		p := l.prefixes
		p.ContentType = cmp.Or(l.contentType, "text/plain")
		bodies, err := p.Bodies(seed)
		if err != nil {
			return nil, "", fmt.Errorf("--prefixes: %w", err)
		}
		return bodies, fmt.Sprintf("%d prefixes of %d bytes, %d bytes more, skew %v", p.Count, p.Bytes, p.SuffixBytes, p.Skew), nil
	case l.bodyDir != "":
		return l.readDir()
	case l.bodyFile != "":
		body, err := os.ReadFile(l.bodyFile)
		if err != nil {
			return nil, "", fmt.Errorf("--body-file: %w", err)
		}
		kind = cmp.Or(l.contentType, mediaType(l.bodyFile))
		return routelab.OneOf(routelab.Request{Body: body, ContentType: kind}), fmt.Sprintf("%d bytes of %s", len(body), kind), nil
	}
	body := []byte(cmp.Or(l.body, defaultBenchBody))
	return routelab.OneOf(routelab.Request{Body: body, ContentType: kind}), fmt.Sprintf("%d bytes of %s", len(body), kind), nil
}

func (l *benchLoad) readDir() (routelab.Bodies, string, error) {
	entries, err := os.ReadDir(l.bodyDir)
	if err != nil {
		return nil, "", fmt.Errorf("--body-dir: %w", err)
	}
	var requests []routelab.Request
	total := 0
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		body, err := os.ReadFile(filepath.Join(l.bodyDir, e.Name()))
		if err != nil {
			return nil, "", fmt.Errorf("--body-dir: %w", err)
		}
		total += len(body)
		requests = append(requests, routelab.Request{Body: body, ContentType: cmp.Or(l.contentType, mediaType(e.Name()))})
	}
	if len(requests) == 0 {
		return nil, "", fmt.Errorf("--body-dir: no files in %s", l.bodyDir)
	}
	return routelab.OneOf(requests...), fmt.Sprintf("%d different, %d bytes on average", len(requests), total/len(requests)), nil
}

func mediaType(file string) string {
	return cmp.Or(mime.TypeByExtension(filepath.Ext(file)), "application/octet-stream")
}
