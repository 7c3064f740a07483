package sdkcompat

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// CheckInput holds a control-plane request against the service model. A node of
// the wrong JSON kind gives a SerializationException at once. All other breaches
// go into one ValidationException with AWS's sentence, in the order of the
// members' names, at most 100 of them. String lengths count Unicode code
// points, as Smithy defines them. Unknown members are ignored.
//
// An operation that the table does not have is an ordinary error.
//
// https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
func CheckInput(operation string, tree any) error {
	table, err := constraintTable()
	if err != nil {
		return err
	}
	input, ok := table.control[operation]
	if !ok {
		return fmt.Errorf("sdkcompat: no constraints for operation %q", operation)
	}
	switch tree.(type) {
	case Object:
	case []any:
		return listUnexpected.Error()
	default:
		return malformedJSON()
	}
	c := checker{}
	if err := c.structure(input, tree); err != nil {
		return err
	}
	return c.found.err(validation)
}

// checker walks a tree along its shape. Its methods return an error only for
// the first node of a wrong kind.
type checker struct {
	path  []byte
	found violations
}

// at runs visit with the segment appended to the path.
func (c *checker) at(segment string, visit func() error) error {
	length := len(c.path)
	if length > 0 {
		c.path = append(c.path, '.')
	}
	c.path = append(c.path, segment...)
	err := visit()
	c.path = c.path[:length]
	return err
}

func (c *checker) visit(s *shape, node any) error {
	switch s.kind {
	case structureShape:
		return c.structure(s, node)
	case listShape:
		return c.list(s, node)
	case mapShape:
		return c.mapping(s, node)
	}
	broken, err := s.checkScalar(node)
	if err == nil {
		c.found.report(s, node, c.path, broken)
	}
	return err
}

func (c *checker) structure(s *shape, node any) error {
	object, ok := node.(Object)
	if !ok {
		return wrongContainer(node, structureExpected)
	}
	for i := range s.members {
		m := &s.members[i]
		// Both sides are sorted by name.
		for len(object) > 0 && object[0].Name < m.name {
			object = object[1:]
		}
		var value any
		if len(object) > 0 && object[0].Name == m.name {
			value = object[0].Value
		}
		if value == nil {
			if m.required && !c.found.full() {
				_ = c.at(m.path, func() error { c.found.null(c.path); return nil })
			}
			continue
		}
		if err := c.at(m.path, func() error { return c.visit(m.shape, value) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) list(s *shape, node any) error {
	list, ok := node.([]any)
	if !ok {
		return wrongContainer(node, listExpected)
	}
	scalar := s.element.isScalar()
	var broken rule
	n := 0
	for _, item := range list {
		// AWS skips a null between the elements.
		if item == nil {
			continue
		}
		n++
		if scalar {
			b, err := s.element.checkScalar(item)
			if err != nil {
				return err
			}
			broken |= b
			continue
		}
		if err := c.at(strconv.Itoa(n)+".member", func() error { return c.visit(s.element, item) }); err != nil {
			return err
		}
	}
	c.found.report(s, node, c.path, s.checkLength(n))
	c.reportElements(s, node, eachElement, s.element, broken)
	return nil
}

func (c *checker) mapping(s *shape, node any) error {
	object, ok := node.(Object)
	if !ok {
		return wrongContainer(node, mapExpected)
	}
	scalar := s.element.isScalar()
	var brokenKey, brokenValue rule
	n := 0
	for _, m := range object {
		if m.Value == nil {
			continue
		}
		n++
		b, err := s.key.checkScalar(m.Name)
		if err != nil {
			return err
		}
		brokenKey |= b
		if scalar {
			if b, err = s.element.checkScalar(m.Value); err != nil {
				return err
			}
			brokenValue |= b
			continue
		}
		if err := c.at(m.Name+".member", func() error { return c.visit(s.element, m.Value) }); err != nil {
			return err
		}
	}
	c.found.report(s, node, c.path, s.checkLength(n))
	c.reportElements(s, node, eachKey, s.key, brokenKey)
	c.reportElements(s, node, eachValue, s.element, brokenValue)
	return nil
}

// reportElements adds the one item that a list's scalar elements, or a map's
// keys or values, get together. AWS shows the whole container and every rule
// that the element has (aws/sagemaker-python-sdk#314,
// aws/sagemaker-sparkml-serving-container#12).
func (c *checker) reportElements(s *shape, node any, each *Message, element *shape, broken rule) {
	if broken != 0 && !c.found.full() {
		c.found.value(s, node, c.path, each.Sentence(element.sentences(element.rules())))
	}
}

// member finds a structure's member by its wire name.
func (s *shape) member(name string) (*memberShape, bool) {
	i, ok := slices.BinarySearchFunc(s.members, name, func(m memberShape, name string) int {
		return strings.Compare(m.name, name)
	})
	if !ok {
		return nil, false
	}
	return &s.members[i], true
}

func (s *shape) isScalar() bool { return s.kind < structureShape }

// checkScalar gives the rules that a scalar breaks, or the SerializationException
// for a node of the wrong kind.
func (s *shape) checkScalar(node any) (broken rule, err error) {
	switch s.kind {
	case stringShape:
		text, ok := node.(string)
		if !ok {
			return 0, wrongScalar(node, asString)
		}
		return s.checkString(text), nil
	case integerShape:
		n, ok := parseInteger(node)
		if !ok || n < math.MinInt32 || n > math.MaxInt32 {
			return 0, wrongScalar(node, asInteger)
		}
		return s.checkInteger(n), nil
	case floatShape:
		f, ok := parseFloat(node, 32)
		if !ok {
			return 0, wrongScalar(node, asFloat)
		}
		return s.checkNumber(f), nil
	case booleanShape:
		if _, ok := node.(bool); !ok {
			return 0, wrongScalar(node, asBoolean)
		}
	case timestampShape:
		if _, ok := parseTimestamp(node); !ok {
			return 0, wrongScalar(node, asTimestamp)
		}
	case blobShape:
		text, ok := node.(string)
		decoded, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil {
			return 0, wrongScalar(node, asBlob)
		}
		return s.checkLength(len(decoded)), nil
	}
	return 0, nil
}

// checkString counts code points only where bytes do not decide.
func (s *shape) checkString(text string) (broken rule) {
	if s.max != nil && len(text) > int(s.max.value) || s.min != nil && len(text) < 4*int(s.min.value) {
		broken = s.checkLength(utf8.RuneCountInString(text))
	}
	if s.pattern != nil && !s.pattern.match(text) {
		broken |= patternRule
	}
	if s.enum != nil && !slices.Contains(s.enum, text) {
		broken |= enumRule
	}
	return broken
}

func (s *shape) checkInteger(n int64) rule {
	broken := s.checkNumber(float64(n))
	if s.enum != nil && !slices.Contains(s.enum, strconv.FormatInt(n, 10)) {
		broken |= enumRule
	}
	return broken
}

// checkNumber lets NaN break every limit.
func (s *shape) checkNumber(f float64) (broken rule) {
	if s.max != nil && !(f <= s.max.value) {
		broken |= maxRule
	}
	if s.min != nil && !(f >= s.min.value) {
		broken |= minRule
	}
	return broken
}

func (s *shape) checkLength(n int) rule { return s.checkNumber(float64(n)) }
