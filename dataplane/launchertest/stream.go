package launchertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Pieces is a sink that keeps what comes.
type Pieces struct {
	Head   dataplane.Answer
	Begun  int
	Pieces []string
	// Each is called with each piece's number, if it is set; its error is Write's.
	Each func(i int) error
}

// Begin is dataplane.Sink's.
func (p *Pieces) Begin(head *dataplane.Answer) error {
	p.Head = *head
	p.Begun++
	return nil
}

// Write is dataplane.Sink's.
func (p *Pieces) Write(b []byte) (int, error) {
	p.Pieces = append(p.Pieces, string(b))
	if p.Each != nil {
		if err := p.Each(len(p.Pieces) - 1); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// Flush is dataplane.Sink's.
func (p *Pieces) Flush() error { return nil }

// Text is all pieces together.
func (p *Pieces) Text() string { return strings.Join(p.Pieces, "") }

// obeys tells that a stream does what Ask asks.
func (f Fixture) obeys() bool { return f.ModelServer && !f.Chained }

func streamEchoes(t *testing.T, f Fixture) {
	w := Launch(t, f.Launcher, Spec(t))
	for _, req := range []*dataplane.Request{
		{ContentType: "text/csv", Body: []byte("1,2,3\n"), CustomAttributes: "trace=7"},
		{ContentType: "application/octet-stream", Body: []byte{0, 255, '\r', '\n', 0}},
		{ContentType: "text/plain", Body: []byte(strings.Repeat("large ", 1<<20))},
		{ContentType: "text/plain"},
	} {
		req.Timeout = time.Minute
		var got Pieces
		err := w.Stream(t.Context(), req, &got)
		attributes := got.Head.CustomAttributes == req.CustomAttributes || !f.ModelServer
		if err != nil || got.Begun != 1 || got.Head.StatusCode != http.StatusOK || got.Head.ContentType != req.ContentType || !attributes || got.Text() != string(req.Body) {
			t.Errorf("echo of %d bytes %s, attributes %q: begun %d times, %d, %d bytes %s, attributes %q, error %v",
				len(req.Body), req.ContentType, req.CustomAttributes, got.Begun,
				got.Head.StatusCode, len(got.Text()), got.Head.ContentType, got.Head.CustomAttributes, err)
		}
	}
}

// streamPieces lets the server send a piece only when the one before has come.
func streamPieces(t *testing.T, f Fixture) {
	if !f.obeys() {
		t.Skip("has no pieces")
	}
	w := Launch(t, f.Launcher, Spec(t))
	gate := filepath.Join(t.TempDir(), "piece")
	open := func(i int) error { return os.WriteFile(gate+fmt.Sprint(i), nil, 0o600) }
	got := Pieces{Each: func(i int) error { return open(i + 1) }}
	if err := open(0); err != nil {
		t.Fatal(err)
	}
	req := Ask("stream", "pieces", "5", "gate", gate)
	req.Body = []byte("piece ")
	if err := w.Stream(t.Context(), req, &got); err != nil || len(got.Pieces) != 5 || got.Text() != strings.Repeat("piece ", 5) {
		t.Errorf("got %q, error %v", got.Pieces, err)
	}
}

func streamErrorStatus(t *testing.T, f Fixture) {
	if f.Failing != nil {
		var got Pieces
		err := Launch(t, f.Failing, Spec(t)).Stream(t.Context(), &dataplane.Request{Body: []byte("x"), Timeout: time.Minute}, &got)
		if err != nil || got.Head.StatusCode != f.FailureStatus {
			t.Errorf("status %d, want %d, error %v", got.Head.StatusCode, f.FailureStatus, err)
		}
	}
	if !f.obeys() {
		return
	}
	req := Ask("status", "code", "413")
	req.Body = []byte("the reason")
	var got Pieces
	if err := Launch(t, f.Launcher, Spec(t)).Stream(t.Context(), req, &got); err != nil || got.Head.StatusCode != 413 || got.Text() != "the reason" {
		t.Errorf("status %d %q, error %v", got.Head.StatusCode, got.Text(), err)
	}
}

func streamTimesOut(t *testing.T, f Fixture) {
	w := Launch(t, f.Slow, Spec(t))
	var got Pieces
	err := w.Stream(t.Context(), &dataplane.Request{Timeout: 50 * time.Millisecond}, &got)
	if !errors.Is(err, dataplane.ErrTimeout) || got.Begun != 0 {
		t.Errorf("Stream: %v, begun %d times; want ErrTimeout", err, got.Begun)
	}
	if !f.obeys() {
		return
	}
	w = Launch(t, f.Launcher, Spec(t))
	gate := filepath.Join(t.TempDir(), "piece")
	if err := os.WriteFile(gate+"0", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	req := Ask("stream", "pieces", "2", "gate", gate)
	req.Body, req.Timeout = []byte("one"), time.Second
	if err := w.Stream(t.Context(), req, &got); !errors.Is(err, dataplane.ErrTimeout) || got.Text() != "one" {
		t.Errorf("after the first piece: %v, got %q; want ErrTimeout", err, got.Pieces)
	}
}

func streamCancelled(t *testing.T, f Fixture) {
	w := Launch(t, f.Slow, Spec(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
	begin := time.Now()
	err := w.Stream(ctx, &dataplane.Request{Timeout: time.Minute}, new(Pieces))
	if took := time.Since(begin); !errors.Is(err, context.Canceled) || took > promptly {
		t.Errorf("Stream: %v after %v, want context.Canceled", err, took)
	}
	if !f.obeys() {
		return
	}
	w = Launch(t, f.Launcher, Spec(t))
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	got := Pieces{Each: func(int) error { cancel(); return nil }}
	req := Ask("stream", "pieces", "1000000")
	req.Body = []byte("one")
	if err := w.Stream(ctx, req, &got); !errors.Is(err, context.Canceled) {
		t.Errorf("after the first piece: %v, want context.Canceled", err)
	}
}

func streamBreaks(t *testing.T, f Fixture) {
	w := Launch(t, f.Slow, Spec(t))
	ended := make(chan error, 1)
	go func() {
		ended <- w.Stream(t.Context(), &dataplane.Request{Timeout: time.Minute}, new(Pieces))
	}()
	if err := w.Stop(t.Context(), 100*time.Millisecond); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := <-ended; !errors.Is(err, dataplane.ErrBroken) {
		t.Errorf("Stream during Stop: %v, want ErrBroken", err)
	}
	if !f.obeys() {
		return
	}
	w = Launch(t, f.Launcher, Spec(t))
	req := Ask("stream", "pieces", "3", "crash", "yes")
	req.Body = []byte("x")
	var got Pieces
	if err := w.Stream(t.Context(), req, &got); !errors.Is(err, dataplane.ErrBroken) || got.Text() != "xxx" {
		t.Errorf("Stream of a worker that crashes: %v, got %q; want ErrBroken", err, got.Pieces)
	}
}

func streamSinkFails(t *testing.T, f Fixture) {
	w := Launch(t, f.Launcher, Spec(t))
	full := errors.New("the sink is full")
	got := Pieces{Each: func(int) error { return full }}
	req := &dataplane.Request{Body: []byte("x"), Timeout: time.Minute}
	if f.obeys() {
		req = Ask("stream", "pieces", "1000000")
		req.Body = []byte("x")
	}
	if err := w.Stream(t.Context(), req, &got); !errors.Is(err, full) || errors.Is(err, dataplane.ErrBroken) || len(got.Pieces) != 1 {
		t.Errorf("Stream: %v after %d pieces, want the sink's error after the first", err, len(got.Pieces))
	}
	Do(t, w, &dataplane.Request{ContentType: "text/plain", Body: []byte("and on")})
}
