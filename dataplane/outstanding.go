package dataplane

// Outstanding counts, for each member of a pool, the requests that it has not
// answered yet, and keeps the members in one bucket per count. The least loaded
// members are therefore known at any moment, exactly, and every change costs the
// same however many members there are. It is not safe for concurrent use: its
// pool's lock guards it.
type Outstanding struct {
	member []member
	levels [][]int32 // by count: the members that have it
	least  int       // the lowest level that is not empty; 0 without members
}

// member is what is kept of one, together: among many members each touch of
// another piece of memory takes longer than the rest of a pick.
type member struct {
	count int32
	place int32 // its index within levels[count]
}

// NewOutstanding starts with one member for each of the given counts.
func NewOutstanding(counts ...int) *Outstanding {
	o := new(Outstanding)
	for _, c := range counts {
		o.Join(c)
	}
	return o
}

// Len is the number of members.
func (o *Outstanding) Len() int { return len(o.member) }

// Count is what member i has not answered yet.
func (o *Outstanding) Count(i int) int { return int(o.member[i].count) }

// Least lists the members with the fewest outstanding requests, in no
// particular order. It is valid until the next change.
func (o *Outstanding) Least() []int32 {
	if len(o.member) == 0 {
		return nil
	}
	return o.levels[o.least]
}

// Join adds a member that already has the given number of outstanding requests
// and returns its index, which is Len before the call.
func (o *Outstanding) Join(count int) int {
	i := len(o.member)
	o.member = append(o.member, member{count: int32(count)})
	o.enter(int32(i), count)
	if i == 0 || count < o.least {
		o.least = count
	}
	return i
}

// Leave removes member i. The last member takes over its index.
func (o *Outstanding) Leave(i int) {
	o.exit(int32(i))
	last := len(o.member) - 1
	if i != last {
		m := o.member[last]
		o.member[i] = m
		o.levels[m.count][m.place] = int32(i)
	}
	o.member = o.member[:last]
	if last == 0 {
		o.least = 0
		return
	}
	for len(o.levels[o.least]) == 0 {
		o.least++
	}
}

// Add counts one more request on member i.
func (o *Outstanding) Add(i int) {
	from := int(o.member[i].count)
	o.exit(int32(i))
	o.member[i].count++
	o.enter(int32(i), from+1)
	if from == o.least && len(o.levels[from]) == 0 {
		o.least = from + 1
	}
}

// Done counts one request less on member i. A count never goes below zero.
func (o *Outstanding) Done(i int) {
	from := int(o.member[i].count)
	if from == 0 {
		return
	}
	o.exit(int32(i))
	o.member[i].count--
	o.enter(int32(i), from-1)
	if from-1 < o.least {
		o.least = from - 1
	}
}

func (o *Outstanding) enter(i int32, level int) {
	for level >= len(o.levels) {
		o.levels = append(o.levels, nil)
	}
	o.member[i].place = int32(len(o.levels[level]))
	o.levels[level] = append(o.levels[level], i)
}

func (o *Outstanding) exit(i int32) {
	m := o.member[i]
	level := o.levels[m.count]
	last := len(level) - 1
	moved := level[last]
	level[m.place] = moved
	o.member[moved].place = m.place
	o.levels[m.count] = level[:last]
}
