package sim

// job is one request on an instance.
type job struct {
	mark    float64 // while running: the instance's attained at which the stage ends; while waiting: the work
	rest    float64 // work after the first token; 0 without a second stage
	arrived float64
	tag     int32 // user·2, plus 1 when it is measured; the user is -1 in an open loop
	key     int32 // of its prefix; -1 without one
}

// instance is the queueing model of package simulated's station, in seconds:
// slots whose occupants share the processor, and a first-in first-out queue in
// front of them.
//
// All running jobs run at the same speed, so one total, attained, tells how much
// work each has been given: a virtual clock. When a job comes or goes only the
// pace of that clock changes, and nothing has to be re-timed but the next end.
//
// The first of the jobs are beside the rest of the instance, in one piece of 256
// bytes: among many instances each piece has to be fetched from memory anew.
type instance struct {
	attained float64
	at       float64 // when attained was true
	pace     float64 // of attained
	*model
	more    *[]job // those that near has no room for; nil until there was one
	running int32  // jobs; a heap over near and more: the one that ends first on top
	member  int32  // its index in the router's counts; -1 while it is down
	queued  int32  // requests that wait
	near    [6]job
	_       [8]byte
}

// job is the i-th in the heap.
func (in *instance) job(i int32) *job {
	if i < int32(len(in.near)) {
		return &in.near[i]
	}
	return &(*in.more)[i-int32(len(in.near))]
}

// model is what instances of a kind have in common.
type model struct {
	speed      float64
	contention float64
	slots      int32 // 0: unlimited
	room       int32 // of the queue; -1: unlimited
	curve      *curve
}

// curve is the speed of each of n jobs where the model of contention does not
// apply: the fleet as a whole, see fleetCurve.
type curve struct {
	pace   []float64 // by n−1
	extend func(n int) float64
}

func (c *curve) at(n int) float64 {
	for len(c.pace) < n {
		c.pace = append(c.pace, c.extend(len(c.pace)+1))
	}
	return c.pace[n-1]
}

// advance brings attained to the present.
func (in *instance) advance(now float64) {
	in.attained += (now - in.at) * in.pace
	in.at = now
}

// changed sets the pace after jobs came or went.
func (in *instance) changed() {
	n := int(in.running)
	switch {
	case n == 0:
		in.attained, in.pace = 0, 0 // keeps its precision; nobody holds a mark
	case in.curve != nil:
		in.pace = in.curve.at(n)
	default:
		in.pace = in.speed / (1 + in.contention*float64(n-1))
	}
}

// next is when the next stage ends if nothing else happens; there must be one.
func (in *instance) next() float64 {
	return max(in.at+(in.near[0].mark-in.attained)/in.pace, in.at)
}

// push lets a job run; its mark is the work until then.
func (in *instance) push(j job) {
	j.mark += in.attained
	i := in.running
	in.running++
	if i >= int32(len(in.near)) {
		in.extend(i - int32(len(in.near)))
	}
	for i > 0 {
		parent := in.job((i - 1) / 2)
		if parent.mark <= j.mark {
			break
		}
		*in.job(i) = *parent
		i = (i - 1) / 2
	}
	*in.job(i) = j
}

// extend makes room for one beyond n in more.
func (in *instance) extend(n int32) {
	if in.more == nil {
		in.more = new([]job)
	}
	if int(n) == len(*in.more) {
		*in.more = append(*in.more, job{})
	}
}

// pop takes out the job that ends first.
func (in *instance) pop() job {
	in.running--
	top, last := in.near[0], in.running
	v := *in.job(last)
	i := int32(0)
	for {
		c := 2*i + 1
		if c >= last {
			break
		}
		child := in.job(c)
		if c+1 < last {
			if other := in.job(c + 1); other.mark < child.mark {
				c, child = c+1, other
			}
		}
		if v.mark <= child.mark {
			break
		}
		*in.job(i) = *child
		i = c
	}
	*in.job(i) = v
	return top
}

// ring is a first-in first-out queue that reuses its memory.
type ring struct {
	jobs  []job // a power of two of places
	head  int
	count int
}

func (r *ring) push(j job) {
	if r.count == len(r.jobs) {
		grown := make([]job, max(4, 2*len(r.jobs)))
		n := copy(grown, r.jobs[r.head:])
		copy(grown[n:], r.jobs[:r.head])
		r.jobs, r.head = grown, 0
	}
	r.jobs[(r.head+r.count)&(len(r.jobs)-1)] = j
	r.count++
}

func (r *ring) pop() job {
	j := r.jobs[r.head]
	r.head = (r.head + 1) & (len(r.jobs) - 1)
	r.count--
	return j
}
