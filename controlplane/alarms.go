package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// CloudWatch's states of an alarm (API_MetricAlarm).
const (
	AlarmOK               = "OK"
	AlarmAlarm            = "ALARM"
	AlarmInsufficientData = "INSUFFICIENT_DATA"
)

// AlarmSource answers what state CloudWatch alarms are in, within the
// transaction that decides by it. An alarm that nobody has heard of is in
// AlarmInsufficientData, as a new one is in CloudWatch.
type AlarmSource interface {
	AlarmState(tx *store.Tx, scope sdkcompat.Scope, name string) (string, error)
}

// Alarm is an alarm's state as the admin route shows it.
type Alarm struct {
	Name         string    `json:"name"`
	State        string    `json:"state"`
	StateUpdated time.Time `json:"state_updated"`
}

// alarms holds the states that were set by hand. It is the AlarmSource of a Plane
// that was given no other.
var alarms = newTable[Alarm]("alarms")

type storedAlarms struct{}

func (storedAlarms) AlarmState(tx *store.Tx, scope sdkcompat.Scope, name string) (string, error) {
	a, err := alarms.Get(tx, store.Scope(scope), name)
	if errors.Is(err, store.ErrNotFound) {
		return AlarmInsufficientData, nil
	}
	if err != nil {
		return "", err
	}
	return a.State, nil
}

// alarming are the alarms of an update that are in ALARM.
func (p *Plane) alarming(tx *store.Tx, scope sdkcompat.Scope, u *rollout) ([]string, error) {
	var in []string
	for _, name := range u.alarms() {
		state, err := p.Alarms.AlarmState(tx, scope, name)
		if err != nil {
			return nil, fmt.Errorf("alarm %s: %w", name, err)
		}
		if state == AlarmAlarm {
			in = append(in, name)
		}
	}
	return in, nil
}

// SetAlarmState sets an alarm's state by hand; updates that watch it act on it
// when it returns. This is sagelocal's own route; CloudWatch has SetAlarmState.
func (p *Plane) SetAlarmState(ctx context.Context, name, state string) error {
	if !slices.Contains([]string{AlarmOK, AlarmAlarm, AlarmInsufficientData}, state) {
		return sdkcompat.InvalidAlarmState.Error(state)
	}
	if name == "" || len(name) > 255 { // AlarmName (API_PutMetricAlarm)
		return sdkcompat.InvalidAlarmName.Error()
	}
	scope := scopeOf(ctx)
	return p.DB.Update(func(tx *store.Tx) error {
		tx.OnCommit(func() { p.wakeAll(scope.Account) })
		return alarms.Put(tx, store.Scope(scope), name, &Alarm{Name: name, State: state, StateUpdated: tx.Now})
	})
}

// ListAlarms lists the alarms whose state was set by hand, by name.
func (p *Plane) ListAlarms(ctx context.Context) ([]Alarm, error) {
	all := []Alarm{}
	scope := store.Scope(scopeOf(ctx))
	err := p.DB.View(func(tx *store.Tx) error {
		return alarms.Each(tx, func(s store.Scope, _ string, a *Alarm) error {
			if s == scope {
				all = append(all, *a)
			}
			return nil
		})
	})
	return all, err
}

// checkAlarms refuses an AutoRollbackConfiguration that names an alarm twice.
func checkAlarms(c *types.AutoRollbackConfig) error {
	if c == nil {
		return nil
	}
	seen := map[string]bool{}
	for _, a := range c.Alarms {
		if a.AlarmName == nil || seen[*a.AlarmName] {
			return sdkcompat.AlarmNotUnique.Error()
		}
		seen[*a.AlarmName] = true
	}
	return nil
}
