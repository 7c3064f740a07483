package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// What is asked of the streaming model server: a short answer whose beginning
// counts, and a long one of small chunks, as a language model's tokens are.
const (
	shortStream   = "2 64"
	longStream    = "1000 64"
	longChunks    = 1000
	streamPath    = invokePath + "-response-stream"
	firstChunks   = 1000 // requests a round
	streamReaders = 8
)

// streams compares InvokeEndpointWithResponseStream with HAProxy in front of the
// same worker processes, and with a worker itself: when the first chunk comes,
// and how many chunks pass in a second.
func (b *bench) streams(ctx context.Context) ([]row, error) {
	program := filepath.Join(b.dir, "streamgo")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./testdata/models/streamgo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build streamgo: %w: %s", err, out)
	}
	daemon, workers, err := b.startModel(ctx, program)
	if err != nil {
		return nil, err
	}
	defer daemon.stop()
	process, rival, err := b.startHAProxy(ctx, workers)
	if err != nil {
		return nil, err
	}
	defer process.stop()

	direct := &flow{target: target{name: "a worker itself", address: workers[0], path: "/invocations", header: plain}}
	theirs := &flow{target: target{name: rival.name, address: rival.address, path: "/invocations", header: plain}}
	ours := &flow{target: target{name: "sagelocal", address: daemon.address, path: streamPath, header: signed}}
	for range b.rounds {
		for _, f := range []*flow{direct, theirs, ours} {
			if err := f.round(ctx, b.round); err != nil {
				return nil, err
			}
		}
	}
	before := direct.first()
	rows := []row{{
		what: "time added to the first chunk, 1 connection", ours: nanoseconds(ours.first() - before),
		beside: theirs.name, theirs: nanoseconds(theirs.first() - before),
		ratio: times((ours.first() - before) / (theirs.first() - before)), aim: "≤ 1 ×", reached: reached(ours.first() <= theirs.first()),
	}, {
		what: "first chunk after", ours: nanoseconds(ours.first()), beside: direct.name, theirs: nanoseconds(before),
		ratio: times(ours.first() / before),
	}}
	for _, f := range []*flow{theirs, direct} {
		r := row{
			what: fmt.Sprintf("chunks of 64 bytes, %d connections", streamReaders), ours: perSecond(ours.rate()),
			beside: f.name, theirs: perSecond(f.rate()), ratio: times(ours.rate() / f.rate()),
		}
		if f == theirs {
			r.aim, r.reached = "≥ 1 ×", reached(ours.rate() >= theirs.rate())
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// flow is a target whose answers are streams. Its rates are chunks a second.
type flow struct {
	target
	firsts []float64 // nanoseconds, the median of each round
}

func (f *flow) first() float64 { return median(f.firsts) }

// round measures both.
func (f *flow) round(ctx context.Context, d time.Duration) error {
	reader, err := f.dial(ctx, shortStream)
	if err != nil {
		return err
	}
	defer reader.conn.Close()
	var waits []float64
	for i := range firstChunks + firstChunks/10 {
		wait, err := reader.ask()
		if err != nil {
			return fmt.Errorf("stream of %s: %w", f.name, err)
		}
		if i >= firstChunks/10 { // warm
			waits = append(waits, float64(wait))
		}
	}
	f.firsts = append(f.firsts, median(waits))

	var all sync.WaitGroup
	chunks := make([]int, streamReaders)
	errs := make([]error, streamReaders)
	begin := time.Now()
	for i := range streamReaders {
		all.Go(func() {
			reader, err := f.dial(ctx, longStream)
			if err != nil {
				errs[i] = err
				return
			}
			defer reader.conn.Close()
			for errs[i] == nil && time.Since(begin) < d {
				if _, errs[i] = reader.ask(); errs[i] == nil {
					chunks[i] += longChunks
				}
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	sum := 0
	for i := range chunks {
		if errs[i] != nil {
			return fmt.Errorf("stream of %s: %w", f.name, errs[i])
		}
		sum += chunks[i]
	}
	f.rates = append(f.rates, float64(sum)/took.Seconds())
	return nil
}

// streamReader asks for the same stream again and again over one connection. It
// looks at the answers' bytes only as far as it must: a client library would be
// most of what is measured.
type streamReader struct {
	conn    net.Conn
	request []byte
	buf     []byte
}

func (f *flow) dial(ctx context.Context, body string) (*streamReader, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", f.address)
	if err != nil {
		return nil, err
	}
	var s strings.Builder
	fmt.Fprintf(&s, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", f.path, f.address, len(body))
	for name, value := range f.header {
		fmt.Fprintf(&s, "%s: %s\r\n", name, value)
	}
	s.WriteString("\r\n" + body)
	return &streamReader{conn: conn, request: []byte(s.String()), buf: make([]byte, 256<<10)}, nil
}

var (
	headEnd  = []byte("\r\n\r\n")
	lastData = []byte("\r\n0\r\n\r\n") // the end of the last chunk and the empty one
)

// ask reads one whole answer and tells when the first byte of its body came.
func (r *streamReader) ask() (first time.Duration, err error) {
	if err := r.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	begin := time.Now()
	if _, err := r.conn.Write(r.request); err != nil {
		return 0, err
	}
	have := 0
	for {
		n, err := r.conn.Read(r.buf[have:])
		if err != nil {
			return 0, err
		}
		now := time.Since(begin)
		have += n
		if first == 0 {
			head := bytes.Index(r.buf[:have], headEnd)
			if head < 0 || have == head+len(headEnd) {
				continue
			}
			if !bytes.HasPrefix(r.buf, []byte("HTTP/1.1 200 ")) {
				return 0, fmt.Errorf("%w: %.100q", io.ErrUnexpectedEOF, r.buf[:have])
			}
			first = now
		}
		if bytes.HasSuffix(r.buf[:have], lastData) {
			return first, nil
		}
		if have > len(r.buf)/2 { // keep what may be the beginning of the end
			have = copy(r.buf, r.buf[have-len(lastData):have])
		}
	}
}
