package controlplane

import (
	"cmp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// resources is what an instance offers to copies of inference components, or
// what a copy reserves there (docs: API_InferenceComponentComputeResourceRequirements).
// All are whole numbers, so that sums are exact.
type resources struct {
	milliCPU     int64 // thousandths of a vCPU
	memoryMiB    int64
	accelerators int64 // whole devices
	// partition is the accelerator partition that a copy takes, one of those that
	// its host's partitions count; empty for none.
	partition string
}

// copyGroup names the copies of one revision of a component in one deployment.
type copyGroup struct {
	deployment int64
	component  string // componentKey
	revision   int64
}

func (g copyGroup) compare(other copyGroup) int {
	return cmp.Or(cmp.Compare(g.deployment, other.deployment), cmp.Compare(g.component, other.component),
		cmp.Compare(g.revision, other.revision))
}

// copyKey names one of the copies that a group should have: "copy 2 of the
// component's third revision". Copies that follow each other under one key have
// different ids.
type copyKey struct {
	copyGroup
	ordinal int
}

func (k copyKey) compare(other copyKey) int {
	return cmp.Or(k.copyGroup.compare(other.copyGroup), cmp.Compare(k.ordinal, other.ordinal))
}

// placementHost is an instance that copies may be placed on.
type placementHost struct {
	id           string // unique; hosts that are equal otherwise are taken by id
	instanceType string
	capacity     resources
	partitions   map[string]int64 // accelerator partitions by type
	closed       bool             // keeps what it has and takes nothing new
}

// placedCopy is a copy that has its place already.
type placedCopy struct {
	copyKey
	host  string
	needs resources
}

// copyRequest is a copy without a place. needs tells what it reserves on an
// instance type, or false when the component may not run there.
type copyRequest struct {
	copyKey
	strategy types.InferenceComponentPlacementStrategy
	needs    func(instanceType string) (resources, bool)
}

// hostLoad is a host with what is left of it.
type hostLoad struct {
	placementHost
	free       resources
	partsTaken map[string]int64
	copies     int            // all of them
	components map[string]int // copies by component
}

func newHostLoad(h placementHost) *hostLoad {
	return &hostLoad{placementHost: h, free: h.capacity, partsTaken: map[string]int64{}, components: map[string]int{}}
}

func (h *hostLoad) fits(n resources) bool {
	return n.milliCPU <= h.free.milliCPU && n.memoryMiB <= h.free.memoryMiB && n.accelerators <= h.free.accelerators &&
		(n.partition == "" || h.partsTaken[n.partition] < h.partitions[n.partition])
}

func (h *hostLoad) take(component string, n resources) {
	h.free.milliCPU -= n.milliCPU
	h.free.memoryMiB -= n.memoryMiB
	h.free.accelerators -= n.accelerators
	if n.partition != "" {
		h.partsTaken[n.partition]++
	}
	h.copies++
	h.components[component]++
}

// slack is how much of the host stays free once n is there too: the sum of the
// free parts of each resource that it has. The host of the least slack is the
// tightest fit.
func (h *hostLoad) slack(n resources) float64 {
	part := func(free, need, all int64) float64 {
		if all <= 0 {
			return 0
		}
		return float64(free-need) / float64(all)
	}
	s := part(h.free.milliCPU, n.milliCPU, h.capacity.milliCPU) +
		part(h.free.memoryMiB, n.memoryMiB, h.capacity.memoryMiB) +
		part(h.free.accelerators, n.accelerators, h.capacity.accelerators)
	for kind, all := range h.partitions {
		need := int64(0)
		if kind == n.partition {
			need = 1
		}
		s += part(all-h.partsTaken[kind], need, all) / float64(len(h.partitions))
	}
	return s
}

// loads is the state of the hosts once all copies that have a place are counted.
// A copy whose host is gone counts nowhere.
func loads(hosts []placementHost, placed []placedCopy) []*hostLoad {
	all := make([]*hostLoad, len(hosts))
	byID := map[string]*hostLoad{}
	for i, h := range hosts {
		all[i] = newHostLoad(h)
		byID[h.id] = all[i]
	}
	slices.SortFunc(all, func(a, b *hostLoad) int { return cmp.Compare(a.id, b.id) })
	for _, c := range placed {
		if h := byID[c.host]; h != nil {
			h.take(c.component, c.needs)
		}
	}
	return all
}

// place finds hosts for the requested copies without moving any that has its
// place. It never promises more than a host has, and leaves a copy without a
// place only when no host has room for it. SPREAD takes the host with the fewest
// copies of the component, BINPACK the one that the copy leaves the least room
// on; SPREAD is what a component without SchedulingConfig gets. The outcome
// depends on the arguments alone, not on their order.
func place(hosts []placementHost, placed []placedCopy, requests []copyRequest) (assigned map[copyKey]string, unplaced []copyRequest) {
	return placeOn(loads(hosts, placed), requests)
}

func placeOn(hosts []*hostLoad, requests []copyRequest) (assigned map[copyKey]string, unplaced []copyRequest) {
	assigned = map[copyKey]string{}
	for _, r := range inOrder(hosts, requests) {
		h, needs := choose(hosts, r)
		if h == nil {
			unplaced = append(unplaced, r)
			continue
		}
		h.take(r.component, needs)
		assigned[r.copyKey] = h.id
	}
	return assigned, unplaced
}

// inOrder puts the copies that need most first, because small ones fit into the
// gaps that large ones leave and not the other way round.
func inOrder(hosts []*hostLoad, requests []copyRequest) []copyRequest {
	type sized struct {
		copyRequest
		size float64
	}
	all := make([]sized, len(requests))
	for i, r := range requests {
		all[i] = sized{r, size(hosts, r)}
	}
	slices.SortFunc(all, func(a, b sized) int {
		return cmp.Or(cmp.Compare(b.size, a.size), a.compare(b.copyKey))
	})
	sorted := make([]copyRequest, len(all))
	for i := range all {
		sorted[i] = all[i].copyRequest
	}
	return sorted
}

// size is the largest part of any one resource that a copy takes of the first
// host that it may run on.
func size(hosts []*hostLoad, r copyRequest) float64 {
	part := func(need, all int64) float64 {
		if all <= 0 {
			return 0
		}
		return float64(need) / float64(all)
	}
	for _, h := range hosts {
		if n, ok := r.needs(h.instanceType); ok {
			return max(part(n.milliCPU, h.capacity.milliCPU), part(n.memoryMiB, h.capacity.memoryMiB), part(n.accelerators, h.capacity.accelerators))
		}
	}
	return 0
}

func choose(hosts []*hostLoad, r copyRequest) (best *hostLoad, needs resources) {
	for _, h := range hosts {
		n, ok := r.needs(h.instanceType)
		if !ok || h.closed || !h.fits(n) {
			continue
		}
		if best == nil || better(h, best, n, needs, r) < 0 {
			best, needs = h, n
		}
	}
	return best, needs
}

// better is negative when a is the better host. Hosts come in the order of their
// ids, so equal ones keep it.
func better(a, b *hostLoad, onA, onB resources, r copyRequest) int {
	if r.strategy == types.InferenceComponentPlacementStrategyBinpack {
		return cmp.Compare(a.slack(onA), b.slack(onB))
	}
	return cmp.Or(
		cmp.Compare(a.components[r.component], b.components[r.component]),
		cmp.Compare(a.copies, b.copies),
		cmp.Compare(b.slack(onB), a.slack(onA)),
	)
}

// growth is the instance types to add, at most limit of them, so that the copies
// without a place get one. offers are the types that can be had, in the order in
// which they are to be tried (docs: API_InstancePool).
func growth(offers []placementHost, unplaced []copyRequest, limit int) []string {
	var added []*hostLoad
	for _, r := range inOrder(emptyHosts(offers), unplaced) {
		if h, needs := choose(added, r); h != nil {
			h.take(r.component, needs)
			continue
		}
		if len(added) == limit {
			continue // a smaller copy may still fit on one that is added already
		}
		for _, offer := range offers {
			h := newHostLoad(offer)
			if needs, ok := r.needs(offer.instanceType); ok && h.fits(needs) {
				h.take(r.component, needs)
				added = append(added, h)
				break
			}
		}
	}
	var typesAdded []string
	for _, h := range added {
		typesAdded = append(typesAdded, h.instanceType)
	}
	return typesAdded
}

func emptyHosts(offers []placementHost) []*hostLoad {
	all := make([]*hostLoad, len(offers))
	for i, o := range offers {
		all[i] = newHostLoad(o)
	}
	return all
}

// possible tells whether an empty instance of any of the offered types has room
// for the copy.
func possible(offers []placementHost, r copyRequest) bool {
	h, _ := choose(emptyHosts(offers), r)
	return h != nil
}

// consolidate names up to limit hosts whose copies all fit on the others, those
// with the fewest copies first. A host that is to take over copies keeps its own.
// requests are the placed copies as if they had no place.
func consolidate(hosts []placementHost, placed []placedCopy, requests map[copyKey]copyRequest, limit int) []string {
	open, placed := slices.Clone(hosts), slices.Clone(placed)
	var emptied []string
	receives := map[string]bool{}
	for _, candidate := range byCopies(hosts, placed) {
		if len(emptied) == limit {
			break
		}
		if candidate.closed || candidate.copies == 0 || receives[candidate.id] {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(open), func(h placementHost) bool { return h.id == candidate.id })
		assigned, ok := moveAway(rest, placed, requests, candidate.id)
		if !ok {
			continue
		}
		for i, c := range placed {
			if to, moved := assigned[c.copyKey]; moved {
				h := rest[slices.IndexFunc(rest, func(h placementHost) bool { return h.id == to })]
				placed[i].host = to
				placed[i].needs, _ = requests[c.copyKey].needs(h.instanceType)
				receives[to] = true
			}
		}
		open, emptied = rest, append(emptied, candidate.id)
	}
	return emptied
}

// moveAway finds places on the rest of the hosts for all copies of one; false
// when one of them would be left without.
func moveAway(rest []placementHost, placed []placedCopy, requests map[copyKey]copyRequest, from string) (map[copyKey]string, bool) {
	var stay []placedCopy
	var move []copyRequest
	for _, c := range placed {
		if c.host != from {
			stay = append(stay, c)
			continue
		}
		r, known := requests[c.copyKey]
		if !known { // on its way out: it cannot be moved, so its host has to wait
			return nil, false
		}
		move = append(move, r)
	}
	assigned, unplaced := place(rest, stay, move)
	return assigned, len(unplaced) == 0
}

func byCopies(hosts []placementHost, placed []placedCopy) []*hostLoad {
	all := loads(hosts, placed)
	slices.SortStableFunc(all, func(a, b *hostLoad) int { return cmp.Compare(a.copies, b.copies) })
	return all
}
