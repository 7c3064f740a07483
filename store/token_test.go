package store

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzTokenDecoder(f *testing.F) {
	query := digestOf("things", "created")
	f.Add("", []byte("x"))
	f.Add("Ae5FnQusBDLge\rA", []byte("0"))
	f.Add("AQAAAAAAAAAAeA", []byte{})
	f.Add(encodeToken(query, []byte("x")), []byte("\x00\xff\x00\x00id"))
	f.Add(encodeToken(digestOf("others"), []byte("x")), []byte("id"))
	f.Fuzz(func(t *testing.T, token string, position []byte) {
		decoded, err := decodeToken(query, token)
		switch {
		case err == nil && encodeToken(query, decoded) != token:
			t.Errorf("token %q was accepted but is not the one for %q", token, decoded)
		case err != nil && !errors.Is(err, ErrBadToken):
			t.Errorf("token %q: %v, want ErrBadToken", token, err)
		}
		if len(position) == 0 {
			return // records have ids, so no position is empty
		}
		made := encodeToken(query, position)
		if back, err := decodeToken(query, made); err != nil || !bytes.Equal(back, position) {
			t.Errorf("position %q came back as %q, %v", position, back, err)
		}
		if _, err := decodeToken(digestOf("things", "status"), made); !errors.Is(err, ErrBadToken) {
			t.Errorf("another query accepted the token: %v", err)
		}
	})
}
