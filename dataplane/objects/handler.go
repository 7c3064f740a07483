package objects

import (
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/rclone/gofakes3"
)

// maxRequests is how many requests the server works at; more are told to slow
// down, as S3 does.
const maxRequests = 512

// handler stands in front of the S3 library. It keeps browsers out, finds the
// bucket in the host, and mends what the library does not do.
type handler struct {
	library http.Handler
	backend *backend
	hosts   []string
	slots   chan struct{}
}

func newHandler(b *backend, o Options) *handler {
	h := &handler{backend: b, hosts: o.Hosts, slots: make(chan struct{}, maxRequests)}
	// Signatures are not verified, as they are not by the control plane: any
	// credentials do. A clock that is wrong is then of no account either.
	h.library = gofakes3.New(b, gofakes3.WithTimeSkewLimit(0), gofakes3.WithLogger(logger{o.Logger})).Server()
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := h.refuses(r); why != "" {
		writeError(w, r, http.StatusForbidden, "AccessDenied", why)
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		writeError(w, r, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
		return
	}
	if bucket := h.virtualHost(r.Host); bucket != "" {
		r.URL.Path, r.URL.RawPath = "/"+bucket+r.URL.Path, ""
	}
	bucket, key, _ := strings.Cut(strings.TrimLeft(r.URL.Path, "/"), "/")
	if h.backend.directory(bucket) != nil && writes(r.Method, key) {
		writeError(w, r, http.StatusForbidden, "AccessDenied",
			"Bucket "+bucket+" is a directory that the configuration file maps; it can be read only.")
		return
	}
	// The library reads the chunks of a signed body with trailers only if it is
	// not told of the trailers, which it does not look at.
	if r.Header.Get("X-Amz-Content-Sha256") == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" {
		r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
	}
	for _, name := range conditions {
		if value := r.Header.Get(name); value != "" {
			r.Header.Set(name, libraryETags(value))
		}
	}
	out := &response{ResponseWriter: w}
	h.library.ServeHTTP(out, r)
	out.begin()
}

// writes tells requests that change something. To create a bucket that exists
// changes nothing.
func writes(method, key string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	case http.MethodPut:
		return key != ""
	}
	return true
}

// refuses says why a request is refused; empty when it is not. The server listens
// on loopback and takes any credentials, so no web page may reach it: neither
// across sites nor by a name that it has bound to 127.0.0.1.
func (h *handler) refuses(r *http.Request) string {
	if !h.allows(r.Host) {
		return fmt.Sprintf("Host %.100q is not allowed: use an address, localhost, or a name given with --allow-host.", r.Host)
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return "Cross-site requests from browsers are refused."
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return fmt.Sprintf("Requests from origin %.100q are refused.", origin)
		}
	}
	return ""
}

func (h *handler) allows(host string) bool {
	host = hostname(host)
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return slices.ContainsFunc(h.domains(), func(domain string) bool {
		return host == domain || strings.HasSuffix(host, "."+domain)
	})
}

// virtualHost is the bucket in a host such as bucket.localhost; empty when there
// is none. AWS page: VirtualHosting.
func (h *handler) virtualHost(host string) string {
	host = hostname(host)
	for _, domain := range h.domains() {
		if bucket, ok := strings.CutSuffix(host, "."+domain); ok {
			return strings.TrimSuffix(strings.TrimSuffix(bucket, "s3"), ".")
		}
	}
	return ""
}

func (h *handler) domains() []string { return append([]string{"localhost"}, h.hosts...) }

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// response passes the library's answer on, with S3's ETags and without its
// welcome for all web pages.
type response struct {
	http.ResponseWriter
	begun bool
}

func (w *response) WriteHeader(status int) {
	if !w.begun {
		w.begun = true
		header := w.Header()
		for name := range header {
			if strings.HasPrefix(name, "Access-Control-") {
				header.Del(name)
			}
		}
		if etag := header.Get("ETag"); etag != "" {
			header.Set("ETag", wireETag(etag))
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) begin() {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
}

func (w *response) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

func (w *response) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	return io.Copy(w.ResponseWriter, r)
}

// writeError answers in S3's form. AWS page: ErrorResponses.
func writeError(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Amz-Request-Id", rand.Text()[:16])
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: code, Message: message}) // a caller that has gone does not miss it
}

// logger takes the library's messages of what went wrong.
type logger struct{ *slog.Logger }

func (l logger) Print(level gofakes3.LogLevel, v ...any) {
	if level == gofakes3.LogErr {
		l.Error("s3", "message", fmt.Sprintln(v...))
	}
}
