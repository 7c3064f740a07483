package store

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
)

const (
	crashPathVariable = "SAGELOCAL_STORE_TEST_CRASH_PATH"
	crashWriters      = 4
	// crashWindow is how many of its newest records each writer keeps.
	crashWindow = 5
)

// TestMain turns the test binary into the child of the crash test when told so.
func TestMain(m *testing.M) {
	if path := os.Getenv(crashPathVariable); path != "" {
		if err := crashChild(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func crashCounter(writer int) string { return fmt.Sprintf("counter-%d", writer) }
func crashRecord(w, n int) string    { return fmt.Sprintf("%d-%08d", w, n) }

// crashChild writes until it is killed. Each transaction of a writer adds record
// n, removes record n-crashWindow and sets the writer's counter to n; when it is
// committed, "writer n" is printed.
func crashChild(path string) error {
	db, err := Open(Options{Path: path, Tables: []TableDefinition{&things}})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for w := range crashWriters {
		go func() {
			for {
				n, err := crashStep(db, w)
				if err != nil {
					errs <- err
					return
				}
				fmt.Printf("%d %d\n", w, n)
			}
		}()
	}
	return <-errs
}

func crashStep(db *DB, w int) (n int, err error) {
	err = db.Update(func(tx *Tx) error {
		counter, err := things.Get(tx, scopeA, crashCounter(w))
		if errors.Is(err, ErrNotFound) {
			counter = &thing{ID: crashCounter(w)}
		} else if err != nil {
			return err
		}
		counter.Revision++
		n = counter.Revision
		id := crashRecord(w, n)
		if err := things.Put(tx, scopeA, id, &thing{ID: id, Created: tx.Now, Parent: crashCounter(w)}); err != nil {
			return err
		}
		if err := things.Put(tx, scopeA, counter.ID, counter); err != nil {
			return err
		}
		err = things.Delete(tx, scopeA, crashRecord(w, n-crashWindow))
		if n <= crashWindow && errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	})
	return n, err
}

func TestAcknowledgedTransactionsSurviveKill(t *testing.T) {
	path := tempPath(t)
	var acked [crashWriters]int
	for round := range 12 {
		killAfter(t, path, 1+rand.IntN(150), &acked)
		db, err := Open(Options{Path: path, Tables: []TableDefinition{&things}})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for w, n := range acked {
			verifyWriter(t, db, w, n)
		}
		closeChecked(t, db)
	}
}

// killAfter runs the child until it has acknowledged some transactions, kills
// it, and takes down everything that it acknowledged.
func killAfter(t *testing.T, path string, lines int, acked *[crashWriters]int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashPathVariable+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var kill sync.Once
	stop := func() { kill.Do(func() { _ = cmd.Process.Kill() }) }
	defer stop()
	read := 0
	for s := bufio.NewScanner(out); s.Scan(); {
		var w, n int
		if _, err := fmt.Sscanf(s.Text(), "%d %d", &w, &n); err != nil {
			continue // cut off by the kill
		}
		acked[w] = max(acked[w], n)
		if read++; read == lines {
			stop()
		}
	}
	err = cmd.Wait()
	if read < lines {
		t.Fatalf("the child ended by itself after %d transactions: %v", read, err)
	}
}

func verifyWriter(t *testing.T, db *DB, w, acked int) {
	t.Helper()
	mustView(t, db, func(tx *Tx) error {
		counter, err := things.Get(tx, scopeA, crashCounter(w))
		if errors.Is(err, ErrNotFound) && acked == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		n := counter.Revision
		if n < acked {
			t.Errorf("writer %d: transaction %d was acknowledged, the database knows %d", w, acked, n)
		}
		var want []string
		for i := max(1, n-crashWindow+1); i <= n; i++ {
			want = append(want, crashRecord(w, i))
		}
		parent := []byte(crashCounter(w))
		got := ids(t, tx, scopeA, Query[thing]{Index: "parent", From: parent, To: PrefixEnd(parent)})
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("writer %d at %d: records %q, want %q", w, n, got, want)
		}
		return nil
	})
}
