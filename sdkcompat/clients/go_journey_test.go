package clients_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
)

// The journey of every client: two variants of the iris model in processes, from
// CreateModel to the waiter for EndpointDeleted.
func TestGoClientJourney(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	started := time.Now()
	iris := types.ContainerDefinition{
		Image: aws.String(irisImage), ModelDataUrl: aws.String(irisData),
		Environment: map[string]string{"LABEL": "été"}, ContainerHostname: aws.String("iris-host"),
	}
	c.createModel(t, "Iris", iris)
	c.createModel(t, "iris-next", iris)
	c.checkModel(t, iris)
	c.createEndpoint(t, "iris", variant("blue", "Iris", 3, 3), variant("green", "iris-next", 1, 0))
	c.checkDescription(t, c.awaitInService(t, "iris"), started)
	t.Run("predicts", c.checkPredictions)
	t.Run("routes", c.checkVariants)
	t.Run("passes on the model's errors", c.checkModelError)
	t.Run("updates weights and capacities", c.checkCapacities)
	t.Run("tags", c.checkTags)
	c.delete(t, "iris")
	c.awaitDeleted(t, "iris")
	c.checkGone(t)
}

func (c *goClient) checkModel(t *testing.T, want types.ContainerDefinition) {
	t.Helper()
	out, err := c.sm.DescribeModel(t.Context(), &sagemaker.DescribeModelInput{ModelName: aws.String("Iris")})
	if err != nil {
		t.Fatal(err)
	}
	got := out.PrimaryContainer
	if *got.Image != *want.Image || *got.ModelDataUrl != *want.ModelDataUrl || *got.ContainerHostname != *want.ContainerHostname ||
		!maps.Equal(got.Environment, want.Environment) || *out.ModelName != "Iris" {
		t.Errorf("got %+v", out)
	}
}

func (c *goClient) checkDescription(t *testing.T, out *sagemaker.DescribeEndpointOutput, started time.Time) {
	t.Helper()
	if *out.EndpointArn != c.arn("endpoint", "iris") || *out.EndpointConfigName != "iris" || out.FailureReason != nil || out.PendingDeploymentSummary != nil {
		t.Errorf("got %+v", out)
	}
	// Timestamps travel as seconds with milliseconds.
	for _, moment := range []*time.Time{out.CreationTime, out.LastModifiedTime} {
		if moment == nil || moment.Before(started.Truncate(time.Millisecond)) || moment.After(time.Now().Add(time.Millisecond)) {
			t.Errorf("timestamp %v is not between %v and now", moment, started)
		}
	}
	if !out.LastModifiedTime.After(*out.CreationTime) {
		t.Errorf("modified %v, created %v", out.LastModifiedTime, out.CreationTime)
	}
	if len(out.ProductionVariants) != 2 {
		t.Fatalf("got %+v", out.ProductionVariants)
	}
	blue, green := out.ProductionVariants[0], out.ProductionVariants[1]
	if *blue.VariantName != "blue" || *blue.CurrentInstanceCount != 3 || *blue.DesiredInstanceCount != 3 ||
		*blue.CurrentWeight != 3 || *blue.DesiredWeight != 3 || blue.VariantStatus != nil ||
		blue.RoutingConfig.RoutingStrategy != types.RoutingStrategyLeastOutstandingRequests {
		t.Errorf("got %+v", blue)
	}
	if len(blue.DeployedImages) != 1 || *blue.DeployedImages[0].SpecifiedImage != irisImage || blue.DeployedImages[0].ResolutionTime == nil {
		t.Errorf("got %+v", blue.DeployedImages)
	}
	if *green.VariantName != "green" || *green.CurrentInstanceCount != 1 || *green.CurrentWeight != 0 {
		t.Errorf("got %+v", green)
	}
}

func (c *goClient) checkPredictions(t *testing.T) {
	for _, test := range []struct{ contentType, body, accept, want string }{
		{"text/csv", "5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n", "text/csv", "setosa virginica"},
		{"application/json", `{"instances": [[5.1, 3.5, 1.4, 0.2], [5.9, 3.0, 4.2, 1.5]]}`, "application/json", "setosa versicolor"},
	} {
		out, err := c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{
			EndpointName: aws.String("iris"), ContentType: &test.contentType, Accept: &test.accept, Body: []byte(test.body),
		})
		if err != nil {
			t.Errorf("%s: %v", test.contentType, err)
			continue
		}
		if got := labels(t, out); got != test.want {
			t.Errorf("%s: got %q in %s, want %q", test.contentType, got, out.Body, test.want)
		}
		if ct := aws.ToString(out.ContentType); !strings.HasPrefix(ct, test.accept) {
			t.Errorf("got content type %q, want %q", ct, test.accept)
		}
		if aws.ToString(out.InvokedProductionVariant) != "blue" {
			t.Errorf("variant %q answered, but only blue has weight", aws.ToString(out.InvokedProductionVariant))
		}
	}
}

// labels are the species that an answer of the iris model names.
func labels(t *testing.T, out *sagemakerruntime.InvokeEndpointOutput) string {
	t.Helper()
	if strings.HasPrefix(aws.ToString(out.ContentType), "text/csv") {
		return strings.Join(strings.Fields(string(out.Body)), " ")
	}
	var answer struct {
		Predictions []struct {
			Label         string
			Probabilities map[string]float64
		}
	}
	if err := json.Unmarshal(out.Body, &answer); err != nil {
		t.Errorf("%s: %v", out.Body, err)
	}
	var found []string
	for _, p := range answer.Predictions {
		found = append(found, p.Label)
		if p.Probabilities[p.Label] < 0.5 {
			t.Errorf("%s has probability %v", p.Label, p.Probabilities)
		}
	}
	return strings.Join(found, " ")
}

func (c *goClient) checkVariants(t *testing.T) {
	in := &sagemakerruntime.InvokeEndpointInput{
		EndpointName: aws.String("iris"), ContentType: aws.String("text/csv"), Body: []byte("5.1,3.5,1.4,0.2"),
		TargetVariant: aws.String("green"), CustomAttributes: aws.String("trace=1; who=me"), InferenceId: aws.String("id-1"),
	}
	out, err := c.runtime.InvokeEndpoint(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if *out.InvokedProductionVariant != "green" || labels(t, out) != "setosa" {
		t.Errorf("got %q from %s", out.Body, *out.InvokedProductionVariant)
	}
	in.TargetVariant = aws.String("red")
	_, err = c.runtime.InvokeEndpoint(t.Context(), in)
	asError[*runtimetypes.ValidationError](t, err)
}

func (c *goClient) checkModelError(t *testing.T) {
	_, err := c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{
		EndpointName: aws.String("iris"), ContentType: aws.String("text/csv"), Body: []byte("5.1,three,1.4,0.2"),
	})
	e := asError[*runtimetypes.ModelError](t, err)
	if aws.ToInt32(e.OriginalStatusCode) != 400 || aws.ToString(e.OriginalMessage) == "" {
		t.Errorf("got status %d, message %q", aws.ToInt32(e.OriginalStatusCode), aws.ToString(e.OriginalMessage))
	}
	group := "/aws/sagemaker/Endpoints/iris"
	if want := "arn:aws:logs:us-east-1:" + c.account + ":log-group:" + group; aws.ToString(e.LogStreamArn) != want {
		t.Errorf("got LogStreamArn %q, want %q", aws.ToString(e.LogStreamArn), want)
	}
	want := fmt.Sprintf("Received client error (400) from primary with message \"%s\". See https://us-east-1.console.aws.amazon.com/"+
		"cloudwatch/home?region=us-east-1#logEventViewer:group=%s in account %s for more information.", *e.OriginalMessage, group, c.account)
	if e.ErrorMessage() != want {
		t.Errorf("got %q\nwant %q", e.ErrorMessage(), want)
	}
	if r := asError[*awshttp.ResponseError](t, err); r.HTTPStatusCode() != http.StatusFailedDependency || len(r.ServiceRequestID()) != 36 {
		t.Errorf("got status %d, request id %q", r.HTTPStatusCode(), r.ServiceRequestID())
	}
}

func (c *goClient) checkCapacities(t *testing.T) {
	before := c.describe(t, "iris")
	_, err := c.sm.UpdateEndpointWeightsAndCapacities(t.Context(), &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
		EndpointName: aws.String("iris"), DesiredWeightsAndCapacities: []types.DesiredWeightAndCapacity{
			{VariantName: aws.String("green"), DesiredWeight: aws.Float32(2.5), DesiredInstanceCount: aws.Int32(2)},
			{VariantName: aws.String("blue"), DesiredWeight: aws.Float32(0), DesiredInstanceCount: aws.Int32(1)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	during := c.describe(t, "iris")
	if during.EndpointStatus == types.EndpointStatusUpdating {
		if green := during.ProductionVariants[1]; *green.DesiredInstanceCount != 2 || *green.DesiredWeight != 2.5 || *green.CurrentWeight != 0 {
			t.Errorf("while updating: %+v", green)
		}
		if _, err := c.sm.DeleteEndpoint(t.Context(), &sagemaker.DeleteEndpointInput{EndpointName: aws.String("iris")}); err == nil {
			t.Fatal("an endpoint was deleted while it was updating")
		}
	}
	after := c.awaitInService(t, "iris")
	blue, green := after.ProductionVariants[0], after.ProductionVariants[1]
	if *green.CurrentInstanceCount != 2 || *green.CurrentWeight != 2.5 || *blue.CurrentInstanceCount != 1 || *blue.CurrentWeight != 0 {
		t.Errorf("got %+v and %+v", blue, green)
	}
	if !after.LastModifiedTime.After(*before.LastModifiedTime) || !after.CreationTime.Equal(*before.CreationTime) {
		t.Errorf("created %v, modified %v; before %v and %v", after.CreationTime, after.LastModifiedTime, before.CreationTime, before.LastModifiedTime)
	}
	out, err := c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{
		EndpointName: aws.String("iris"), ContentType: aws.String("text/csv"), Body: []byte("6.3,3.3,6.0,2.5"),
	})
	if err != nil || *out.InvokedProductionVariant != "green" || labels(t, out) != "virginica" {
		t.Errorf("got %+v, %v", out, err)
	}
}

func (c *goClient) checkTags(t *testing.T) {
	arn := aws.String(c.arn("endpoint", "iris"))
	added, err := c.sm.AddTags(t.Context(), &sagemaker.AddTagsInput{ResourceArn: arn, Tags: []types.Tag{
		{Key: aws.String("team"), Value: aws.String("flora")}, {Key: aws.String("cost:center"), Value: aws.String("")},
	}})
	if err != nil || len(added.Tags) != 2 {
		t.Fatalf("got %+v, %v", added, err)
	}
	if _, err := c.sm.AddTags(t.Context(), &sagemaker.AddTagsInput{ResourceArn: arn, Tags: []types.Tag{
		{Key: aws.String("team"), Value: aws.String("fauna")},
	}}); err != nil {
		t.Fatal(err)
	}
	if got := c.tags(t, arn); !maps.Equal(got, map[string]string{"team": "fauna", "cost:center": ""}) {
		t.Errorf("got %v", got)
	}
	if _, err := c.sm.DeleteTags(t.Context(), &sagemaker.DeleteTagsInput{ResourceArn: arn, TagKeys: []string{"team", "absent"}}); err != nil {
		t.Fatal(err)
	}
	if got := c.tags(t, arn); !maps.Equal(got, map[string]string{"cost:center": ""}) {
		t.Errorf("got %v", got)
	}
}

func (c *goClient) tags(t *testing.T, arn *string) map[string]string {
	t.Helper()
	tags := map[string]string{}
	for p := sagemaker.NewListTagsPaginator(c.sm, &sagemaker.ListTagsInput{ResourceArn: arn}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range page.Tags {
			tags[*tag.Key] = *tag.Value
		}
	}
	return tags
}

// checkGone: nothing of a deleted endpoint answers, but its configuration and
// its models stay until they are deleted themselves.
func (c *goClient) checkGone(t *testing.T) {
	t.Helper()
	gone := fmt.Sprintf("Could not find endpoint %q.", c.arn("endpoint", "iris"))
	_, err := c.sm.DescribeEndpoint(t.Context(), &sagemaker.DescribeEndpointInput{EndpointName: aws.String("iris")})
	wantError(t, err, "ValidationException", gone)
	_, err = c.sm.DeleteEndpoint(t.Context(), &sagemaker.DeleteEndpointInput{EndpointName: aws.String("iris")})
	wantError(t, err, "ValidationException", gone)
	_, err = c.sm.ListTags(t.Context(), &sagemaker.ListTagsInput{ResourceArn: aws.String(c.arn("endpoint", "iris"))})
	wantError(t, err, "ValidationException", gone)
	_, err = c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{EndpointName: aws.String("iris"), Body: []byte("x")})
	if e := asError[*runtimetypes.ValidationError](t, err); e.ErrorMessage() != "Endpoint iris of account "+c.account+" not found." {
		t.Errorf("got %q", e.ErrorMessage())
	}
	_, err = c.sm.DeleteEndpointConfig(t.Context(), &sagemaker.DeleteEndpointConfigInput{EndpointConfigName: aws.String("iris")})
	if _, second := c.sm.DeleteModel(t.Context(), &sagemaker.DeleteModelInput{ModelName: aws.String("Iris")}); errors.Join(err, second) != nil {
		t.Error(err, second)
	}
	_, err = c.sm.DescribeEndpointConfig(t.Context(), &sagemaker.DescribeEndpointConfigInput{EndpointConfigName: aws.String("iris")})
	wantError(t, err, "ValidationException", fmt.Sprintf("Could not find endpoint configuration %q.", c.arn("endpoint-config", "iris")))
	_, err = c.sm.DescribeModel(t.Context(), &sagemaker.DescribeModelInput{ModelName: aws.String("Iris")})
	wantError(t, err, "ValidationException", fmt.Sprintf("Could not find model %q.", c.arn("model", "iris")))
}
