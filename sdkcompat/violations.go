package sdkcompat

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
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

func (v *violations) add(m *Message, values ...any) {
	if v.count > 0 {
		v.text = append(v.text, "; "...)
	}
	v.count++
	v.text = m.append(v.text, values...)
}

// null reports a required member that is not there.
func (v *violations) null(path []byte) { v.add(violationOfNull, string(path)) }

// value reports what must be true of a value.
func (v *violations) value(s *shape, node any, path []byte, rule string) {
	if s.sensitive {
		v.add(violationOfSecret, string(path), rule)
		return
	}
	v.add(violation, string(appendValue(nil, s, node)), string(path), rule)
}

// report adds one item for each broken rule.
func (v *violations) report(s *shape, node any, path []byte, broken rule) {
	for _, r := range ruleOrder {
		if broken&r != 0 && !v.full() {
			v.value(s, node, path, s.sentence(r))
		}
	}
}

// err is all of it under the code of the service at hand; nil when nothing was
// collected.
func (v *violations) err(code string) error {
	if v.count == 0 {
		return nil
	}
	e := &Error{Code: code, Message: violationFound.Sentence(string(v.text)), Status: statusOf(code)}
	if v.count > 1 {
		e.Message = violationsFound.Sentence(v.count, string(v.text))
	}
	return e
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

// sentences are the set's rules with ", " between them.
func (s *shape) sentences(set rule) string {
	var all []string
	for _, r := range ruleOrder {
		if set&r != 0 {
			all = append(all, s.sentence(r))
		}
	}
	return strings.Join(all, ", ")
}

func (s *shape) sentence(r rule) string {
	number := s.kind == integerShape || s.kind == floatShape
	switch {
	case r == maxRule && number:
		return maxValue.Sentence(s.max.text)
	case r == maxRule:
		return maxLength.Sentence(s.max.text)
	case r == minRule && number:
		return minValue.Sentence(s.min.text)
	case r == minRule:
		return minLength.Sentence(s.min.text)
	case r == patternRule:
		return matchesPattern.Sentence(s.pattern.text)
	}
	return inEnum.Sentence(strings.Join(s.enum, ", "))
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
