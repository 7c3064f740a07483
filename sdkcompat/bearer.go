package sdkcompat

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The token is the base64 of a pre-signed URL without its scheme, behind a
// prefix (sagemaker-core's token_generator).
const (
	bearerPrefix = "sagemaker-api-key-"
	bearerAction = "CallWithBearerToken"
	maxBearerAge = 12 * time.Hour
	// clockSkew is what SigV4 allows.
	clockSkew = 15 * time.Minute
)

// ScopeFromBearer reads the account and region that a bearer token works in, and
// holds its dates against now. Its signature is not verified, like any other
// here. The error is one that the caller may see: 401 for what is not a token,
// 403 for one that has expired.
//
// https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-openai-compatible.html
func ScopeFromBearer(token string, fallback Scope, now time.Time) (Scope, error) {
	encoded := strings.TrimRight(strings.TrimPrefix(token, bearerPrefix), "=")
	encoded = strings.NewReplacer("-", "+", "_", "/").Replace(encoded)
	text, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return Scope{}, BearerInvalid.Error("it is not base64")
	}
	_, query, found := strings.Cut(string(text), "?")
	values, err := url.ParseQuery(query)
	if !found || err != nil {
		return Scope{}, BearerInvalid.Error("it holds no URL")
	}
	if values.Get("Action") != bearerAction || values.Get("X-Amz-Signature") == "" {
		return Scope{}, BearerInvalid.Error("it holds no pre-signed URL of " + bearerAction)
	}
	credential := values.Get("X-Amz-Credential")
	parts := strings.Split(credential, "/")
	if n := len(parts); n < 5 || parts[n-1] != "aws4_request" || parts[n-2] != "sagemaker" || !IsRegion(parts[n-3]) {
		return Scope{}, BearerInvalid.Error("its credential is not for sagemaker")
	}
	if err := checkLifetime(values, now); err != nil {
		return Scope{}, err
	}
	return scopeFromCredential(credential, fallback), nil
}

// checkLifetime holds X-Amz-Date and X-Amz-Expires against now.
func checkLifetime(values url.Values, now time.Time) error {
	signed, err := time.Parse("20060102T150405Z", values.Get("X-Amz-Date"))
	if err != nil {
		return BearerInvalid.Error("X-Amz-Date is not a date")
	}
	seconds, err := strconv.Atoi(values.Get("X-Amz-Expires"))
	lifetime := time.Duration(seconds) * time.Second
	if err != nil || seconds < 1 || seconds > int(maxBearerAge/time.Second) {
		return BearerInvalid.Error("X-Amz-Expires is not within 1 to 43200 seconds")
	}
	if now.Before(signed.Add(-clockSkew)) {
		return BearerInvalid.Error("it is not valid yet")
	}
	if end := signed.Add(lifetime); !now.Before(end) {
		return BearerExpired.Error(end.Format(time.RFC3339))
	}
	return nil
}
