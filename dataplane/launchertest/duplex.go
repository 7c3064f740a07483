package launchertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// open opens a bidirectional stream; the test is over where there are none.
func open(t *testing.T, w dataplane.Worker, path string) dataplane.Duplex {
	t.Helper()
	worker, ok := w.(dataplane.DuplexWorker)
	if !ok {
		t.Skip("takes no bidirectional streams")
	}
	d, err := worker.OpenDuplex(t.Context(), &dataplane.Request{Path: path, Timeout: time.Minute})
	if err != nil {
		t.Fatalf("OpenDuplex: %v", err)
	}
	t.Cleanup(d.Close)
	return d
}

// say sends a text from a goroutine of its own, as a caller does. Whether that
// succeeds when the stream ends with it is open.
func say(d dataplane.Duplex, text string) {
	go func() { _ = d.Send(dataplane.Frame{Text: true, Payload: []byte(text)}) }()
}

// duplexEchoes: no frame is merged, split, or changed in kind, both ways.
func duplexEchoes(t *testing.T, f Fixture) {
	d := open(t, Launch(t, f.Launcher, Spec(t)), "")
	frames := []dataplane.Frame{
		{Payload: []byte{0, 255}},
		{Text: true, Payload: []byte("é")},
		{},
		{Text: true, Partial: true, Payload: []byte("one, ")},
		{Text: true, Partial: true},
		{Text: true, Payload: []byte("two")},
		{Payload: bytes.Repeat([]byte("x"), 1<<20)},
	}
	go func() {
		for _, f := range frames {
			if err := d.Send(f); err != nil {
				t.Errorf("Send: %v", err)
			}
		}
		if err := d.CloseSend(); err != nil {
			t.Errorf("CloseSend: %v", err)
		}
	}()
	for i, want := range frames {
		got, err := d.Receive()
		if err != nil || got.Text != want.Text || got.Partial != want.Partial || !bytes.Equal(got.Payload, want.Payload) {
			t.Fatalf("frame %d: text %v, partial %v, %d bytes, %v", i, got.Text, got.Partial, len(got.Payload), err)
		}
	}
	if _, err := d.Receive(); !errors.Is(err, io.EOF) || errors.Is(err, dataplane.ErrBroken) {
		t.Errorf("after the end: %v", err)
	}
}

func duplexCloses(t *testing.T, f Fixture) {
	w := Launch(t, f.Launcher, Spec(t))
	d := open(t, w, "")
	received := make(chan error, 1)
	go func() {
		_, err := d.Receive()
		received <- err
	}()
	d.Close()
	d.Close()
	if err := <-received; !errors.Is(err, dataplane.ErrDuplexClosed) || !errors.Is(err, dataplane.ErrBroken) {
		t.Errorf("Receive during Close: %v", err)
	}
	if err := d.Send(dataplane.Frame{Payload: []byte("x")}); err == nil {
		t.Error("Send after Close")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.(dataplane.DuplexWorker).OpenDuplex(ctx, &dataplane.Request{}); !errors.Is(err, context.Canceled) {
		t.Errorf("OpenDuplex with an ended context: %v", err)
	}
}

func duplexBreaks(t *testing.T, f Fixture) {
	w := Launch(t, f.Launcher, Spec(t))
	d := open(t, w, "")
	say(d, "hello")
	if _, err := d.Receive(); err != nil {
		t.Fatal(err)
	}
	received := make(chan error, 1)
	go func() {
		_, err := d.Receive()
		received <- err
	}()
	if err := w.Stop(t.Context(), 100*time.Millisecond); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := <-received; !errors.Is(err, dataplane.ErrBroken) || errors.Is(err, dataplane.ErrDuplexClosed) {
		t.Errorf("Receive during Stop: %v, want ErrBroken", err)
	}
	if _, err := w.(dataplane.DuplexWorker).OpenDuplex(t.Context(), &dataplane.Request{Timeout: time.Minute}); err == nil {
		t.Error("OpenDuplex after Stop")
	}
	if !f.ModelServer {
		return
	}
	w = Launch(t, f.Launcher, Spec(t))
	d = open(t, w, "")
	say(d, "crash")
	if _, err := d.Receive(); !errors.Is(err, dataplane.ErrBroken) {
		t.Errorf("Receive from a worker that crashes: %v", err)
	}
}

func duplexTellsOfTheContainer(t *testing.T, f Fixture) {
	if !f.ModelServer {
		t.Skip("has no model server")
	}
	w := Launch(t, f.Launcher, Spec(t))
	d := open(t, w, "")
	say(d, "target")
	if got, err := d.Receive(); err != nil || string(got.Payload) != dataplane.BidirectionalPath {
		t.Errorf("the target is %s, %v", got.Payload, err)
	}
	say(d, "close 1013 try again")
	var closed *dataplane.CloseError
	if _, err := d.Receive(); !errors.As(err, &closed) || closed.Code != 1013 || closed.Reason != "try again" {
		t.Errorf("Receive: %v", err)
	}
	d = open(t, w, "/v1/listen?model=nova-3&x=%20")
	say(d, "target")
	if got, err := d.Receive(); err != nil || string(got.Payload) != "/v1/listen?model=nova-3&x=%20" {
		t.Errorf("the target is %s, %v", got.Payload, err)
	}
	for _, path := range []string{"/ping", "/nothing", "no path", "/a\r\nHost: b"} {
		if _, err := w.(dataplane.DuplexWorker).OpenDuplex(t.Context(), &dataplane.Request{Path: path, Timeout: time.Minute}); !errors.Is(err, dataplane.ErrDuplexRefused) {
			t.Errorf("%q: %v, want ErrDuplexRefused", path, err)
		}
	}
}
