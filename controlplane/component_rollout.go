package controlplane

import (
	"strings"
	"time"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// begin sets the update's first numbers.
func (u *componentUpdate) begin(total int, now time.Time) {
	u.Fresh = total
	if p := u.rolling(); p != nil {
		u.Fresh = min(total, copiesIn(p.MaximumBatchSize, total))
	}
	u.Stage, u.Since = provisioning, now
}

// next is the next step of the update.
func (u *componentUpdate) next(c *inferenceComponentRecord, at componentAt) (componentStep, time.Duration) {
	if u.Back {
		return u.back(c, at), 0
	}
	if reason := u.verdict(at); reason != "" {
		return turnComponentBack(reason, at.active.serving, at.target.serving), 0
	}
	wait := time.Duration(0)
	if limit := u.limit(); limit > 0 {
		wait = at.left(u.Started, limit)
	}
	if u.rolling() == nil {
		return u.swap(c, at), wait
	}
	step, due := u.roll(c, at)
	return step, sooner(wait, due)
}

// verdict is why the update must be rolled back now; empty when it need not.
func (u *componentUpdate) verdict(at componentAt) string {
	switch {
	case at.target.problem != nil:
		return at.target.problem.reason
	case len(at.alarms) > 0 && at.target.serving > 0:
		return sdkcompat.AlarmRaised.Sentence(strings.Join(at.alarms, ", "))
	case u.limit() > 0 && at.left(u.Started, u.limit()) == 0:
		return sdkcompat.DeploymentLate.Sentence(int(u.limit().Seconds()))
	}
	return ""
}

// swap replaces copies one for one: as many old ones go as new ones serve.
func (u *componentUpdate) swap(c *inferenceComponentRecord, at componentAt) componentStep {
	total, before := int(c.CopyCount), int(c.RollbackCopyCount)
	old := 0
	if at.target.serving < total {
		old = min(u.Old, before-before*at.target.serving/total)
	}
	switch {
	case old < u.Old:
		return func(c *inferenceComponentRecord, _ time.Time) bool {
			c.Update.Old = old
			return false
		}
	case u.Old == 0 && at.target.serving == total && !at.active.extra && at.active.serving == 0:
		return finishComponent
	}
	return nil
}

// roll replaces copies batch by batch: a batch of new ones starts, is watched for
// WaitIntervalInSeconds, and then as many old ones go
// (API_InferenceComponentRollingUpdatePolicy).
func (u *componentUpdate) roll(c *inferenceComponentRecord, at componentAt) (componentStep, time.Duration) {
	total, before := int(c.CopyCount), int(c.RollbackCopyCount)
	there := at.target.serving >= u.Fresh
	switch u.Stage {
	case provisioning:
		if there {
			return stageComponent(baking, u.Fresh, u.Old), 0
		}
	case baking:
		wait := at.left(u.Since, seconds(u.rolling().WaitIntervalInSeconds, 0))
		if wait > 0 || !there {
			return nil, wait
		}
		old := 0
		if u.Fresh < total {
			old = before - before*u.Fresh/total
		}
		return stageComponent(draining, u.Fresh, min(u.Old, old)), 0
	case draining:
		switch {
		case at.active.extra || !there:
		case u.Fresh == total:
			return finishComponent, 0
		default:
			return stageComponent(provisioning, min(total, u.Fresh+copiesIn(u.rolling().MaximumBatchSize, total)), u.Old), 0
		}
	}
	return nil, 0
}

func stageComponent(s stage, fresh, old int) componentStep {
	return func(c *inferenceComponentRecord, now time.Time) bool {
		c.Update.Stage, c.Update.Since, c.Update.Fresh, c.Update.Old = s, now, fresh, old
		return false
	}
}

func finishComponent(c *inferenceComponentRecord, now time.Time) bool {
	c.Active, c.Update = c.Update.Target, nil
	return serveComponent(c, now)
}

// turnComponentBack begins to roll an update back.
func turnComponentBack(reason string, old, fresh int) componentStep {
	return func(c *inferenceComponentRecord, now time.Time) bool {
		c.explain(reason)
		c.CopyCount = c.RollbackCopyCount
		u := c.Update
		u.Back, u.Stage, u.Since = true, restoring, now
		u.Fresh = min(u.Fresh, fresh)
		u.Old = u.restored(int(c.CopyCount), old)
		c.Generation++
		return false
	}
}

// restored is how many old copies are wanted while so many serve: the next batch
// more, by RollbackMaximumBatchSize, which is all of them when it is absent.
func (u *componentUpdate) restored(total, up int) int {
	batch := total
	if p := u.rolling(); p != nil {
		batch = copiesIn(p.RollbackMaximumBatchSize, total)
	}
	return max(u.Old, min(total, up+batch))
}

// back returns to the old revision: new copies go as old ones serve again.
func (u *componentUpdate) back(c *inferenceComponentRecord, at componentAt) componentStep {
	total := int(c.CopyCount)
	fresh := min(u.Fresh, max(0, total-at.active.serving))
	old := u.restored(total, at.active.serving)
	switch {
	case fresh < u.Fresh || old > u.Old:
		return stageComponent(restoring, fresh, old)
	case u.Fresh == 0 && at.target.serving == 0 && !at.target.extra && at.active.serving == total:
		return returnComponent
	case at.active.problem != nil && u.Fresh > 0:
		// There is no room beside the new copies: one of them makes some.
		release := stageComponent(restoring, u.Fresh-1, u.Old)
		return func(c *inferenceComponentRecord, now time.Time) bool {
			c.Generation++
			return release(c, now)
		}
	case at.active.problem != nil:
		return returnComponent // the old copies are tried for ever
	}
	return nil
}

// returnComponent ends a rollback; FailureReason stays.
func returnComponent(c *inferenceComponentRecord, now time.Time) bool {
	c.Update = nil
	c.Generation++
	return serveComponent(c, now)
}
