package objects

import (
	"strings"

	"github.com/rclone/gofakes3"
)

// listing is one page of a bucket's keys, which are offered to it in order. AWS
// page: API_ListObjectsV2.
type listing struct {
	prefix, delimiter string
	marker            string // the last that the caller has seen: a key or a common prefix
	max               int64  // zero for no limit
	count             int64
	last              string // key or common prefix added last
	out               *gofakes3.ObjectList
}

func newListing(prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) *listing {
	l := &listing{marker: page.Marker, max: page.MaxKeys, out: gofakes3.NewObjectList()}
	if prefix != nil {
		if prefix.HasPrefix {
			l.prefix = prefix.Prefix
		}
		if prefix.HasDelimiter {
			l.delimiter = prefix.Delimiter
		}
	}
	return l
}

// from is the first key that can be on the page.
func (l *listing) from() string {
	if l.commonPrefix(l.marker) == l.marker && l.marker != "" {
		return max(l.prefix, after(l.marker))
	}
	return max(l.prefix, l.marker)
}

// commonPrefix is what key is listed under; empty when it stands for itself.
func (l *listing) commonPrefix(key string) string {
	rest, ok := strings.CutPrefix(key, l.prefix)
	if !ok || l.delimiter == "" {
		return ""
	}
	if i := strings.Index(rest, l.delimiter); i >= 0 {
		return key[:len(l.prefix)+i+len(l.delimiter)]
	}
	return ""
}

// after is a string behind all that begin with prefix.
func after(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return prefix + "\xff"
}

// listed tells whether key is behind a common prefix that the caller has seen or
// will see on this page.
func (l *listing) listed(key string) bool {
	common := l.commonPrefix(key)
	return common != "" && (common == l.last || common == l.marker)
}

// add puts a key, which begins with the prefix, on the page. It returns the key to
// go on from when that is not simply the next one.
func (l *listing) add(key string, content func() (*gofakes3.Content, error)) (next string, err error) {
	common := l.commonPrefix(key)
	switch {
	case l.listed(key):
		return after(common), nil
	case key <= l.marker:
		return "", nil
	case l.max > 0 && l.count == l.max:
		l.out.IsTruncated, l.out.NextMarker = true, l.last
		return "", nil
	}
	l.count++
	if common != "" {
		l.last = common
		l.out.AddPrefix(common)
		return after(common), nil
	}
	c, err := content()
	if err != nil {
		return "", err
	}
	l.last = key
	l.out.Add(c)
	return "", nil
}

func (l *listing) full() bool { return l.out.IsTruncated }
