package controlplane

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// CapacityRule says how many instances of a type there are to be had: what on
// AWS the region's data centres decide. The first rule that matches counts.
type CapacityRule struct {
	// InstanceType is a glob: * stands for any text, ? for one character.
	InstanceType string `yaml:"instance_type" json:"instance_type"`
	// Unavailable means that there are none; else Instances is how many of each
	// type that matches there are, over all endpoints of all accounts.
	Unavailable bool `yaml:"unavailable" json:"unavailable,omitempty"`
	Instances   *int `yaml:"instances" json:"instances,omitempty"`
}

func (r *CapacityRule) validate() error {
	switch _, err := path.Match(r.InstanceType, ""); {
	case r.InstanceType == "":
		return errors.New("instance_type is missing; use \"*\" for every type")
	case err != nil:
		return fmt.Errorf("instance_type %q: %w", r.InstanceType, err)
	case r.Unavailable == (r.Instances != nil):
		return fmt.Errorf("instance_type %q needs exactly one of unavailable: true and instances", r.InstanceType)
	case r.Instances != nil && *r.Instances < 0:
		return fmt.Errorf("instance_type %q: instances is negative", r.InstanceType)
	}
	return nil
}

// maxCapacityRules bounds what one request can set.
const maxCapacityRules = 1000

// Capacity counts the instances that run, by type, and holds them against rules.
// Rules that take capacity away stop no instance. Safe for concurrent use.
type Capacity struct {
	mu      sync.Mutex
	rules   []CapacityRule
	used    map[string]int
	version int64 // of the rules
}

// NewCapacity makes an account with rules; none means that there is no limit.
func NewCapacity(rules []CapacityRule) (*Capacity, error) {
	c := &Capacity{used: map[string]int{}}
	return c, c.set(rules)
}

func (c *Capacity) set(rules []CapacityRule) error {
	if len(rules) > maxCapacityRules {
		return fmt.Errorf("%d rules are more than %d", len(rules), maxCapacityRules)
	}
	for i := range rules {
		if err := rules[i].validate(); err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rules = slices.Clone(rules)
	c.version++
	return nil
}

// reserve takes an instance of the first of the types of which there is one
// left. It tells which.
func (c *Capacity) reserve(instanceTypes []string) (instanceType string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range instanceTypes {
		if most, limited := c.limit(t); !limited || c.used[t] < most {
			c.used[t]++
			return t, true
		}
	}
	return "", false
}

// release gives back what reserve took.
func (c *Capacity) release(instanceType string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used[instanceType]--; c.used[instanceType] <= 0 {
		delete(c.used, instanceType)
	}
}

// limit of a serverless variant, which has no instance type, is none.
func (c *Capacity) limit(instanceType string) (most int, limited bool) {
	if instanceType == "" {
		return 0, false
	}
	for _, r := range c.rules {
		if match, _ := path.Match(r.InstanceType, instanceType); !match {
			continue
		}
		if r.Unavailable {
			return 0, true
		}
		return *r.Instances, true
	}
	return 0, false
}

// rulesVersion changes with the rules.
func (c *Capacity) rulesVersion() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// CapacityStatus is what GET capacity shows.
type CapacityStatus struct {
	Rules []CapacityRule `json:"rules"`
	// InUse is how many instances run, by type; serverless variants have none.
	InUse map[string]int `json:"in_use"`
}

// Status is a reading of the account.
func (c *Capacity) Status() CapacityStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := CapacityStatus{Rules: append([]CapacityRule{}, c.rules...), InUse: maps.Clone(c.used)}
	delete(s.InUse, "")
	return s
}

// SetCapacity puts other rules into force until the daemon ends, and lets every
// instance that waits for capacity try again. This is sagelocal's own, not AWS's.
func (p *Plane) SetCapacity(rules []CapacityRule) error {
	if err := p.Capacity.set(rules); err != nil {
		return sdkcompat.InvalidCapacity.Error(err)
	}
	p.wakeAll("")
	return nil
}
