package controlplane

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// PutFaults makes a script of faults the endpoint's, in place of any other. They
// strike when it returns, until the endpoint is deleted. No rules means back to
// those of the configuration file. This is sagelocal's own, not AWS's.
func (p *Plane) PutFaults(ctx context.Context, endpoint string, script dataplane.FaultScript) error {
	if _, err := dataplane.NewFaults(script); err != nil {
		return sdkcompat.InvalidFaults.Error(err)
	}
	var text []byte
	if len(script.Rules) > 0 {
		var err error
		if text, err = json.Marshal(script); err != nil {
			return fmt.Errorf("encode faults: %w", err)
		}
	}
	return p.putScript(ctx, endpoint, func(rec *endpointRecord) { rec.Faults = string(text) })
}

// GetFaults lists the rules that are in force and how often each has struck since
// the scripts were set or the daemon started.
func (p *Plane) GetFaults(ctx context.Context, endpoint string) ([]dataplane.FaultStatus, error) {
	e, err := p.published(ctx, endpoint)
	if err != nil || e == nil {
		return []dataplane.FaultStatus{}, err
	}
	return e.Faults().Status(), nil
}

// faults compiles the endpoint's own script, or else the configuration file's;
// nil without rules.
func (p *Plane) faults(rec *endpointRecord) (*dataplane.Faults, error) {
	script := p.Faults[id(*rec.EndpointName)]
	if rec.Faults != "" {
		script = dataplane.FaultScript{}
		if err := json.Unmarshal([]byte(rec.Faults), &script); err != nil {
			return nil, fmt.Errorf("decode faults: %w", err)
		}
	}
	if len(script.Rules) == 0 {
		return nil, nil
	}
	return dataplane.NewFaults(script)
}
