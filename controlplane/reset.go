package controlplane

import (
	"context"
	"fmt"

	"github.com/sagelocal/sagelocal/store"
)

// Reset deletes all state of one account in every region, or of everything when
// account is empty, and returns when the workers are gone. This is sagelocal's
// own, not AWS's.
func (p *Plane) Reset(ctx context.Context, account string) error {
	err := p.DB.Update(func(tx *store.Tx) error {
		if account == "" {
			return tx.DeleteAll()
		}
		return tx.DeleteAccount(account)
	})
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	p.queue.Forget(account)
	for _, done := range p.wakeAll(account) {
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("reset: workers are still stopping: %w", context.Cause(ctx))
		}
	}
	return p.Logs.Remove(account)
}

// wakeAll wakes an account's reconcilers and returns the channels that say when
// each has dealt with it.
func (p *Plane) wakeAll(account string) []<-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []<-chan struct{}
	for key, r := range p.reconcilers {
		if account == "" || key.Account == account {
			r.notify()
			all = append(all, r.done)
		}
	}
	return all
}
