package api

import (
	"bytes"
	"strings"
	"sync"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// scopes remembers which account and region a credential stands for, so that an
// invocation does not take its Authorization header apart again.
type scopes struct {
	fallback sdkcompat.Scope

	mu    sync.RWMutex
	known map[string]sdkcompat.Scope
}

// maxKnownScopes bounds the memory that callers with ever new credentials take.
const maxKnownScopes = 4096

// of reads the scope from an Authorization header.
func (s *scopes) of(authorization []byte) sdkcompat.Scope {
	credential := credentialOf(authorization)
	if credential == nil {
		return s.fallback
	}
	s.mu.RLock()
	scope, ok := s.known[string(credential)]
	s.mu.RUnlock()
	if ok {
		return scope
	}
	header := strings.Clone(string(authorization))
	scope = sdkcompat.ScopeFromAuthorization(header, s.fallback)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxKnownScopes {
		s.known = map[string]sdkcompat.Scope{}
	}
	s.known[string(credential)] = scope
	return scope
}

var (
	usualStart      = []byte("AWS4-HMAC-SHA256 Credential=")
	credentialField = []byte("Credential=")
)

func credentialOf(authorization []byte) []byte {
	rest, ok := bytes.CutPrefix(authorization, usualStart)
	if !ok {
		if _, rest, ok = bytes.Cut(authorization, credentialField); !ok {
			return nil
		}
	}
	credential, _, _ := bytes.Cut(rest, []byte(","))
	return credential
}
