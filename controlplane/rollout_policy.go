package controlplane

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// checkUpdate refuses an update that AWS refuses. The rules are documented
// (deployment-guardrails-exclusions, serverless-endpoints, API_CapacitySize and
// the policies' own pages); none of AWS's sentences was ever quoted.
func checkUpdate(present, target *deployment, policy *types.DeploymentConfig) error {
	for i := range target.Variants {
		v := &target.Variants[i]
		old := present.variant(v.name())
		if old != nil && old.Config.ServerlessConfig == nil && v.Config.ServerlessConfig != nil {
			return sdkcompat.InstancesToServerless.Error(v.name())
		}
	}
	if policy == nil {
		return nil
	}
	if err := checkPolicy(target, policy); err != nil {
		return err
	}
	if err := sameVariants(present, target); err != nil {
		return err
	}
	if policy.RollingUpdatePolicy != nil && present.Variants[0].Config.ServerlessConfig != nil {
		return sdkcompat.RollingOfMany.Error()
	}
	return nil
}

// checkPolicy holds a DeploymentConfig against its own rules and the variants of
// the deployment that it comes with, which CreateEndpoint's has as well.
func checkPolicy(d *deployment, policy *types.DeploymentConfig) error {
	switch {
	case policy == nil:
		return nil
	case policy.BlueGreenUpdatePolicy != nil && policy.RollingUpdatePolicy != nil:
		return sdkcompat.PolicyTwice.Error()
	}
	if err := checkAlarms(policy.AutoRollbackConfiguration); err != nil {
		return err
	}
	if p := policy.RollingUpdatePolicy; p != nil {
		return checkRolling(d, p)
	}
	if p := policy.BlueGreenUpdatePolicy; p != nil {
		return checkBlueGreen(d, p.TrafficRoutingConfiguration)
	}
	return nil
}

// sameVariants: with a DeploymentConfig the variants keep their names
// (docs: deployment-guardrails-exclusions).
func sameVariants(present, target *deployment) error {
	same := len(present.production()) == len(target.production())
	for _, v := range target.production() {
		old := present.variant(v.name())
		same = same && old != nil && !old.Shadow
	}
	if !same {
		return sdkcompat.VariantsChanged.Error(target.ConfigName, present.ConfigName)
	}
	return nil
}

func checkRolling(target *deployment, p *types.RollingUpdatePolicy) error {
	v := &target.Variants[0]
	if len(target.production()) > 1 || v.Config.ServerlessConfig != nil {
		return sdkcompat.RollingOfMany.Error()
	}
	if err := checkSize(v, "MaximumBatchSize", p.MaximumBatchSize, 5, 50); err != nil {
		return err
	}
	if p.RollbackMaximumBatchSize == nil {
		return nil
	}
	return checkSize(v, "RollbackMaximumBatchSize", p.RollbackMaximumBatchSize, 0, 100)
}

func checkBlueGreen(target *deployment, t *types.TrafficRoutingConfig) error {
	if t == nil {
		return nil
	}
	for i := range target.production() {
		v := &target.Variants[i]
		var err error
		switch t.Type {
		case types.TrafficRoutingConfigTypeCanary:
			err = checkSize(v, "CanarySize", t.CanarySize, 0, 50)
		case types.TrafficRoutingConfigTypeLinear:
			err = checkSize(v, "LinearStepSize", t.LinearStepSize, 10, 50)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkSize holds a CapacitySize to its bounds in percent of the variant's
// instances. It is required.
func checkSize(v *variant, member string, size *types.CapacitySize, least, most float64) error {
	if size == nil || size.Value == nil {
		return sdkcompat.SizeMissing.Error(member)
	}
	percent := 100 * fraction(size, int(v.Count))
	if aws.ToInt32(size.Value) < 1 || percent < least || percent > most {
		return sdkcompat.SizeRange.Error(member, max(least, 1), most, v.name(), v.Count)
	}
	return nil
}
