package sdkcompat

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
)

// Unmarshal reads JSON into the struct that v points to: ParseJSON, then
// FromTree. Bad input gives a SerializationException.
func Unmarshal(data []byte, v any) error {
	tree, err := ParseJSON(data)
	if err != nil {
		return err
	}
	return FromTree(tree, v)
}

// Marshal writes a struct as JSON with its members sorted by name: ToTree, then
// AppendJSON. It fails only for a type that cannot be encoded at all.
func Marshal(v any) ([]byte, error) {
	tree, err := ToTree(v)
	if err != nil {
		return nil, err
	}
	return AppendJSON(make([]byte, 0, 512), tree)
}

// FromTree fills the value that v points to. Names are matched exactly;
// unknown members are ignored and nulls mean absent, as on AWS. A node of the
// wrong kind gives a SerializationException with AWS's text. Fields with no
// member keep what they held.
func FromTree(tree, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("sdkcompat: cannot decode into %T, want a non-nil pointer", v)
	}
	c, err := codecOf(target.Type().Elem())
	if err != nil {
		return err
	}
	if tree == nil {
		return nil
	}
	return c.decode(tree, target.Elem())
}

// ToTree turns a struct, or a pointer to one, into a tree. Left out are nil
// pointers, slices and maps, the empty string of an enum, zero numbers and
// false in plain fields, and zero times and structs; what is behind a pointer
// is always written, and so is an empty list or map that is not nil.
func ToTree(v any) (any, error) {
	value := reflect.ValueOf(v)
	if !value.IsValid() {
		return nil, nil
	}
	c, err := codecOf(value.Type())
	if err != nil {
		return nil, err
	}
	return c.encode(value), nil
}

// codec is the plan for one Go type, made once.
type codec struct {
	// decode sets v from a node that is not nil.
	decode func(node any, v reflect.Value) error
	encode func(v reflect.Value) any
}

var codecs sync.Map // reflect.Type to *codec

func unsupported(t reflect.Type) error {
	return fmt.Errorf("sdkcompat: no wire form for Go type %s", t)
}

func codecOf(t reflect.Type) (*codec, error) {
	if c, ok := codecs.Load(t); ok {
		return c.(*codec), nil
	}
	b := codecBuilder{}
	c, err := b.of(t)
	if err != nil {
		return nil, err
	}
	// Only now is every plan in b complete, also those of recursive types.
	for t, c := range b {
		codecs.Store(t, c)
	}
	return c, nil
}

// codecBuilder holds the plans of one build by type. A plan is put in before it
// is complete, which is how a type may contain itself.
type codecBuilder map[reflect.Type]*codec

func (b codecBuilder) of(t reflect.Type) (*codec, error) {
	if c, ok := codecs.Load(t); ok {
		return c.(*codec), nil
	}
	if c, ok := b[t]; ok {
		return c, nil
	}
	c := &codec{}
	b[t] = c
	if err := b.build(c, t); err != nil {
		return nil, err
	}
	return c, nil
}

func (b codecBuilder) build(c *codec, t reflect.Type) error {
	switch t {
	case timeType:
		*c = timeCodec
		return nil
	case bytesType:
		*c = bytesCodec
		return nil
	case numberType:
		*c = nodeCodec[json.Number](asFloat)
		return nil
	case objectType:
		*c = nodeCodec[Object](asString)
		return nil
	}
	switch t.Kind() {
	case reflect.Bool:
		*c = boolCodec
	case reflect.String:
		*c = stringCodec
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		*c = intCodec
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		*c = uintCodec
	case reflect.Float32:
		*c = float32Codec
	case reflect.Float64:
		*c = float64Codec
	case reflect.Pointer:
		return b.buildPointer(c, t)
	case reflect.Slice:
		return b.buildSlice(c, t)
	case reflect.Map:
		return b.buildMap(c, t)
	case reflect.Struct:
		return b.buildStruct(c, t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return unsupported(t)
		}
		*c = treeCodec
	default:
		return unsupported(t)
	}
	return nil
}
