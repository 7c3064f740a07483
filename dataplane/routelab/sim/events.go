package sim

// events is when each of a fixed number of things happens next: a heap of four
// children a node, which is half as deep as a binary one and keeps siblings in
// one cache line, with each thing's place in it, so that a time can be changed.
// Things at the same time come in an order that depends on nothing but the
// history of calls.
type events struct {
	heap  []event
	place []int32 // by thing; -1 when nothing is due
}

type event struct {
	at    float64
	thing int32
}

func newEvents(things int) *events {
	e := &events{heap: make([]event, 0, things), place: make([]int32, things)}
	for i := range e.place {
		e.place[i] = -1
	}
	return e
}

// next is the earliest event; false without any.
func (e *events) next() (event, bool) {
	if len(e.heap) == 0 {
		return event{}, false
	}
	return e.heap[0], true
}

// set plans the thing's next event, in place of one planned before.
func (e *events) set(thing int32, at float64) {
	i := e.place[thing]
	if i < 0 {
		e.heap = append(e.heap, event{})
		e.up(int32(len(e.heap)-1), event{at, thing})
		return
	}
	if at < e.heap[i].at {
		e.up(i, event{at, thing})
	} else {
		e.down(i, event{at, thing})
	}
}

// clear plans nothing for the thing.
func (e *events) clear(thing int32) {
	i := e.place[thing]
	if i < 0 {
		return
	}
	e.place[thing] = -1
	last := len(e.heap) - 1
	moved := e.heap[last]
	e.heap = e.heap[:last]
	if int(i) == last {
		return
	}
	if i > 0 && moved.at < e.heap[(i-1)/4].at {
		e.up(i, moved)
	} else {
		e.down(i, moved)
	}
}

func (e *events) up(i int32, v event) {
	for i > 0 {
		parent := (i - 1) / 4
		if e.heap[parent].at <= v.at {
			break
		}
		e.heap[i] = e.heap[parent]
		e.place[e.heap[i].thing] = i
		i = parent
	}
	e.heap[i] = v
	e.place[v.thing] = i
}

func (e *events) down(i int32, v event) {
	h := e.heap
	n := int32(len(h))
	for {
		first := 4*i + 1
		if first >= n {
			break
		}
		best, at := first, h[first].at
		for c := first + 1; c < min(first+4, n); c++ {
			if h[c].at < at {
				best, at = c, h[c].at
			}
		}
		if v.at <= at {
			break
		}
		h[i] = h[best]
		e.place[h[i].thing] = i
		i = best
	}
	h[i] = v
	e.place[v.thing] = i
}
