package main

import (
	"fmt"
	"slices"
	"strconv"
)

// object is a JSON object; both the models and the table stay untyped here,
// because all that happens to them is choosing keys.
type object = map[string]any

// keptFacts are copied from a model's shape as they stand.
var keptFacts = []string{"type", "min", "max", "pattern", "sensitive"}

// extract turns a service model into the table's form: operations by name with
// their input shape, and every shape that those inputs reach.
func extract(model object, operations []string) (object, error) {
	x := extractor{from: child(model, "shapes"), into: object{}}
	inputs := object{}
	for _, name := range operations {
		input, ok := child(child(child(model, "operations"), name), "input")["shape"].(string)
		if !ok {
			return nil, fmt.Errorf("operation %s has no input", name)
		}
		inputs[name] = input
		if err := x.reach(input); err != nil {
			return nil, err
		}
	}
	return object{"operations": inputs, "shapes": x.into}, nil
}

type extractor struct{ from, into object }

func (x extractor) reach(name string) error {
	if _, done := x.into[name]; done {
		return nil
	}
	source, ok := x.from[name].(object)
	if !ok {
		return fmt.Errorf("shape %s is missing", name)
	}
	shape := object{}
	x.into[name] = shape
	for _, key := range keptFacts {
		if v, ok := source[key]; ok {
			shape[key] = v
		}
	}
	for _, key := range []string{"required", "enum"} {
		if list, ok := source[key].([]any); ok {
			shape[key] = sorted(list)
		}
	}
	for _, key := range []string{"member", "key", "value"} {
		if _, ok := source[key]; !ok {
			continue
		}
		target, _ := child(source, key)["shape"].(string)
		shape[key] = target
		if err := x.reach(target); err != nil {
			return err
		}
	}
	return x.reachMembers(shape, child(source, "members"))
}

func (x extractor) reachMembers(shape, source object) error {
	members, headers := object{}, object{}
	for name := range source {
		m := child(source, name)
		target, _ := m["shape"].(string)
		members[name] = target
		if m["location"] == "header" {
			headers[name] = m["locationName"]
		}
		if err := x.reach(target); err != nil {
			return err
		}
	}
	if len(members) > 0 {
		shape["members"] = members
	}
	if len(headers) > 0 {
		shape["headers"] = headers
	}
	return nil
}

// merge lays the overlay over the table: objects by key, lists as sets. The
// overlay's "optional" takes names out of "required".
func merge(table, overlay object) {
	for key, over := range overlay {
		switch over := over.(type) {
		case object:
			under, ok := table[key].(object)
			if !ok {
				under = object{}
				table[key] = under
			}
			merge(under, over)
		case []any:
			if key == "optional" {
				required, _ := table["required"].([]any)
				table["required"] = slices.DeleteFunc(required, func(v any) bool { return slices.Contains(over, v) })
				continue
			}
			under, _ := table[key].([]any)
			table[key] = sorted(append(under, over...))
		default:
			table[key] = over
		}
	}
}

// sorted orders names, and numbers among them by value, and drops repetitions.
func sorted(list []any) []any {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b any) int {
		left, right := a.(string), b.(string)
		n, errLeft := strconv.Atoi(left)
		m, errRight := strconv.Atoi(right)
		if errLeft == nil && errRight == nil {
			return n - m
		}
		if left < right {
			return -1
		}
		if left > right {
			return 1
		}
		return 0
	})
	return slices.Compact(list)
}

// check makes sure that the overlay names no shape that is not there.
func check(table object) error {
	for service := range table {
		shapes := child(child(table, service), "shapes")
		for name := range shapes {
			shape := child(shapes, name)
			targets := child(shape, "members")
			for member, target := range targets {
				if _, ok := shapes[target.(string)]; !ok {
					return fmt.Errorf("%s.%s has the unknown shape %s", name, member, target)
				}
			}
			for _, key := range []string{"member", "key", "value"} {
				target, ok := shape[key].(string)
				if _, known := shapes[target]; ok && !known {
					return fmt.Errorf("%s's %s has the unknown shape %s", name, key, target)
				}
			}
		}
	}
	return nil
}

// child returns the object under key, or an empty one.
func child(o object, key string) object {
	c, _ := o[key].(object)
	return c
}
