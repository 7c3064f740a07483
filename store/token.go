package store

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
)

// A token is base64url of: version (1 byte), digest (8 bytes), position. The
// position is the walk's key of the last record of the page, without the scope.
// The digest covers the query and the position, so that neither a token of
// another query nor a damaged one is taken for a place in this one.
const (
	tokenVersion = 1
	digestLen    = 8
)

func encodeToken(query []byte, position []byte) string {
	raw := append([]byte{tokenVersion}, tokenDigest(query, position)...)
	return base64.RawURLEncoding.EncodeToString(append(raw, position...))
}

func decodeToken(query []byte, token string) (position []byte, err error) {
	if strings.ContainsAny(token, "\r\n") { // base64 skips them even when strict
		return nil, ErrBadToken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) <= 1+digestLen || raw[0] != tokenVersion {
		return nil, ErrBadToken
	}
	digest, position := raw[1:1+digestLen], raw[1+digestLen:]
	if string(digest) != string(tokenDigest(query, position)) {
		return nil, ErrBadToken
	}
	return position, nil
}

func tokenDigest(query []byte, position []byte) []byte {
	sum := sha256.Sum256(slices.Concat(query, position))
	return sum[:digestLen]
}

// digestOf hashes the parts with their lengths, so that no two lists of parts
// run together into the same bytes.
func digestOf(parts ...string) []byte {
	var all []byte
	for _, p := range parts {
		all = binary.AppendUvarint(all, uint64(len(p)))
		all = append(all, p...)
	}
	sum := sha256.Sum256(all)
	return sum[:]
}
