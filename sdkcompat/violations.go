package sdkcompat

import (
	"encoding/json"
	"math"
	"strconv"
)

// maxViolations bounds an answer to a hostile request; AWS's own bound, if it
// has one, is unknown.
const maxViolations = 100

// violations collects the items of AWS's sentence
//
//	2 validation errors detected: Value 'a' at 'b' failed to satisfy constraint: ...; Value ...
type violations struct {
	count int
	text  []byte
}

func (v *violations) full() bool { return v.count >= maxViolations }

// null reports a required member that is not there.
func (v *violations) null(path []byte) {
	v.begin("Value null", path)
	v.text = append(v.text, "Member must not be null"...)
}

// value opens an item; what must be true is appended to v.text after it.
func (v *violations) value(s *shape, node any, path []byte) {
	subject := "Value"
	if !s.sensitive {
		subject = "Value '" + string(appendValue(nil, s, node)) + "'"
	}
	v.begin(subject, path)
}

// report adds one item for each broken rule.
func (v *violations) report(s *shape, node any, path []byte, broken rule) {
	for _, r := range ruleOrder {
		if broken&r != 0 && !v.full() {
			v.value(s, node, path)
			v.text = s.appendRule(v.text, r)
		}
	}
}

func (v *violations) begin(subject string, path []byte) {
	if v.count > 0 {
		v.text = append(v.text, "; "...)
	}
	v.count++
	v.text = append(append(append(v.text, subject...), " at '"...), path...)
	v.text = append(v.text, "' failed to satisfy constraint: "...)
}

// message is the whole sentence, or "" when nothing was collected.
func (v *violations) message() string {
	if v.count == 0 {
		return ""
	}
	plural := "s"
	if v.count == 1 {
		plural = ""
	}
	return strconv.Itoa(v.count) + " validation error" + plural + " detected: " + string(v.text)
}

// rule is one kind of constraint; a value's broken ones are a set of them.
type rule uint8

const (
	maxRule rule = 1 << iota
	minRule
	patternRule
	enumRule
)

// ruleOrder is the order in messages: length before pattern.
var ruleOrder = [...]rule{maxRule, minRule, patternRule, enumRule}

// rules is the set that the shape has at all.
func (s *shape) rules() (set rule) {
	if s.max != nil {
		set |= maxRule
	}
	if s.min != nil {
		set |= minRule
	}
	if s.pattern != nil {
		set |= patternRule
	}
	if s.enum != nil {
		set |= enumRule
	}
	return set
}

// appendRules writes the set's rules with ", " between them.
func (s *shape) appendRules(dst []byte, set rule) []byte {
	first := true
	for _, r := range ruleOrder {
		if set&r == 0 {
			continue
		}
		if !first {
			dst = append(dst, ", "...)
		}
		first = false
		dst = s.appendRule(dst, r)
	}
	return dst
}

func (s *shape) appendRule(dst []byte, r rule) []byte {
	measure := "length"
	if s.kind == integerShape || s.kind == floatShape {
		measure = "value"
	}
	switch r {
	case maxRule:
		return append(append(append(append(dst, "Member must have "...), measure...), " less than or equal to "...), s.max.text...)
	case minRule:
		return append(append(append(append(dst, "Member must have "...), measure...), " greater than or equal to "...), s.min.text...)
	case patternRule:
		return append(append(dst, "Member must satisfy regular expression pattern: "...), s.pattern.text...)
	}
	dst = append(dst, "Member must satisfy enum value set: ["...)
	for i, name := range s.enum {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, name...)
	}
	return append(dst, ']')
}

// appendValue writes a value the way Java's toString does: [a, b] for a list,
// {k=v, k=v} for a map, Name(member=value) for a structure.
func appendValue(dst []byte, s *shape, node any) []byte {
	switch v := node.(type) {
	case string:
		return append(dst, v...)
	case bool:
		return strconv.AppendBool(dst, v)
	case json.Number:
		if f, ok := parseFloat(v, 64); ok && s.kind == floatShape {
			return append(dst, javaFloat(f)...)
		}
		if n, ok := parseInteger(v); ok && s.kind == integerShape {
			return strconv.AppendInt(dst, n, 10)
		}
		return append(dst, v...)
	case []any:
		dst = append(dst, '[')
		first := true
		for _, item := range v {
			if item == nil {
				continue
			}
			if !first {
				dst = append(dst, ", "...)
			}
			first = false
			dst = appendValue(dst, s.element, item)
		}
		return append(dst, ']')
	case Object:
		return appendObjectValue(dst, s, v)
	}
	return append(dst, "null"...)
}

func appendObjectValue(dst []byte, s *shape, object Object) []byte {
	opening, closing := "{", byte('}')
	if s.kind == structureShape {
		opening, closing = s.name+"(", ')'
	}
	dst = append(dst, opening...)
	first := true
	for _, m := range object {
		name, of := m.Name, s.element
		if s.kind == structureShape {
			known, ok := s.member(m.Name)
			if !ok {
				continue
			}
			name, of = known.path, known.shape
		}
		if m.Value == nil {
			continue
		}
		if !first {
			dst = append(dst, ", "...)
		}
		first = false
		dst = appendValue(append(append(dst, name...), '='), of, m.Value)
	}
	return append(dst, closing)
}

// javaFloat is Float.toString for the range of any constraint.
func javaFloat(f float64) string {
	if f == math.Trunc(f) && math.Abs(f) < 1e7 {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'G', -1, 32)
}
