package controlplane

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

func TestCapacityIsReservedByTheFirstTypeThatHasSome(t *testing.T) {
	c, err := NewCapacity([]CapacityRule{
		{InstanceType: "ml.g5.48xlarge", Unavailable: true},
		{InstanceType: "ml.g5.*", Instances: aws.Int(2)},
		{InstanceType: "ml.g?.xlarge", Unavailable: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		types []string
		want  string // empty: there is none
	}{
		{[]string{"ml.g5.48xlarge"}, ""},
		{[]string{"ml.g5.48xlarge", "ml.g5.xlarge"}, "ml.g5.xlarge"},
		{[]string{"ml.g5.xlarge", "ml.m5.large"}, "ml.g5.xlarge"},
		{[]string{"ml.g5.xlarge"}, ""},
		{[]string{"ml.g5.2xlarge"}, "ml.g5.2xlarge"}, // each type has its own two
		{[]string{"ml.g5.xlarge", "ml.g6.xlarge", "ml.m5.large"}, "ml.m5.large"},
		{nil, ""},
	} {
		if got, ok := c.reserve(step.types); got != step.want || ok != (step.want != "") {
			t.Errorf("reserving one of %v gives %q, %v; want %q", step.types, got, ok, step.want)
		}
	}
	if got := fmt.Sprint(c.Status().InUse); got != "map[ml.g5.2xlarge:1 ml.g5.xlarge:2 ml.m5.large:1]" {
		t.Errorf("in use: %s", got)
	}
	c.release("ml.g5.xlarge")
	if _, ok := c.reserve([]string{"ml.g5.xlarge"}); !ok {
		t.Error("what was given back cannot be had again")
	}
	if err := c.set(nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.reserve([]string{"ml.g5.48xlarge"}); !ok {
		t.Error("without rules there is a limit")
	}
}

func TestServerlessNeedsNoCapacity(t *testing.T) {
	c, err := NewCapacity([]CapacityRule{{InstanceType: "*", Unavailable: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.reserve([]string{""}); !ok || len(c.Status().InUse) != 0 {
		t.Errorf("reserved %v, in use %v", ok, c.Status().InUse)
	}
}

func TestCapacityRulesMustMakeSense(t *testing.T) {
	for want, rule := range map[string]CapacityRule{
		"instance_type is missing": {Unavailable: true},
		"syntax error":             {InstanceType: "ml.[", Unavailable: true},
		"exactly one of":           {InstanceType: "*"},
		"exactly one":              {InstanceType: "*", Unavailable: true, Instances: aws.Int(1)},
		"instances is negative":    {InstanceType: "*", Instances: aws.Int(-1)},
	} {
		if _, err := NewCapacity([]CapacityRule{{InstanceType: "ml.m5.large", Unavailable: true}, rule}); err == nil || !strings.Contains(err.Error(), "rule 2: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := NewCapacity(make([]CapacityRule, maxCapacityRules+1)); err == nil {
		t.Error("any number of rules is taken")
	}
}
