package controlplane

// fleet is one of the deployments that an endpoint has instances of now, with
// how many of each variant are wanted.
type fleet struct {
	*deployment
	count func(*variant) int
}

func ownCount(v *variant) int { return int(v.Count) }

// fleets are the endpoint's deployments: the one in force, what a failed
// rollback left beside it, and the new one of an update.
func (r *endpointRecord) fleets() []fleet {
	u := r.Update
	if u == nil {
		all := []fleet{{&r.Deployment, ownCount}}
		if r.Leftover != nil {
			all = append(all, fleet{r.Leftover, ownCount})
		}
		return all
	}
	all := []fleet{{&r.Deployment, u.oldCount}}
	if r.Leftover != nil {
		all = append(all, fleet{r.Leftover, u.oldCount})
	}
	return append(all, fleet{&u.Target, u.newCount})
}

// wanted is how many instances of each group there should be.
func wanted(rec *endpointRecord) map[group]int {
	want := map[group]int{}
	if rec.EndpointStatus == statusDeleting || rec.EndpointStatus == statusFailed {
		return want
	}
	for _, f := range rec.fleets() {
		for i := range f.Variants {
			v := &f.Variants[i]
			want[group{f.ID, v.name()}] = f.count(v)
		}
	}
	return want
}

// traffic is the weight of each group. up tells how many of a group's wanted
// instances serve. The weights of each deployment are brought to a sum of 1
// before they are shared out, for two configurations may count in different
// units.
func (r *endpointRecord) traffic(up func(group) int) map[group]float64 {
	weights := map[group]float64{}
	fleets := r.fleets()
	for _, f := range fleets {
		total := f.weight()
		for i := range f.production() {
			v := &f.Variants[i]
			weight := float64(v.CurrentWeight)
			if len(fleets) > 1 && total > 0 {
				weight *= r.share(f, fleets, v, up) / total
			}
			weights[group{f.ID, v.name()}] = weight
		}
	}
	return weights
}

func (d *deployment) weight() (total float64) {
	for _, v := range d.production() {
		total += float64(v.CurrentWeight)
	}
	return total
}

// share is the part of a variant's traffic that one of several fleets takes. A
// blue/green update gives the new fleet what its step says; everything else goes
// by the number of instances in service.
func (r *endpointRecord) share(f fleet, fleets []fleet, v *variant, up func(group) int) float64 {
	rest := 1.0
	if u := r.Update; u != nil && u.rolling() == nil {
		total := int(v.Count)
		if fresh := u.Target.variant(v.name()); fresh != nil {
			total = int(fresh.Count)
		}
		share := u.share(total)
		if f.ID == u.Target.ID {
			return share
		}
		rest, fleets = 1-share, fleets[:len(fleets)-1]
	}
	own, all := 0, 0
	for _, other := range fleets {
		n := up(group{other.ID, v.name()})
		all += n
		if other.ID == f.ID {
			own = n
		}
	}
	switch {
	case all > 0:
		return rest * float64(own) / float64(all)
	case f.ID == r.Deployment.ID:
		return rest
	}
	return 0
}
