package dataplane

import (
	"context"
	"slices"
	"strings"
)

// modelSpill is how many more requests than the least busy instance one that
// holds a model may have outstanding before another instance loads the model
// too: modelSpill, and half of what the least busy one has. AWS documents that
// busy instances spill and not when. Below that a load, which takes seconds,
// costs more than the wait.
const modelSpill = 4

// modelHolders are the instances of a pool that hold models, by TargetModel.
// The pool's lock guards it.
type modelHolders struct {
	byModel map[string][]modelHolder
	sweepAt int // entries, from where those that nobody holds are removed
}

// modelHolder is an instance that holds a model, or has been sent a request for
// it and is about to load it.
type modelHolder struct {
	in          *Instance
	outstanding int // requests for the model
}

func (h *modelHolder) holds(model string) bool {
	return h.outstanding > 0 || h.in.index >= 0 && h.in.models != nil && h.in.models.HasModel(model)
}

// invokeModel is Invoke of a request for one of several models.
func (p *Pool) invokeModel(ctx context.Context, req *Request, ans *Answer) (*Instance, error) {
	in, err := p.acquireModel(req.TargetModel, p.affinity(req))
	if err != nil {
		return nil, err
	}
	defer p.releaseModel(in, req.TargetModel)
	return in, in.invoke(ctx, req, ans)
}

// acquireModel prefers the least busy of the instances that hold the model. When
// none does, the routing strategy chooses; when all are busy, the least busy
// instance does.
func (p *Pool) acquireModel(model string, key uint64) (*Instance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.members) == 0 {
		return nil, ErrNoInstance
	}
	i := p.holder(model)
	switch {
	case i < 0:
		if p.stale && key != 0 {
			p.rebuildHomes()
		}
		i = p.route(p.src, &p.load, key)
	case p.busy(i):
		i = LeastOutstanding(p.src, &p.load, 0)
	}
	p.load.Add(i)
	p.models.add(model, p.members[i])
	return p.members[i], nil
}

// holder is the member that holds the model and has the fewest outstanding
// requests, one of them at random; -1 when there is none.
func (p *Pool) holder(model string) int {
	best, ties := -1, 0
	for _, h := range p.models.of(model) {
		i := h.in.index
		if i < 0 {
			continue // it has left, and answers what it has
		}
		switch {
		case best < 0 || p.load.Count(i) < p.load.Count(best):
			best, ties = i, 1
		case p.load.Count(i) == p.load.Count(best):
			if ties++; p.src.IntN(ties) == 0 {
				best = i
			}
		}
	}
	return best
}

func (p *Pool) busy(i int) bool {
	least := p.load.Count(int(p.load.Least()[0]))
	return p.load.Count(i) >= least+least/2+modelSpill
}

func (p *Pool) releaseModel(in *Instance, model string) {
	p.mu.Lock()
	p.models.done(model, in)
	p.mu.Unlock()
	p.release(in)
}

// of lists those that hold the model, and forgets those that do not any more.
func (m *modelHolders) of(model string) []modelHolder {
	all, known := m.byModel[model]
	if !known {
		return nil
	}
	all = slices.DeleteFunc(all, func(h modelHolder) bool { return !h.holds(model) })
	if len(all) == 0 {
		delete(m.byModel, model)
		return nil
	}
	m.byModel[model] = all
	return all
}

// add counts a request for the model.
func (m *modelHolders) add(model string, in *Instance) {
	all := m.byModel[model]
	if i := slices.IndexFunc(all, func(h modelHolder) bool { return h.in == in }); i >= 0 {
		all[i].outstanding++
		return
	}
	if m.byModel == nil {
		m.byModel, m.sweepAt = map[string][]modelHolder{}, 1024
	}
	if len(m.byModel) >= m.sweepAt {
		for name := range m.byModel {
			m.of(name)
		}
		m.sweepAt = max(1024, 2*len(m.byModel))
	}
	if all == nil {
		model = strings.Clone(model) // it is a view of the connection's buffer
	}
	m.byModel[model] = append(all, modelHolder{in, 1})
}

// done takes a request off the count.
func (m *modelHolders) done(model string, in *Instance) {
	all := m.byModel[model]
	if i := slices.IndexFunc(all, func(h modelHolder) bool { return h.in == in }); i >= 0 {
		all[i].outstanding--
	}
}
