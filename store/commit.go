package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// maxGroup bounds how many transactions share a commit, and so how long the
// first of them waits for the others to run.
const maxGroup = 256

// committer lets writers that wait for each other share one bbolt commit.
//
// Every writer takes its turn alone and runs its function on its own goroutine
// inside the group's bbolt transaction. If somebody is waiting when it is done,
// it leaves the commit to them and waits for the outcome; the last of the queue
// commits for all. While it does, the next writers queue up and become the next
// group. A lone writer commits at once, so nothing is ever delayed by a timer.
//
// Writers that nobody waits for may ask to be carried (UpdateSoon): they wait a
// moment for a commit that is made anyway, and only then take a turn of their own.
//
// bbolt's own Batch runs a function again when another of the batch fails, which
// is wrong for functions that fill variables of their caller. Here a function
// runs once: what a failed one wrote is reverted from its undo log.
type committer struct {
	bolt    *bbolt.DB
	waiting atomic.Int64
	turn    sync.Mutex
	open    *group // guarded by turn
	hook    func() // Options.Committed

	mu      sync.Mutex
	carried []chan struct{} // of the writers that wait for another's commit
}

// group is one bbolt transaction and the writers that share it.
type group struct {
	bolt  *bbolt.Tx
	size  int
	dirty bool
	done  chan struct{}
	err   error // set before done is closed
}

// Update runs fn in a read-write transaction and returns when it is durable. If
// fn returns an error or panics, nothing of it is kept and Update returns that
// error (or goes on panicking). fn runs exactly once and must not start another
// transaction of the same database.
func (db *DB) Update(fn func(*Tx) error) error {
	db.commits.waiting.Add(1)
	return db.update(fn)
}

// UpdateSoon is Update for what nobody waits for. It lets up to
// Options.CarryDelay pass for another writer to come by, and shares its commit:
// a caller that creates one endpoint after the other then waits for one sync of
// the disk each, not two.
func (db *DB) UpdateSoon(fn func(*Tx) error) error {
	db.commits.await(db.carryDelay)
	return db.update(fn)
}

// update runs a writer that is counted as waiting.
func (db *DB) update(fn func(*Tx) error) error {
	g, err := db.commits.enter()
	if err != nil {
		return err
	}
	tx := &Tx{Now: db.clock.now(), bolt: g.bolt}
	if err := db.commits.run(g, tx, fn); err != nil {
		return err
	}
	for _, committed := range tx.onCommit {
		committed()
	}
	return nil
}

// enter waits for the writer's turn and returns the group to join.
func (c *committer) enter() (*group, error) {
	c.turn.Lock()
	c.waiting.Add(-1)
	if c.open != nil {
		return c.open, nil
	}
	tx, err := c.bolt.Begin(true)
	if err != nil {
		c.turn.Unlock()
		return nil, openError(err)
	}
	c.open = &group{bolt: tx, done: make(chan struct{})}
	return c.open, nil
}

// run calls fn within its turn, then leaves the group. The work after fn is
// deferred because fn may panic, or end its goroutine as t.FailNow does.
func (c *committer) run(g *group, tx *Tx, fn func(*Tx) error) (err error) {
	returned := false
	defer func() {
		failed := !returned || err != nil
		if failed {
			g.fail(tx.revert())
		} else if len(tx.undo) > 0 {
			g.dirty = true
		}
		tx.bolt = nil
		// A failed function also waits: its error may rest on what it read
		// from its predecessors, which is true only once they are committed.
		if commitErr := c.leave(g); commitErr != nil {
			err = commitErr
		}
	}()
	if err = fn(tx); err == nil {
		err = tx.broken
	}
	returned = true
	return err
}

// leave ends the writer's turn and returns the outcome of the commit.
func (c *committer) leave(g *group) error {
	g.size++
	c.carry()
	if c.waiting.Load() > 0 && g.size < maxGroup {
		c.turn.Unlock()
		<-g.done
		return g.err
	}
	defer c.turn.Unlock()
	c.flush()
	return g.err
}

// await returns when a commit is about to be made or delay is over. The writer is
// then counted as waiting.
func (c *committer) await(delay time.Duration) {
	if delay <= 0 {
		c.waiting.Add(1)
		return
	}
	called := make(chan struct{})
	c.mu.Lock()
	c.carried = append(c.carried, called)
	c.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-called:
		return
	case <-timer.C:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.carried, called); i >= 0 {
		c.carried = slices.Delete(c.carried, i, i+1)
		c.waiting.Add(1)
	} // else it was called at the last moment, and counted
}

// carry calls the writers that wait for a commit.
func (c *committer) carry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting.Add(int64(len(c.carried)))
	for _, called := range c.carried {
		close(called)
	}
	c.carried = nil
}

// exclusive calls fn while no write transaction is open or can begin.
func (c *committer) exclusive(fn func() error) error {
	c.waiting.Add(1)
	c.turn.Lock()
	c.waiting.Add(-1)
	defer c.turn.Unlock()
	c.flush()
	return fn()
}

// flush commits the open group; the caller holds the turn.
func (c *committer) flush() {
	if g := c.open; g != nil {
		c.open = nil
		if g.commit() && c.hook != nil {
			c.hook()
		}
		close(g.done)
	}
}

func (g *group) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

// commit tells whether anything was written.
func (g *group) commit() (wrote bool) {
	finished := false
	defer func() {
		if !finished {
			// bbolt asserts by panicking and would keep its writer lock.
			_ = g.bolt.Rollback()
			g.fail(errors.New("store: commit panicked"))
			close(g.done)
		}
	}()
	switch {
	case g.err != nil || !g.dirty:
		g.fail(g.bolt.Rollback())
	default:
		if err := g.bolt.Commit(); err != nil {
			g.fail(fmt.Errorf("store: commit: %w", err))
		} else {
			wrote = true
		}
	}
	finished = true
	return wrote
}
