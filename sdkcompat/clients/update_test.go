package clients_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

func (c *goClient) update(t *testing.T, endpoint, config string, policy *types.DeploymentConfig) {
	t.Helper()
	out, err := c.sm.UpdateEndpoint(t.Context(), &sagemaker.UpdateEndpointInput{
		EndpointName: &endpoint, EndpointConfigName: &config, DeploymentConfig: policy,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := aws.ToString(out.EndpointArn); got != c.arn("endpoint", endpoint) {
		t.Errorf("got EndpointArn %s", got)
	}
}

// awaitOn waits for the end of an update and checks on which configuration the
// endpoint is in service, and whether FailureReason is what it must be.
func (c *goClient) awaitOn(t *testing.T, endpoint, config, reason string) {
	t.Helper()
	out := c.awaitInService(t, endpoint)
	if got := aws.ToString(out.EndpointConfigName); got != config || out.PendingDeploymentSummary != nil || aws.ToString(out.FailureReason) != reason {
		t.Errorf("in service on %s, %+v pending, FailureReason %q; want %s and %q",
			got, out.PendingDeploymentSummary, aws.ToString(out.FailureReason), config, reason)
	}
}

func (c *goClient) awaitBaking(t *testing.T, endpoint string) {
	t.Helper()
	eventually(t, waitLimit, func() error {
		if pending := c.describe(t, endpoint).PendingDeploymentSummary; pending != nil {
			for _, s := range pending.ProductionVariants[0].VariantStatus {
				if s.Status == types.VariantStatusBaking {
					return nil
				}
			}
		}
		return errors.New("it does not bake")
	})
}

func (c *goClient) setAlarm(t *testing.T, name, state string) {
	t.Helper()
	admin[map[string]string](t, c.daemon, "PUT", "/alarms/"+name+"?account="+c.account, `{"state": "`+state+`"}`)
}

func TestNoRequestIsLostOverTheWire(t *testing.T) {
	told := func(name string) types.ContainerDefinition {
		return types.ContainerDefinition{Image: aws.String(testImage), Environment: map[string]string{"NAME": name}}
	}
	deaf := told("deaf")
	deaf.Environment["READY_FILE"] = "/does/not/exist"
	for kind, models := range map[string]map[string]types.ContainerDefinition{
		"process":   {"blue": told("blue"), "green": told("green"), "deaf": deaf},
		"simulated": {"blue": {Image: aws.String("tell-blue:1")}, "green": {Image: aws.String("tell-green:1")}},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := newGoClient(sharedDaemon(t))
			for name, container := range models {
				c.createModel(t, name, container)
			}
			c.changeUnderLoad(t)
		})
	}
}

// changeUnderLoad takes an endpoint through every kind of change, and at least
// 10,000 requests through the changes.
func (c *goClient) changeUnderLoad(t *testing.T) {
	each := int64(2_100)
	if raceEnabled {
		each = 200
	}
	const e = "loaded"
	c.createEndpoint(t, e, variant("a", "blue", 3, 2), variant("b", "blue", 2, 1))
	c.createConfig(t, "green", variant("a", "green", 3, 2), variant("b", "green", 2, 1))
	c.createConfig(t, "only-b", variant("b", "green", 2, 1))
	c.createConfig(t, "only-b-blue", variant("b", "blue", 2, 1))
	c.awaitInService(t, e)

	both := []string{"a", "b"}
	blue, green, mixed := serving{[]string{"blue"}, both}, serving{[]string{"green"}, both}, serving{[]string{"blue", "green"}, both}
	onlyB := serving{[]string{"green"}, []string{"b"}}
	l := c.startLoad(t, e, blue)
	step := func(name string, between, after serving, change func(t *testing.T)) {
		if !t.Run(name, func(t *testing.T) { l.during(t, each, between, after, func() { change(t) }) }) {
			t.FailNow()
		}
	}
	step("an update blue/green", mixed, green, func(t *testing.T) {
		c.update(t, e, "green", nil)
		c.awaitOn(t, e, "green", "")
	})
	step("a rollback", mixed, green, func(t *testing.T) { c.rollBackUnderLoad(t, l, e, each/2) })
	if _, err := c.sm.DescribeModel(t.Context(), &sagemaker.DescribeModelInput{ModelName: aws.String("deaf")}); err == nil {
		step("an update that fails its ping", green, green, func(t *testing.T) {
			unready := variant("a", "deaf", 2, 2)
			unready.ContainerStartupHealthCheckTimeoutInSeconds = aws.Int32(60) // 3 s here
			c.createConfig(t, "deaf", unready, variant("b", "green", 1, 1))
			c.update(t, e, "deaf", nil)
			c.awaitOn(t, e, "green", "The primary container for production variant a did not pass the ping health check. Please check CloudWatch logs for this endpoint.")
		})
	}
	step("a scale-in", green, green, func(t *testing.T) {
		if err := c.scale(t, e, types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(1)}); err != nil {
			t.Fatal(err)
		}
		c.awaitInService(t, e)
		if n := len(c.instances(t, e)); n != 1 {
			t.Errorf("%d instances", n)
		}
	})
	step("an update that deletes a variant", green, onlyB, func(t *testing.T) {
		c.update(t, e, "only-b", nil)
		c.awaitOn(t, e, "only-b", "")
	})
	step("a rolling update", serving{mixed.models, onlyB.variants}, serving{blue.models, onlyB.variants}, func(t *testing.T) {
		c.update(t, e, "only-b-blue", &types.DeploymentConfig{RollingUpdatePolicy: &types.RollingUpdatePolicy{
			MaximumBatchSize:      &types.CapacitySize{Type: types.CapacitySizeTypeInstanceCount, Value: aws.Int32(1)},
			WaitIntervalInSeconds: aws.Int32(10),
		}})
		c.awaitOn(t, e, "only-b-blue", "")
	})
	l.stop()
	l.check(t)
	if total := l.answered.Load(); total < 10_000 && !raceEnabled {
		t.Errorf("only %d requests", total)
	}
	if n := l.cut.Load(); n > 0 {
		t.Errorf("the daemon ended %d connections", n)
	}
	c.inFlight(t, e, 0)
}

// rollBackUnderLoad lets half of the traffic go to the other model for n
// requests before an alarm returns it.
func (c *goClient) rollBackUnderLoad(t *testing.T, l *load, endpoint string, n int64) {
	alarm := "errors-of-" + c.account
	c.update(t, endpoint, endpoint, &types.DeploymentConfig{
		BlueGreenUpdatePolicy: &types.BlueGreenUpdatePolicy{TrafficRoutingConfiguration: &types.TrafficRoutingConfig{
			Type:                  types.TrafficRoutingConfigTypeCanary,
			CanarySize:            &types.CapacitySize{Type: types.CapacitySizeTypeCapacityPercent, Value: aws.Int32(50)},
			WaitIntervalInSeconds: aws.Int32(3600),
		}},
		AutoRollbackConfiguration: &types.AutoRollbackConfig{Alarms: []types.Alarm{{AlarmName: &alarm}}},
	})
	c.awaitBaking(t, endpoint)
	l.await(t, l.answered.Load()+n)
	c.setAlarm(t, alarm, "ALARM")
	out := c.awaitInService(t, endpoint)
	if aws.ToString(out.EndpointConfigName) != "green" || out.FailureReason == nil || out.LastDeploymentConfig.AutoRollbackConfiguration == nil {
		t.Errorf("got %+v", out)
	}
}
