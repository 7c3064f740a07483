package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func TestRecordsSurviveReopening(t *testing.T) {
	path := tempPath(t)
	db := openTest(t, Options{Path: path})
	put(t, db, scopeA, numbered(100)...)
	closeChecked(t, db)
	db = openTest(t, Options{Path: path})
	mustView(t, db, func(tx *Tx) error {
		if got := ids(t, tx, scopeA, Query[thing]{Index: "created"}); len(got) != 100 {
			t.Errorf("%d records after reopening, want 100", len(got))
		}
		return nil
	})
}

func TestSecondOpenFailsPromptlyAndNamesTheFile(t *testing.T) {
	path := tempPath(t)
	openTest(t, Options{Path: path})
	start := time.Now()
	_, err := Open(Options{Path: path})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "another sagelocal is using "+path) {
		t.Errorf("Open of a locked file = %v", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("the refusal took %v", d)
	}
}

func TestInMemoryDatabaseLeavesNoFile(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	path := db.bolt.Path()
	if _, err := os.Stat(path); runtime.GOOS != "windows" && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file has a name while the database is open: %v", err)
	}
	// Larger than bbolt's first map, so that the nameless file has to grow.
	put(t, db, scopeA, &thing{ID: "big", Payload: make([]byte, 8<<20)})
	closeChecked(t, db)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there after Close: %v", err)
	}
}

func TestInMemoryDatabasesAreSeparate(t *testing.T) {
	one, two := openTest(t, Options{InMemory: true}), openTest(t, Options{InMemory: true})
	put(t, one, scopeA, &thing{ID: "a"})
	if exists(t, two, scopeA, "a") {
		t.Error("two in-memory databases share a record")
	}
}

func TestClosedDatabaseSaysSo(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	for range 2 {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(*Tx) error { t.Error("a transaction ran on a closed database"); return nil }
	if err := db.Update(nothing); !errors.Is(err, ErrClosed) {
		t.Errorf("Update = %v, want ErrClosed", err)
	}
	if err := db.View(nothing); !errors.Is(err, ErrClosed) {
		t.Errorf("View = %v, want ErrClosed", err)
	}
}

func TestDamagedFilesAreRefusedWithTheirName(t *testing.T) {
	path := tempPath(t)
	db := openTest(t, Options{Path: path})
	put(t, db, scopeA, numbered(300)...)
	var used int
	if err := db.bolt.View(func(tx *bbolt.Tx) error { used = int(tx.Size()); return nil }); err != nil {
		t.Fatal(err)
	}
	closeChecked(t, db)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	damage := map[string][]byte{
		"text":          []byte(strings.Repeat("not a database\n", 1000)),
		"one byte":      whole[:1],
		"one short":     whole[:used-1],
		"zeroed metas":  append(make([]byte, 2*page), whole[2*page:]...),
		"zeroed behind": append(whole[:2*page:2*page], make([]byte, len(whole)-2*page)...),
	}
	for n := page; n < used; n += page {
		damage[fmt.Sprint("truncated to ", n)] = whole[:n]
	}
	for name, content := range damage {
		path := filepath.Join(t.TempDir(), "damaged.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(Options{Path: path, Tables: []TableDefinition{&things}})
		if err == nil {
			t.Errorf("%s: opened; close: %v", name, db.Close())
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error does not name the file: %v", name, err)
		}
	}
}
