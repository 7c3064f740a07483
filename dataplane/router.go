package dataplane

import "math/rand/v2"

// A Router chooses the member of a pool that gets the next request. It is a
// function of a random source, the members' outstanding requests and the
// request's affinity key, and nothing else; it is never called without members
// and never returns an index outside of them. The caller counts the pick.
type Router func(src *rand.Rand, members *Outstanding, key uint64) int

// Random is RoutingStrategy RANDOM, and what a variant without a RoutingConfig
// uses.
func Random(src *rand.Rand, members *Outstanding, _ uint64) int {
	return src.IntN(members.Len())
}

// LeastOutstanding is RoutingStrategy LEAST_OUTSTANDING_REQUESTS: the exact
// global minimum, ties broken at random, so that equally idle instances share
// the work.
func LeastOutstanding(src *rand.Rand, members *Outstanding, _ uint64) int {
	least := members.Least()
	if len(least) == 1 {
		return int(least[0])
	}
	return int(least[src.IntN(len(least))])
}

// PrefixAware is RoutingStrategy PREFIX_AWARE: the key's home in the table gets
// the request unless it already has threshold requests outstanding; then the
// least busy member does. A request without a key (zero) has no home.
// AWS page: API_PrefixAwareRoutingConfig.
func PrefixAware(homes *Affinity, threshold int) Router {
	return func(src *rand.Rand, members *Outstanding, key uint64) int {
		if key != 0 && members.Len() > 1 {
			if home := homes.Home(key); members.Count(home) < threshold {
				return home
			}
		}
		return LeastOutstanding(src, members, key)
	}
}
