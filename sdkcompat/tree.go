package sdkcompat

import (
	"slices"
	"strings"
)

// A tree is what every wire format is parsed into and written from, so that
// JSON, CBOR and query share the half between tree and struct. Its nodes are
//
//	nil          null
//	bool
//	string
//	json.Number  the number's own text, so that no digit is lost on the way
//	[]any
//	Object

// Object is a structure or a map: members sorted by name, each name once. The
// order makes output deterministic (AWS's SDK snapshots are sorted the same
// way) and lets a struct be filled in one pass over both.
type Object []Member

// Member is one name of an [Object].
type Member struct {
	Name  string
	Value any
}

// Get returns the member's value and whether it is there; a null is there.
func (o Object) Get(name string) (value any, ok bool) {
	i, ok := o.search(name)
	if !ok {
		return nil, false
	}
	return o[i].Value, true
}

// Set puts the member in its sorted place, over any of the same name.
func (o *Object) Set(name string, value any) {
	i, ok := o.search(name)
	if ok {
		(*o)[i].Value = value
		return
	}
	*o = slices.Insert(*o, i, Member{name, value})
}

func (o Object) search(name string) (int, bool) {
	return slices.BinarySearchFunc(o, name, func(m Member, name string) int {
		return strings.Compare(m.Name, name)
	})
}

// normalize sorts members as they were read; of equal names the last wins, as
// in AWS's own parser.
func (o Object) normalize() Object {
	sorted := true
	for i := 1; i < len(o); i++ {
		if o[i-1].Name >= o[i].Name {
			sorted = false
			break
		}
	}
	if sorted {
		return o
	}
	slices.SortStableFunc(o, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	kept := o[:0]
	for i, m := range o {
		if i+1 < len(o) && o[i+1].Name == m.Name {
			continue
		}
		kept = append(kept, m)
	}
	return kept
}
