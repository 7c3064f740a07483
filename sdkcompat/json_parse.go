package sdkcompat

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// MaxJSONBytes bounds one JSON document. The largest legal hosting request
	// (fifteen containers with 32 KB of environment each) stays far below.
	MaxJSONBytes = 4 << 20
	// maxJSONDepth bounds nesting. The deepest hosting shape has 9 levels.
	maxJSONDepth = 100
)

// malformedJSON has no message: the services answer anything that is not JSON
// (also an empty body and text after the value) with the bare code.
func malformedJSON() *Error { return malformedDocument.Error() }

// ParseJSON reads one JSON document (RFC 8259) into a tree. Of duplicate names
// the last wins. Every error is a SerializationException: malformed text,
// invalid UTF-8, text after the value, more than [MaxJSONBytes] or more than
// 100 levels of nesting.
func ParseJSON(data []byte) (any, error) {
	if len(data) > MaxJSONBytes {
		return nil, documentTooLong.Error(MaxJSONBytes)
	}
	if !utf8.Valid(data) {
		return nil, malformedJSON()
	}
	p := jsonParser{text: string(data)}
	p.space()
	tree, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.at != len(p.text) {
		return nil, malformedJSON()
	}
	return tree, nil
}

// jsonParser walks text; strings without escapes are cut out of it uncopied.
// Lists and objects grow on two shared stacks, so each is allocated once and
// at its final size.
type jsonParser struct {
	text    string
	at      int
	values  []any
	members []Member
}

func (p *jsonParser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// peek returns the byte at hand, or 0 at the end; a NUL in the text is no JSON
// either way.
func (p *jsonParser) peek() byte {
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *jsonParser) value(depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, documentTooDeep.Error(maxJSONDepth)
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.list(depth)
	case c == '"':
		return p.string()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, literal := range jsonLiterals {
		if strings.HasPrefix(p.text[p.at:], literal.text) {
			p.at += len(literal.text)
			return literal.value, nil
		}
	}
	return nil, malformedJSON()
}

var jsonLiterals = [...]struct {
	text  string
	value any
}{{"true", true}, {"false", false}, {"null", nil}}

func (p *jsonParser) list(depth int) (any, error) {
	start := len(p.values)
	var err error
	more := p.open(']')
	for more && err == nil {
		var v any
		if v, err = p.value(depth + 1); err != nil {
			break
		}
		p.values = append(p.values, v)
		more, err = p.next(']')
	}
	if err != nil {
		return nil, err
	}
	list := append(make([]any, 0, len(p.values)-start), p.values[start:]...)
	clear(p.values[start:])
	p.values = p.values[:start]
	return list, nil
}

func (p *jsonParser) object(depth int) (any, error) {
	start := len(p.members)
	var err error
	more := p.open('}')
	for more && err == nil {
		var m Member
		if m, err = p.member(depth); err != nil {
			break
		}
		p.members = append(p.members, m)
		if more, err = p.next('}'); more && err == nil && p.peek() != '"' {
			err = malformedJSON()
		}
	}
	if err != nil {
		return nil, err
	}
	object := slices.Clone(Object(p.members[start:]).normalize())
	if object == nil {
		object = Object{}
	}
	clear(p.members[start:])
	p.members = p.members[:start]
	return object, nil
}

func (p *jsonParser) member(depth int) (Member, error) {
	name, err := p.string()
	if err != nil {
		return Member{}, err
	}
	p.space()
	if p.peek() != ':' {
		return Member{}, malformedJSON()
	}
	p.at++
	p.space()
	value, err := p.value(depth + 1)
	return Member{name, value}, err
}

// open steps over the opening bracket and tells whether elements follow.
func (p *jsonParser) open(closing byte) (more bool) {
	p.at++
	p.space()
	if p.peek() == closing {
		p.at++
		return false
	}
	return true
}

// next steps over what follows an element: a comma or the closing bracket.
func (p *jsonParser) next(closing byte) (more bool, err error) {
	p.space()
	switch p.peek() {
	case closing:
		p.at++
		return false, nil
	case ',':
		p.at++
		p.space()
		return true, nil
	}
	return false, malformedJSON()
}

// string reads a string; the caller has seen, or this refuses, the quote.
func (p *jsonParser) string() (string, error) {
	if p.peek() != '"' {
		return "", malformedJSON()
	}
	p.at++
	start := p.at
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return p.text[start : p.at-1], nil
		case c == '\\':
			return p.escapedString(start)
		case c < ' ':
			return "", malformedJSON()
		}
		p.at++
	}
	return "", malformedJSON()
}

func (p *jsonParser) escapedString(start int) (string, error) {
	out := []byte(p.text[start:p.at])
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == '"':
			return string(out), nil
		case c < ' ':
			return "", malformedJSON()
		case c != '\\':
			out = append(out, c)
			continue
		}
		r, ok := p.escape()
		if !ok {
			return "", malformedJSON()
		}
		out = utf8.AppendRune(out, r)
	}
	return "", malformedJSON()
}

const (
	jsonEscapes  = `"\/bfnrt`
	jsonUnescape = "\"\\/\b\f\n\r\t"
)

// escape reads what follows a backslash. Half a surrogate pair becomes U+FFFD.
func (p *jsonParser) escape() (rune, bool) {
	if p.at == len(p.text) {
		return 0, false
	}
	c := p.text[p.at]
	p.at++
	if i := strings.IndexByte(jsonEscapes, c); i >= 0 {
		return rune(jsonUnescape[i]), true
	}
	if c != 'u' {
		return 0, false
	}
	r, ok := p.hex4()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	if rest := p.text[p.at:]; strings.HasPrefix(rest, `\u`) {
		before := p.at
		p.at += 2
		low, ok := p.hex4()
		if !ok {
			return 0, false
		}
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, true
		}
		p.at = before
	}
	return utf8.RuneError, true
}

func (p *jsonParser) hex4() (rune, bool) {
	if len(p.text)-p.at < 4 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(p.text[p.at : p.at+4]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	p.at += 4
	return r, true
}

func (p *jsonParser) number() (any, error) {
	start := p.at
	if p.peek() == '-' {
		p.at++
	}
	if p.peek() == '0' {
		p.at++
	} else if !p.digits() {
		return nil, malformedJSON()
	}
	if p.peek() == '.' {
		p.at++
		if !p.digits() {
			return nil, malformedJSON()
		}
	}
	if p.peek()|0x20 == 'e' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if !p.digits() {
			return nil, malformedJSON()
		}
	}
	return json.Number(p.text[start:p.at]), nil
}

func (p *jsonParser) digits() bool {
	start := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	return p.at > start
}
