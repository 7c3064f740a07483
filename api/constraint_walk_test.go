package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// breakage is one request that breaks what one constraint says.
type breakage struct {
	kind    string // required, max, min, pattern, enum, type
	shape   string
	body    any // of a control-plane request
	code    string
	message string
}

// walk makes every breakage of one operation's input. It starts from the smallest
// valid input and puts one value into one place at a time.
type walk struct {
	*tableService
	found    []breakage
	accepted []any // inputs that must pass: every limit reached exactly
	// unbreakable says of "Shape.constraint" why no request can break it.
	unbreakable map[string]string
	open        []string // the shapes around the one at hand
	recursions  int
}

func (s *tableService) walkInput(operation string) *walk {
	w := &walk{tableService: s, unbreakable: map[string]string{}}
	input := s.Operations[operation]
	root := func(v any) any { return v }
	for body, message := range map[string]string{`[]`: "Start of list found where not expected", `"x"`: "", `null`: "", ``: "", `{`: ""} {
		w.found = append(w.found, breakage{"type", input, json.RawMessage(body), "SerializationException", message})
	}
	w.structure(input, "", root)
	return w
}

// place puts a value where the walk is, in an input that is valid otherwise.
type place func(value any) any

func (w *walk) structure(name, path string, put place) {
	if slices.Contains(w.open, name) {
		w.recursions++
		return
	}
	w.open = append(w.open, name)
	defer func() { w.open = w.open[:len(w.open)-1] }()
	shape := w.Shapes[name]
	with := func(member string) place {
		return func(value any) any {
			object := w.minimal(name).(map[string]any)
			if object[member] = value; value == missing {
				delete(object, member)
			}
			return put(object)
		}
	}
	for _, member := range slices.Sorted(maps.Keys(shape.Members)) {
		at, put := pathOf(path, member), with(member)
		if slices.Contains(shape.Required, member) {
			item := fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", at)
			w.refused("required", name, put(missing), item)
			w.refused("required", name, put(nil), item)
		} else {
			w.accepted = append(w.accepted, put(nil))
		}
		w.visit(shape.Members[member], at, put)
	}
}

// missing is a member that is not in the request at all.
var missing = new(int)

func (w *walk) visit(name, path string, put place) {
	shape := w.Shapes[name]
	w.wrongTypes(name, put)
	if shape.scalar() {
		for _, b := range w.breaking(name) {
			w.refused(b.constraint, name, put(b.value), w.items(name, path, b.value, b.rules)...)
		}
		for _, value := range w.limits(name) {
			w.accepted = append(w.accepted, put(value))
		}
		return
	}
	w.accepted = append(w.accepted, put(w.minimal(name)))
	switch shape.Type {
	case "structure":
		w.structure(name, path, put)
	case "list":
		w.list(name, path, put)
	case "map":
		w.mapping(name, path, put)
	}
}

func (w *walk) list(name, path string, put place) {
	shape := w.Shapes[name]
	// of is a list of n elements.
	of := func(n int) []any {
		list := make([]any, n)
		for i := range list {
			list[i] = w.minimal(shape.Member)
		}
		return list
	}
	w.lengths(name, path, put, func(n int) any { return of(n) })
	at := func(i int) place {
		return func(value any) any {
			list := of(max(limit(shape.Min, 0), i+1))
			list[i] = value
			return put(list)
		}
	}
	element := w.Shapes[shape.Member]
	if element.scalar() {
		w.wrongTypes(shape.Member, at(0))
		w.elements(shape.Member, "Member must satisfy constraint: ", name, path, put, func(value any) any {
			list := of(max(limit(shape.Min, 0), 1))
			list[0] = value
			return list
		})
		return
	}
	w.visit(shape.Member, path+".1.member", at(0))
	if limit(shape.Max, 2) >= 2 && len(element.Required) > 0 {
		member := slices.Sorted(slices.Values(element.Required))[0]
		broken := w.minimal(shape.Member).(map[string]any)
		delete(broken, member)
		w.refused("required", shape.Member, at(1)(broken),
			fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", pathOf(path+".2.member", member)))
	}
}

func (w *walk) mapping(name, path string, put place) {
	shape := w.Shapes[name]
	w.lengths(name, path, put, func(n int) any {
		entries := map[string]any{}
		for i := range n {
			entries[fmt.Sprintf("K%d", i)] = w.minimal(shape.Value)
		}
		return entries
	})
	value := func(v any) any { return map[string]any{"K": v} }
	w.wrongTypes(shape.Value, func(v any) any { return put(value(v)) })
	w.elements(shape.Value, "Map value must satisfy constraint: ", name, path, put, value)
	w.elements(shape.Key, "Map keys must satisfy constraint: ", name, path, put, func(v any) any {
		return map[string]any{v.(string): w.minimal(shape.Value)}
	})
}

// elements break a rule of a container's scalars. The sentence shows the whole
// container and all rules of its elements.
func (w *walk) elements(name, opening, container, path string, put, in place) {
	all := "[" + strings.Join(w.Shapes[name].rules(), ", ") + "]"
	for _, b := range w.breaking(name) {
		w.refused(b.constraint, name, put(in(b.value)), w.items(container, path, in(b.value), []string{opening + all})...)
	}
	for _, value := range w.limits(name) {
		w.accepted = append(w.accepted, put(in(value)))
	}
}

// lengths break the bounds of a list or map.
func (w *walk) lengths(name, path string, put place, of func(n int) any) {
	shape := w.Shapes[name]
	if least := limit(shape.Min, 0); least > 0 {
		w.refused("min", name, put(of(least-1)), w.items(name, path, of(least-1), []string{shape.ruleOf("min")})...)
		w.accepted = append(w.accepted, put(of(least)))
	} else if shape.Min != "" {
		w.unbreakable[name+".min"] = "no list is shorter than 0"
	}
	if shape.Max != "" {
		most := limit(shape.Max, 0)
		w.refused("max", name, put(of(most+1)), w.items(name, path, of(most+1), []string{shape.ruleOf("max")})...)
		w.accepted = append(w.accepted, put(of(most)))
	}
}

// items say of one value each rule that it breaks.
func (w *walk) items(name, path string, value any, rules []string) []string {
	var items []string
	for _, rule := range rules {
		subject := "Value '" + w.shown(name, value) + "'"
		if w.Shapes[name].Sensitive {
			subject = "Value"
		}
		items = append(items, fmt.Sprintf("%s at '%s' failed to satisfy constraint: %s", subject, path, rule))
	}
	return items
}

func (w *walk) refused(kind, shape string, body any, items ...string) {
	w.found = append(w.found, breakage{kind, shape, body, "ValidationException", sentence(items)})
}

func sentence(items []string) string {
	if len(items) == 1 {
		return "1 validation error detected: " + items[0]
	}
	return fmt.Sprintf("%d validation errors detected: %s", len(items), strings.Join(items, "; "))
}

// broken is a scalar that breaks rules: that of constraint, and others only where
// none breaks it alone.
type broken struct {
	constraint string
	value      any
	rules      []string
}

// breaking has a value for each of a scalar's constraints that can be broken.
func (w *walk) breaking(name string) (all []broken) {
	shape := w.Shapes[name]
	add := func(constraint string, value any, rules ...string) {
		all = append(all, broken{constraint, value, append([]string{shape.ruleOf(constraint)}, rules...)})
	}
	switch {
	case shape.number():
		below, above := json.Number(fmt.Sprint(limit(floor(shape.Min), 0)-1)), json.Number(fmt.Sprint(limit(shape.Max, 0)+1))
		if shape.Type == "float" {
			below += ".5" // -0.5 below 0, 0.5 below 1, and -0.5 below 0.25
		}
		if shape.Type == "float" && strings.HasPrefix(string(below), "-1") {
			below = "-0.5"
		}
		if shape.Min != "" {
			add("min", below)
		}
		if shape.Max != "" {
			add("max", above)
		}
		if len(shape.Enum) > 0 {
			add("enum", json.Number("11"))
		}
	case len(shape.Enum) > 0:
		add("enum", "no-such-value")
	case shape.Type == "string":
		w.breakingText(name, add)
	}
	return all
}

// floor cuts the fraction off.
func floor(n json.Number) json.Number {
	whole, _, _ := strings.Cut(string(n), ".")
	return json.Number(whole)
}

func (w *walk) breakingText(name string, add func(string, any, ...string)) {
	shape := w.Shapes[name]
	if shape.Max != "" {
		text, ok := shape.text(limit(shape.Max, 0) + 1)
		if !ok {
			panic("no long string for " + shape.Pattern)
		}
		add("max", text)
	}
	switch least := limit(shape.Min, 0); {
	case least > 0:
		if text, ok := shape.text(least - 1); ok {
			add("min", text)
		} else {
			add("min", strings.Repeat("é", least-1), shape.ruleOf("pattern"))
		}
	case shape.Min != "":
		w.unbreakable[name+".min"] = "no string is shorter than 0"
	}
	if shape.Pattern != "" {
		if s := samples[shape.Pattern]; s.broken != "" {
			add("pattern", s.broken)
		} else {
			w.unbreakable[name+".pattern"] = "it takes every string that is long enough"
		}
	}
}

// limits are scalars that reach a limit and do not break it, and every member of
// a set.
func (w *walk) limits(name string) (values []any) {
	shape := w.Shapes[name]
	values = append(values, w.minimal(name))
	for _, value := range shape.Enum {
		if shape.number() {
			values = append(values, json.Number(value))
		} else {
			values = append(values, value)
		}
	}
	for _, n := range []json.Number{shape.Min, shape.Max} {
		switch {
		case n == "" || len(shape.Enum) > 0:
		case shape.number():
			values = append(values, n)
		default:
			if text, ok := shape.text(limit(n, 0)); ok {
				values = append(values, text)
			}
		}
	}
	return values
}

// wrongTypes are JSON values of every kind that the shape does not take.
func (w *walk) wrongTypes(name string, put place) {
	const list, object = "Start of list found where not expected", "Start of structure or map found where not expected."
	kind := w.Shapes[name].Type
	for _, value := range []any{"x", json.Number("7"), true, false, []any{}, map[string]any{}, json.Number("2147483648")} {
		if message, ok := wrongType(kind, value, list, object); ok {
			w.found = append(w.found, breakage{"type", name, put(value), "SerializationException", message})
		}
	}
}

// wrongType is AWS's text for a value of the wrong kind; false when it is of the
// right one.
func wrongType(kind string, value any, list, object string) (string, bool) {
	container, isContainer := map[string]string{"list": "Expected list or null", "map": "Expected map or null", "structure": "Expected null"}[kind]
	found := ""
	switch value := value.(type) {
	case []any:
		return list, kind != "list"
	case map[string]any:
		return object, kind != "map" && kind != "structure"
	case string:
		found = "STRING"
		if kind == "string" {
			return "", false
		}
	case json.Number:
		found = "NUMBER"
		if kind == "float" || kind == "timestamp" || kind == "integer" && value == "7" {
			return "", false
		}
	case bool:
		found = strings.ToUpper(fmt.Sprint(value))
		if kind == "boolean" {
			return "", false
		}
	}
	if isContainer {
		return container, true
	}
	target := map[string]string{
		"string": "a String", "integer": "an Integer", "float": "a Float", "boolean": "an Boolean", "timestamp": "a Timestamp", "blob": "a Blob",
	}[kind]
	return found + "_VALUE can not be converted to " + target, true
}

// reachable are the shapes under name.
func (s *tableService) reachable(name string, into map[string]bool) {
	shape := s.Shapes[name]
	if shape == nil || into[name] {
		return
	}
	into[name] = true
	for _, target := range slices.Concat([]string{shape.Member, shape.Key, shape.Value}, slices.Collect(maps.Values(shape.Members))) {
		s.reachable(target, into)
	}
}

// constraints are "Shape.constraint" for all that the shape says.
func (s *tableShape) constraints() []string {
	var all []string
	for constraint, has := range map[string]bool{
		"required": len(s.Required) > 0, "min": s.Min != "", "max": s.Max != "", "pattern": s.Pattern != "", "enum": len(s.Enum) > 0,
	} {
		if has {
			all = append(all, s.name+"."+constraint)
		}
	}
	return all
}

// reportWalk logs what was sent and holds that nothing was left out.
func reportWalk(t *testing.T, s *tableService, hit, unbreakable map[string]string, counts map[string]int) {
	t.Helper()
	all := map[string]bool{}
	for _, input := range s.Operations {
		s.reachable(input, all)
	}
	total := 0
	for name := range all {
		for _, constraint := range s.Shapes[name].constraints() {
			total++
			if hit[constraint] == "" && unbreakable[constraint] == "" {
				t.Errorf("no request breaks %s", constraint)
			}
		}
	}
	t.Logf("%d constraints of %d shapes, %d of them cannot be broken: %q", total, len(all), len(unbreakable), unbreakable)
	t.Logf("requests: %v", counts)
}
