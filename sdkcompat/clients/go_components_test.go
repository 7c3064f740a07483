package clients_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
)

// tells is a specification of a simulated container that says its colour, on two
// vCPUs.
func tells(colour string) *types.InferenceComponentSpecification {
	return &types.InferenceComponentSpecification{
		Container: &types.InferenceComponentContainerSpecification{Image: aws.String("tell-" + colour + ":1")},
		ComputeResourceRequirements: &types.InferenceComponentComputeResourceRequirements{
			MinMemoryRequiredInMb: aws.Int32(1024), NumberOfCpuCoresRequired: aws.Float32(2),
		},
	}
}

// createComponent leaves the copy count out for a negative one.
func (c *goClient) createComponent(t *testing.T, name, endpoint string, spec *types.InferenceComponentSpecification, copies int32) {
	t.Helper()
	in := &sagemaker.CreateInferenceComponentInput{InferenceComponentName: &name, EndpointName: &endpoint, Specification: spec, Tags: []types.Tag{{Key: aws.String("by"), Value: aws.String("go")}}}
	if copies >= 0 {
		in.RuntimeConfig, in.VariantName = &types.InferenceComponentRuntimeConfig{CopyCount: &copies}, aws.String("hosts")
	}
	out, err := c.sm.CreateInferenceComponent(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if got := aws.ToString(out.InferenceComponentArn); got != c.arn("inference-component", name) {
		t.Errorf("got InferenceComponentArn %s", got)
	}
}

func (c *goClient) awaitComponent(t *testing.T, name string) (out *sagemaker.DescribeInferenceComponentOutput) {
	t.Helper()
	eventually(t, waitLimit, func() error {
		var err error
		if out, err = c.sm.DescribeInferenceComponent(t.Context(), &sagemaker.DescribeInferenceComponentInput{InferenceComponentName: &name}); err != nil {
			return err
		}
		if out.InferenceComponentStatus != types.InferenceComponentStatusInService {
			return fmt.Errorf("component %s is %s (%s)", name, out.InferenceComponentStatus, aws.ToString(out.FailureReason))
		}
		return nil
	})
	return out
}

func (c *goClient) ask(ctx context.Context, component, body string) (string, error) {
	out, err := c.runtime.InvokeEndpoint(ctx, &sagemakerruntime.InvokeEndpointInput{
		EndpointName: aws.String("shared"), InferenceComponentName: &component, ContentType: aws.String("text/csv"), Accept: aws.String("text/csv"), Body: []byte(body),
	})
	if err != nil {
		return "", err
	}
	return string(out.Body), nil
}

func (c *goClient) wantAnswer(t *testing.T, component, body, want string) {
	t.Helper()
	if got, err := c.ask(t.Context(), component, body); err != nil || got != want {
		t.Errorf("%s answers %q, %v; want %q", component, got, err, want)
	}
}

// The whole journey of inference components: a model in a process and a simulated
// container on one endpoint, an adapter, a rolling update under load, other
// numbers of copies down to none, and the deletion in AWS's order.
func TestGoClientInferenceComponents(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.createHosts(t)
	c.createModel(t, "iris", types.ContainerDefinition{Image: aws.String(irisImage), ModelDataUrl: aws.String(irisData)})
	model := tells("any")
	model.Container, model.ModelName = nil, aws.String("iris")
	c.createComponent(t, "flowers", "shared", model, 1)
	c.createComponent(t, "Colours", "shared", tells("blue"), 2)
	c.awaitComponent(t, "flowers")
	out := c.awaitComponent(t, "colours")
	if *out.InferenceComponentName != "Colours" || *out.EndpointName != "shared" || *out.RuntimeConfig.CurrentCopyCount != 2 ||
		*out.Specification.Container.DeployedImage.SpecifiedImage != "tell-blue:1" || out.Specifications != nil || out.FailureReason != nil {
		t.Errorf("got %+v", out)
	}
	c.wantAnswer(t, "flowers", "5.1,3.5,1.4,0.2\n", "setosa\n")
	c.wantAnswer(t, "COLOURS", "12345678 x", "blue  x")
	c.checkComponentErrors(t)
	c.checkComponentFleet(t)
	c.createComponent(t, "french", "shared", &types.InferenceComponentSpecification{
		BaseInferenceComponentName: aws.String("colours"), Container: &types.InferenceComponentContainerSpecification{ArtifactUrl: aws.String("s3://elsewhere/fr.tar.gz")},
	}, -1)
	c.awaitComponent(t, "french")
	c.wantAnswer(t, "french", "12345678 y", "blue  y")
	c.updateComponentUnderLoad(t)
	c.checkComponentList(t)
	c.deleteComponents(t)
}

func (c *goClient) createHosts(t *testing.T) {
	t.Helper()
	in := &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: aws.String("shared"), ExecutionRoleArn: aws.String("arn:aws:iam::" + c.account + ":role/sagemaker"),
		ProductionVariants: []types.ProductionVariant{{
			VariantName: aws.String("hosts"), InstanceType: types.ProductionVariantInstanceTypeMlM5Xlarge, InitialInstanceCount: aws.Int32(1),
			RoutingConfig: &types.ProductionVariantRoutingConfig{RoutingStrategy: types.RoutingStrategyLeastOutstandingRequests},
			ManagedInstanceScaling: &types.ProductionVariantManagedInstanceScaling{
				Status: types.ManagedInstanceScalingStatusEnabled, MinInstanceCount: aws.Int32(1), MaxInstanceCount: aws.Int32(6),
			},
		}},
	}
	if _, err := c.sm.CreateEndpointConfig(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := c.sm.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: aws.String("shared"), EndpointConfigName: aws.String("shared")}); err != nil {
		t.Fatal(err)
	}
	c.awaitInService(t, "shared")
}

func (c *goClient) checkComponentErrors(t *testing.T) {
	t.Helper()
	_, err := c.invoke(t.Context(), "shared", "x")
	asError[*runtimetypes.ValidationError](t, err)
	wantError(t, err, "ValidationError", "Inference Component Name header is required for endpoints to which you plan to deploy inference components. "+
		"Please include Inference Component Name header or consider using SageMaker models.")
	_, err = c.ask(t.Context(), "absent", "x")
	wantError(t, err, "ValidationError", "Inference component absent was not found on endpoint shared.")
	_, err = c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{
		EndpointName: aws.String("shared"), InferenceComponentName: aws.String("flowers"), TargetVariant: aws.String("other"), Body: []byte("x"),
	})
	wantError(t, err, "ValidationError", "Inference component flowers of endpoint shared is not on the variant that TargetVariant names.")
	_, err = c.sm.CreateInferenceComponent(t.Context(), &sagemaker.CreateInferenceComponentInput{
		InferenceComponentName: aws.String("-bad"), EndpointName: aws.String("shared"), Specification: tells("blue"),
	})
	wantError(t, err, "ValidationException", "1 validation error detected: Value '-bad' at 'inferenceComponentName' failed to satisfy constraint: "+
		`Member must satisfy regular expression pattern: [a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?`)
	c.serve(t, "plain", echoContainer, 1)
	_, err = c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{EndpointName: aws.String("plain"), InferenceComponentName: aws.String("flowers"), Body: []byte("x")})
	wantError(t, err, "ValidationError", "Inference Component Name header is not allowed for endpoints to which you dont plan to deploy inference components. "+
		"Please remove the Inference Component Name header and try again.")
}

// checkComponentFleet: an ml.m5.xlarge has four vCPUs, so three copies of two
// need two instances.
func (c *goClient) checkComponentFleet(t *testing.T) {
	t.Helper()
	type view struct {
		Endpoints []struct {
			Name     string
			Variants []struct{ Instances []instanceView }
			Parts    []struct {
				Name   string
				Copies []struct{ Host, State string }
			} `json:"inference_components"`
		}
	}
	for _, e := range admin[view](t, c.daemon, "GET", "/fleet?account="+c.account, "").Endpoints {
		if e.Name != "shared" {
			continue
		}
		hosts, copies := map[string]int{}, 0
		for _, in := range e.Variants[0].Instances {
			hosts[in.ID] = 0
		}
		for _, part := range e.Parts {
			for _, one := range part.Copies {
				if _, known := hosts[one.Host]; !known || one.State != "InService" {
					t.Errorf("copy of %s: %+v", part.Name, one)
				}
				hosts[one.Host]++
				copies++
			}
		}
		if len(hosts) != 2 || copies != 3 {
			t.Errorf("%d copies on instances %v, want 3 on 2", copies, hosts)
		}
		return
	}
	t.Error("the fleet has no such endpoint")
}

func (c *goClient) updateComponentUnderLoad(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	failures := make(chan error, 100)
	for _, component := range []string{"colours", "french"} {
		for range 2 {
			load.Go(func() {
				for ctx.Err() == nil {
					if body, err := c.ask(ctx, component, "12345678"); err == nil && !strings.HasSuffix(body, " ") || err != nil && ctx.Err() == nil {
						select {
						case failures <- fmt.Errorf("%s answers %q, %w", component, body, err):
						default:
						}
					}
				}
			})
		}
	}
	_, err := c.sm.UpdateInferenceComponent(t.Context(), &sagemaker.UpdateInferenceComponentInput{
		InferenceComponentName: aws.String("colours"), Specification: tells("green"),
		DeploymentConfig: &types.InferenceComponentDeploymentConfig{RollingUpdatePolicy: &types.InferenceComponentRollingUpdatePolicy{
			MaximumBatchSize:      &types.InferenceComponentCapacitySize{Type: types.InferenceComponentCapacitySizeTypeCopyCount, Value: aws.Int32(1)},
			WaitIntervalInSeconds: aws.Int32(5), // a quarter of a second under the time scale
		}},
	})
	if err != nil {
		t.Error(err)
	}
	if out := c.awaitComponent(t, "colours"); *out.Specification.Container.DeployedImage.SpecifiedImage != "tell-green:1" || out.FailureReason != nil {
		t.Errorf("got %+v", out)
	}
	for _, copies := range []int32{5, 1, 0} {
		if copies == 0 {
			stop()
			load.Wait()
		}
		if _, err := c.sm.UpdateInferenceComponentRuntimeConfig(t.Context(), &sagemaker.UpdateInferenceComponentRuntimeConfigInput{
			InferenceComponentName: aws.String("colours"), DesiredRuntimeConfig: &types.InferenceComponentRuntimeConfig{CopyCount: &copies},
		}); err != nil {
			t.Fatal(err)
		}
		if out := c.awaitComponent(t, "colours"); *out.RuntimeConfig.CurrentCopyCount != copies {
			t.Errorf("%d copies, want %d", *out.RuntimeConfig.CurrentCopyCount, copies)
		}
	}
	select {
	case err := <-failures:
		t.Error(err)
	default:
	}
	_, err = c.ask(t.Context(), "colours", "x")
	wantError(t, err, "ValidationError", "Inference component Colours of endpoint shared has no copies: it is scaled to zero.")
}

func (c *goClient) checkComponentList(t *testing.T) {
	t.Helper()
	pages := sagemaker.NewListInferenceComponentsPaginator(c.sm, &sagemaker.ListInferenceComponentsInput{
		EndpointNameEquals: aws.String("shared"), MaxResults: aws.Int32(2), SortBy: types.InferenceComponentSortKeyName, SortOrder: types.OrderKeyAscending,
	})
	var names []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.InferenceComponents {
			names = append(names, *s.InferenceComponentName)
			if *s.VariantName != "hosts" || *s.EndpointArn != c.arn("endpoint", "shared") || s.InferenceComponentStatus != types.InferenceComponentStatusInService {
				t.Errorf("got %+v", s)
			}
		}
	}
	if strings.Join(names, " ") != "Colours flowers french" {
		t.Errorf("listed %v", names)
	}
	tags, err := c.sm.ListTags(t.Context(), &sagemaker.ListTagsInput{ResourceArn: aws.String(c.arn("inference-component", "colours"))})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Value != "go" {
		t.Errorf("tags %+v, %v", tags, err)
	}
}

func (c *goClient) deleteComponents(t *testing.T) {
	t.Helper()
	_, err := c.sm.DeleteEndpoint(t.Context(), &sagemaker.DeleteEndpointInput{EndpointName: aws.String("shared")})
	wantError(t, err, "ValidationException", "Cannot delete endpoint with inference component associated. Please delete inference component and try it again.")
	_, err = c.sm.DeleteInferenceComponent(t.Context(), &sagemaker.DeleteInferenceComponentInput{InferenceComponentName: aws.String("colours")})
	wantError(t, err, "ValidationException", `Inference component "`+c.arn("inference-component", "colours")+`" is a base inference component for one or more associated adapter inference components.`)
	for _, name := range []string{"french", "colours", "flowers"} {
		if _, err := c.sm.DeleteInferenceComponent(t.Context(), &sagemaker.DeleteInferenceComponentInput{InferenceComponentName: &name}); err != nil {
			t.Fatal(err)
		}
		eventually(t, waitLimit, func() error {
			_, err = c.sm.DescribeInferenceComponent(t.Context(), &sagemaker.DescribeInferenceComponentInput{InferenceComponentName: &name})
			if err == nil {
				return errors.New("still there")
			}
			return nil
		})
		wantError(t, err, "ValidationException", `Could not find inference component "`+c.arn("inference-component", name)+`".`)
	}
	c.delete(t, "shared")
	c.awaitDeleted(t, "shared")
}
