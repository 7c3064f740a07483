package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

// Keys are compared bytewise. A part that is followed by another part is
// escaped (0x00 becomes 0x00 0xFF) and ended by 0x00 0x00, which sorts before
// any continuation: the order of the parts is kept and no part can run into the
// next.
//
//	record: account region id        index entry: account region key id
//
// with every part but the last escaped.

func appendPart[S ~string | ~[]byte](dst []byte, part S) []byte {
	for i := range len(part) {
		dst = append(dst, part[i])
		if part[i] == 0 {
			dst = append(dst, 0xFF)
		}
	}
	return append(dst, 0, 0)
}

var errMalformedKey = errors.New("store: malformed key")

// cutPart is the inverse of appendPart.
func cutPart(key []byte) (part, rest []byte, err error) {
	for i := 0; i < len(key); i++ {
		if key[i] != 0 {
			part = append(part, key[i])
			continue
		}
		if i+1 == len(key) {
			break
		}
		switch key[i+1] {
		case 0:
			return part, key[i+2:], nil
		case 0xFF:
			part = append(part, 0)
			i++
		default:
			return nil, nil, errMalformedKey
		}
	}
	return nil, nil, errMalformedKey
}

func scopePrefix(s Scope) []byte {
	key := make([]byte, 0, len(s.Account)+len(s.Region)+4)
	return appendPart(appendPart(key, s.Account), s.Region)
}

func recordKey(s Scope, id string) []byte { return append(scopePrefix(s), id...) }

func cutRecordKey(key []byte) (s Scope, id string, err error) {
	account, rest, err := cutPart(key)
	if err != nil {
		return Scope{}, "", err
	}
	region, rest, err := cutPart(rest)
	if err != nil {
		return Scope{}, "", err
	}
	return Scope{Account: string(account), Region: string(region)}, string(rest), nil
}

// TimeKey encodes t, cut to the millisecond, so that keys sort as times do. It
// is eight bytes long.
func TimeKey(t time.Time) []byte {
	// The flipped sign bit puts times before 1970 first.
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixMilli())^(1<<63))
}

// StringKey encodes s as a part of a longer index key: keys sort by s first and
// then by what follows. Join parts with slices.Concat.
func StringKey(s string) []byte { return appendPart(nil, s) }

// PrefixEnd gives the smallest key greater than every key that begins with
// prefix, for use as Query.To; nil when there is none.
func PrefixEnd(prefix []byte) []byte {
	for last := len(prefix) - 1; last >= 0; last-- {
		if prefix[last] != 0xFF {
			end := bytes.Clone(prefix[:last+1])
			end[last]++
			return end
		}
	}
	return nil
}
