package store

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func FuzzKeyPartsKeepOrderAndComeBack(f *testing.F) {
	f.Add("a", "x", "a\x00", "y")
	f.Add("0\x9c", "0", "0\xb0", "0")
	f.Add("", "\x00", "\x00\xff", "")
	f.Fuzz(func(t *testing.T, a, x, b, y string) {
		ka, kb := append(StringKey(a), x...), append(StringKey(b), y...)
		want := strings.Compare(a, b)
		if want == 0 {
			want = strings.Compare(x, y)
		}
		if got := bytes.Compare(ka, kb); got != want {
			t.Errorf("(%q,%q) against (%q,%q): keys compare %d, parts %d", a, x, b, y, got, want)
		}
		part, rest, err := cutPart(ka)
		if err != nil || string(part) != a || string(rest) != x {
			t.Errorf("cutPart(%q) = %q, %q, %v; want %q, %q", ka, part, rest, err, a, x)
		}
		if end := PrefixEnd([]byte(a)); end != nil {
			if inside := strings.HasPrefix(b, a); inside != (b >= a && b < string(end)) {
				t.Errorf("PrefixEnd(%q) = %q is wrong for %q", a, end, b)
			}
		}
	})
}

func FuzzRecordKeyIsCutWithoutPanic(f *testing.F) {
	f.Add(recordKey(scopeA, "endpoint"))
	f.Add([]byte{0, 0, 0xFF, 0})
	f.Fuzz(func(t *testing.T, key []byte) {
		scope, id, err := cutRecordKey(key)
		if err == nil && !bytes.Equal(recordKey(scope, id), key) {
			t.Errorf("cutRecordKey(%q) = %+v, %q, which is another key", key, scope, id)
		}
	})
}

func TestTimeKeysSortAsTimes(t *testing.T) {
	times := []time.Time{{}, time.Unix(-1, 0), time.UnixMilli(-1), time.UnixMilli(0), time.UnixMilli(1), time.UnixMilli(256), time.Unix(1<<34, 0)}
	for i := 1; i < len(times); i++ {
		if bytes.Compare(TimeKey(times[i-1]), TimeKey(times[i])) >= 0 {
			t.Errorf("the key of %v does not sort before that of %v", times[i-1], times[i])
		}
	}
}
