package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// lockTimeout is how long Open waits for another process to let go of the file:
// enough for a daemon that is being restarted, short enough to fail promptly.
const lockTimeout = time.Second

// Options of Open. Path or InMemory is required.
type Options struct {
	// Path of the database file. The file and its directory are created when
	// missing.
	Path string
	// InMemory keeps the database in memory where the system can (/dev/shm),
	// else in the temporary directory; it leaves no file behind and is not
	// durable. Path is ignored.
	InMemory bool
	// CarryDelay is how long UpdateSoon waits for another writer's commit; 0 means
	// not at all.
	CarryDelay time.Duration
	// Tables are all tables that the process uses.
	Tables []TableDefinition
	// Logger reports migrations and index builds; nil discards them.
	Logger *slog.Logger
	// Committed, when set, is called after every commit that wrote something,
	// while no other writer runs: a copy of the file made then is what a crash
	// at that moment leaves. It must not use the database.
	Committed func()
}

// DB is an open database, safe for concurrent use.
type DB struct {
	bolt    *bbolt.DB
	commits committer

	carryDelay time.Duration

	clock    clock
	tables   []TableDefinition
	leftover string
}

// Open opens or creates the database, migrates it to this release's schema and
// builds the indexes that are new. It fails with ErrLocked after about a second
// when another process has the file, and with ErrNewerSchema when a later
// release wrote it.
func Open(o Options) (*DB, error) { return open(o, migrations) }

func open(o Options, steps []migration) (*DB, error) {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	db := &DB{tables: o.Tables, carryDelay: o.CarryDelay}
	var err error
	if o.InMemory {
		db.bolt, db.leftover, err = openInMemory()
	} else {
		db.bolt, err = openFile(o.Path)
	}
	if err != nil {
		return nil, err
	}
	db.commits.bolt, db.commits.hook = db.bolt, o.Committed
	err = db.bolt.Update(func(b *bbolt.Tx) error {
		if err := migrate(b, steps, log); err != nil {
			return err
		}
		return register(b, o.Tables, log)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", db.bolt.Path(), err), db.Close())
	}
	return db, nil
}

// Close waits for running transactions and closes the file. A second Close does
// nothing.
func (db *DB) Close() error {
	err := db.bolt.Close()
	if db.leftover != "" {
		err = errors.Join(err, os.Remove(db.leftover))
		db.leftover = ""
	}
	return err
}

// View runs fn in a read-only transaction over one consistent state. fn must
// not start another transaction of the same database: a writer that has to grow
// the file waits for every View.
func (db *DB) View(fn func(*Tx) error) error {
	b, err := db.bolt.Begin(false)
	if err != nil {
		return openError(err)
	}
	tx := &Tx{Now: db.clock.now(), bolt: b}
	defer func() {
		tx.bolt = nil
		_ = b.Rollback() // fails only when fn ended the transaction, which Tx does not offer
	}()
	return fn(tx)
}

func openError(err error) error {
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return fmt.Errorf("store: begin: %w", err)
}

func openFile(path string) (*bbolt.DB, error) {
	if path == "" {
		return nil, errors.New("store: no database path")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the database's directory: %w", err)
	}
	bolt, err := openBolt(path, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("another sagelocal is using %s: %w", path, ErrLocked)
	case err != nil:
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return bolt, nil
}

// openInMemory also returns the file that Close has to remove, if any.
func openInMemory() (bolt *bbolt.DB, leftover string, err error) {
	dir := os.TempDir()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		dir = "/dev/shm"
	}
	create := func(string, int, os.FileMode) (*os.File, error) {
		f, err := os.CreateTemp(dir, "sagelocal-*.db")
		if err != nil {
			return nil, err
		}
		// An open file needs no name on Unix, and without one nothing is left
		// behind by kill -9. Windows refuses, so there Close removes it.
		if os.Remove(f.Name()) != nil {
			leftover = f.Name()
		}
		return f, nil
	}
	bolt, err = openBolt(dir, &bbolt.Options{
		Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType,
		NoSync: true, NoGrowSync: true, NoFreelistSync: true, OpenFile: create,
	})
	if err != nil {
		return nil, "", fmt.Errorf("open in-memory database in %s: %w", dir, err)
	}
	return bolt, leftover, nil
}

// openBolt turns what a damaged file does to bbolt, a panic or a fault in the
// memory map, into an error.
func openBolt(path string, o *bbolt.Options) (bolt *bbolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			bolt, err = nil, fmt.Errorf("file is damaged: %v", p)
		}
	}()
	if bolt, err = bbolt.Open(path, 0o600, o); err != nil {
		return nil, err
	}
	if o.OpenFile != nil {
		return bolt, nil
	}
	if err := checkLength(bolt, path); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	return bolt, nil
}

// checkLength refuses a truncated file, which would fault at some later read.
func checkLength(bolt *bbolt.DB, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return bolt.View(func(tx *bbolt.Tx) error {
		if info.Size() < tx.Size() {
			return fmt.Errorf("file is damaged: %d bytes long, should be at least %d", info.Size(), tx.Size())
		}
		return nil
	})
}
