package controlplane

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// PutResponses makes rules the endpoint's script, in place of any other. They
// act when it returns, and until the endpoint is deleted. No rules means back to
// those of the configuration file. This is sagelocal's own, not AWS's.
func (p *Plane) PutResponses(ctx context.Context, endpoint string, rules []dataplane.ResponseRule) error {
	if _, err := dataplane.NewResponses(rules); err != nil {
		return sdkcompat.InvalidResponses.Error(err)
	}
	var text []byte
	if len(rules) > 0 {
		var err error
		if text, err = json.Marshal(rules); err != nil {
			return fmt.Errorf("encode scripted responses: %w", err)
		}
	}
	return p.putScript(ctx, endpoint, func(rec *endpointRecord) { rec.Responses = string(text) })
}

// putScript changes one of an endpoint's scripts and puts both into force.
func (p *Plane) putScript(ctx context.Context, endpoint string, change func(*endpointRecord)) error {
	scope := scopeOf(ctx)
	return p.DB.Update(func(tx *store.Tx) error {
		rec, err := getEndpoint(tx, scope, endpoint)
		if err != nil {
			return err
		}
		change(rec)
		responses, err := p.responses(rec)
		if err != nil {
			return err
		}
		faults, err := p.faults(rec)
		if err != nil {
			return err
		}
		tx.OnCommit(func() {
			if e := p.Fleet.Lookup(endpointKey(scope, endpoint)); e != nil {
				e.SetResponses(responses)
				e.SetFaults(faults)
			}
		})
		return endpoints.Put(tx, store.Scope(scope), id(endpoint), rec)
	})
}

// equip puts an endpoint's scripts into force.
func (p *Plane) equip(e *dataplane.Endpoint, rec *endpointRecord) error {
	responses, err := p.responses(rec)
	if err != nil {
		return err
	}
	faults, err := p.faults(rec)
	if err != nil {
		return err
	}
	e.SetResponses(responses)
	e.SetFaults(faults)
	return nil
}

// GetResponses lists the rules that are in force and how often each has answered
// since they were set or the daemon started.
func (p *Plane) GetResponses(ctx context.Context, endpoint string) ([]dataplane.ResponseStatus, error) {
	e, err := p.published(ctx, endpoint)
	if err != nil || e == nil {
		return []dataplane.ResponseStatus{}, err
	}
	return e.Responses().Status(), nil
}

// published is an endpoint's place in the fleet; nil when it has none yet.
func (p *Plane) published(ctx context.Context, endpoint string) (*dataplane.Endpoint, error) {
	scope := scopeOf(ctx)
	err := p.DB.View(func(tx *store.Tx) error {
		_, err := getEndpoint(tx, scope, endpoint)
		return err
	})
	return p.Fleet.Lookup(endpointKey(scope, endpoint)), err
}

// responses compiles the endpoint's own rules, or else the configuration file's.
func (p *Plane) responses(rec *endpointRecord) (*dataplane.Responses, error) {
	rules := p.Responses[id(*rec.EndpointName)]
	if rec.Responses != "" {
		rules = nil
		if err := json.Unmarshal([]byte(rec.Responses), &rules); err != nil {
			return nil, fmt.Errorf("decode scripted responses: %w", err)
		}
	}
	return dataplane.NewResponses(rules)
}
