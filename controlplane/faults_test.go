package controlplane

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

func TestInjectedCrashIsReplacedLikeAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 2))
		r.settle("e", statusInService)
		r.must(r.PutFaults(r.ctx, "e", dataplane.FaultScript{Rules: []dataplane.FaultRule{{Fault: dataplane.FaultInstanceCrash, Times: 1}}}))
		if _, err := r.invoke("e"); err == nil {
			t.Error("the request whose instance crashed was answered")
		}
		synctest.Wait()
		if n := r.inService(); n != 1 {
			t.Errorf("%d instances in service after the crash, want 1", n)
		}
		if _, err := r.invoke("e"); err != nil {
			t.Errorf("the other instance: %v", err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := r.inService(); n != 2 || r.endpoint("e").EndpointStatus != statusInService {
			t.Errorf("%d instances ten seconds later, %s", n, r.endpoint("e").EndpointStatus)
		}
		rules, err := r.GetFaults(r.ctx, "e")
		r.must(err)
		if len(rules) != 1 || rules[0].Struck != 1 {
			t.Errorf("rules %+v", rules)
		}
	})
}

func TestFaultsSurviveARestartAndEndWithTheirEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newRig(t, echo())
		first.deploy("e", variantOf("a", 1))
		first.settle("e", statusInService)
		first.must(first.PutFaults(first.ctx, "e", dataplane.FaultScript{Rules: []dataplane.FaultRule{{Fault: dataplane.FaultInternal}}}))
		first.must(first.Stop(context.Background()))
		second := rigOver(t, first.db, t.TempDir(), echo())
		defer second.stop()
		second.settle("e", statusInService)
		if _, err := second.invoke("e"); err == nil || !strings.Contains(err.Error(), dataplane.FaultInternal) {
			t.Errorf("after the restart: %v", err)
		}
		second.must(second.PutFaults(second.ctx, "e", dataplane.FaultScript{}))
		if _, err := second.invoke("e"); err != nil {
			t.Errorf("after the faults were taken away: %v", err)
		}
		err := second.PutFaults(second.ctx, "other", dataplane.FaultScript{})
		wantMessage(t, err, "ValidationException", missing("endpoint", "endpoint", "other"))
		err = second.PutFaults(second.ctx, "e", dataplane.FaultScript{Rules: []dataplane.FaultRule{{Fault: "Fire"}}})
		wantMessage(t, err, "ValidationException", `Invalid faults: rule 1: fault "Fire" is not known.`)
	})
}
