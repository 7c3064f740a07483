package sdkcompat

import "strings"

// Scope is the account and region that a request works in. All state is split
// by it, so that parallel test runs with different credentials never meet.
type Scope struct {
	Account string // twelve digits
	Region  string // for example us-east-1
}

// ScopeFromAuthorization reads the SigV4 credential scope
// (AKID/date/region/service/aws4_request) of an Authorization header. An access
// key id of twelve digits names the account itself; any other key, and a header
// that is not SigV4, falls back to the given scope.
func ScopeFromAuthorization(header string, fallback Scope) Scope {
	_, rest, found := strings.Cut(header, "Credential=")
	if !found {
		return fallback
	}
	credential, _, _ := strings.Cut(rest, ",")
	return scopeFromCredential(strings.TrimSpace(credential), fallback)
}

func scopeFromCredential(credential string, fallback Scope) Scope {
	parts := strings.Split(credential, "/")
	if len(parts) < 5 || parts[len(parts)-1] != "aws4_request" {
		return fallback
	}
	scope := fallback
	if region := parts[len(parts)-3]; IsRegion(region) {
		scope.Region = region
	}
	if key := parts[len(parts)-5]; IsAccount(key) {
		scope.Account = key
	}
	return scope
}

// IsAccount tells whether s is a twelve-digit AWS account id.
func IsAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// IsRegion tells whether s can be a region: it bounds what becomes part of a store key and of a log path.
func IsRegion(s string) bool {
	if len(s) == 0 || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
