package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
)

// A body is passed on untouched (docs: your-algorithms-inference-code), also one
// that an HTTP library would like to take apart.
func TestMultipartBodyReachesTheWorkerByteForByte(t *testing.T) {
	w, err := simulated.New(simulated.Config{}, controlplane.Shape, 1).Launch(t.Context(), dataplane.Spec{Shape: dataplane.Shape{VCPU: 2}})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := dataplane.NewPool(dataplane.Routing{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	in := dataplane.NewInstance(pool, "i-0123456789abcdef0", "ml.m5.large", 0, time.Now())
	in.Serve(w, time.Now())
	fleet := dataplane.NewFleet()
	fleet.Publish(dataplane.Key{Account: benchScope.Account, Region: benchScope.Region, Name: "e"}, &dataplane.Snapshot{
		Serving: true, Variants: []dataplane.Variant{{Name: "AllTraffic", Weight: 1, Pool: pool}},
	}, 1)
	server := New(Options{Fleet: fleet, Scope: benchScope, Logger: slog.New(slog.DiscardHandler)})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(ln) }()
	defer func() { _ = server.Shutdown(context.Background()) }()

	body := "--b\r\nContent-Disposition: form-data; name=\"x\"; filename=\"y.bin\"\r\nX-Odd:  kept\r\n\r\n\x00\x01\r\n--b\r\n" +
		"Content-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--\r\nepilogue"
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /endpoints/e/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil || string(got) != body || answer.StatusCode != http.StatusOK {
		t.Errorf("%d %q, %v; want the body back", answer.StatusCode, got, err)
	}
}
