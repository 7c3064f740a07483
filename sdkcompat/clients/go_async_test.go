package clients_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
)

// serveAsync makes an endpoint for asynchronous requests, one at a time, whose
// objects go into the bucket.
func (c *goClient) serveAsync(t *testing.T, name, bucket string, container types.ContainerDefinition, topics *types.AsyncInferenceNotificationConfig) {
	t.Helper()
	c.createModel(t, name, container)
	_, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: &name, ProductionVariants: []types.ProductionVariant{variant("AllTraffic", name, 1, 1)},
		AsyncInferenceConfig: &types.AsyncInferenceConfig{
			ClientConfig: &types.AsyncInferenceClientConfig{MaxConcurrentInvocationsPerInstance: aws.Int32(1)},
			OutputConfig: &types.AsyncInferenceOutputConfig{
				S3OutputPath: aws.String("s3://" + bucket + "/out"), S3FailurePath: aws.String("s3://" + bucket + "/failed"), NotificationConfig: topics,
			},
		},
	})
	if err == nil {
		_, err = c.sm.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &name})
	}
	if err != nil {
		t.Fatal(err)
	}
	c.awaitInService(t, name)
}

func (c *goClient) sendAsync(t *testing.T, in *sagemakerruntime.InvokeEndpointAsyncInput) *sagemakerruntime.InvokeEndpointAsyncOutput {
	t.Helper()
	out, err := c.runtime.InvokeEndpointAsync(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fetch waits for an object.
func fetch(t *testing.T, client *s3.Client, location *string) (text string, out *s3.GetObjectOutput) {
	t.Helper()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(aws.ToString(location), "s3://"), "/")
	eventually(t, waitLimit, func() (err error) {
		out, err = client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		return err
	})
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), out
}

func TestGoSDKAsyncWithInlineBody(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	client, bucket := c.s3Client(t)
	c.serveAsync(t, "async", bucket, workerContainer, nil)
	name := aws.String("async")

	out := c.sendAsync(t, &sagemakerruntime.InvokeEndpointAsyncInput{
		EndpointName: name, Body: []byte("headers "), ContentType: aws.String("text/x-in"), Accept: aws.String("text/x-out"),
		CustomAttributes: aws.String("a=b"), InferenceId: aws.String("mine"), Filename: aws.String("answer.txt"), S3OutputPathExtension: aws.String("run-1"),
	})
	if *out.InferenceId != "mine" || *out.OutputLocation != "s3://"+bucket+"/out/run-1/answer.txt" || *out.FailureLocation != "s3://"+bucket+"/failed/run-1/answer-error.out" {
		t.Errorf("%s, %s, %s", *out.InferenceId, *out.OutputLocation, *out.FailureLocation)
	}
	got, _ := fetch(t, client, out.OutputLocation)
	if want := "Content-Type=text/x-in;Accept=text/x-out;Custom-Attributes=a=b;Inference-Id=mine;Target-Model=;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	out = c.sendAsync(t, &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: name, Body: []byte("status 418 no coffee")})
	if got, _ := fetch(t, client, out.FailureLocation); !strings.HasPrefix(got, `Received client error (418) from model with message "no coffee`) {
		t.Errorf("got %q", got)
	}
	if *out.OutputLocation != "s3://"+bucket+"/out/"+*out.InferenceId+".out" {
		t.Errorf("%s of %s", *out.OutputLocation, *out.InferenceId)
	}

	_, err := c.invoke(t.Context(), "async", "echo x")
	wantError(t, err, "ValidationError", "Endpoint async has AsyncInferenceConfig and takes InvokeEndpointAsync only.")
	_, err = c.runtime.InvokeEndpointAsync(t.Context(), &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: name})
	wantError(t, err, "ValidationError", "Either InputLocation or Body must be specified.")
	_, err = c.runtime.InvokeEndpointAsync(t.Context(), &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: aws.String("none"), Body: []byte("x")})
	wantError(t, err, "ValidationError", "Endpoint none of account "+c.account+" not found.")
	c.delete(t, "async")
	c.awaitDeleted(t, "async")
}

// What was finished stays as it is, what was running is run again, and what was
// waiting is run, all after kill -9.
func TestAsyncRequestsOutliveAKilledDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startDaemon(t, daemonOptions{dir: dir})
	c := newGoClient(first)
	client, bucket := c.s3Client(t)
	c.serveAsync(t, "async", bucket, workerContainer, nil)
	send := func(body string) *string {
		t.Helper()
		return c.sendAsync(t, &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: aws.String("async"), Body: []byte(body)}).OutputLocation
	}
	finished := send("pid")
	pid, before := fetch(t, client, finished)
	gate := filepath.Join(dir, "gate")
	runs := send("wait " + gate)
	waits := map[string]*string{}
	for i := range 20 {
		waits[fmt.Sprint(i)] = send(fmt.Sprint("echo ", i))
	}
	if err := first.kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c = goClientOf(startDaemon(t, daemonOptions{dir: dir}), c.account)
	client, _ = c.s3Client(t)
	if got, _ := fetch(t, client, runs); got != "waited" {
		t.Errorf("got %q", got)
	}
	for want, location := range waits {
		if got, _ := fetch(t, client, location); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got, after := fetch(t, client, finished); got != pid || !after.LastModified.Equal(*before.LastModified) {
		t.Errorf("the request that had finished was run again: %q of %v, was %q of %v", got, after.LastModified, pid, before.LastModified)
	}
}

func TestNotificationsReachTheConfiguredURL(t *testing.T) {
	t.Parallel()
	arrived := make(chan map[string]string, 8)
	subscriber := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m map[string]string
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Header.Get("X-Amz-Sns-Message-Type") != "Notification" {
			t.Errorf("%v, %v", err, r.Header)
		}
		arrived <- m
	}))
	defer subscriber.Close()
	config := filepath.Join(t.TempDir(), "sagelocal.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "notifications:\n  \"arn:aws:sns:*:*:done\": %s\nasync: {max_requests: 1000}\n", subscriber.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newGoClient(startDaemon(t, daemonOptions{args: []string{"--config=" + config}}))
	client, bucket := c.s3Client(t)
	topic := "arn:aws:sns:us-east-1:" + c.account + ":done"
	c.serveAsync(t, "async", bucket, echoContainer, &types.AsyncInferenceNotificationConfig{
		SuccessTopic: &topic, ErrorTopic: aws.String("arn:aws:sns:us-east-1:" + c.account + ":bad"),
		IncludeInferenceResponseIn: []types.AsyncNotificationTopicTypes{types.AsyncNotificationTopicTypesSuccessNotificationTopic},
	})
	input := upload(t, client, bucket, "in.txt", []byte("hello"))
	out := c.sendAsync(t, &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: aws.String("async"), InputLocation: &input, ContentType: aws.String("text/plain")})
	m := <-arrived
	if m["Type"] != "Notification" || m["TopicArn"] != topic || m["MessageId"] == "" {
		t.Errorf("%v", m)
	}
	var said struct {
		InvocationStatus, InferenceID string
		RequestParameters             map[string]string
		ResponseParameters            map[string]string
		ResponseBody                  map[string]string
	}
	if err := json.Unmarshal([]byte(m["Message"]), &said); err != nil {
		t.Fatal(err)
	}
	if said.InvocationStatus != "Completed" || said.InferenceID != *out.InferenceId || said.ResponseBody["content"] != "hello" ||
		said.RequestParameters["inputLocation"] != input || said.ResponseParameters["outputLocation"] != *out.OutputLocation {
		t.Errorf("%s", m["Message"])
	}
	if got, _ := fetch(t, client, out.OutputLocation); got != "hello" {
		t.Errorf("got %q", got)
	}
	c.sendAsync(t, &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: aws.String("async"), InputLocation: aws.String("s3://" + bucket + "/none")})
	type delivery struct {
		State    string `json:"state"`
		TopicARN string `json:"topic_arn"`
	}
	eventually(t, waitLimit, func() error {
		list := admin[struct{ Notifications []delivery }](t, c.daemon, "GET", "/notifications?account="+c.account, "").Notifications
		if len(list) != 2 || list[0].State != "no subscription" || list[1] != (delivery{"delivered", topic}) {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	type queue struct {
		Endpoint  string `json:"endpoint"`
		Processed int    `json:"invocations_processed"`
		Failures  int    `json:"request_download_failures"`
	}
	queues := admin[struct{ Queues []queue }](t, c.daemon, "GET", "/async?account="+c.account, "").Queues
	if len(queues) != 1 || queues[0] != (queue{"async", 1, 1}) {
		t.Errorf("%+v", queues)
	}
}

func TestBoto3Async(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	d, account := sharedDaemon(t), newAccount()
	env := append(clientEnvironment(d, account), "AWS_ENDPOINT_URL_S3="+d.s3URL(t), "TEST_IMAGE="+testImage, "DAEMON="+d.URL)
	runJourney(t, env, "python3", "boto3_async.py")
}

func TestAWSCLIAsync(t *testing.T) {
	t.Parallel()
	needProgram(t, "aws")
	c := newGoClient(sharedDaemon(t))
	client, bucket := c.s3Client(t)
	c.serveAsync(t, "cli-async", bucket, echoContainer, nil)
	a := &awsCLI{c.daemon, c.account}
	answer, errs, err := a.run(t, "sagemaker-runtime", "invoke-endpoint-async", "--endpoint-name", "cli-async", "--content-type", "text/plain",
		"--input-location", upload(t, client, bucket, "in.txt", []byte("hello")), "--output", "json")
	if err != nil {
		t.Fatal(errors.Join(err, errors.New(errs)))
	}
	var out struct{ InferenceId, OutputLocation, FailureLocation string }
	if err := json.Unmarshal([]byte(answer), &out); err != nil {
		t.Fatal(err)
	}
	if got, object := fetch(t, client, &out.OutputLocation); got != "hello" || aws.ToString(object.ContentType) != "text/plain" {
		t.Errorf("got %q of %v", got, aws.ToString(object.ContentType))
	}
	if out.InferenceId == "" || out.FailureLocation == "" {
		t.Errorf("%s", answer)
	}
}
