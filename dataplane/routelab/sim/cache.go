package sim

// cache is an instance's prefix cache: keys, the least recently used out first.
// After it is made it allocates nothing.
type cache struct {
	keys        []int32 // by entry
	newer       []int32 // by entry: towards the most recent; -1 there
	older       []int32
	first, last int32   // most and least recently used; -1 when empty
	table       []int32 // open addressing: entry+1, 0 when free
	mask        uint32
}

func newCache(capacity int) *cache {
	size := 4
	for size < 2*capacity {
		size *= 2
	}
	links := make([]int32, 3*capacity)
	return &cache{
		keys:  links[:0:capacity],
		newer: links[capacity : capacity : 2*capacity],
		older: links[2*capacity : 2*capacity : 3*capacity],
		first: -1,
		last:  -1,
		table: make([]int32, size),
		mask:  uint32(size - 1),
	}
}

// use tells whether the key is held, and holds it from now on.
func (c *cache) use(key int32) bool {
	slot := c.find(key)
	if entry := c.table[slot] - 1; entry >= 0 {
		if entry != c.first {
			c.unlink(entry)
			c.lead(entry)
		}
		return true
	}
	if len(c.keys) < cap(c.keys) {
		entry := int32(len(c.keys))
		c.keys, c.newer, c.older = append(c.keys, key), append(c.newer, -1), append(c.older, -1)
		c.table[slot] = entry + 1
		c.lead(entry)
		return false
	}
	entry := c.last
	c.unlink(entry)
	c.forget(c.find(c.keys[entry]))
	c.keys[entry] = key
	c.table[c.find(key)] = entry + 1
	c.lead(entry)
	return false
}

// empty forgets everything, as an instance that starts anew.
func (c *cache) empty() {
	c.keys, c.newer, c.older = c.keys[:0], c.newer[:0], c.older[:0]
	c.first, c.last = -1, -1
	clear(c.table)
}

func (c *cache) home(key int32) uint32 {
	return uint32((uint64(key)*0x9e3779b97f4a7c15)>>32) & c.mask
}

// find is the slot that has the key, or the free one where it belongs.
func (c *cache) find(key int32) uint32 {
	slot := c.home(key)
	for c.table[slot] != 0 && c.keys[c.table[slot]-1] != key {
		slot = (slot + 1) & c.mask
	}
	return slot
}

// forget frees a slot and closes the gap in the run of keys behind it.
func (c *cache) forget(slot uint32) {
	for next := (slot + 1) & c.mask; c.table[next] != 0; next = (next + 1) & c.mask {
		home := c.home(c.keys[c.table[next]-1])
		if (next-home)&c.mask >= (next-slot)&c.mask {
			c.table[slot] = c.table[next]
			slot = next
		}
	}
	c.table[slot] = 0
}

func (c *cache) unlink(entry int32) {
	newer, older := c.newer[entry], c.older[entry]
	if newer >= 0 {
		c.older[newer] = older
	} else {
		c.first = older
	}
	if older >= 0 {
		c.newer[older] = newer
	} else {
		c.last = newer
	}
}

func (c *cache) lead(entry int32) {
	c.newer[entry], c.older[entry] = -1, c.first
	if c.first >= 0 {
		c.newer[c.first] = entry
	} else {
		c.last = entry
	}
	c.first = entry
}
