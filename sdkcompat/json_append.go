package sdkcompat

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// AppendJSON appends the tree's JSON to dst, without white space. It fails only
// for a node that is no tree node.
func AppendJSON(dst []byte, tree any) ([]byte, error) {
	var err error
	switch node := tree.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		if node {
			return append(dst, "true"...), nil
		}
		return append(dst, "false"...), nil
	case string:
		return appendJSONString(dst, node), nil
	case json.Number:
		return append(dst, node...), nil
	case []any:
		dst = append(dst, '[')
		for i, v := range node {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = AppendJSON(dst, v); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	case Object:
		dst = append(dst, '{')
		for i, m := range node {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendJSONString(dst, m.Name), ':')
			if dst, err = AppendJSON(dst, m.Value); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
	return dst, fmt.Errorf("sdkcompat: %T is not a tree node", tree)
}

const hexDigits = "0123456789abcdef"

// appendJSONString escapes what RFC 8259 demands and nothing more; invalid
// UTF-8 is written as U+FFFD.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		dst = append(append(dst, s[start:i]...), '\\')
		switch c {
		case '"', '\\':
			dst = append(dst, c)
		case '\n':
			dst = append(dst, 'n')
		case '\r':
			dst = append(dst, 'r')
		case '\t':
			dst = append(dst, 't')
		default:
			dst = append(dst, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}
