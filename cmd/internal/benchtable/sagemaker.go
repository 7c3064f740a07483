package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// authorization looks like SigV4 and is as long; nobody here checks it.
var authorization = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/sagemaker/aws4_request, " +
	"SignedHeaders=content-type;host;x-amz-date, Signature=" + strings.Repeat("0f", 32)

const (
	endpointName = "bench"
	invokePath   = "/endpoints/" + endpointName + "/invocations"
	controlType  = "application/x-amz-json-1.1"
	describe     = `{"EndpointName":"` + endpointName + `"}`
)

// client speaks SageMaker's protocol without an SDK, whose start-up would be
// what is measured.
type client struct {
	http    http.Client
	address string // host:port
}

// call sends a control-plane operation; out may be nil.
func (c *client) call(ctx context.Context, operation, input string, out any) error {
	text, err := c.send(ctx, http.MethodPost, "/", input, map[string]string{
		"X-Amz-Target": "SageMaker." + operation, "Content-Type": controlType,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (c *client) send(ctx context.Context, method, path, body string, header map[string]string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", authorization)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, oneLine(string(text)))
	}
	return text, err
}

// createEndpoint makes model, configuration and endpoint, and returns when the
// endpoint is InService.
func (c *client) createEndpoint(ctx context.Context, image string, instances int) error {
	for _, step := range []struct{ operation, input string }{
		{"CreateModel", `{"ModelName":"bench","ExecutionRoleArn":"arn:aws:iam::123456789012:role/bench","PrimaryContainer":{"Image":"` + image + `"}}`},
		{"CreateEndpointConfig", fmt.Sprintf(`{"EndpointConfigName":"bench","ProductionVariants":[{"VariantName":"AllTraffic","ModelName":"bench",`+
			`"InitialInstanceCount":%d,"InstanceType":"ml.m5.large","RoutingConfig":{"RoutingStrategy":"LEAST_OUTSTANDING_REQUESTS"}}]}`, instances)},
		{"CreateEndpoint", `{"EndpointName":"bench","EndpointConfigName":"bench"}`},
	} {
		if err := c.call(ctx, step.operation, step.input, nil); err != nil {
			return err
		}
	}
	return c.awaitInService(ctx, endpointName)
}

func (c *client) awaitInService(ctx context.Context, name string) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Microsecond) {
		var endpoint struct{ EndpointStatus, FailureReason string }
		if err := c.call(ctx, "DescribeEndpoint", fmt.Sprintf(`{"EndpointName":%q}`, name), &endpoint); err != nil {
			return err
		}
		switch {
		case endpoint.EndpointStatus == "InService":
			return nil
		case endpoint.EndpointStatus == "Failed" || time.Now().After(deadline):
			return fmt.Errorf("endpoint is %s: %s", endpoint.EndpointStatus, endpoint.FailureReason)
		}
	}
}

// invoke answers once.
func (c *client) invoke(ctx context.Context) error {
	_, err := c.send(ctx, http.MethodPost, invokePath, string(requestBody), map[string]string{"Content-Type": "text/csv"})
	return err
}

// workers are the addresses of the endpoint's instances.
func (c *client) workers(ctx context.Context) ([]string, error) {
	text, err := c.send(ctx, http.MethodGet, "/_sagelocal/fleet", "", nil)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	var fleet struct {
		Endpoints []struct {
			Variants []struct {
				Instances []struct{ Address string }
			}
		}
	}
	if err := json.Unmarshal(text, &fleet); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	var addresses []string
	for _, e := range fleet.Endpoints {
		for _, v := range e.Variants {
			for _, in := range v.Instances {
				addresses = append(addresses, in.Address)
			}
		}
	}
	return addresses, nil
}

// server is a running sagelocal or moto_server.
type server struct {
	*child
	client
}

// startSagelocal starts the daemon with nothing kept; config is the text of its
// configuration file, or empty.
func (b *bench) startSagelocal(ctx context.Context, config string, flags ...string) (*server, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	args := append([]string{"serve", "--in-memory", "--listen", address, "--seed", "1"}, flags...)
	if config != "" {
		path := filepath.Join(b.dir, "sagelocal.yaml")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--config", path)
	}
	return serve(ctx, address, b.binary, args...)
}

func serve(ctx context.Context, address, program string, args ...string) (*server, error) {
	process, err := spawn(ctx, !isMoto(program), program, args...)
	if err != nil {
		return nil, err
	}
	s := &server{child: process, client: client{address: address}}
	if err := s.awaitPort(ctx, address); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// requestBody is 50 bytes, a line of a CSV file as for a small tabular model.
var requestBody = []byte(csvBody(50))

// csvBody is that many bytes of such lines.
func csvBody(n int) string { return strings.Repeat("5.1,3.5,1.", n/10) }
