package controlplane

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

func count(n int32) *types.CapacitySize {
	return &types.CapacitySize{Type: types.CapacitySizeTypeInstanceCount, Value: &n}
}

func percent(n int32) *types.CapacitySize {
	return &types.CapacitySize{Type: types.CapacitySizeTypeCapacityPercent, Value: &n}
}

func TestBatchOfCapacityPercentIsRoundedUpToInstances(t *testing.T) {
	for _, tc := range []struct {
		size  *types.CapacitySize
		total int
		want  int
	}{
		{nil, 7, 7},
		{count(3), 10, 3},
		{count(30), 10, 10},
		{percent(50), 4, 2},
		{percent(50), 5, 3},
		{percent(5), 10, 1},
		{percent(100), 3, 3},
		{percent(33), 3, 1},
		{percent(34), 3, 2},
	} {
		if got := instances(tc.size, tc.total); got != tc.want {
			t.Errorf("%+v of %d: %d, want %d", tc.size, tc.total, got, tc.want)
		}
	}
}

func TestTrafficShareOfEachStep(t *testing.T) {
	canary := func(size *types.CapacitySize) *types.TrafficRoutingConfig {
		return &types.TrafficRoutingConfig{Type: types.TrafficRoutingConfigTypeCanary, CanarySize: size}
	}
	linear := func(size *types.CapacitySize) *types.TrafficRoutingConfig {
		return &types.TrafficRoutingConfig{Type: types.TrafficRoutingConfigTypeLinear, LinearStepSize: size}
	}
	for _, tc := range []struct {
		name   string
		config *types.TrafficRoutingConfig
		total  int
		want   []float64
	}{
		{"no policy", nil, 4, []float64{1}},
		{"all at once", &types.TrafficRoutingConfig{Type: types.TrafficRoutingConfigTypeAllAtOnce}, 4, []float64{1}},
		{"a canary of one in four", canary(count(1)), 4, []float64{0.25, 1}},
		{"a canary of 10 percent", canary(percent(10)), 4, []float64{0.1, 1}},
		{"thirds", linear(count(1)), 3, []float64{1. / 3, 2. / 3, 1}},
		{"40 percent", linear(percent(40)), 5, []float64{0.4, 0.8, 1}},
		{"33 percent of 3 instances, as in AWS's notebook", linear(percent(33)), 3, []float64{1. / 3, 2. / 3, 1}},
		{"33 percent of 1 instance", linear(percent(33)), 1, []float64{0.33, 0.66, 0.99, 1}},
		{"a canary of 17 percent of 6", canary(percent(17)), 6, []float64{1. / 6, 1}},
		{"a canary of 10 percent of 11", canary(percent(10)), 11, []float64{1. / 11, 1}},
	} {
		var got []float64
		for step := range tc.want {
			got = append(got, shareAt(tc.config, step+1, tc.total))
		}
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// stages walks a rolling update from batch to batch and tells the wanted
// instances of the old and of the new fleet as "old+new".
func rollingStages(old, fresh int32, batch, rollback *types.CapacitySize) *rollout {
	return &rollout{
		Target: deployment{ID: 2, Variants: []variant{{Config: variantOf("a", fresh), Count: fresh, CurrentWeight: 1}}},
		Policy: &types.DeploymentConfig{RollingUpdatePolicy: &types.RollingUpdatePolicy{
			MaximumBatchSize: batch, RollbackMaximumBatchSize: rollback, WaitIntervalInSeconds: aws.Int32(0),
		}},
		Step: 1, Stage: provisioning,
	}
}

func sizes(u *rollout, old *variant) string {
	return fmt.Sprintf("%d+%d", u.oldCount(old), u.newCount(&u.Target.Variants[0]))
}

func TestRollingUpdateReplacesBatchByBatch(t *testing.T) {
	for _, tc := range []struct {
		old, fresh int32
		batch      *types.CapacitySize
		want       string
	}{
		{3, 3, count(1), "3+1 2+1 2+2 1+2 1+3 0+3"},
		{4, 4, percent(50), "4+2 2+2 2+4 0+4"},
		{5, 5, percent(40), "5+2 3+2 3+4 1+4 1+5 0+5"},
		{2, 6, percent(50), "2+3 1+3 1+6 0+6"},
		{6, 2, percent(50), "6+1 3+1 3+2 0+2"},
		{1, 1, percent(50), "1+1 0+1"},
	} {
		u, old := rollingStages(tc.old, tc.fresh, tc.batch, nil), &variant{Count: tc.old}
		var got []string
		for {
			got = append(got, sizes(u, old))
			u.Stage = draining
			got = append(got, sizes(u, old))
			if u.last() {
				break
			}
			u.Step, u.Stage = u.Step+1, provisioning
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%d to %d in %+v: %s, want %s", tc.old, tc.fresh, tc.batch, s, tc.want)
		}
	}
}

func TestRollingRollbackGoesByRollbackMaximumBatchSize(t *testing.T) {
	for _, tc := range []struct {
		name     string
		rollback *types.CapacitySize
		step     int
		at       stage
		up       int
		want     string
	}{
		{"all at once unless said otherwise", nil, 3, baking, 3, "4+3 4+0"},
		{"one by one", count(1), 3, baking, 3, "3+3 3+1 4+1 4+0"},
		{"in halves", percent(50), 4, draining, 4, "2+4 2+2 4+2 4+0"},
		{"the first batch took nothing away", count(1), 1, provisioning, 0, "4+0"},
		{"instances of a broken batch do not come back", count(2), 2, provisioning, 1, "4+1 4+0"},
	} {
		u, old := rollingStages(4, 4, count(1), tc.rollback), &variant{Count: 4}
		u.Step, u.Stage = tc.step, tc.at
		u.withdraw(old, tc.up, time.Time{})
		got := []string{sizes(u, old)}
		for u.Kept > 0 {
			if u.Stage == restoring {
				u.release(old, time.Time{})
			} else {
				u.nextRestore(old, time.Time{})
			}
			if s := sizes(u, old); s != got[len(got)-1] {
				got = append(got, s)
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, s, tc.want)
		}
	}
}

func TestDeploymentConfigIsHeldToAWSsRules(t *testing.T) {
	of := func(config string, variants ...types.ProductionVariant) *deployment {
		d := &deployment{ConfigName: config}
		for _, v := range variants {
			d.Variants = append(d.Variants, variant{Config: v, Count: aws.ToInt32(v.InitialInstanceCount)})
		}
		return d
	}
	serverless := types.ProductionVariant{VariantName: aws.String("a"), ServerlessConfig: &types.ProductionVariantServerlessConfig{}}
	traffic := func(kind types.TrafficRoutingConfigType, canary, step *types.CapacitySize) *types.DeploymentConfig {
		return &types.DeploymentConfig{BlueGreenUpdatePolicy: &types.BlueGreenUpdatePolicy{
			TrafficRoutingConfiguration: &types.TrafficRoutingConfig{Type: kind, CanarySize: canary, LinearStepSize: step},
		}}
	}
	rolling := func(batch *types.CapacitySize) *types.DeploymentConfig {
		return &types.DeploymentConfig{RollingUpdatePolicy: &types.RollingUpdatePolicy{MaximumBatchSize: batch}}
	}
	canary, linear := types.TrafficRoutingConfigTypeCanary, types.TrafficRoutingConfigTypeLinear
	four := variantOf("a", 4)
	for _, tc := range []struct {
		name            string
		present, target *deployment
		policy          *types.DeploymentConfig
		refused         string
	}{
		{"other variant names without a policy", of("old", four), of("new", variantOf("b", 1)), nil, ""},
		{"other variant names with a policy", of("old", four), of("new", variantOf("b", 1)), traffic(canary, percent(10), nil), "same variant names"},
		{"instances to serverless", of("old", four), of("new", serverless), nil, "cannot be updated to a serverless variant"},
		{"serverless to instances", of("old", serverless), of("new", four), nil, ""},
		{"both policies", of("old", four), of("new", four), &types.DeploymentConfig{BlueGreenUpdatePolicy: &types.BlueGreenUpdatePolicy{}, RollingUpdatePolicy: &types.RollingUpdatePolicy{}}, "must not specify both"},
		{"canary without a size", of("old", four), of("new", four), traffic(canary, nil, nil), "requires CanarySize"},
		{"canary of half", of("old", four), of("new", four), traffic(canary, count(2), nil), ""},
		{"canary of more than half", of("old", four), of("new", four), traffic(canary, count(3), nil), "CanarySize must be between 1 and 50 percent"},
		{"canary of the only instance", of("old", four), of("new", variantOf("a", 1)), traffic(canary, count(1), nil), "CanarySize must be"},
		{"linear without a size", of("old", four), of("new", four), traffic(linear, nil, nil), "requires LinearStepSize"},
		{"linear of 5 percent", of("old", four), of("new", four), traffic(linear, nil, percent(5)), "LinearStepSize must be between 10 and 50 percent"},
		{"linear of one in four", of("old", four), of("new", four), traffic(linear, nil, count(1)), ""},
		{"rolling", of("old", four), of("new", four), rolling(percent(5)), ""},
		{"rolling in too small batches", of("old", four), of("new", four), rolling(percent(4)), "MaximumBatchSize must be between 5 and 50 percent"},
		{"rolling of two variants", of("old", four, variantOf("b", 1)), of("new", four, variantOf("b", 1)), rolling(percent(50)), "one instance-based variant only"},
		{"an alarm named twice", of("old", four), of("new", four), &types.DeploymentConfig{AutoRollbackConfiguration: &types.AutoRollbackConfig{
			Alarms: []types.Alarm{{AlarmName: aws.String("x")}, {AlarmName: aws.String("x")}},
		}}, "needs a name of its own"},
	} {
		err := checkUpdate(tc.present, tc.target, tc.policy)
		if (err != nil) != (tc.refused != "") || err != nil && !strings.Contains(err.Error(), tc.refused) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.refused)
		}
	}
}

func TestTrafficIsDealtOutBetweenFleets(t *testing.T) {
	weighted := func(id int64, weights map[string]float32) deployment {
		d := deployment{ID: id}
		for _, name := range []string{"a", "b"} {
			if w, ok := weights[name]; ok {
				d.Variants = append(d.Variants, variant{Config: variantOf(name, 4), Count: 4, Weight: w, CurrentWeight: w})
			}
		}
		return d
	}
	blueGreen := &endpointRecord{
		Deployment: weighted(1, map[string]float32{"a": 1, "b": 1}),
		Update: &rollout{
			Target: weighted(2, map[string]float32{"a": 30, "b": 10}), Stage: baking, Step: 1,
			Policy: &types.DeploymentConfig{BlueGreenUpdatePolicy: &types.BlueGreenUpdatePolicy{
				TrafficRoutingConfiguration: &types.TrafficRoutingConfig{Type: types.TrafficRoutingConfigTypeCanary, CanarySize: count(1)},
			}},
		},
	}
	rolling := &endpointRecord{Deployment: weighted(1, map[string]float32{"a": 1}), Update: rollingStages(4, 4, count(1), nil)}
	stuck := &endpointRecord{Deployment: weighted(1, map[string]float32{"a": 2})}
	left := weighted(2, map[string]float32{"a": 1})
	stuck.Leftover = &left
	up := map[group]int{{1, "a"}: 3, {2, "a"}: 1, {1, "b"}: 4, {2, "b"}: 4}
	for _, tc := range []struct {
		name string
		rec  *endpointRecord
		want map[group]float64
	}{
		{"a canary of a quarter", blueGreen, map[group]float64{{1, "a"}: 0.375, {1, "b"}: 0.375, {2, "a"}: 0.1875, {2, "b"}: 0.0625}},
		{"by instances in service", rolling, map[group]float64{{1, "a"}: 0.75, {2, "a"}: 0.25}},
		{"what a rollback left over", stuck, map[group]float64{{1, "a"}: 0.75, {2, "a"}: 0.25}},
		{"no update", &endpointRecord{Deployment: weighted(1, map[string]float32{"a": 3})}, map[group]float64{{1, "a"}: 3}},
	} {
		if got := tc.rec.traffic(func(g group) int { return up[g] }); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
