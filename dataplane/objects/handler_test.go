package objects_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sagelocal/sagelocal/dataplane/objects"
)

func TestOtherBucketsAreAtTheEndpoint(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "from")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the environment")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "k"), []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/far/k" || !strings.Contains(r.Header.Get("Authorization"), "Credential=from/") || !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/") {
			t.Errorf("request for %s signed as %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		fmt.Fprint(w, "there")
	}))
	defer elsewhere.Close()
	store := open(t, objects.Options{
		Endpoint: elsewhere.URL, Region: "eu-west-1", PathStyle: true, Buckets: map[string]string{"near": dir},
	})
	for b, want := range map[string]string{"near": "here", "far": "there"} {
		if got := get(t, store.Client(b), b, "k"); got != want {
			t.Errorf("%s holds %q, want %q", b, got, want)
		}
	}
}

// TestAnotherS3GetsNoChecksumsThatItMayNotKnow: what SDKs of 2025 and later add to
// PutObject, older servers refuse.
func TestAnotherS3GetsNoChecksumsThatItMayNotKnow(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "from")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the environment")
	for _, asked := range []string{"", "when_supported"} {
		t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", asked)
		var got http.Header
		elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }))
		defer elsewhere.Close()
		put(t, open(t, objects.Options{Endpoint: elsewhere.URL, PathStyle: true}).Client("far"), "far", "k", "body")
		if sum := got.Get("X-Amz-Checksum-Crc32"); (sum != "") != (asked != "") || got.Get("X-Amz-Trailer") != "" {
			t.Errorf("asked for %q: %v", asked, got)
		}
	}
}

func TestAnyCredentialsDo(t *testing.T) {
	url := serve(t, open(t, objects.Options{}))
	for _, pathStyle := range []bool{true, false} {
		client := s3.New(s3.Options{
			BaseEndpoint: aws.String(strings.Replace(url, "127.0.0.1", "localhost", 1)), UsePathStyle: pathStyle, Region: "eu-west-1",
			Credentials: credentials.NewStaticCredentialsProvider("123456789012", "any", ""),
			HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(url, "http://"))
			}}},
		})
		bucket(t, client, "b00")
		put(t, client, "b00", "a key", "body")
		if get(t, client, "b00", "a key") != "body" {
			t.Errorf("path style %v: another body", pathStyle)
		}
		signed, err := s3.NewPresignClient(client).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b00"), Key: aws.String("a key")})
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequest(http.MethodGet, strings.NewReplacer("b00.localhost", "127.0.0.1", "localhost", "127.0.0.1").Replace(signed.URL), nil)
		req.Host = signed.SignedHeader.Get("Host")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(res.Body); string(body) != "body" {
			t.Errorf("path style %v: presigned URL answers %s %q", pathStyle, res.Status, body)
		}
		res.Body.Close()
	}
}

// The Java SDK and minio-go sign every chunk and put the checksum behind.
func TestSignedChunksWithATrailer(t *testing.T) {
	store := open(t, objects.Options{})
	bucket(t, store.Client(""), "b00")
	body := "5;chunk-signature=0\r\nhello\r\n0;chunk-signature=0\r\nx-amz-checksum-crc32:NhCmhg==\r\nx-amz-trailer-signature:0\r\n\r\n"
	req, _ := http.NewRequest(http.MethodPut, serve(t, store)+"/b00/k", strings.NewReader(body))
	req.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
	req.Header.Set("X-Amz-Decoded-Content-Length", "5")
	req.Header.Set("Content-Encoding", "aws-chunked")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	res, err = http.Get(req.URL.String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, _ := io.ReadAll(res.Body); string(got) != "hello" || res.Header.Get("Content-Encoding") != "" {
		t.Errorf("object is %q with Content-Encoding %q", got, res.Header.Get("Content-Encoding"))
	}
}

func TestWebPagesAreRefused(t *testing.T) {
	url := serve(t, open(t, objects.Options{Hosts: []string{"box.example"}}))
	for _, c := range []struct {
		name, host, header, value string
		want                      int
	}{
		{"a plain request", "", "", "", 200},
		{"a name that is allowed", "box.example:7241", "", "", 200},
		{"a bucket below localhost", "nobucket.localhost", "", "", 404},
		{"a bucket below s3.localhost", "nobucket.s3.localhost:7241", "", "", 404},
		{"localhost as S3's own name", "s3.localhost", "", "", 200},
		{"a name bound to 127.0.0.1", "evil.example", "", "", 403},
		{"an origin elsewhere", "", "Origin", "http://evil.example", 403},
		{"no origin to speak of", "", "Origin", "null", 403},
		{"a page elsewhere", "", "Sec-Fetch-Site", "cross-site", 403},
		{"the address bar", "", "Sec-Fetch-Site", "none", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodOptions, http.MethodPut} {
				req, _ := http.NewRequest(method, url+"/", nil)
				if method == http.MethodPut && c.want != 403 {
					continue
				}
				if c.host != "" {
					req.Host = c.host
				}
				if c.header != "" {
					req.Header.Set(c.header, c.value)
				}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if (method == http.MethodGet || c.want == 403) && res.StatusCode != c.want {
					t.Errorf("%s: status %d, want %d", method, res.StatusCode, c.want)
				}
				if got := res.Header.Get("Access-Control-Allow-Origin"); got != "" {
					t.Errorf("%s: Access-Control-Allow-Origin is %q", method, got)
				}
			}
		})
	}
}

func TestUploadsThatBreakOffLeaveNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s3")
	store := open(t, objects.Options{Dir: dir})
	client := store.Client("")
	bucket(t, client, "b00")
	put(t, client, "b00", "k", "good")
	address := strings.TrimPrefix(serve(t, store), "http://")
	for _, request := range []string{
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf",
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nX-Amz-Decoded-Content-Length: 100\r\n\r\nhalf",
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6000000000\r\n\r\n",
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-MD5: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nhalf",
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\nhalf",
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).CloseWrite()
		if answer, _ := io.ReadAll(conn); strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%.60q was answered %.40q", request, answer)
		}
		conn.Close()
	}
	if got := get(t, client, "b00", "k"); got != "good" {
		t.Errorf("the object holds %q", got)
	}
	if n := files(t, dir); n != 1 {
		t.Errorf("%d files of contents, want 1", n)
	}
}
