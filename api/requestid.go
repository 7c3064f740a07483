package api

import (
	"math/rand/v2"

	"github.com/google/uuid"
)

// requestIDHeader carries the request's id; SDKs put it into their error text.
const requestIDHeader = "X-Amzn-Requestid"

// newRequestID is a version 4 UUID. It identifies, it protects nothing, so the
// runtime's fast generator will do.
func newRequestID() uuid.UUID {
	var id uuid.UUID
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		id[i], id[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
