package objects

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The ETag of an object is the MD5 of its content. That of one uploaded in parts
// is the MD5 of the parts' MD5s and, behind a dash, their number, so that nobody
// takes it for the MD5 of the content (AWS page: API_Object, "ETag"). The library
// knows hashes and no dashes, so there the number is two more bytes.

// conditions are the headers that hold ETags.
var conditions = []string{"If-Match", "If-None-Match", "X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match"}

func dashed(sum []byte, parts int) []byte { return append(sum, byte(parts>>8), byte(parts)) }

// etagOf is an object's ETag on the wire, quoted.
func etagOf(hash []byte) string {
	if len(hash) != md5.Size+2 {
		return `"` + hex.EncodeToString(hash) + `"`
	}
	parts := int(hash[md5.Size])<<8 | int(hash[md5.Size+1])
	return fmt.Sprintf(`"%x-%d"`, hash[:md5.Size], parts)
}

// wireETag makes the library's ETag ours.
func wireETag(etag string) string {
	hash, err := hex.DecodeString(strings.Trim(etag, `"`))
	if err != nil {
		return etag
	}
	return etagOf(hash)
}

var dashedETag = regexp.MustCompile(`([0-9a-f]{32})-([0-9]{1,5})`)

// libraryETags makes the ETags of a condition the library's.
func libraryETags(condition string) string {
	return dashedETag.ReplaceAllStringFunc(condition, func(etag string) string {
		parts, err := strconv.ParseUint(etag[2*md5.Size+1:], 10, 16)
		if err != nil {
			return etag
		}
		return fmt.Sprintf("%s%04x", etag[:2*md5.Size], parts)
	})
}
