package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/spf13/pflag"

	"github.com/sagelocal/sagelocal/dataplane/routelab"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// benchTarget says what is measured.
type benchTarget struct {
	url        string
	controlURL string
	region     string
	endpoints  []string
	variant    string
	accept     string
	timeout    time.Duration
}

func (t *benchTarget) register(flags *pflag.FlagSet) {
	flags.StringVar(&t.url, "endpoint-url", "http://127.0.0.1:7240", "URL of SageMaker Runtime, ours or any other; all load goes there")
	flags.StringVar(&t.controlURL, "control-url", "", "URL of SageMaker's control plane (default the endpoint URL, or for AWS the region's)")
	flags.StringVar(&t.region, "region", "", "region (default the SDK's, else us-east-1)")
	flags.StringSliceVar(&t.endpoints, "endpoint", nil, "endpoint to measure; several are compared")
	flags.StringVar(&t.variant, "target-variant", "", "TargetVariant of every request")
	flags.StringVar(&t.accept, "accept", "", "Accept of every request")
	flags.DurationVar(&t.timeout, "timeout", 65*time.Second, "give up on a request after this long; SageMaker itself does after 60s")
}

const (
	defaultBenchAccount = "123456789012"
	defaultBenchRegion  = "us-east-1"
)

// benchClient is the SDK's clients for one URL.
type benchClient struct {
	url      *url.URL
	control  *sagemaker.Client
	runtime  *sagemakerruntime.Client
	http     *http.Client // for our own routes
	region   string
	account  string // empty when the credentials do not tell
	loopback bool
	variant  *string
	accept   *string
}

func newBenchClient(ctx context.Context, t *benchTarget, load *routelab.Load) (*benchClient, error) {
	at, err := parseURL(t.url)
	if err != nil {
		return nil, fmt.Errorf("--endpoint-url: %w", err)
	}
	controlAt := controlURL(at)
	if t.controlURL != "" {
		if controlAt, err = parseURL(t.controlURL); err != nil {
			return nil, fmt.Errorf("--control-url: %w", err)
		}
	}
	c := &benchClient{url: at, loopback: isLoopback(at), variant: optional(t.variant), accept: optional(t.accept)}
	cfg, err := c.configure(ctx, t.region)
	if err != nil {
		return nil, err
	}
	connections := max(load.Users, load.MaxInFlight)
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		tr.MaxIdleConns, tr.MaxIdleConnsPerHost, tr.MaxConnsPerHost = 0, connections, 0
		tr.IdleConnTimeout = 5 * time.Minute // think time must not cost a new connection
		tr.DisableCompression = true
		tr.ReadBufferSize, tr.WriteBufferSize = 32<<10, 32<<10
	})
	cfg.HTTPClient = transport
	c.http = &http.Client{Timeout: 10 * time.Second}
	c.control = sagemaker.NewFromConfig(cfg, func(o *sagemaker.Options) { o.BaseEndpoint = aws.String(controlAt.String()) })
	// A retry would hide an error and lengthen a latency.
	c.runtime = sagemakerruntime.NewFromConfig(cfg, func(o *sagemakerruntime.Options) {
		o.BaseEndpoint, o.Retryer = aws.String(at.String()), aws.NopRetryer{}
	})
	return c, nil
}

// configure takes the SDK's default chain, and for a loopback URL a placeholder
// where that has no credentials; the instance metadata service is not asked then.
func (c *benchClient) configure(ctx context.Context, region string) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{config.WithRegion(region)}
	if c.loopback {
		options = append(options, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, fmt.Errorf("SDK configuration: %w", err)
	}
	if cfg.Region == "" {
		cfg.Region = defaultBenchRegion
	}
	key, err := cfg.Credentials.Retrieve(ctx)
	switch {
	case err != nil && !c.loopback:
		return cfg, fmt.Errorf("credentials: %w", err)
	case err != nil:
		cfg.Credentials = credentials.NewStaticCredentialsProvider(defaultBenchAccount, "bench", "")
		c.account = defaultBenchAccount
	case sdkcompat.IsAccount(key.AccessKeyID):
		c.account = key.AccessKeyID
	}
	c.region = cfg.Region
	return cfg, nil
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("%q is not http://HOST:PORT or https://HOST", text)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// controlURL is where the control plane of a runtime's URL is: AWS has a host of
// its own for it (AWS General Reference: Amazon SageMaker AI endpoints).
func controlURL(runtime *url.URL) *url.URL {
	u := *runtime
	for _, prefix := range [][2]string{{"runtime.sagemaker.", "api.sagemaker."}, {"runtime-fips.sagemaker.", "api-fips.sagemaker."}} {
		if rest, ok := strings.CutPrefix(u.Host, prefix[0]); ok {
			u.Host = prefix[1] + rest
		}
	}
	return &u
}

func isLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// target sends requests to one endpoint through the SDK.
func (c *benchClient) target(endpoint string) routelab.Target {
	return func(ctx context.Context, r routelab.Request) (routelab.Response, error) {
		in := sagemakerruntime.InvokeEndpointInput{
			EndpointName: &endpoint, Body: r.Body, Accept: c.accept, TargetVariant: c.variant, ContentType: optional(r.ContentType),
		}
		out, err := c.runtime.InvokeEndpoint(ctx, &in)
		if err != nil {
			return failedResponse(err)
		}
		raw, _ := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response)
		return responseOf(raw), nil
	}
}

func responseOf(raw *smithyhttp.Response) routelab.Response {
	if raw == nil || raw.Response == nil {
		return routelab.Response{}
	}
	return routelab.Response{Status: raw.StatusCode, Instance: raw.Header.Get("X-Sagelocal-Instance")}
}

// failedResponse counts an error that AWS's protocol names by that name.
func failedResponse(err error) (routelab.Response, error) {
	var resp routelab.Response
	if answered, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		resp = responseOf(answered.Response)
	}
	if named, ok := errors.AsType[smithy.APIError](err); ok {
		return resp, &routelab.Failure{Kind: named.ErrorCode(), Err: err}
	}
	return resp, err
}

// subjects are the endpoints as the experiment wants them.
func (c *benchClient) subjects(ctx context.Context, endpoints []string, f *benchFlags) ([]routelab.Subject, error) {
	subjects := make([]routelab.Subject, len(endpoints))
	for i, name := range endpoints {
		s := routelab.Subject{Strategy: name, Target: c.target(name)}
		if f.compare.on() {
			s.Strategy, s.Instances = f.compare.strategies[i], f.compare.instances
		}
		fleet := func(ctx context.Context) (map[string]int, error) { return c.fleet(ctx, name) }
		if seen, err := fleet(ctx); err == nil {
			s.Fleet = fleet
			if s.Instances == 0 {
				s.Instances = len(seen)
			}
		}
		if s.Instances == 0 {
			s.Instances = c.describedInstances(ctx, name)
		}
		subjects[i] = s
	}
	return subjects, ctx.Err()
}

// describedInstances is zero where nobody tells: a URL may be a runtime alone.
func (c *benchClient) describedInstances(ctx context.Context, endpoint string) int {
	out, err := c.control.DescribeEndpoint(ctx, &sagemaker.DescribeEndpointInput{EndpointName: &endpoint},
		func(o *sagemaker.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		return 0
	}
	n := 0
	for _, v := range out.ProductionVariants {
		n += int(aws.ToInt32(v.CurrentInstanceCount))
	}
	return n
}

// fleet reads what each instance has in flight from sagelocal's own route
// (docs/admin.md).
func (c *benchClient) fleet(ctx context.Context, endpoint string) (map[string]int, error) {
	at := c.url.JoinPath("/_sagelocal/fleet")
	if c.account != "" {
		at.RawQuery = url.Values{"account": {c.account}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fleet: %s", resp.Status)
	}
	var view struct {
		Endpoints []struct {
			Region, Name string
			Variants     []struct {
				Instances []struct {
					ID       string `json:"instance_id"`
					State    string `json:"state"`
					InFlight int    `json:"in_flight"`
				}
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&view); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	inFlight := map[string]int{}
	for _, e := range view.Endpoints {
		if e.Region != c.region || !strings.EqualFold(e.Name, endpoint) {
			continue
		}
		for _, v := range e.Variants {
			for _, in := range v.Instances {
				if in.State == "InService" {
					inFlight[in.ID] = in.InFlight
				}
			}
		}
	}
	if len(inFlight) == 0 {
		return nil, fmt.Errorf("fleet: no instance of %s", endpoint)
	}
	return inFlight, nil
}

// preflightTries are enough for a model that fails now and then.
const preflightTries = 3

// preflight refuses to measure an endpoint that does not answer.
func (c *benchClient) preflight(ctx context.Context, subjects []routelab.Subject, load *routelab.Load) error {
	for _, s := range subjects {
		var err error
		for range preflightTries {
			if err = try(ctx, s, load); err == nil || ctx.Err() != nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("%s does not answer: %w", s.Strategy, err)
		}
	}
	return nil
}

func try(ctx context.Context, s routelab.Subject, load *routelab.Load) error {
	ctx, cancel := context.WithTimeout(ctx, load.Timeout)
	defer cancel()
	_, err := s.Target(ctx, load.First())
	return err
}
