package sim

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/sagelocal/sagelocal/dataplane"
)

// arrive lets the next request of an open loop in.
func (e *engine) arrive() {
	pinned := int32(-1)
	if trace := e.workload.Load.arrivals; trace != nil {
		pinned = trace[e.issued].instance
	}
	e.request(-1, pinned)
	e.nextArrival()
}

func (e *engine) nextArrival() {
	l, n := &e.workload.Load, float64(e.size)
	switch {
	case l.arrivals != nil:
		if e.issued == len(l.arrivals) {
			e.events.clear(e.things.source)
			return
		}
		e.events.set(e.things.source, l.arrivals[e.issued].at)
	case e.issued >= openFactor*(e.warmUp+e.requests):
		e.events.clear(e.things.source)
	case l.Poisson > 0:
		e.events.set(e.things.source, e.now+e.arrivals.ExpFloat64()/(l.Poisson*n))
	default:
		e.events.set(e.things.source, e.now+1/(l.Constant*n))
	}
}

// request sends a user's next request; the user is -1 in an open loop. A pinned
// one goes to that instance whatever the router says.
func (e *engine) request(user, pinned int32) {
	number := e.issued
	e.issued++
	switch number {
	case e.warmUp:
		e.openWindow()
	case e.warmUp + e.requests:
		e.closeWindow()
	}
	j := e.draw()
	j.tag = user * 2
	if number >= e.warmUp && number < e.warmUp+e.requests {
		j.tag++
	}
	if e.load.Len() == 0 {
		e.failed(j)
		return
	}
	i := pinned
	if pins := e.workload.Load.pins; pins != nil && user >= 0 {
		i = pins[number%len(pins)]
	}
	if i < 0 {
		i = e.instanceOf[e.route(e.routing, e.load, e.affinity(j.key))]
	}
	in := &e.instances[i]
	if in.slots > 0 && in.running >= in.slots {
		e.wait(i, j)
		return
	}
	e.count(in, 1)
	in.advance(e.now)
	e.start(i, j)
	in.changed()
	e.events.set(i, in.next())
}

// wait queues a request, or refuses it.
func (e *engine) wait(i int32, j job) {
	in, queue := &e.instances[i], &e.waiting[i]
	if in.room >= 0 && queue.count >= int(in.room) {
		e.failed(j)
		return
	}
	e.count(in, 1)
	queue.push(j)
	in.queued++
}

// draw makes the next request.
func (e *engine) draw() job {
	kind := &e.kinds[e.mix.draw(e.demand)]
	j := job{arrived: e.now, key: -1}
	if kind.Stream == nil {
		j.mark = kind.Latency.draw(e.demand)
	} else {
		j.mark = kind.Stream.FirstToken.draw(e.demand)
		// Never 0, which would mean that nothing follows the first token.
		j.rest = max(kind.Stream.Tokens.draw(e.demand)/kind.Stream.TokensPerSecond, 1e-12)
	}
	if e.workload.Prefixes != nil {
		j.key = e.popularity.draw(e.demand)
	}
	return j
}

// affinity is the router's key; zero for strategies that do not look at it.
func (e *engine) affinity(key int32) uint64 {
	if e.homes == nil || key < 0 {
		return 0
	}
	if e.homesAt != e.changes {
		names := make([]string, e.load.Len())
		for m := range names {
			names[m] = fmt.Sprintf("instance-%d", e.instanceOf[m])
		}
		*e.homes, e.homesAt = *dataplane.NewAffinity(names), e.changes
	}
	var body [4]byte
	binary.LittleEndian.PutUint32(body[:], uint32(key))
	return dataplane.AffinityKey(body[:], len(body), "")
}

// start lets a job run that waited or has just come.
func (e *engine) start(i int32, j job) {
	if e.caches != nil && e.caches[i].use(j.key) {
		j.mark *= 1 - e.workload.Prefixes.Saving
		if j.tag&1 != 0 {
			e.measure.hits++
		}
	}
	e.instances[i].push(j)
}

// stageEnds is an instance's job that comes to its first token or its end.
func (e *engine) stageEnds(i int32) {
	in := &e.instances[i]
	in.at, in.attained = e.now, in.near[0].mark
	j := in.pop()
	if j.rest > 0 {
		if j.tag&1 != 0 {
			e.record(e.measure.firstToken, e.now-j.arrived)
		}
		j.mark, j.rest = j.rest, 0
		in.push(j)
		e.events.set(i, in.next())
		return
	}
	e.count(in, -1)
	if in.queued > 0 {
		in.queued--
		e.start(i, e.waiting[i].pop())
	}
	in.changed()
	if in.running > 0 {
		e.events.set(i, in.next())
	} else {
		e.events.clear(i)
	}
	if e.observe != nil && j.tag&1 != 0 {
		e.observe(Record{Start: j.arrived, Latency: e.now - j.arrived, Instance: strconv.Itoa(int(i))})
	}
	e.answered(j)
}

func (e *engine) answered(j job) {
	if e.measure.open {
		e.measure.completed++
	}
	if j.tag&1 != 0 {
		latency := e.now - j.arrived
		e.measure.sum += latency
		e.record(e.measure.latency, latency)
		e.left--
	}
	if user := j.tag >> 1; user >= 0 {
		if e.think.Mean == 0 && e.think.Samples == nil {
			e.request(user, -1)
		} else {
			e.events.set(e.things.users+user, e.now+e.think.draw(e.arrivals))
		}
	}
}

// failed is a request that gets an error.
func (e *engine) failed(j job) {
	if j.tag&1 != 0 {
		e.measure.errors++
		e.left--
	}
	if user := j.tag >> 1; user >= 0 {
		e.events.set(e.things.users+user, e.now+errorPause)
	}
}

// fail takes an instance down with all that it has, or brings it back.
func (e *engine) fail(i int32) {
	in, f := &e.instances[i], e.workload.Failures
	if in.member < 0 {
		in.at = e.now
		e.join(i)
		e.events.set(e.things.failures+i, e.now+float64(f.Between)*e.failures.ExpFloat64())
		return
	}
	e.leave(in)
	e.events.clear(i)
	for in.running > 0 {
		e.failed(in.pop())
	}
	for ; in.queued > 0; in.queued-- {
		e.failed(e.waiting[i].pop())
	}
	in.changed()
	if e.caches != nil {
		e.caches[i].empty()
	}
	e.events.set(e.things.failures+i, e.now+float64(f.Lasting))
}

// join lets an instance take requests.
func (e *engine) join(i int32) {
	e.tally()
	e.instances[i].member = int32(e.load.Join(0))
	e.instanceOf = append(e.instanceOf, i)
	e.changes++
}

// leave takes an instance out, as dataplane.Pool does: the last member takes
// over its place.
func (e *engine) leave(in *instance) {
	e.tally()
	m, last := in.member, int32(e.load.Len()-1)
	n := float64(e.load.Count(int(m)))
	e.measure.total -= n
	e.measure.squares -= n * n
	e.load.Leave(int(m))
	e.instanceOf[m] = e.instanceOf[last]
	e.instances[e.instanceOf[m]].member = m
	e.instanceOf = e.instanceOf[:last]
	in.member = -1
	e.changes++
}
