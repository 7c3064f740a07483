package dataplane

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Affinity gives every key a home among the members: Maglev hashing (Eisenbud
// et al., NSDI 2016). A look-up is one array access however many members there
// are, the members' shares are even, and a member that comes or goes moves
// little more than its own share of the keys, which is what keeps the prefix
// caches of the others warm.
type Affinity struct {
	table []int32
}

// slotsPerMember, at least, trades the evenness of the shares (within about
// 1/20) against memory and the time to rebuild.
const slotsPerMember = 20

// NewAffinity builds the table for members with the given names; the name, not
// the position, decides which keys a member is home to.
func NewAffinity(names []string) *Affinity {
	if len(names) == 0 {
		return &Affinity{}
	}
	size := tableSize(len(names))
	table := make([]int32, size)
	for i := range table {
		table[i] = -1
	}
	next, skip := make([]uint64, len(names)), make([]uint64, len(names))
	for i, name := range names {
		h := xxhash.Sum64String(name)
		next[i] = h % uint64(size)
		skip[i] = mix(h)%uint64(size-1) + 1
	}
	for filled := 0; ; {
		for i := range names {
			for table[next[i]] >= 0 {
				next[i] = (next[i] + skip[i]) % uint64(size)
			}
			table[next[i]] = int32(i)
			if filled++; filled == size {
				return &Affinity{table: table}
			}
		}
	}
}

// Home is the index of the member that a key belongs to; -1 without members.
func (a *Affinity) Home(key uint64) int {
	if len(a.table) == 0 {
		return -1
	}
	return int(a.table[key%uint64(len(a.table))])
}

// AffinityKey hashes the first prefixLength bytes of a body together with the
// caller's Prefix-Aware-Id. It is zero for a request that has neither.
func AffinityKey(body []byte, prefixLength int, id string) uint64 {
	if len(body) == 0 && id == "" {
		return 0
	}
	key := xxhash.Sum64(body[:min(len(body), prefixLength)])
	if id != "" {
		key = mix(key ^ mix(xxhash.Sum64String(id)))
	}
	return max(key, 1)
}

// mix is the finaliser of SplitMix64: a second hash out of the first.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// tableSize is a prime that stays the same while the number of members does not
// double, because keys keep their homes only within tables of one size.
func tableSize(members int) int {
	return nextPrime(slotsPerMember << max(3, bits.Len(uint(members-1))))
}

func nextPrime(n int) int {
	for ; ; n++ {
		if isPrime(n) {
			return n
		}
	}
}

func isPrime(n int) bool {
	if n%2 == 0 {
		return n == 2
	}
	for d := 3; d*d <= n; d += 2 {
		if n%d == 0 {
			return false
		}
	}
	return n > 1
}
