package api

import (
	"net"
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
			if site := string(value); site != "" && site != "same-origin" && site != "none" {
				return sdkcompat.CrossSiteRefused.Error()
			}
		case "Origin":
			if u, err := url.Parse(string(value)); len(value) > 0 && (err != nil || !strings.EqualFold(u.Host, text(h.Host()))) {
				return sdkcompat.OriginRefused.Error(printable(string(value)))
			}
		}
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
