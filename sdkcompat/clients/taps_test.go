package clients_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

func TestBoto3ShadowVariantsAndDataCapture(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	d := sharedDaemon(t)
	runJourney(t, append(clientEnvironment(d, newAccount()), "AWS_ENDPOINT_URL_S3="+d.s3URL(t)), "python3", "boto3_taps.py")
}

// capturedInputs are the inputs of a variant's captured records.
func capturedInputs(ctx context.Context, client *s3.Client, bucket, prefix string) (inputs []string, err error) {
	list, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	if err != nil {
		return nil, err
	}
	for _, o := range list.Contents {
		out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: o.Key})
		if err != nil {
			return nil, err
		}
		defer out.Body.Close()
		for lines := bufio.NewScanner(out.Body); lines.Scan(); {
			var line struct {
				CaptureData struct {
					EndpointInput  struct{ Data, Encoding, Mode string }
					EndpointOutput *struct{}
				}
			}
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				return nil, err
			}
			if in := line.CaptureData.EndpointInput; in.Encoding != "CSV" || in.Mode != "INPUT" || line.CaptureData.EndpointOutput != nil {
				return nil, fmt.Errorf("line %s", lines.Text())
			}
			inputs = append(inputs, line.CaptureData.EndpointInput.Data)
		}
	}
	return inputs, nil
}

// The Go SDK reads what was captured, after a stop too that comes before the data
// was due.
func TestStoppedDaemonHasWrittenItsCapturedData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startDaemon(t, daemonOptions{dir: dir, args: []string{"--time-scale=1"}})
	c := newGoClient(d)
	_, bucket := c.s3Client(t)
	c.createModel(t, "e", types.ContainerDefinition{Image: aws.String("tell-blue:1")})
	_, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: aws.String("e"), ProductionVariants: []types.ProductionVariant{variant("main", "e", 1, 1)},
		ShadowProductionVariants: []types.ProductionVariant{variant("side", "e", 1, 0.5)},
		DataCaptureConfig: &types.DataCaptureConfig{
			InitialSamplingPercentage: aws.Int32(100), DestinationS3Uri: aws.String("s3://" + bucket),
			CaptureOptions:           []types.CaptureOption{{CaptureMode: types.CaptureModeInput}},
			CaptureContentTypeHeader: &types.CaptureContentTypeHeader{CsvContentTypes: []string{"text/plain"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.sm.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("e")}); err != nil {
		t.Fatal(err)
	}
	out := c.awaitInService(t, "e")
	if len(out.ShadowProductionVariants) != 1 || *out.ShadowProductionVariants[0].CurrentWeight != 0.5 || out.DataCaptureConfig.CaptureStatus != types.CaptureStatusStarted {
		t.Errorf("got %+v", out)
	}
	const n = 50
	for i := range n {
		if got := c.mustInvoke(t, "e", fmt.Sprintf("request %d", i)); got != fmt.Sprintf("blue %d", i) {
			t.Errorf("got %q", got)
		}
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	again := startDaemon(t, daemonOptions{dir: dir})
	store := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(again.s3URL(t)), UsePathStyle: true, Credentials: aws.AnonymousCredentials{},
	})
	inputs, err := capturedInputs(t.Context(), store, bucket, "e/main/")
	if err != nil || len(inputs) != n || !strings.HasPrefix(inputs[0], "request ") {
		t.Errorf("%d of %d records, %v", len(inputs), n, err)
	}
	copied, err := capturedInputs(t.Context(), store, bucket, "e/side/")
	if err != nil || len(copied) < n/5 || len(copied) > n*4/5 {
		t.Errorf("%d of %d records of a shadow variant of half the weight, %v", len(copied), n, err)
	}
}
