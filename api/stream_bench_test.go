package api

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
)

// BenchmarkStream is a stream of a thousand chunks of 64 bytes from a worker over
// HTTP, whose chunks come many at a time.
func BenchmarkStream(b *testing.B) {
	const chunks = 1000
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" +
		strings.Repeat("40\r\n"+strings.Repeat("x", 64)+"\r\n", chunks) + "0\r\n\r\n")
	worker := answerRaw(b, func(r *bufio.Reader) ([]byte, bool) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return nil, false
		}
		_, err = io.Copy(io.Discard, req.Body)
		if req.URL.Path == "/ping" {
			return []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), err == nil
		}
		return answer, err == nil
	})
	w, err := dataplane.StartHTTP(b.Context(), dataplane.HTTPConfig{Kind: "upstream", Address: worker})
	if err != nil {
		b.Fatal(err)
	}
	address := serveWorker(b, w)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 256<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(conn, strings.Replace(streamRequest, "/e/", "/bench/", 1)); err != nil {
			b.Fatal(err)
		}
		for {
			n, err := conn.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			if bytes.HasSuffix(buf[:n], []byte("0\r\n\r\n")) {
				break
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/chunks, "ns/chunk")
}

// answerRaw is a server that answers every request of every connection with the
// bytes that respond gives, and ends the connection when there is no more to come.
func answerRaw(tb testing.TB, respond func(*bufio.Reader) (answer []byte, more bool)) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for r := bufio.NewReader(conn); ; {
					answer, more := respond(r)
					if _, err := conn.Write(answer); err != nil || !more {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}
