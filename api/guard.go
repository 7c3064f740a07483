package api

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// guard refuses what a web page could make a browser send. sagelocal listens on
// loopback without a password, so a page must reach it neither across sites
// (Origin, Sec-Fetch-Site) nor by a name that it has bound to 127.0.0.1 (Host).
// SDKs send none of the first two and a host that is an address, localhost or a
// name that the operator has allowed.
type guard struct {
	hosts []string // allowed besides addresses and localhost; lower case
}

// refuses says why a request is refused; nil when it is not.
func (g *guard) refuses(h *fasthttp.RequestHeader) *sdkcompat.Error {
	if host := text(h.Host()); !g.allows(host) {
		return sdkcompat.HostRefused.Error(printable(host))
	}
	for name, value := range h.All() { // one pass: each Peek is a search of its own
		switch string(name) {
		case "Sec-Fetch-Site":
			if e := siteRefused(string(value)); e != nil {
				return e
			}
		case "Origin":
			if e := originRefused(string(value), text(h.Host())); e != nil {
				return e
			}
		}
	}
	return nil
}

// refusesRequest is refuses for net/http's requests.
func (g *guard) refusesRequest(r *http.Request) *sdkcompat.Error {
	if !g.allows(r.Host) {
		return sdkcompat.HostRefused.Error(printable(r.Host))
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if e := siteRefused(site); e != nil {
			return e
		}
	}
	for _, origin := range r.Header["Origin"] {
		if e := originRefused(origin, r.Host); e != nil {
			return e
		}
	}
	return nil
}

func siteRefused(site string) *sdkcompat.Error {
	if site != "" && site != "same-origin" && site != "none" {
		return sdkcompat.CrossSiteRefused.Error()
	}
	return nil
}

func originRefused(origin, host string) *sdkcompat.Error {
	if u, err := url.Parse(origin); origin != "" && (err != nil || !strings.EqualFold(u.Host, host)) {
		return sdkcompat.OriginRefused.Error(printable(origin))
	}
	return nil
}

func (g *guard) allows(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return slices.Contains(g.hosts, host)
}
