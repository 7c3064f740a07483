package sdkcompat

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

var (
	timeType   = reflect.TypeFor[time.Time]()
	bytesType  = reflect.TypeFor[[]byte]()
	numberType = reflect.TypeFor[json.Number]()
	objectType = reflect.TypeFor[Object]()
)

// wrongScalar answers a node that cannot become target ("a String").
func wrongScalar(node any, target string) error {
	kind := "STRING_VALUE"
	switch v := node.(type) {
	case []any:
		return listUnexpected.Error()
	case Object:
		return structureUnexpected.Error()
	case json.Number:
		kind = "NUMBER_VALUE"
	case bool:
		kind = "FALSE_VALUE"
		if v {
			kind = "TRUE_VALUE"
		}
	}
	return notConvertible.Error(kind, target)
}

// wrongContainer answers a node where a list, map or structure must stand;
// expected is what a scalar gets.
func wrongContainer(node any, expected *Message) error {
	switch node.(type) {
	case []any:
		return listUnexpected.Error()
	case Object:
		return structureUnexpected.Error()
	}
	return expected.Error()
}

const (
	asString    = "a String"
	asInteger   = "an Integer"
	asFloat     = "a Float"
	asBoolean   = "an Boolean"
	asTimestamp = "a Timestamp"
	asBlob      = "a Blob"
)

var boolCodec = codec{
	decode: func(node any, v reflect.Value) error {
		b, ok := node.(bool)
		if !ok {
			return wrongScalar(node, asBoolean)
		}
		v.SetBool(b)
		return nil
	},
	encode: func(v reflect.Value) any { return v.Bool() },
}

var stringCodec = codec{
	decode: func(node any, v reflect.Value) error {
		s, ok := node.(string)
		if !ok {
			return wrongScalar(node, asString)
		}
		v.SetString(s)
		return nil
	},
	encode: func(v reflect.Value) any { return v.String() },
}

var intCodec = codec{
	decode: func(node any, v reflect.Value) error {
		n, ok := parseInteger(node)
		if !ok || v.OverflowInt(n) {
			return wrongScalar(node, asInteger)
		}
		v.SetInt(n)
		return nil
	},
	encode: func(v reflect.Value) any { return json.Number(strconv.FormatInt(v.Int(), 10)) },
}

var uintCodec = codec{
	decode: func(node any, v reflect.Value) error {
		number, ok := node.(json.Number)
		if !ok {
			return wrongScalar(node, asInteger)
		}
		n, err := strconv.ParseUint(string(number), 10, 64)
		if err != nil || v.OverflowUint(n) {
			return wrongScalar(node, asInteger)
		}
		v.SetUint(n)
		return nil
	},
	encode: func(v reflect.Value) any { return json.Number(strconv.FormatUint(v.Uint(), 10)) },
}

var (
	float32Codec = floatCodec(32)
	float64Codec = floatCodec(64)
)

func floatCodec(bits int) codec {
	return codec{
		decode: func(node any, v reflect.Value) error {
			f, ok := parseFloat(node, bits)
			if !ok {
				return wrongScalar(node, asFloat)
			}
			v.SetFloat(f)
			return nil
		},
		encode: func(v reflect.Value) any { return floatNode(v.Float(), bits) },
	}
}

var timeCodec = codec{
	decode: func(node any, v reflect.Value) error {
		t, ok := parseTimestamp(node)
		if !ok {
			return wrongScalar(node, asTimestamp)
		}
		v.Set(reflect.ValueOf(t))
		return nil
	},
	encode: func(v reflect.Value) any { return timestampNode(v.Interface().(time.Time)) },
}

var bytesCodec = codec{
	decode: func(node any, v reflect.Value) error {
		s, ok := node.(string)
		if !ok {
			return wrongScalar(node, asBlob)
		}
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return wrongScalar(node, asBlob)
		}
		v.SetBytes(b)
		return nil
	},
	encode: func(v reflect.Value) any { return base64.StdEncoding.EncodeToString(v.Bytes()) },
}

// treeCodec is for fields of type any: they hold a tree.
var treeCodec = codec{
	decode: func(node any, v reflect.Value) error {
		v.Set(reflect.ValueOf(node))
		return nil
	},
	encode: func(v reflect.Value) any { return v.Interface() },
}

// nodeCodec is for fields that hold one kind of tree node as it is.
func nodeCodec[T any](target string) codec {
	return codec{
		decode: func(node any, v reflect.Value) error {
			n, ok := node.(T)
			if !ok {
				return wrongScalar(node, target)
			}
			v.Set(reflect.ValueOf(n))
			return nil
		},
		encode: func(v reflect.Value) any { return v.Interface() },
	}
}

// parseInteger cuts off a fraction, as AWS does (1.5 is taken as 1).
func parseInteger(node any) (int64, bool) {
	number, ok := node.(json.Number)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(string(number), 64)
	if err != nil || f < math.MinInt64 || f >= math.MaxInt64 {
		return 0, false
	}
	return int64(f), true
}

// parseFloat also reads the three strings by which AWS JSON spells what JSON
// numbers cannot.
func parseFloat(node any, bits int) (float64, bool) {
	switch n := node.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(string(n), bits)
		return f, err == nil
	case string:
		switch n {
		case "NaN":
			return math.NaN(), true
		case "Infinity":
			return math.Inf(1), true
		case "-Infinity":
			return math.Inf(-1), true
		}
	}
	return 0, false
}

func floatNode(f float64, bits int) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	// The same border between the two notations as encoding/json and the SDK.
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return json.Number(strconv.FormatFloat(f, format, -1, bits))
}

// maxEpochSeconds is the end of the year 9999, the last that RFC 3339 can say.
const maxEpochSeconds = 253402300799

// parseTimestamp reads epoch seconds, with or without a fraction, to the
// millisecond, and RFC 3339 text. The result is in UTC.
func parseTimestamp(node any) (time.Time, bool) {
	switch n := node.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(string(n), 64)
		if err != nil || math.Abs(f) > maxEpochSeconds {
			return time.Time{}, false
		}
		return time.UnixMilli(int64(math.Round(f * 1e3))).UTC(), true
	case string:
		t, err := time.Parse(time.RFC3339Nano, n)
		return t.UTC(), err == nil
	}
	return time.Time{}, false
}

// timestampNode writes epoch seconds with milliseconds as the fraction, the way
// real answers look (1529870369.986); trailing zeros are dropped.
func timestampNode(t time.Time) json.Number {
	ms := t.UnixMilli()
	sign := ""
	if ms < 0 {
		sign, ms = "-", -ms
	}
	text := sign + strconv.FormatInt(ms/1000, 10)
	if ms %= 1000; ms != 0 {
		text += "." + strings.TrimRight(strconv.FormatInt(ms+1000, 10)[1:], "0")
	}
	return json.Number(text)
}
