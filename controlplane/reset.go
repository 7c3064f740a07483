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
	// Not until the reconcilers have ended: somebody may have created an endpoint
	// of the same name already.
	var looks []<-chan struct{}
	p.eachReconciler(account, func(r *reconciler) { looks = append(looks, r.look()) })
	for _, done := range looks {
		select {
		case <-done:
		case <-p.ctx.Done():
			return fmt.Errorf("reset: %w", context.Cause(p.ctx))
		case <-ctx.Done():
			return fmt.Errorf("reset: workers are still stopping: %w", context.Cause(ctx))
		}
	}
	return p.Logs.Remove(account)
}

// wakeAll wakes an account's reconcilers, or all of them.
func (p *Plane) wakeAll(account string) { p.eachReconciler(account, (*reconciler).notify) }

func (p *Plane) eachReconciler(account string, do func(*reconciler)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, r := range p.reconcilers {
		if account == "" || key.Account == account {
			do(r)
		}
	}
}
