package async

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
)

func TestAnswerIsWholeWhereverItIsKept(t *testing.T) {
	for _, size := range []int{0, 1, inMemory, inMemory + 1, 3*inMemory + 5} {
		a := &answer{dir: t.TempDir()}
		if err := a.Begin(&dataplane.Answer{StatusCode: 200}); err != nil {
			t.Fatal(err)
		}
		said := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		for rest := said; len(rest) > 0; {
			n, err := a.Write(rest[:min(len(rest), 70_001)])
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if spooled := a.file != nil; spooled != (size > inMemory) {
			t.Errorf("%d bytes: in a file %v", size, spooled)
		}
		p, err := a.payload()
		if err != nil || !bytes.Equal(p.bytes, said) {
			t.Fatalf("%d bytes: got %d, error %v", size, len(p.bytes), err)
		}
		if left, _ := filepath.Glob(filepath.Join(a.dir, spoolPattern)); len(left) > 0 {
			t.Errorf("%q is left", left)
		}
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAnswerIsRefusedAboveItsLimit(t *testing.T) {
	for status, limit := range map[int]int{200: maxPayload, 500: dataplane.MaxAnswer} {
		a := &answer{head: dataplane.Answer{StatusCode: status}, size: limit}
		if _, err := a.Write(nil); err != nil {
			t.Error(err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, dataplane.ErrTooLarge) || a.largest(err) != limit {
			t.Errorf("status %d: %v, limit %d", status, err, a.largest(err))
		}
		if got := a.largest(dataplane.ErrTooLarge); got != dataplane.MaxAnswer {
			t.Errorf("a worker's own limit is %d", got)
		}
	}
}

func TestAnswerThatThisMachineCannotKeepIsItsFault(t *testing.T) {
	a := &answer{dir: filepath.Join(t.TempDir(), "gone"), head: dataplane.Answer{StatusCode: 200}}
	if _, err := a.Write(make([]byte, inMemory+1)); !errors.Is(err, errSpool) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	a.drop()
}
