package controlplane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	"github.com/aws/smithy-go"

	"github.com/sagelocal/sagelocal/controlplane/async"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/objects"
	"github.com/sagelocal/sagelocal/store"
)

// asyncRig is a rig with an S3 that has the bucket b.
type asyncRig struct {
	*rig
	s3 *objects.S3
}

func newAsyncRig(t *testing.T, launcher dataplane.Launcher, change ...func(*Options)) *asyncRig {
	t.Helper()
	db, err := store.Open(store.Options{InMemory: true, Tables: Tables()})
	if err != nil {
		t.Fatal(err)
	}
	return asyncRigOver(t, db, t.TempDir(), launcher, change...)
}

func asyncRigOver(t *testing.T, db *store.DB, dir string, launcher dataplane.Launcher, change ...func(*Options)) *asyncRig {
	t.Helper()
	s, err := objects.Open(context.Background(), objects.Options{Dir: filepath.Join(dir, "s3"), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		DB: db, Fleet: dataplane.NewFleet(), Dir: dir, Seed: 1, Logger: slog.New(slog.DiscardHandler),
		Launcher:  func(string) dataplane.Launcher { return launcher },
		ModelData: &dataplane.ModelData{}, Logs: &dataplane.Logs{Dir: filepath.Join(dir, "logs")}, S3: s.Client,
	}
	for _, c := range change {
		c(&o)
	}
	r := &asyncRig{&rig{t: t, db: db, ctx: WithScope(context.Background(), home), Plane: New(o)}, s}
	if _, err := s.Client("b").CreateBucket(r.ctx, &s3.CreateBucketInput{Bucket: aws.String("bkt")}); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *asyncRig) stop() {
	r.t.Helper()
	r.rig.stop()
	if err := r.s3.Close(context.Background()); err != nil {
		r.t.Error(err)
	}
}

// deployAsync makes an endpoint with AsyncInferenceConfig.
func (r *asyncRig) deployAsync(name string, change func(*types.AsyncInferenceConfig), variants ...types.ProductionVariant) {
	r.t.Helper()
	_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{
		ModelName: &name, PrimaryContainer: &types.ContainerDefinition{Image: aws.String("image")},
	})
	r.must(err)
	for i := range variants {
		variants[i].ModelName = &name
	}
	config := &types.AsyncInferenceConfig{OutputConfig: &types.AsyncInferenceOutputConfig{
		S3OutputPath: aws.String("s3://bkt/out/"), S3FailurePath: aws.String("s3://bkt/failed"),
	}}
	if change != nil {
		change(config)
	}
	_, err = r.CreateEndpointConfig(r.ctx, &sagemaker.CreateEndpointConfigInput{EndpointConfigName: &name, ProductionVariants: variants, AsyncInferenceConfig: config})
	r.must(err)
	_, err = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &name})
	r.must(err)
	r.settle(name, statusInService)
}

// RetainAllVariantProperties keeps live counts, and an asynchronous endpoint may have
// none: what it becomes must not be InService with nothing behind it for ever.
func TestRetainedCountIsNotZeroWhereNothingScalesFromZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAsyncRig(t, echo())
		defer r.stop()
		r.deployAsync("e", perInstance(1), variantOf("a", 1))
		r.scale("e", "a", 0)
		r.config("realtime", "e", variantOf("a", 2))
		_, err := r.UpdateEndpoint(r.ctx, &sagemaker.UpdateEndpointInput{
			EndpointName: aws.String("e"), EndpointConfigName: aws.String("realtime"), RetainAllVariantProperties: aws.Bool(true),
		})
		r.must(err)
		v := r.settle("e", statusInService).ProductionVariants[0]
		if *v.CurrentInstanceCount != 2 || *v.DesiredInstanceCount != 2 {
			t.Errorf("%d of %d instances, want the two of the configuration", *v.CurrentInstanceCount, *v.DesiredInstanceCount)
		}
	})
}

func perInstance(n int32) func(*types.AsyncInferenceConfig) {
	return func(c *types.AsyncInferenceConfig) {
		c.ClientConfig = &types.AsyncInferenceClientConfig{MaxConcurrentInvocationsPerInstance: &n}
	}
}

func (r *asyncRig) scale(name, variant string, count int32) {
	r.t.Helper()
	_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
		EndpointName: &name, DesiredWeightsAndCapacities: []types.DesiredWeightAndCapacity{{VariantName: &variant, DesiredInstanceCount: &count}},
	})
	r.must(err)
	r.settle(name, statusInService)
}

func (r *asyncRig) send(name, body string, change ...func(*sagemakerruntime.InvokeEndpointAsyncInput)) *sagemakerruntime.InvokeEndpointAsyncOutput {
	r.t.Helper()
	in := &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: &name, Body: []byte(body)}
	for _, c := range change {
		c(in)
	}
	out, err := r.InvokeEndpointAsync(r.ctx, in)
	r.must(err)
	return out
}

// object is what S3 has; false when there is no such object.
func (r *asyncRig) object(location *string) (string, bool) {
	r.t.Helper()
	key := strings.TrimPrefix(*location, "s3://bkt/")
	out, err := r.s3.Client("bkt").GetObject(r.ctx, &s3.GetObjectInput{Bucket: aws.String("bkt"), Key: &key})
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "NoSuchKey" {
		return "", false
	}
	r.must(err)
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	r.must(err)
	return string(text), true
}

func (r *asyncRig) want(location *string, content string) {
	r.t.Helper()
	if got, ok := r.object(location); !ok || got != content {
		r.t.Errorf("%s: %q, %v; want %q", *location, got, ok, content)
	}
}

func (r *asyncRig) wantNone(location *string) {
	r.t.Helper()
	if got, ok := r.object(location); ok {
		r.t.Errorf("%s holds %q", *location, got)
	}
}

func (r *asyncRig) upload(key string, content []byte) string {
	r.t.Helper()
	_, err := r.s3.Client("bkt").PutObject(r.ctx, &s3.PutObjectInput{Bucket: aws.String("bkt"), Key: &key, Body: bytes.NewReader(content)})
	r.must(err)
	return "s3://bkt/" + key
}

func (r *asyncRig) status(name string) async.Status {
	r.t.Helper()
	for _, s := range r.AsyncStatus("") {
		if s.Endpoint == name {
			return s
		}
	}
	return async.Status{}
}

// after lets the bubble's time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// asked is a kind of worker that keeps what it is asked, in order, and how many
// requests an instance had at once.
type asked struct {
	latency time.Duration
	answer  func(body string) (status int, answer string)

	mu     sync.Mutex
	bodies []string
	most   int
}

func (a *asked) Launch(_ context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	return &askedWorker{all: a, spec: spec, done: make(chan struct{})}, nil
}

type askedWorker struct {
	all  *asked
	spec dataplane.Spec
	once sync.Once
	done chan struct{}
	now  int // guarded by all.mu
}

func (w *askedWorker) Invoke(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	a, body := w.all, string(req.Body)
	a.mu.Lock()
	a.bodies = append(a.bodies, body)
	w.now++
	a.most = max(a.most, w.now)
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		w.now--
		a.mu.Unlock()
	}()
	timeout := time.NewTimer(req.Timeout)
	defer timeout.Stop()
	select {
	case <-time.After(a.latency):
	case <-timeout.C:
		return dataplane.ErrTimeout
	case <-w.done:
		return dataplane.ErrBroken
	case <-ctx.Done():
		return ctx.Err()
	}
	ans.StatusCode, ans.ContentType, ans.Body = 200, "text/plain", append(ans.Body[:0], strings.ToUpper(body)...)
	if a.answer != nil {
		var text string
		ans.StatusCode, text = a.answer(body)
		ans.Body = append(ans.Body[:0], text...)
	}
	return nil
}

func (w *askedWorker) Stream(ctx context.Context, req *dataplane.Request, to dataplane.Sink) error {
	var ans dataplane.Answer
	if err := w.Invoke(ctx, req, &ans); err != nil {
		return err
	}
	return ans.PassOn(to)
}
func (w *askedWorker) Done() <-chan struct{} { return nil }
func (w *askedWorker) Err() error            { return nil }
func (w *askedWorker) Address() string       { return "in-process" }
func (w *askedWorker) Kind() string          { return "asked" }
func (w *askedWorker) Stop(context.Context, time.Duration) error {
	w.once.Do(func() { close(w.done) })
	return nil
}

func (a *asked) seen() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.bodies...)
}

func TestAsyncRequestsAreAnsweredInTheirOrderIntoS3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &asked{latency: time.Second}
		r := newAsyncRig(t, w)
		defer r.stop()
		r.deployAsync("e", perInstance(1), variantOf("a", 1))
		var outs []*sagemakerruntime.InvokeEndpointAsyncOutput
		for _, body := range []string{"a", "b", "c", "d", "e"} {
			outs = append(outs, r.send("e", body))
		}
		after(2500 * time.Millisecond)
		r.want(outs[0].OutputLocation, "A")
		r.want(outs[1].OutputLocation, "B")
		r.wantNone(outs[2].OutputLocation)
		if s := r.status("e"); s.ApproximateBacklogSize != 3 || s.Running != 1 || s.InvocationsProcessed != 2 || s.ApproximateAgeOfOldestRequest != 2.5 {
			t.Errorf("%+v", s)
		}
		after(3 * time.Second)
		r.want(outs[4].OutputLocation, "E")
		if got := strings.Join(w.seen(), ""); got != "abcde" {
			t.Errorf("the instance saw %q", got)
		}
		r.wantNone(outs[0].FailureLocation)
	})
}

func TestMaxConcurrentInvocationsPerInstanceHoldsUnderEveryRoutingStrategy(t *testing.T) {
	for _, strategy := range []types.RoutingStrategy{types.RoutingStrategyRandom, types.RoutingStrategyLeastOutstandingRequests} {
		synctest.Test(t, func(t *testing.T) {
			w := &asked{latency: time.Second}
			r := newAsyncRig(t, w)
			defer r.stop()
			v := variantOf("a", 3)
			v.RoutingConfig = &types.ProductionVariantRoutingConfig{RoutingStrategy: strategy}
			r.deployAsync("e", perInstance(2), v)
			for range 20 {
				r.send("e", "x")
			}
			after(500 * time.Millisecond)
			if s := r.status("e"); s.Running != 6 || s.ApproximateBacklogSize != 20 {
				t.Errorf("%s: %+v", strategy, s)
			}
			after(4 * time.Second)
			if s := r.status("e"); s.InvocationsProcessed != 20 || w.most != 2 {
				t.Errorf("%s: %+v, %d at once on an instance", strategy, s, w.most)
			}
		})
	}
}

// TestMaxConcurrentInvocationsPerInstanceOfHundredsIsReached: AWS takes up to 1,000.
func TestMaxConcurrentInvocationsPerInstanceOfHundredsIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const requests = 300
		r := newAsyncRig(t, &asked{latency: time.Second})
		defer r.stop()
		r.deployAsync("e", perInstance(requests), variantOf("a", 1))
		for range requests {
			r.send("e", "x")
		}
		after(500 * time.Millisecond)
		if s := r.status("e"); s.Running != requests {
			t.Errorf("%d requests run at once, want %d", s.Running, requests)
		}
		after(2 * time.Second)
		if s := r.status("e"); s.InvocationsProcessed != requests {
			t.Errorf("%+v", s)
		}
	})
}

// silent is an S3 that takes requests and never answers.
type silent struct{}

func (silent) Do(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestAnS3ThatNeverAnswersCostsARequestAndNotItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &asked{latency: time.Second}
		r := newAsyncRig(t, w, func(o *Options) {
			answers := o.S3
			o.S3 = func(bucket string) *s3.Client {
				if bucket == "silent" {
					return s3.New(s3.Options{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, HTTPClient: silent{}})
				}
				return answers(bucket)
			}
		})
		defer r.stop()
		r.deployAsync("e", perInstance(1), variantOf("a", 1))
		lost := r.send("e", "", func(in *sagemakerruntime.InvokeEndpointAsyncInput) {
			in.Body, in.InputLocation = nil, aws.String("s3://silent/key")
		})
		next := r.send("e", "next")
		after(16 * time.Minute)
		r.want(lost.FailureLocation, "ClientError: Could not read the request payload at s3://silent/key: its S3 gives no answer in time.")
		r.want(next.OutputLocation, "NEXT")
	})
}

func ttl(seconds int32) func(*sagemakerruntime.InvokeEndpointAsyncInput) {
	return func(in *sagemakerruntime.InvokeEndpointAsyncInput) { in.RequestTTLSeconds = &seconds }
}

// notified makes every request's end known to a topic.
func notified(include ...types.AsyncNotificationTopicTypes) func(*types.AsyncInferenceConfig) {
	return func(c *types.AsyncInferenceConfig) {
		perInstance(1)(c)
		c.OutputConfig.NotificationConfig = &types.AsyncInferenceNotificationConfig{
			SuccessTopic: aws.String("arn:aws:sns:us-east-1:123456789012:ok"), ErrorTopic: aws.String("arn:aws:sns:us-east-1:123456789012:bad"),
			IncludeInferenceResponseIn: include,
		}
	}
}

func TestRequestTTLSecondsExpiresWhatWaitsAndNothingElse(t *testing.T) {
	for _, scale := range []float64{1, 10} {
		synctest.Test(t, func(t *testing.T) {
			w := &asked{latency: 100 * time.Second}
			r := newAsyncRig(t, w, func(o *Options) { o.TimeScale = scale })
			defer r.stop()
			r.deployAsync("e", notified(), variantOf("a", 1))
			runs, expires, stays := r.send("e", "runs", ttl(60)), r.send("e", "expires", ttl(60)), r.send("e", "stays")
			after(time.Duration(59 / scale * float64(time.Second)))
			r.wantNone(expires.FailureLocation)
			after(2 * time.Second)
			r.want(expires.FailureLocation, "ClientError: The request was in the queue for more than 60 seconds.")
			after(200 * time.Second) // the container's time does not shrink
			r.want(runs.OutputLocation, "RUNS")
			r.want(stays.OutputLocation, "STAYS")
			if got := w.seen(); len(got) != 2 {
				t.Errorf("the instance saw %q", got)
			}
			if s := r.status("e"); s.ExpiredRequests != 1 || s.InvocationsProcessed != 2 || s.ApproximateBacklogSize != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestAContainersFailureIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &asked{latency: 10 * time.Second, answer: func(body string) (int, string) {
			switch body {
			case "bad":
				return 400, "no such flower"
			case "broken":
				return 503, "out of memory"
			}
			return 200, "fine"
		}}
		r := newAsyncRig(t, w)
		defer r.stop()
		r.deployAsync("e", notified(types.AsyncNotificationTopicTypesErrorNotificationTopic), variantOf("a", 1))
		const tail = `. See https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#logEventViewer:group=/aws/sagemaker/Endpoints/e in account 123456789012 for more information.`
		bad, broken := r.send("e", "bad"), r.send("e", "broken")
		late := r.send("e", "late", func(in *sagemakerruntime.InvokeEndpointAsyncInput) { in.InvocationTimeoutSeconds = aws.Int32(5) })
		missing := r.send("e", "", func(in *sagemakerruntime.InvokeEndpointAsyncInput) { in.InputLocation = aws.String("s3://bkt/none") })
		fine := r.send("e", "fine")
		after(time.Minute)
		r.want(bad.FailureLocation, `Received client error (400) from model with message "no such flower"`+tail)
		r.want(broken.FailureLocation, `Received server error (503) from model with message "out of memory"`+tail)
		r.want(late.FailureLocation, `Received server error (0) from model with message "Your invocation timed out while waiting for a response from container model. Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."`+tail)
		r.want(missing.FailureLocation, "ClientError: Could not read the request payload at s3://bkt/none: its S3 answers NoSuchKey.")
		r.want(fine.OutputLocation, "fine")
		for _, o := range []*sagemakerruntime.InvokeEndpointAsyncOutput{bad, broken, late, missing} {
			r.wantNone(o.OutputLocation)
		}
		if got := strings.Join(w.seen(), " "); got != "bad broken late fine" {
			t.Errorf("the instance saw %q", got)
		}
		if s := r.status("e"); s.InvocationFailures != 3 || s.RequestDownloadFailures != 1 || s.InvocationsProcessed != 1 {
			t.Errorf("%+v", s)
		}
		list := r.Notifications("")
		if len(list) != 5 {
			t.Fatalf("%d notifications", len(list))
		}
		want := `{"awsRegion":"us-east-1","eventTime":"2000-01-01T00:00:10.000Z","receivedTime":"2000-01-01T00:00:00.000Z","invocationStatus":"Failed",` +
			`"failureReason":"ClientError: Received client error (400) from model. See the SageMaker Endpoint logs in your account for more information.",` +
			`"requestParameters":{"endpointName":"e"},"responseBody":{"content":"no such flower","encoding":"UTF-8"},` +
			`"inferenceId":"` + *bad.InferenceId + `","eventVersion":"1.0","eventSource":"aws:sagemaker","eventName":"InferenceResult"}`
		if got := string(list[4].Message); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if list[4].State != "no subscription" || list[4].TopicARN != "arn:aws:sns:us-east-1:123456789012:bad" {
			t.Errorf("%+v", list[4])
		}
		want = `{"awsRegion":"us-east-1","eventTime":"2000-01-01T00:00:35.000Z","receivedTime":"2000-01-01T00:00:00.000Z","invocationStatus":"Completed",` +
			`"requestParameters":{"endpointName":"e"},"responseParameters":{"contentType":"text/plain","outputLocation":"` + *fine.OutputLocation + `"},` +
			`"inferenceId":"` + *fine.InferenceId + `","eventVersion":"1.0","eventSource":"aws:sagemaker","eventName":"InferenceResult"}`
		if got := string(list[0].Message); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestABacklogStartsAnInstanceOfAnEndpointScaledToZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAsyncRig(t, &asked{latency: time.Second})
		defer r.stop()
		r.deployAsync("e", perInstance(1), variantOf("a", 1))
		r.scale("e", "a", 0)
		counts := func(desired, current int32) {
			t.Helper()
			d := r.endpoint("e")
			if v := d.ProductionVariants[0]; *v.DesiredInstanceCount != desired || *v.CurrentInstanceCount != current || d.EndpointStatus != statusInService {
				t.Errorf("%s: %d instances of %d, want %d of %d", d.EndpointStatus, *v.CurrentInstanceCount, *v.DesiredInstanceCount, current, desired)
			}
		}
		counts(0, 0)
		out := r.send("e", "wake")
		after(2 * time.Second)
		r.want(out.OutputLocation, "WAKE")
		counts(0, 1)
		after(4 * time.Minute)
		r.send("e", "again")
		after(4*time.Minute + 50*time.Second)
		counts(0, 1)
		after(time.Minute)
		counts(0, 0)
		r.send("e", "third")
		after(2 * time.Second)
		counts(0, 1)
		r.scale("e", "a", 2)
		counts(2, 2)
		after(time.Hour)
		counts(2, 2)
	})
}

func TestARequestWhoseInstanceWasStoppedIsRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &asked{latency: 20 * time.Minute}
		r := newAsyncRig(t, w)
		defer r.stop()
		r.deployAsync("e", perInstance(1), variantOf("a", 2))
		hour := func(in *sagemakerruntime.InvokeEndpointAsyncInput) { in.InvocationTimeoutSeconds = aws.Int32(3600) }
		first, second := r.send("e", "one", hour), r.send("e", "two", hour)
		after(time.Second)
		r.scale("e", "a", 1) // drains for less than that
		after(45 * time.Minute)
		r.want(first.OutputLocation, "ONE")
		r.want(second.OutputLocation, "TWO")
		if s := r.status("e"); s.Interrupted != 1 || s.InvocationsProcessed != 2 || len(w.seen()) != 3 {
			t.Errorf("%+v after %q", s, w.seen())
		}
	})
}

func TestDeleteEndpointFailsItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAsyncRig(t, &asked{latency: 10 * time.Second})
		defer r.stop()
		r.deployAsync("e", perInstance(1), variantOf("a", 1))
		runs, waits := r.send("e", "runs"), r.send("e", "waits")
		after(time.Second)
		r.remove("e")
		after(time.Minute)
		r.want(runs.OutputLocation, "RUNS")
		r.want(waits.FailureLocation, "ServerError: Endpoint e was deleted before it processed the request.")
		if s := r.AsyncStatus(""); len(s) != 0 {
			t.Errorf("%+v is left", s)
		}
		_, err := r.InvokeEndpointAsync(r.ctx, &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: aws.String("e"), Body: []byte("x")})
		wantMessage(t, err, "ValidationError", "Endpoint e of account 123456789012 not found.")
	})
}

func TestResetDropsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAsyncRig(t, &asked{latency: 10 * time.Second})
		defer r.stop()
		r.deployAsync("e", notified(), variantOf("a", 1))
		r.send("e", "runs")
		waits := r.send("e", "waits")
		after(time.Second)
		r.must(r.Reset(r.ctx, ""))
		after(time.Minute)
		r.wantNone(waits.FailureLocation)
		if s, n := r.AsyncStatus(""), r.Notifications(""); len(s)+len(n) != 0 {
			t.Errorf("%+v and %+v are left", s, n)
		}
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	for name, config := range map[string]async.Config{
		"by endpoint": {MaxRequestsPerEndpoint: 3},
		"in all":      {MaxRequests: 3},
		"by bytes":    {MaxInlineBytes: 14},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newAsyncRig(t, &asked{latency: time.Second}, func(o *Options) { o.Async = config })
			defer r.stop()
			r.deployAsync("e", perInstance(1), variantOf("a", 1))
			for range 3 {
				r.send("e", "1234")
			}
			in := &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: aws.String("e"), Body: []byte("1234")}
			_, err := r.InvokeEndpointAsync(r.ctx, in)
			wantMessage(t, err, "ThrottlingException", "The queue of endpoint e is full. Please try again.")
			after(2 * time.Second)
			if _, err := r.InvokeEndpointAsync(r.ctx, in); err != nil {
				t.Errorf("%s: %v after one has ended", name, err)
			}
			after(time.Minute)
			if s := r.status("e"); s.InvocationsProcessed != 4 {
				t.Errorf("%s: %+v", name, s)
			}
		})
	}
}

func TestAsyncRequestsThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAsyncRig(t, &asked{})
		defer r.stop()
		r.deployAsync("e", nil, variantOf("a", 1))
		r.deploy("sync", variantOf("a", 1))
		r.settle("sync", statusInService)
		for _, tc := range []struct{ endpoint, body, location, want string }{
			{"nowhere", "x", "", "Endpoint nowhere of account 123456789012 not found."},
			{"sync", "x", "", "Endpoint sync has no AsyncInferenceConfig and does not take InvokeEndpointAsync."},
			{"e", "", "", "Either InputLocation or Body must be specified."},
			{"e", "x", "s3://bkt/k", "Only one of InputLocation and Body can be specified."},
			{"e", strings.Repeat("x", 128_001), "", "1 validation error detected: Value at 'body' failed to satisfy constraint: Member must have length less than or equal to 128000"},
			{"e", "", "https://example.com/k", "InputLocation https://example.com/k does not name an object in Amazon S3."},
		} {
			in := &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: &tc.endpoint, Body: []byte(tc.body)}
			if tc.location != "" {
				in.InputLocation = &tc.location
			}
			_, err := r.InvokeEndpointAsync(r.ctx, in)
			wantMessage(t, err, "ValidationError", tc.want)
		}
		if _, err := r.invoke("e"); !errors.Is(err, dataplane.ErrAsyncOnly) {
			t.Errorf("InvokeEndpoint: %v", err)
		}
		limit := r.send("e", strings.Repeat("x", 128_000))
		after(time.Second)
		r.want(limit.OutputLocation, strings.Repeat("X", 128_000))
	})
}

func TestAPayloadOfManyMegabytesComesFromS3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAsyncRig(t, &asked{})
		defer r.stop()
		r.deployAsync("e", nil, variantOf("a", 1))
		large := bytes.Repeat([]byte("payload "), 1<<20)
		location := r.upload("in/large", large)
		out := r.send("e", "", func(in *sagemakerruntime.InvokeEndpointAsyncInput) {
			in.InputLocation, in.Filename, in.S3OutputPathExtension = &location, aws.String("large.txt"), aws.String("run/1")
		})
		after(time.Second)
		if *out.OutputLocation != "s3://bkt/out/run/1/large.txt" || *out.FailureLocation != "s3://bkt/failed/run/1/large-error.out" {
			t.Errorf("%s, %s", *out.OutputLocation, *out.FailureLocation)
		}
		r.want(out.OutputLocation, strings.ToUpper(string(large)))
		if left, err := filepath.Glob(filepath.Join(r.Dir, "async-*")); err != nil || len(left) > 0 {
			t.Errorf("%q, %v are left", left, err)
		}
	})
}

// talking answers with so many pieces of 1 MB.
type talking struct {
	pieces, status int
}

func (k talking) Launch(context.Context, dataplane.Spec) (dataplane.Worker, error) {
	return &talkingWorker{askedWorker{all: new(asked), done: make(chan struct{})}, k}, nil
}

type talkingWorker struct {
	askedWorker
	talking
}

func (w *talkingWorker) Stream(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error {
	if err := to.Begin(&dataplane.Answer{StatusCode: w.status, ContentType: "text/plain"}); err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for i := range w.pieces {
		piece[0] = byte(i)
		if _, err := to.Write(piece); err != nil {
			return err
		}
	}
	return to.Flush()
}

// TestAnswersAboveTheLimitOfOrdinaryOnesComeIntoS3: asynchronous ones may have 1 GB
// (docs: async-inference).
func TestAnswersAboveTheLimitOfOrdinaryOnesComeIntoS3(t *testing.T) {
	const pieces = dataplane.MaxAnswer>>20 + 5
	for _, test := range []struct {
		talking
		failure string
	}{
		{talking{pieces, 200}, ""},
		{talking{pieces, 500}, "larger than 26214400 bytes"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newAsyncRig(t, test.talking)
			defer r.stop()
			r.deployAsync("e", nil, variantOf("a", 1))
			out := r.send("e", "x")
			after(time.Second)
			if got, _ := r.object(out.FailureLocation); test.failure == "" && got != "" || !strings.Contains(got, test.failure) {
				t.Errorf("%+v: failure %q", test.talking, got)
			}
			if test.failure == "" {
				got, _ := r.object(out.OutputLocation)
				if len(got) != pieces<<20 || got[(pieces-1)<<20] != pieces-1 || got[1] != 0 {
					t.Errorf("%d bytes", len(got))
				}
			}
			if left, err := filepath.Glob(filepath.Join(r.Dir, "async-*")); err != nil || len(left) > 0 {
				t.Errorf("%q, %v are left", left, err)
			}
		})
	}
}

func TestAnOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAsyncRig(t, &asked{})
		defer r.stop()
		r.deployAsync("e", func(c *types.AsyncInferenceConfig) { c.OutputConfig.S3OutputPath = aws.String("s3://none/out") }, variantOf("a", 1))
		out := r.send("e", "x")
		after(time.Minute)
		r.want(out.FailureLocation, "ServerError: Could not write the response to "+*out.OutputLocation+": its S3 answers NoSuchBucket: The specified bucket does not exist.")
		if s := r.status("e"); s.ResponseUploadFailures != 1 {
			t.Errorf("%+v", s)
		}
	})
}
