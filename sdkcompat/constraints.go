package sdkcompat

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// constraints.json is written by ./gen; TestTableKnowsEveryMemberAndEnumValueOfTheSDKInputs
// says when an SDK upgrade makes a new one necessary.
//
//go:embed constraints.json
var constraintsJSON []byte

// shape is one shape of the AWS service model with its constraints.
type shape struct {
	name      string
	kind      shapeKind
	members   []memberShape // of a structure, sorted by name
	element   *shape        // of a list or map
	key       *shape        // of a map
	min, max  *bound        // length, or value of a number
	pattern   *pattern
	enum      []string
	sensitive bool // the value must not be repeated in messages
}

type shapeKind uint8

const (
	stringShape shapeKind = iota + 1
	integerShape
	floatShape
	booleanShape
	timestampShape
	blobShape
	structureShape
	listShape
	mapShape
)

// shapeKinds is by the model's type. Long and double do not occur among the
// inputs of today's table.
var shapeKinds = map[string]shapeKind{
	"string": stringShape, "integer": integerShape, "float": floatShape, "boolean": booleanShape,
	"timestamp": timestampShape, "blob": blobShape, "structure": structureShape, "list": listShape, "map": mapShape,
}

type memberShape struct {
	*shape
	name     string // as on the wire
	path     string // as in messages: the first letter lower-cased
	header   string // canonical HTTP header name, if the member travels as one
	required bool
}

// bound is a limit with the text that messages show.
type bound struct {
	value float64
	text  string
}

// constraintTable is the embedded table, linked. It is built at first use, which
// takes half a millisecond (BenchmarkLoadConstraints), so starting costs nothing.
var constraintTable = sync.OnceValues(loadConstraints)

type constraints struct {
	control, runtime map[string]*shape // input shapes by operation
}

// modelShape is a shape as constraints.json spells it.
type modelShape struct {
	Type      string            `json:"type"`
	Required  []string          `json:"required"`
	Members   map[string]string `json:"members"`
	Headers   map[string]string `json:"headers"`
	Member    string            `json:"member"`
	Key       string            `json:"key"`
	Value     string            `json:"value"`
	Min       json.Number       `json:"min"`
	Max       json.Number       `json:"max"`
	Pattern   string            `json:"pattern"`
	Enum      []string          `json:"enum"`
	Sensitive bool              `json:"sensitive"`
}

type modelService struct {
	Operations map[string]string     `json:"operations"`
	Shapes     map[string]modelShape `json:"shapes"`
}

func loadConstraints() (*constraints, error) {
	var table struct {
		Control modelService `json:"control"`
		Runtime modelService `json:"runtime"`
	}
	if err := Unmarshal(constraintsJSON, &table); err != nil {
		return nil, fmt.Errorf("constraints.json: %w", err)
	}
	control, err := link(table.Control)
	if err != nil {
		return nil, fmt.Errorf("constraints.json: control: %w", err)
	}
	runtime, err := link(table.Runtime)
	if err != nil {
		return nil, fmt.Errorf("constraints.json: runtime: %w", err)
	}
	return &constraints{control, runtime}, nil
}

// link replaces shape names by pointers.
func link(service modelService) (map[string]*shape, error) {
	l := linker{shapes: make(map[string]*shape, len(service.Shapes)), patterns: map[string]*pattern{}}
	for name := range service.Shapes {
		l.shapes[name] = &shape{name: name}
	}
	for name, model := range service.Shapes {
		if err := l.fill(l.shapes[name], model); err != nil {
			return nil, fmt.Errorf("shape %s: %w", name, err)
		}
	}
	inputs := make(map[string]*shape, len(service.Operations))
	for operation, name := range service.Operations {
		input := l.shapes[name]
		if input == nil {
			return nil, fmt.Errorf("operation %s: shape %q is missing", operation, name)
		}
		inputs[operation] = input
	}
	return inputs, nil
}

type linker struct {
	shapes   map[string]*shape
	patterns map[string]*pattern // shapes with one pattern share its compilation
}

func (l linker) fill(s *shape, model modelShape) (err error) {
	if s.kind = shapeKinds[model.Type]; s.kind == 0 {
		return fmt.Errorf("unknown type %q", model.Type)
	}
	s.enum, s.sensitive = model.Enum, model.Sensitive
	if s.min, err = newBound(model.Min, s.kind); err != nil {
		return err
	}
	if s.max, err = newBound(model.Max, s.kind); err != nil {
		return err
	}
	if model.Pattern != "" {
		if l.patterns[model.Pattern] == nil {
			l.patterns[model.Pattern] = newPattern(model.Pattern)
		}
		s.pattern = l.patterns[model.Pattern]
	}
	switch s.kind {
	case listShape:
		s.element = l.shapes[model.Member]
	case mapShape:
		s.key, s.element = l.shapes[model.Key], l.shapes[model.Value]
	}
	if s.kind == listShape && s.element == nil || s.kind == mapShape && (s.key == nil || s.element == nil) {
		return fmt.Errorf("element shape is missing")
	}
	return l.fillMembers(s, model)
}

func (l linker) fillMembers(s *shape, model modelShape) error {
	s.members = make([]memberShape, 0, len(model.Members))
	for name, target := range model.Members {
		if l.shapes[target] == nil || name == "" {
			return fmt.Errorf("member %q: shape %q is missing", name, target)
		}
		m := memberShape{
			shape: l.shapes[target], name: name, path: lowerCamel(name),
			required: slices.Contains(model.Required, name),
		}
		if header := model.Headers[name]; header != "" {
			m.header = textproto.CanonicalMIMEHeaderKey(header)
		}
		s.members = append(s.members, m)
	}
	slices.SortFunc(s.members, func(a, b memberShape) int { return strings.Compare(a.name, b.name) })
	return nil
}

// lowerCamel lower-cases the first letter and no other, as AWS's messages do
// (volumeSizeInGB).
func lowerCamel(name string) string { return strings.ToLower(name[:1]) + name[1:] }

// newBound keeps Java's spelling: the limits of a float print as 0.0 or 1.0.
func newBound(n json.Number, kind shapeKind) (*bound, error) {
	if n == "" {
		return nil, nil
	}
	value, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return nil, err
	}
	b := &bound{value, string(n)}
	if kind == floatShape {
		b.text = javaFloat(value)
	}
	return b, nil
}
