package sdkcompat

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var signingTime = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// presigned is the URL that sagemaker-core's token_generator puts into a token,
// made by AWS's own signer.
func presigned(t testing.TB, key, service, region, action, expires string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "https://sagemaker.amazonaws.com/?Action="+action+"&X-Amz-Expires="+expires, nil)
	if err != nil {
		t.Fatal(err)
	}
	credentials := aws.Credentials{AccessKeyID: key, SecretAccessKey: "secret", SessionToken: "a/session+token=="}
	const emptyBody = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	url, _, err := v4.NewSigner().PresignHTTP(context.Background(), credentials, req, emptyBody, service, region, signingTime)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(url, "https://") + "&Version=1"
}

func bearerOf(url string) string {
	return bearerPrefix + base64.StdEncoding.EncodeToString([]byte(url))
}

func TestBearerTokenIsAPresignedURLOfCallWithBearerToken(t *testing.T) {
	const account = "123412341234"
	fallback := Scope{Account: "123456789012", Region: "us-east-1"}
	whole := presigned(t, account, "sagemaker", "eu-west-1", "CallWithBearerToken", "300")
	soon := signingTime.Add(time.Minute)
	for name, tc := range map[string]struct {
		token  string
		now    time.Time
		want   Scope
		status int
		says   string
	}{
		"account and region":    {token: bearerOf(whole), now: soon, want: Scope{account, "eu-west-1"}},
		"without the prefix":    {token: base64.StdEncoding.EncodeToString([]byte(whole)), now: soon, want: Scope{account, "eu-west-1"}},
		"URL-safe, not padded":  {token: bearerPrefix + base64.RawURLEncoding.EncodeToString([]byte(whole)), now: soon, want: Scope{account, "eu-west-1"}},
		"with a scheme":         {token: bearerOf("https://" + whole), now: soon, want: Scope{account, "eu-west-1"}},
		"an ordinary key":       {token: bearerOf(presigned(t, "AKIAEXAMPLE", "sagemaker", "eu-west-1", "CallWithBearerToken", "300")), now: soon, want: Scope{fallback.Account, "eu-west-1"}},
		"a clock that is ahead": {token: bearerOf(whole), now: signingTime.Add(-10 * time.Minute), want: Scope{account, "eu-west-1"}},
		"the last moment":       {token: bearerOf(whole), now: signingTime.Add(300*time.Second - 1), want: Scope{account, "eu-west-1"}},
		"expired":               {token: bearerOf(whole), now: signingTime.Add(300 * time.Second), status: 403, says: "expired at 2026-11-23T12:05:00Z"},
		"not valid yet":         {token: bearerOf(whole), now: signingTime.Add(-16 * time.Minute), status: 401, says: "not valid yet"},
		"nothing":               {now: soon, status: 401, says: "no URL"},
		"not base64":            {token: bearerPrefix + "%%%", now: soon, status: 401, says: "not base64"},
		"an OpenAI key":         {token: "sk-proj-0123456789", now: soon, status: 401, says: "not valid"},
		"no query":              {token: bearerOf("sagemaker.amazonaws.com/"), now: soon, status: 401, says: "no URL"},
		"another action":        {token: bearerOf(presigned(t, account, "sagemaker", "eu-west-1", "DescribeEndpoint", "300")), now: soon, status: 401, says: "CallWithBearerToken"},
		"not signed":            {token: bearerOf(strings.ReplaceAll(whole, "X-Amz-Signature", "Y")), now: soon, status: 401, says: "pre-signed"},
		"Bedrock's":             {token: bearerOf(presigned(t, account, "bedrock", "eu-west-1", "CallWithBearerToken", "300")), now: soon, status: 401, says: "not for sagemaker"},
		"no date":               {token: bearerOf(strings.ReplaceAll(whole, "X-Amz-Date", "Y")), now: soon, status: 401, says: "X-Amz-Date"},
		"no lifetime":           {token: bearerOf(strings.ReplaceAll(whole, "X-Amz-Expires", "Y")), now: soon, status: 401, says: "X-Amz-Expires"},
		"longer than 12 hours":  {token: bearerOf(presigned(t, account, "sagemaker", "eu-west-1", "CallWithBearerToken", "43201")), now: soon, status: 401, says: "X-Amz-Expires"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ScopeFromBearer(tc.token, fallback, tc.now)
			if tc.status == 0 {
				if err != nil || got != tc.want {
					t.Errorf("got %v, error %v", got, err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Status != tc.status || !strings.Contains(e.Message, tc.says) {
				t.Errorf("got %v, want status %d and %q", err, tc.status, tc.says)
			}
		})
	}
}

func FuzzScopeFromBearer(f *testing.F) {
	f.Add(bearerOf(presigned(f, "123412341234", "sagemaker", "eu-west-1", "CallWithBearerToken", "300")))
	f.Add("sk-proj-0123456789")
	f.Fuzz(func(t *testing.T, token string) {
		fallback := Scope{Account: "123456789012", Region: "us-east-1"}
		scope, err := ScopeFromBearer(token, fallback, signingTime)
		var e *Error
		switch {
		case err == nil && (!IsAccount(scope.Account) || !IsRegion(scope.Region)):
			t.Errorf("scope %v", scope)
		case err != nil && !errors.As(err, &e):
			t.Errorf("error %v", err)
		}
	})
}
