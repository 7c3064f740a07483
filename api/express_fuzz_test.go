package api

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// FuzzPlainRequestIsReadAsFasthttpReadsIt holds the two readers of requests
// together: what the express lane takes, fasthttp reads from the same bytes in the
// same way, up to the same byte; and the bytes that the lane gives to fasthttp mean
// what they meant when they came, however they were cut on their way.
func FuzzPlainRequestIsReadAsFasthttpReadsIt(f *testing.F) {
	for _, requests := range []map[string]string{plainRequests, refusedRequests, otherRequests, closingRequests} {
		for _, text := range requests {
			f.Add([]byte(text))
			f.Add([]byte(text + plainText("bench", "behind")))
			f.Add([]byte(text[:len(text)/2]))
		}
	}
	for _, text := range []string{
		"POST /endpoints/e/invocations HTTP/1.1\nHost: localhost\nContent-Length: 1\n\nx",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\nx",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nA: b\n\r\n\r\nx",
		"POST /endpoints/e/invocations HTTP/1.1\r\n Host: localhost\r\nContent-Length: 1\r\n\r\nx",
		"POST  /endpoints/e/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: e.localhost:\r\nContent-Length: 0\r\n\r\n",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: fe80::1\r\nContent-Length: 0\r\n\r\n",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: [fe80::1%25en0]:1\r\nContent-Length: 0\r\n\r\n",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: a b.localhost\r\nContent-Length: 0\r\n\r\n",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Type:\r\nContent-Type: a\r\n\r\n",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: keep-alive, close\r\n\r\n",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection:\r\n\r\n",
		"POST /endpoints/e/invocations HTTP/1.1\r\nHost: localhost\r\nx-amzn-sagemaker- e:\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	server := New(Options{Hosts: []string{"sagelocal.test"}})
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), expressBuffer)]
		taken := bytes.Clone(data)
		p, verdict, h := expressReads(server, taken)
		if differ := changedBeyondCase(data, taken); differ != "" {
			t.Fatalf("the lane changed %s of %q", differ, data)
		}
		read := fasthttpReads(server, data)
		if verdict != plain {
			if again := fasthttpReads(server, taken); !reflect.DeepEqual(read, again) {
				t.Fatalf("%q\ncame as    %+v\nis left as %+v", data, read, again)
			}
		} else {
			want := []seen{{plain: true, path: "/endpoints/" + string(p.endpoint) + "/invocations", host: string(p.host), body: string(p.body), headers: h}}
			if len(read) == 0 || !reflect.DeepEqual(read[0], want[0]) {
				t.Fatalf("%q\nfor the lane %+v\nfor fasthttp %+v", data, want, read)
			}
			const sentinel = "PUT /behind HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
			read := fasthttpReads(server, append(bytes.Clone(data[:p.size]), sentinel...))
			if len(read) != 2 || !reflect.DeepEqual(read[0], want[0]) || read[1].path != "/behind" {
				t.Fatalf("%q\nfasthttp does not end the request at byte %d: %+v", data, p.size, read)
			}
		}
		for _, cut := range []int{1, len(data) / 3, len(data) / 2, len(data) - 1, max(p.size, 1) - 1} {
			if cut < 0 || cut > len(data) {
				continue
			}
			part, early, _ := expressReads(server, bytes.Clone(data[:cut]))
			if early != partial && (early != verdict || part.size != p.size) || early == partial && verdict == plain && cut >= p.size {
				t.Fatalf("%q\nis %d of %d bytes, its first %d bytes are %d of %d", data, verdict, p.size, cut, early, part.size)
			}
		}
	})
}

// seen is a request as a handler sees it.
type seen struct {
	plain   bool // POST over HTTP/1.1, keeps the connection, and is not refused
	path    string
	host    string
	body    string
	headers string // those that an invocation reads
	all     string // of a request that is not plain
}

// expressReads is what the express lane makes of bytes that have come.
func expressReads(s *Server, b []byte) (p plainRequest, v verdict, headers string) {
	var h invokeHeaders
	v = p.read(b, expressBuffer, &h)
	if v == plain && !s.express.admits(new(clientConn), p.host) {
		v = other
	}
	if v != plain {
		p.size = -1
	}
	return p, v, h.text()
}

// text leaves out names with a blank: they mean nothing, and fasthttp keeps their
// case, which is all that the lane changes.
func (h *invokeHeaders) text() string {
	known := slices.DeleteFunc(h.sagemaker, func(one invokeHeader) bool { return strings.Contains(one.name, " ") })
	return fmt.Sprintf("%q %q %q %q", h.contentType, h.accept, h.authorization, known)
}

// fasthttpReads is what the server's handler is given of bytes that have come.
func fasthttpReads(s *Server, b []byte) (all []seen) {
	s.http.Handler = func(ctx *fasthttp.RequestCtx) {
		r := &ctx.Request
		var h invokeHeaders
		h.read(&r.Header)
		one := seen{path: string(r.RequestURI()), host: string(r.Header.Host()), body: string(ctx.PostBody()), headers: h.text()}
		one.plain = ctx.IsPost() && r.Header.IsHTTP11() && !r.Header.ConnectionClose() && !r.MayContinue() && r.Header.ContentLength() >= 0 &&
			s.express.guard.refuses(&r.Header) == nil && strings.HasPrefix(one.path, "/endpoints/") && strings.HasSuffix(one.path, "/invocations")
		if !one.plain {
			var b strings.Builder
			fmt.Fprintf(&b, "%s %t %t", r.Header.Method(), r.Header.IsHTTP11(), r.Header.ConnectionClose())
			for name, value := range r.Header.All() {
				fmt.Fprintf(&b, "\n%s: %q", strings.ToLower(string(name)), value)
			}
			one.all = b.String()
		}
		all = append(all, one)
	}
	_ = s.http.ServeConn(&given{Reader: bytes.NewReader(b)}) // what it could not read is not in all
	return all
}

// changedBeyondCase finds a byte that differs in more than the case of a letter.
func changedBeyondCase(a, b []byte) string {
	for i := range a {
		if a[i] != b[i] && (a[i]|0x20 != b[i]|0x20 || a[i]|0x20 < 'a' || a[i]|0x20 > 'z') {
			return fmt.Sprintf("byte %d to %q", i, b[i])
		}
	}
	return ""
}

// given is a connection whose caller has sent some bytes and no more.
type given struct{ io.Reader }

func (*given) Write(p []byte) (int, error)      { return len(p), nil }
func (*given) Close() error                     { return nil }
func (*given) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*given) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*given) SetDeadline(time.Time) error      { return nil }
func (*given) SetReadDeadline(time.Time) error  { return nil }
func (*given) SetWriteDeadline(time.Time) error { return nil }
