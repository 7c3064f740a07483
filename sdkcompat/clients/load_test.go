package clients_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
)

// serving is which models and variants may answer at a time.
type serving struct{ models, variants []string }

func (s *serving) has(model, variant string) bool {
	return slices.Contains(s.models, model) && slices.Contains(s.variants, variant)
}

// load is a number of clients that invoke an endpoint one request after the
// other, each with a text of its own. The answer must be the name of a model that
// may answer, and that text to its last byte. The models understand "tell".
type load struct {
	endpoint string
	stopping chan struct{}
	running  sync.WaitGroup
	answered atomic.Int64
	now      atomic.Pointer[serving]
	cut      atomic.Int64 // connections that the daemon has ended

	mu     sync.Mutex
	failed []error
}

// sender invokes the load's endpoint, and variant if it is not empty. It returns
// the answer and the variant that gave it.
type sender func(ctx context.Context, body, variant string) (answer, by string, err error)

// loadClients is the number of clients: every eighth is the Go SDK, the others
// keep one plain connection.
const loadClients = 16

func (c *goClient) startLoad(t *testing.T, endpoint string, now serving) *load {
	t.Helper()
	l := &load{endpoint: endpoint, stopping: make(chan struct{})}
	l.now.Store(&now)
	for i := range loadClients {
		send := c.sendPlain(t, l)
		if i%8 == 0 {
			send = c.sendSDK(endpoint)
		}
		l.running.Go(func() { l.run(t.Context(), i, send) })
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) stop() {
	select {
	case <-l.stopping:
	default:
		close(l.stopping)
	}
	l.running.Wait()
}

func (l *load) run(ctx context.Context, client int, send sender) {
	for n := 0; ; n++ {
		select {
		case <-l.stopping:
			return
		default:
		}
		if err := l.one(ctx, client, n, send); err != nil {
			l.mu.Lock()
			l.failed = append(l.failed, fmt.Errorf("request %d of client %d: %w", n, client, err))
			l.mu.Unlock()
		}
		l.answered.Add(1)
	}
}

func (l *load) one(ctx context.Context, client, n int, send sender) error {
	text := fmt.Sprintf("%d/%d ", client, n)
	switch { // most are short, some do not fit into one packet or one buffer
	case n%32 == 0:
		text = strings.Repeat(text, 5000)
	case n%8 == 0:
		text = strings.Repeat(text, 300)
	}
	pause, variant := 0, ""
	if n%4 == 1 {
		pause = 20 // half of the answer is out for so long
	}
	if n%4 == 3 {
		variant = "b"
	}
	before := l.now.Load()
	answer, by, err := send(ctx, fmt.Sprintf("tell %02d %s", pause, text), variant)
	if err != nil {
		return err
	}
	after := l.now.Load()
	model, rest, _ := strings.Cut(answer, " ")
	switch {
	case rest != text:
		return fmt.Errorf("%d bytes of answer, %.40q, are not the %d that were sent", len(answer), answer, len(text))
	case variant != "" && by != variant:
		return fmt.Errorf("variant %s answered in place of %s", by, variant)
	case !before.has(model, by) && !after.has(model, by):
		return fmt.Errorf("model %s of variant %s answered; before there was %v, after %v", model, by, *before, *after)
	}
	return nil
}

// during makes a change, during and after which the load goes on for n requests
// in all.
func (l *load) during(t *testing.T, n int64, between, after serving, change func()) {
	t.Helper()
	begun := l.answered.Load()
	l.now.Store(&between)
	change()
	changed := l.answered.Load()
	l.now.Store(&after)
	// A client may have one request under way that was begun before the change.
	l.await(t, max(begun+n, changed+2*loadClients))
	l.check(t)
	t.Logf("%d requests during the change, %d in all", changed-begun, l.answered.Load()-begun)
}

func (l *load) await(t *testing.T, n int64) {
	t.Helper()
	eventually(t, waitLimit, func() error {
		if got := l.answered.Load(); got < n {
			return fmt.Errorf("%d of %d requests", got, n)
		}
		return nil
	})
}

func (l *load) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) > 0 {
		t.Fatalf("%d of %d requests failed:\n%v", len(l.failed), l.answered.Load(), errors.Join(l.failed[:min(5, len(l.failed))]...))
	}
}

func (c *goClient) sendSDK(endpoint string) sender {
	return func(ctx context.Context, body, variant string) (string, string, error) {
		in := &sagemakerruntime.InvokeEndpointInput{EndpointName: &endpoint, ContentType: aws.String("text/plain"), Body: []byte(body)}
		if variant != "" {
			in.TargetVariant = &variant
		}
		out, err := c.runtime.InvokeEndpoint(ctx, in)
		if err != nil {
			return "", "", err
		}
		return string(out.Body), aws.ToString(out.InvokedProductionVariant), nil
	}
}

// watchedConn counts an end of the connection that the client did not make.
// (net/http makes one itself when its own goroutine has not told it within 50 ms
// that the request is out, as happens on a busy machine.)
type watchedConn struct {
	net.Conn
	cut *atomic.Int64
}

func (c watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.cut.Add(1)
	}
	return n, err
}

// sendPlain keeps its connection.
func (c *goClient) sendPlain(t *testing.T, l *load) sender {
	transport := &http.Transport{
		MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return watchedConn{conn, &l.cut}, err
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	return func(ctx context.Context, body, variant string) (string, string, error) {
		url := c.daemon.URL + "/endpoints/" + l.endpoint + "/invocations"
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			return "", "", err
		}
		req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+c.account+"/20260101/us-east-1/sagemaker/aws4_request, SignedHeaders=host, Signature=0")
		req.Header.Set("Content-Type", "text/plain")
		if variant != "" {
			req.Header.Set("X-Amzn-SageMaker-Target-Variant", variant)
		}
		res, err := client.Do(req)
		if err != nil {
			return "", "", err
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d: %.200s", res.StatusCode, answer)
		}
		return string(answer), res.Header.Get("X-Amzn-Invoked-Production-Variant"), err
	}
}
