package api

import (
	"net/http"
	"testing"

	"github.com/valyala/fasthttp"
)

func TestGuardRefusesWhatAWebPageCanSend(t *testing.T) {
	g := &guard{hosts: []string{"sagelocal.test"}}
	for _, tc := range []struct {
		name    string
		host    string
		header  [2]string
		refused bool
	}{
		{"SDK on loopback", "127.0.0.1:7240", [2]string{}, false},
		{"SDK by name", "localhost:7240", [2]string{}, false},
		{"IPv6", "[::1]:7240", [2]string{}, false},
		{"subdomain of localhost", "e.localhost", [2]string{}, false},
		{"allowed name", "SageLocal.test:7240", [2]string{}, false},
		{"a name bound to 127.0.0.1 by its owner", "evil.example:7240", [2]string{}, true},
		{"no host", "", [2]string{}, true},
		{"other origin", "127.0.0.1:7240", [2]string{"Origin", "https://evil.example"}, true},
		{"opaque origin", "127.0.0.1:7240", [2]string{"Origin", "null"}, true},
		{"own origin", "127.0.0.1:7240", [2]string{"Origin", "http://127.0.0.1:7240"}, false},
		{"origin of another port", "127.0.0.1:7240", [2]string{"Origin", "http://127.0.0.1:8000"}, true},
		{"cross-site", "127.0.0.1:7240", [2]string{"Sec-Fetch-Site", "cross-site"}, true},
		{"same-site", "127.0.0.1:7240", [2]string{"Sec-Fetch-Site", "same-site"}, true},
		{"typed into the address bar", "127.0.0.1:7240", [2]string{"Sec-Fetch-Site", "none"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var h fasthttp.RequestHeader
			h.SetHost(tc.host)
			if tc.header[0] != "" {
				h.Set(tc.header[0], tc.header[1])
			}
			if e := g.refuses(&h); (e != nil) != tc.refused {
				t.Errorf("refused: %v, want %v", e, tc.refused)
			}
			r := &http.Request{Host: tc.host, Header: http.Header{}}
			if tc.header[0] != "" {
				r.Header.Set(tc.header[0], tc.header[1])
			}
			if e := g.refusesRequest(r); (e != nil) != tc.refused {
				t.Errorf("over HTTP/2 refused: %v, want %v", e, tc.refused)
			}
		})
	}
}
