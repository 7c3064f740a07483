package dataplane

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogKeepsTheLastLines(t *testing.T) {
	log := OpenLog(filepath.Join(t.TempDir(), "a", "b.log"))
	defer log.Close()
	for i := range tailLines + 5 {
		fmt.Fprintf(log, "line %d\n", i)
	}
	fmt.Fprint(log, "unfini")
	fmt.Fprint(log, "shed")
	got := log.Tail(3)
	want := []string{fmt.Sprint("line ", tailLines+3), fmt.Sprint("line ", tailLines+4), "unfinished"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("tail %q, want %q", got, want)
	}
}

func TestLogCutsLongLines(t *testing.T) {
	log := OpenLog(filepath.Join(t.TempDir(), "a.log"))
	defer log.Close()
	fmt.Fprintf(log, "%s\nnext\n", strings.Repeat("x", 3*maxLogLine))
	got := log.Tail(2)
	if len(got[0]) != maxLogLine+len(" [cut]") || got[1] != "next" {
		t.Errorf("line of %d bytes, then %q", len(got[0]), got[1])
	}
}

func TestLogFileRotatesAtItsLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	log := OpenLog(path)
	defer log.Close()
	chunk := []byte(strings.Repeat("y", 1<<20-1) + "\n")
	for range 25 {
		_, _ = log.Write(chunk)
	}
	for _, p := range []string{path, path + ".1"} {
		info, err := os.Stat(p)
		if err != nil || info.Size() > maxLogBytes || info.Size() == 0 {
			t.Errorf("%s: %v, %v", filepath.Base(p), info, err)
		}
	}
}

func TestLogsForgetsTheOldestOfAVariant(t *testing.T) {
	logs, key := &Logs{Dir: t.TempDir()}, Key{"123456789012", "us-east-1", "e"}
	for i := range keptLogs + 3 {
		log, err := logs.Open(key, "AllTraffic", fmt.Sprintf("i-%03d", i))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(log, "hello")
		log.Close()
	}
	streams, err := logs.Tail(key, 1)
	if err != nil || len(streams) != keptLogs {
		t.Fatalf("%d streams, %v; want %d", len(streams), err, keptLogs)
	}
}

func TestLogsForgetsTheOldestInstanceOfSeveralContainers(t *testing.T) {
	logs, key := &Logs{Dir: t.TempDir()}, Key{"123456789012", "us-east-1", "e"}
	for i := range keptLogs + 3 {
		for _, container := range []string{"a", "b"} {
			log, err := logs.OpenContainer(key, "AllTraffic", fmt.Sprintf("i-%03d", i), container)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(log, container)
			log.Close()
		}
	}
	streams, err := logs.Tail(key, 1)
	if err != nil || len(streams) != 2*keptLogs {
		t.Fatalf("%d streams, %v; want %d", len(streams), err, 2*keptLogs)
	}
	for _, s := range streams {
		if want := s.Stream[strings.LastIndex(s.Stream, "/")+1:]; len(s.Lines) != 1 || s.Lines[0] != want {
			t.Errorf("%s: %q", s.Stream, s.Lines)
		}
	}
}

func TestLogsReadsEveryInstanceOfAnEndpoint(t *testing.T) {
	logs, key := &Logs{Dir: t.TempDir()}, Key{"123456789012", "us-east-1", "e"}
	for _, id := range []string{"i-1", "i-2"} {
		log, err := logs.Open(key, "AllTraffic", id)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(log, "first\nhello from %s\n", id)
		log.Close()
	}
	streams, err := logs.Tail(key, 1)
	if err != nil || len(streams) != 2 {
		t.Fatalf("%d streams, %v", len(streams), err)
	}
	for _, s := range streams {
		if want := "hello from " + strings.TrimPrefix(s.Stream, "AllTraffic/"); len(s.Lines) != 1 || s.Lines[0] != want {
			t.Errorf("%s: %q, want %q", s.Stream, s.Lines, want)
		}
	}
	if none, err := logs.Tail(Key{"123456789012", "us-east-1", "other"}, 1); err != nil || len(none) != 0 {
		t.Errorf("an endpoint without containers: %v, %v", none, err)
	}
}

func TestLogOfAWorkerThatPrintsNothingHasNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b.log")
	log := OpenLog(path)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(log, "too late for the file")
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("the log's directory exists: %v", err)
	}
	if got := log.Tail(1); len(got) != 1 || got[0] != "too late for the file" {
		t.Errorf("tail %q", got)
	}
}
