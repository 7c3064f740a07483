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
type instance struct { // 64 bytes, a cache line
	running  []job // a heap: the one that ends first on top
	attained float64
	at       float64 // when attained was true
	pace     float64 // of attained
	*model
	member int32 // its index in the router's counts; -1 while it is down
	queued int32 // requests that wait
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
	n := len(in.running)
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
	return max(in.at+(in.running[0].mark-in.attained)/in.pace, in.at)
}

// push lets a job run; its mark is the work until then.
func (in *instance) push(j job) {
	j.mark += in.attained
	in.running = append(in.running, j)
	h, i := in.running, len(in.running)-1
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].mark <= j.mark {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = j
}

// pop takes out the job that ends first.
func (in *instance) pop() job {
	h := in.running
	top, last := h[0], len(h)-1
	v := h[last]
	h = h[:last]
	in.running = h
	if last == 0 {
		return top
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && h[c+1].mark < h[c].mark {
			c++
		}
		if v.mark <= h[c].mark {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = v
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
