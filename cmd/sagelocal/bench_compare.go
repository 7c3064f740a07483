package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/smithy-go"
	"github.com/spf13/pflag"
)

// benchCompare says which endpoints --compare makes.
type benchCompare struct {
	strategies   []string
	image        string
	modelData    string
	modelName    string
	role         string
	instances    int
	instanceType string
	prefixLength int32
	threshold    int32
}

func (c *benchCompare) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&c.strategies, "compare", nil, "make an endpoint for each of these RoutingStrategies and compare them; RANDOM, or else the first, is the baseline")
	flags.StringVar(&c.image, "image", "llm", "with --compare: the model's container image; testdata/sagelocal.yaml simulates llm")
	flags.StringVar(&c.modelData, "model-data", "", "with --compare: the model's ModelDataUrl")
	flags.StringVar(&c.modelName, "model-name", "", "with --compare: a model that exists, instead of --image")
	flags.StringVar(&c.role, "execution-role-arn", "", "with --compare: the model's ExecutionRoleArn (AWS wants one)")
	flags.IntVar(&c.instances, "instances", 4, "with --compare: instances behind each endpoint")
	flags.StringVar(&c.instanceType, "instance-type", "ml.m5.large", "with --compare: their type")
	flags.Int32Var(&c.prefixLength, "prefix-length", 1024, "with --compare: PrefixLength of PREFIX_AWARE")
	flags.Int32Var(&c.threshold, "concurrency-threshold", 8, "with --compare: ConcurrencyThreshold of PREFIX_AWARE")
}

func (c *benchCompare) on() bool { return len(c.strategies) > 0 }

func (c *benchCompare) check() error {
	if !c.on() {
		return nil
	}
	if c.instances < 1 {
		return errors.New("--instances must be at least 1")
	}
	for i, s := range c.strategies {
		if !slices.Contains(types.RoutingStrategy("").Values(), types.RoutingStrategy(s)) {
			return fmt.Errorf("--compare: %q is none of %v", s, types.RoutingStrategy("").Values())
		}
		if slices.Contains(c.strategies[:i], s) {
			return fmt.Errorf("--compare: %s twice", s)
		}
	}
	return nil
}

// made is what a comparison has created, to be deleted whatever happens.
type made struct {
	control   *sagemaker.Client
	poll      time.Duration
	model     string
	configs   []string
	endpoints []string
}

// How often a change of an endpoint is looked for: our own take milliseconds,
// AWS's minutes.
const (
	pollNear = 50 * time.Millisecond
	pollFar  = 15 * time.Second
)

// create makes all endpoints and returns when they are InService. After an error
// it returns what has been made until then.
func (c *benchCompare) create(ctx context.Context, client *benchClient, stderr io.Writer) (*made, error) {
	m := &made{control: client.control, poll: pollFar}
	role := c.role
	if client.loopback {
		m.poll = pollNear
		if role == "" {
			role = "arn:aws:iam::" + defaultBenchAccount + ":role/bench"
		}
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	prefix := "bench-" + hex.EncodeToString(id[:])
	fmt.Fprintf(stderr, "Creating %d endpoints named %s-..., %d × %s each\n", len(c.strategies), prefix, c.instances, c.instanceType)

	model := c.modelName
	if model == "" {
		// Noted before the call, as everywhere: one that is cut off may have worked.
		model, m.model = prefix, prefix
		in := &sagemaker.CreateModelInput{ModelName: &model, ExecutionRoleArn: optional(role), PrimaryContainer: &types.ContainerDefinition{
			Image: &c.image, ModelDataUrl: optional(c.modelData),
		}}
		if _, err := m.control.CreateModel(ctx, in); err != nil {
			return m, fmt.Errorf("create model: %w", err)
		}
	}
	for _, strategy := range c.strategies {
		name := prefix + "-" + strings.ToLower(strings.ReplaceAll(strategy, "_", "-"))
		if err := m.createEndpoint(ctx, name, c.variant(model, strategy)); err != nil {
			return m, err
		}
	}
	for _, name := range m.endpoints {
		waiter := sagemaker.NewEndpointInServiceWaiter(describeEndpoint(m.control.DescribeEndpoint), func(o *sagemaker.EndpointInServiceWaiterOptions) { o.MinDelay, o.MaxDelay = m.poll, m.poll })
		if err := waiter.Wait(ctx, &sagemaker.DescribeEndpointInput{EndpointName: &name}, time.Hour); err != nil {
			return m, fmt.Errorf("endpoint %s is not in service: %w", name, errors.Join(err, m.failureReason(ctx, name)))
		}
	}
	return m, nil
}

func (c *benchCompare) variant(model, strategy string) types.ProductionVariant {
	routing := &types.ProductionVariantRoutingConfig{RoutingStrategy: types.RoutingStrategy(strategy)}
	if routing.RoutingStrategy == types.RoutingStrategyPrefixAware {
		routing.PrefixAwareRoutingConfig = &types.PrefixAwareRoutingConfig{PrefixLength: &c.prefixLength, ConcurrencyThreshold: &c.threshold}
	}
	return types.ProductionVariant{
		VariantName: aws.String("AllTraffic"), ModelName: &model, RoutingConfig: routing,
		InitialInstanceCount: aws.Int32(int32(c.instances)), InstanceType: types.ProductionVariantInstanceType(c.instanceType),
	}
}

func (m *made) createEndpoint(ctx context.Context, name string, variant types.ProductionVariant) error {
	m.configs = append(m.configs, name)
	if _, err := m.control.CreateEndpointConfig(ctx, &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: &name, ProductionVariants: []types.ProductionVariant{variant},
	}); err != nil {
		return fmt.Errorf("create endpoint configuration: %w", err)
	}
	m.endpoints = append(m.endpoints, name)
	if _, err := m.control.CreateEndpoint(ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &name}); err != nil {
		return fmt.Errorf("create endpoint: %w", err)
	}
	return nil
}

// describeEndpoint is all that a waiter needs of a client. A waiter takes an
// interface, and a type behind an interface keeps all of its methods in the
// program: for sagemaker.Client that is 400 operations, half of the binary.
type describeEndpoint func(context.Context, *sagemaker.DescribeEndpointInput, ...func(*sagemaker.Options)) (*sagemaker.DescribeEndpointOutput, error)

// DescribeEndpoint calls the function.
func (d describeEndpoint) DescribeEndpoint(ctx context.Context, in *sagemaker.DescribeEndpointInput, options ...func(*sagemaker.Options)) (*sagemaker.DescribeEndpointOutput, error) {
	return d(ctx, in, options...)
}

// failureReason is an endpoint's own words about what keeps it from service.
func (m *made) failureReason(ctx context.Context, endpoint string) error {
	out, err := m.control.DescribeEndpoint(ctx, &sagemaker.DescribeEndpointInput{EndpointName: &endpoint})
	if err == nil && aws.ToString(out.FailureReason) != "" {
		return errors.New(*out.FailureReason)
	}
	return err
}

// deleteTimeout is long: AWS deletes no endpoint before it has been created.
const deleteTimeout = 30 * time.Minute

// delete removes what was made, endpoints first, and says what it could not.
func (m *made) delete(stderr io.Writer) error {
	if len(m.endpoints) == 0 && len(m.configs) == 0 && m.model == "" {
		return nil
	}
	fmt.Fprintln(stderr, "Deleting what was created")
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	var errs []error
	for _, name := range m.endpoints {
		errs = append(errs, m.gone(ctx, "endpoint "+name, func() error {
			_, err := m.control.DeleteEndpoint(ctx, &sagemaker.DeleteEndpointInput{EndpointName: &name})
			return err
		}))
	}
	for _, name := range m.endpoints {
		waiter := sagemaker.NewEndpointDeletedWaiter(describeEndpoint(m.control.DescribeEndpoint), func(o *sagemaker.EndpointDeletedWaiterOptions) { o.MinDelay, o.MaxDelay = m.poll, m.poll })
		if err := waiter.Wait(ctx, &sagemaker.DescribeEndpointInput{EndpointName: &name}, deleteTimeout); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s is not deleted: %w", name, err))
		}
	}
	for _, name := range m.configs {
		errs = append(errs, m.gone(ctx, "endpoint configuration "+name, func() error {
			_, err := m.control.DeleteEndpointConfig(ctx, &sagemaker.DeleteEndpointConfigInput{EndpointConfigName: &name})
			return err
		}))
	}
	if m.model != "" {
		errs = append(errs, m.gone(ctx, "model "+m.model, func() error {
			_, err := m.control.DeleteModel(ctx, &sagemaker.DeleteModelInput{ModelName: &m.model})
			return err
		}))
	}
	return errors.Join(errs...)
}

// gone deletes something, again and again while it may only be too early, as for
// an endpoint that is still Creating. What does not exist is gone.
func (m *made) gone(ctx context.Context, what string, remove func() error) error {
	for {
		err := remove()
		refused, ok := errors.AsType[smithy.APIError](err)
		switch {
		case err == nil, ok && strings.Contains(refused.ErrorMessage(), "Could not find"):
			return nil
		case !ok || !strings.Contains(refused.ErrorMessage(), "in-progress"):
			return fmt.Errorf("%s is left behind: %w", what, err)
		}
		select {
		case <-time.After(m.poll):
		case <-ctx.Done():
			return fmt.Errorf("%s is left behind: %w", what, err)
		}
	}
}
