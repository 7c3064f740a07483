package controlplane

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"

	"github.com/sagelocal/sagelocal/controlplane/async"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

const (
	// defaultPerInstance stands for MaxConcurrentInvocationsPerInstance. AWS then
	// chooses "an optimal value" and does not say which.
	defaultPerInstance = 4
	// Defaults of InvokeEndpointAsync (API_runtime_InvokeEndpointAsync).
	defaultTTL     = 21_600
	defaultTimeout = 900
)

func (p *Plane) newQueue() *async.Queue {
	return async.New(async.Options{
		Config: p.Async, DB: p.DB, Fleet: p.Fleet, S3: p.S3, Subscriptions: p.Subscriptions,
		Dir: p.Dir, TimeScale: p.TimeScale, Starved: p.wake, Logger: p.Logger,
	})
}

// InvokeEndpointAsync puts a request into the endpoint's queue and returns when it
// is on disk. AWS page: API_runtime_InvokeEndpointAsync.
func (p *Plane) InvokeEndpointAsync(ctx context.Context, in *sagemakerruntime.InvokeEndpointAsyncInput) (*sagemakerruntime.InvokeEndpointAsyncOutput, error) {
	scope, name := scopeOf(ctx), *in.EndpointName
	key := endpointKey(scope, name)
	e := p.Fleet.Lookup(key)
	if e == nil || !e.Snapshot().Serving {
		return nil, sdkcompat.EndpointUnknown.Error(name, scope.Account)
	}
	s := e.Snapshot()
	location := aws.ToString(in.InputLocation)
	switch {
	case s.Async == nil:
		return nil, sdkcompat.NotAsync.Error(name)
	case s.HostsComponents:
		return nil, sdkcompat.ComponentHeaderMissing.Error() // the operation has no such header
	case location == "" && len(in.Body) == 0:
		return nil, sdkcompat.AsyncInputMissing.Error()
	case location != "" && len(in.Body) > 0:
		return nil, sdkcompat.AsyncInputTwice.Error()
	case len(in.Body) > async.MaxInline:
		return nil, sdkcompat.AsyncBodyTooLong.Error(async.MaxInline)
	case location != "" && !async.IsLocation(location):
		return nil, sdkcompat.AsyncInputElsewhere.Error(location)
	}
	t, err := p.queue.Enqueue(&async.Call{
		Key: key, Endpoint: name, To: s.Async,
		InferenceID: aws.ToString(in.InferenceId), ContentType: aws.ToString(in.ContentType),
		Accept: aws.ToString(in.Accept), CustomAttributes: aws.ToString(in.CustomAttributes),
		Input: location, Body: in.Body,
		Extension: aws.ToString(in.S3OutputPathExtension), Filename: aws.ToString(in.Filename),
		TTL: seconds(in.RequestTTLSeconds, defaultTTL*time.Second), Timeout: seconds(in.InvocationTimeoutSeconds, defaultTimeout*time.Second),
	})
	if err != nil {
		return nil, err
	}
	out := &sagemakerruntime.InvokeEndpointAsyncOutput{InferenceId: &t.InferenceID}
	if t.Output != "" {
		out.OutputLocation = &t.Output
	}
	if t.Failure != "" {
		out.FailureLocation = &t.Failure
	}
	return out, nil
}

// AsyncStatus lists the queues of an account's endpoints, or of all when it is
// empty. This is sagelocal's own, not AWS's.
func (p *Plane) AsyncStatus(account string) []async.Status { return p.queue.Status(account) }

// Notifications lists the last notifications of an account, or of all when it is
// empty, the newest first. This is sagelocal's own, not AWS's.
func (p *Plane) Notifications(account string) []async.Delivery { return p.queue.Notifications(account) }

// async is the endpoint's AsyncInferenceConfig in the data plane's words; nil
// without one.
func (r *endpointRecord) async() *dataplane.Async {
	c := r.Deployment.Async
	if c == nil {
		return nil
	}
	a := &dataplane.Async{UID: r.UID, PerInstance: defaultPerInstance}
	if c.ClientConfig != nil && c.ClientConfig.MaxConcurrentInvocationsPerInstance != nil {
		a.PerInstance = int(*c.ClientConfig.MaxConcurrentInvocationsPerInstance)
	}
	if o := c.OutputConfig; o != nil {
		a.OutputPath, a.FailurePath = aws.ToString(o.S3OutputPath), aws.ToString(o.S3FailurePath)
		if n := o.NotificationConfig; n != nil {
			a.SuccessTopic, a.ErrorTopic = aws.ToString(n.SuccessTopic), aws.ToString(n.ErrorTopic)
			a.IncludeInSuccess = slices.Contains(n.IncludeInferenceResponseIn, types.AsyncNotificationTopicTypesSuccessNotificationTopic)
			a.IncludeInError = slices.Contains(n.IncludeInferenceResponseIn, types.AsyncNotificationTopicTypesErrorNotificationTopic)
		}
	}
	return a
}

// startForBacklog wants an instance of an endpoint that is scaled to zero and has
// asynchronous requests, until it has been without any for IdleTimeout. On AWS
// that is the work of a scaling policy on HasBacklogWithoutCapacity (docs:
// async-inference-autoscale). DesiredInstanceCount stays as it is. It tells when
// to look again; 0 is for when something happens. The queue of an endpoint that is
// being deleted fails here.
func (r *reconciler) startForBacklog(rec *endpointRecord, want map[group]int) (wait time.Duration) {
	if rec.EndpointStatus == statusDeleting {
		r.plane.queue.Abandon(rec.UID)
	}
	g, zero := rec.scaledToZero(want)
	if !zero {
		r.awake = false
		return 0
	}
	timeout := r.plane.scaled(r.plane.queue.IdleTimeout)
	n, idleSince := r.plane.queue.Backlog(rec.UID)
	if n > 0 {
		r.awake = true
		want[g] = 1
		return timeout
	}
	if left := time.Until(idleSince.Add(timeout)); r.awake && left > 0 {
		want[g] = 1
		return left
	}
	r.awake = false
	return 0
}

// scaledToZero tells whether an endpoint for asynchronous requests wants no
// instance that would take any, and which variant the first would be of.
func (r *endpointRecord) scaledToZero(want map[group]int) (first group, zero bool) {
	if r.Deployment.Async == nil || r.Update != nil || r.Leftover != nil || len(want) == 0 || r.hostsComponents() {
		return group{}, false
	}
	for i := range r.Deployment.Variants {
		v := &r.Deployment.Variants[i]
		g := group{r.Deployment.ID, v.name()}
		switch {
		case v.CurrentWeight <= 0:
		case want[g] > 0:
			return group{}, false
		case !zero:
			first, zero = g, true
		}
	}
	return first, zero
}
