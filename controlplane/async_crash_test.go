package controlplane

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"

	"github.com/sagelocal/sagelocal/dataplane/objects"
	"github.com/sagelocal/sagelocal/store"
)

// asyncCrash is what a crash leaves: a copy of the database and one of the
// objects, and which requests had been answered with 202 by then.
type asyncCrash struct {
	db, objects string
	accepted    []string
}

// asyncBodies are the requests of the crash test: one after the other, so that
// between two commits of the database no more than one object is written.
var asyncBodies = []string{"inline", "from s3", "bad", "last"}

func crashLauncher() *asked {
	return &asked{latency: time.Second, answer: func(body string) (int, string) {
		if body == "bad" {
			return 400, "no"
		}
		return 200, strings.ToUpper(body)
	}}
}

func asyncInput(body string) *sagemakerruntime.InvokeEndpointAsyncInput {
	in := &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: aws.String("e"), Body: []byte(body), Filename: aws.String(strings.ReplaceAll(body, " ", "-") + ".txt")}
	if body == "from s3" {
		in.Body, in.InputLocation = nil, aws.String("s3://bkt/in")
	}
	return in
}

// asyncCrashes takes a queue through its life and returns what a crash would leave
// right after each commit of the database, and right before the next.
func asyncCrashes(t *testing.T) (all []asyncCrash) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards the next three
		var accepted []string
		var last string
		watching := false
		db, err := store.Open(store.Options{Path: path, Tables: Tables(), Committed: func() {
			mu.Lock()
			defer mu.Unlock()
			if !watching {
				return
			}
			n := len(all)
			c := asyncCrash{filepath.Join(dir, fmt.Sprint("db-", n)), filepath.Join(dir, fmt.Sprint("s3-", n)), slices.Clone(accepted)}
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(c.db, text, 0o600)
			}
			if err == nil {
				err = os.CopyFS(c.objects, os.DirFS(filepath.Join(dir, "s3")))
			}
			if err != nil {
				t.Error(err)
			}
			if last != "" {
				// The objects were written before this commit, which is lost.
				all = append(all, asyncCrash{last, c.objects, slices.Clone(accepted)})
			}
			all, last = append(all, c), c.db
		}})
		if err != nil {
			t.Fatal(err)
		}
		r := asyncRigOver(t, db, dir, crashLauncher())
		defer r.stop()
		r.deployAsync("e", notified(), variantOf("a", 1))
		r.upload("in", []byte("from s3"))
		locked := func(f func()) {
			mu.Lock()
			defer mu.Unlock()
			f()
		}
		locked(func() { watching = true })
		for _, body := range asyncBodies {
			_, err := r.InvokeEndpointAsync(r.ctx, asyncInput(body))
			r.must(err)
			locked(func() { accepted = append(accepted, body) })
			after(10 * time.Second)
		}
		locked(func() { watching = false })
	})
	return all
}

// After a crash at any commit of the queue's life, and between an object and its
// record's commit, the next run answers every request that was accepted, and runs
// none that had its object.
func TestCrashAtEveryCommitLosesNoRequestAndRunsNoneTwiceThatHadFinished(t *testing.T) {
	all := asyncCrashes(t)
	if len(all) < 3*len(asyncBodies) {
		t.Fatalf("only %d commits in the queue's life", len(all))
	}
	finished, unfinished := 0, 0
	for i, c := range all {
		t.Run(fmt.Sprint("crash ", i+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, u := recoverQueue(t, c)
				finished, unfinished = finished+f, unfinished+u
			})
		})
	}
	if finished == 0 || unfinished == 0 {
		t.Errorf("%d requests had finished at a crash, %d had not", finished, unfinished)
	}
}

func recoverQueue(t *testing.T, c asyncCrash) (finished, unfinished int) {
	dir := t.TempDir()
	for from, to := range map[string]string{c.db: "db"} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "s3"), os.DirFS(c.objects)); err != nil {
		t.Fatal(err)
	}
	had := objectsOf(t, c)
	db, err := store.Open(store.Options{Path: filepath.Join(dir, "db"), Tables: Tables()})
	if err != nil {
		t.Fatal(err)
	}
	w := crashLauncher()
	r := asyncRigOver(t, db, dir, w)
	defer r.stop()
	after(time.Minute)
	seen := w.seen()
	for _, body := range asyncBodies {
		runs := 0
		for _, s := range seen {
			if s == body {
				runs++
			}
		}
		name := strings.ReplaceAll(body, " ", "-")
		output, failure := "s3://bkt/out/"+name+".txt", "s3://bkt/failed/"+name+"-error.out"
		_, done := r.object(&output)
		if body == "bad" {
			_, done = r.object(&failure)
		}
		switch {
		case had[body] && runs != 0:
			t.Errorf("%q had finished and was run %d times", body, runs)
		case !had[body] && slices.Contains(c.accepted, body) && runs != 1:
			t.Errorf("%q had not finished and was run %d times", body, runs)
		case slices.Contains(c.accepted, body) && !done:
			t.Errorf("%q was lost", body)
		}
		if had[body] {
			finished++
		} else if runs > 0 {
			unfinished++
		}
		if body != "bad" && done {
			r.want(&output, strings.ToUpper(body))
		}
	}
	if s := r.status("e"); s.ApproximateBacklogSize != 0 {
		t.Errorf("%+v is left", s)
	}
	return finished, unfinished
}

// objectsOf tells which requests had their object when the crash came.
func objectsOf(t *testing.T, c asyncCrash) map[string]bool {
	s, err := objects.Open(t.Context(), objects.Options{Dir: c.objects + "-look", Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.objects + "-look"); err != nil {
		if err := os.CopyFS(c.objects+"-look", os.DirFS(c.objects)); err != nil {
			t.Fatal(err)
		}
	}
	r := &asyncRig{&rig{t: t, ctx: t.Context()}, s}
	had := map[string]bool{}
	for _, body := range asyncBodies {
		name := strings.ReplaceAll(body, " ", "-")
		for _, location := range []string{"s3://bkt/out/" + name + ".txt", "s3://bkt/failed/" + name + "-error.out"} {
			if _, ok := r.object(&location); ok {
				had[body] = true
			}
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return had
}
