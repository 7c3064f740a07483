package sdkcompat

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/smithy-go/middleware"
)

func (b codecBuilder) buildPointer(c *codec, t reflect.Type) error {
	elem, err := b.of(t.Elem())
	if err != nil {
		return err
	}
	c.decode = func(node any, v reflect.Value) error {
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		return elem.decode(node, v.Elem())
	}
	c.encode = func(v reflect.Value) any {
		if v.IsNil() {
			return nil
		}
		return elem.encode(v.Elem())
	}
	return nil
}

func (b codecBuilder) buildSlice(c *codec, t reflect.Type) error {
	elem, err := b.of(t.Elem())
	if err != nil {
		return err
	}
	c.decode = func(node any, v reflect.Value) error {
		list, ok := node.([]any)
		if !ok {
			return wrongContainer(node, listExpected)
		}
		out := reflect.MakeSlice(t, len(list), len(list))
		n := 0
		for _, item := range list {
			// AWS skips a null between the elements.
			if item == nil {
				continue
			}
			if err := elem.decode(item, out.Index(n)); err != nil {
				return err
			}
			n++
		}
		v.Set(out.Slice(0, n))
		return nil
	}
	c.encode = func(v reflect.Value) any {
		list := make([]any, v.Len())
		for i := range list {
			list[i] = elem.encode(v.Index(i))
		}
		return list
	}
	return nil
}

func (b codecBuilder) buildMap(c *codec, t reflect.Type) error {
	if t.Key().Kind() != reflect.String {
		return unsupported(t)
	}
	elem, err := b.of(t.Elem())
	if err != nil {
		return err
	}
	c.decode = func(node any, v reflect.Value) error {
		object, ok := node.(Object)
		if !ok {
			return wrongContainer(node, mapExpected)
		}
		out := reflect.MakeMapWithSize(t, len(object))
		for _, m := range object {
			if m.Value == nil {
				continue
			}
			value := reflect.New(t.Elem()).Elem()
			if err := elem.decode(m.Value, value); err != nil {
				return err
			}
			out.SetMapIndex(reflect.ValueOf(m.Name).Convert(t.Key()), value)
		}
		v.Set(out)
		return nil
	}
	c.encode = func(v reflect.Value) any {
		object := make(Object, 0, v.Len())
		for entries := v.MapRange(); entries.Next(); {
			object = append(object, Member{entries.Key().String(), elem.encode(entries.Value())})
		}
		return object.normalize()
	}
	return nil
}

// member is one field of a struct: the wire name and the way to the field,
// which is longer than one step when structs are embedded.
type member struct {
	name  string
	index []int
	*codec
}

func (b codecBuilder) buildStruct(c *codec, t reflect.Type) error {
	members, err := b.membersOf(t)
	if err != nil {
		return err
	}
	c.decode = func(node any, v reflect.Value) error {
		object, ok := node.(Object)
		if !ok {
			return wrongContainer(node, structureExpected)
		}
		// Both sides are sorted by name.
		next := 0
		for _, m := range object {
			for next < len(members) && members[next].name < m.Name {
				next++
			}
			if next == len(members) {
				break
			}
			if members[next].name != m.Name || m.Value == nil {
				continue
			}
			if err := members[next].decode(m.Value, fieldFor(v, members[next].index)); err != nil {
				return err
			}
		}
		return nil
	}
	c.encode = func(v reflect.Value) any {
		object := make(Object, 0, len(members))
		for _, m := range members {
			// A nil embedded pointer has no fields, so nothing to write.
			field, err := v.FieldByIndexErr(m.index)
			if err == nil && !field.IsZero() {
				object = append(object, Member{m.name, m.encode(field)})
			}
		}
		return object
	}
	return nil
}

// fieldFor walks to a field and makes embedded pointers on the way.
func fieldFor(v reflect.Value, index []int) reflect.Value {
	for i, n := range index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return v
}

// membersOf lists what goes over the wire, sorted by name. The name is the Go
// field's, as in the SDK, unless a json tag gives another; "-" leaves the field
// out. Fields of embedded structs count as the outer struct's own, so a stored
// record can embed an SDK output and add to it.
func (b codecBuilder) membersOf(t reflect.Type) ([]member, error) {
	var members []member
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous && !f.IsExported() && f.Type.Kind() == reflect.Pointer {
			return nil, unsupported(f.Type) // reflect may not fill it
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || f.Type == reflect.TypeFor[middleware.Metadata]() {
			continue
		}
		if name == "" {
			if f.Anonymous && isFlattened(f.Type) {
				continue
			}
			name = f.Name
		}
		c, err := b.of(f.Type)
		if err != nil {
			return nil, err
		}
		members = append(members, member{name, f.Index, c})
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(members); i++ {
		if members[i-1].name == members[i].name {
			return nil, fmt.Errorf("sdkcompat: two fields of %s have the wire name %s", t, members[i].name)
		}
	}
	return members, nil
}

func isFlattened(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && t != timeType
}
