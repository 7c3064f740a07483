package controlplane

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/google/uuid"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// The statuses that this code decides by.
const (
	statusCreating       = types.EndpointStatusCreating
	statusInService      = types.EndpointStatusInService
	statusUpdating       = types.EndpointStatusUpdating
	statusSystemUpdating = types.EndpointStatusSystemUpdating
	statusRollingBack    = types.EndpointStatusRollingBack
	statusDeleting       = types.EndpointStatusDeleting
	statusFailed         = types.EndpointStatusFailed

	statusUpdateRollbackFailed = types.EndpointStatusUpdateRollbackFailed
)

// endpointRecord is an endpoint as stored. What its workers are doing at this
// moment is not in it: DescribeEndpoint adds that from the fleet.
type endpointRecord struct {
	sagemaker.DescribeEndpointOutput

	// UID tells endpoints apart that had the same name one after the other.
	UID string
	// Generation is raised by every change of the desired state. A reconciler
	// writes a status only for the generation that it has worked on.
	Generation     int64
	TransitionTime time.Time // of EndpointStatus
	// Deployment is the one in force, Update the UpdateEndpoint under way, and
	// Leftover what a rollback that failed left of a newer deployment.
	Deployment deployment
	Update     *rollout
	Leftover   *deployment
	// ReasonBefore is what FailureReason said before SystemUpdating, and will say
	// again.
	ReasonBefore *string
	// Served is true once the endpoint was InService: the runtime knows it.
	Served bool
	// Responses is the script that the admin route set, as JSON; empty means
	// that of the configuration file.
	Responses string
	// Faults are those that the admin route set, in the same way.
	Faults string
}

var endpoints = endpointTable()

func endpointTable() *store.Table[endpointRecord] {
	t := newTable[endpointRecord]("endpoints",
		index[endpointRecord](byCreation, func(r *endpointRecord) []byte { return store.TimeKey(*r.CreationTime) }),
		index[endpointRecord](byStatus, func(r *endpointRecord) []byte { return store.StringKey(string(r.EndpointStatus)) }),
	)
	t.Follow = followUsage
	return t
}

// take puts a deployment into force, with what of its configuration
// DescribeEndpoint shows.
func (r *endpointRecord) take(d deployment) {
	r.Deployment = d
	r.EndpointConfigName = &d.ConfigName
	r.AsyncInferenceConfig, r.ExplainerConfig, r.MetricsConfig = d.Async, d.Explainer, d.Metrics
	r.DataCaptureConfig = captureSummary(d.Capture)
}

// deployment finds one of the endpoint's deployments by its ID.
func (r *endpointRecord) deployment(id int64) *deployment {
	for _, f := range r.fleets() {
		if f.ID == id {
			return f.deployment
		}
	}
	return nil
}

// enter moves the endpoint to a status.
func (r *endpointRecord) enter(status types.EndpointStatus, now time.Time) {
	r.EndpointStatus, r.TransitionTime, r.LastModifiedTime = status, now, &now
}

// interrupt moves an endpoint whose workers have ended with the daemon to
// SystemUpdating. LastModifiedTime stays: nobody has modified it.
func (r *endpointRecord) interrupt(now time.Time) {
	r.EndpointStatus, r.TransitionTime = statusSystemUpdating, now
	r.ReasonBefore, r.FailureReason = r.FailureReason, nil
}

func endpointKey(scope sdkcompat.Scope, name string) dataplane.Key {
	return dataplane.Key{Account: scope.Account, Region: scope.Region, Name: id(name)}
}

// CreateEndpoint stores the endpoint as Creating and leaves the rest to its
// reconciler. AWS page: API_CreateEndpoint.
func (p *Plane) CreateEndpoint(ctx context.Context, in *sagemaker.CreateEndpointInput) (*sagemaker.CreateEndpointOutput, error) {
	scope, name := scopeOf(ctx), *in.EndpointName
	arn := sdkcompat.ARN(scope, sdkcompat.EndpointResource, name)
	err := p.DB.Update(func(tx *store.Tx) error {
		if err := vacant(endpoints, tx, scope, name, "endpoint", arn); err != nil {
			return err
		}
		config, err := getEndpointConfig(tx, scope, *in.EndpointConfigName)
		if err != nil {
			return err
		}
		rec := &endpointRecord{UID: uuid.NewString(), Generation: 1}
		d, err := newDeployment(tx, scope, config, rec.Generation)
		if err != nil {
			return err
		}
		if err := checkPolicy(&d, in.DeploymentConfig); err != nil {
			return err
		}
		if err := putTags(tx, scope, arn, in.Tags); err != nil {
			return err
		}
		rec.take(d)
		rec.EndpointName, rec.EndpointArn, rec.CreationTime = in.EndpointName, &arn, &tx.Now
		rec.LastDeploymentConfig = in.DeploymentConfig
		rec.enter(statusCreating, tx.Now)
		if err := p.chargeQuota(tx, scope, rec); err != nil {
			return err
		}
		tx.OnCommit(func() { p.wake(endpointKey(scope, name)) })
		return endpoints.Put(tx, store.Scope(scope), id(name), rec)
	})
	if err != nil {
		return nil, err
	}
	return &sagemaker.CreateEndpointOutput{EndpointArn: &arn}, nil
}

// DescribeEndpoint returns the record and, from the fleet, what is true of its
// instances now. AWS page: API_DescribeEndpoint.
func (p *Plane) DescribeEndpoint(ctx context.Context, in *sagemaker.DescribeEndpointInput) (*sagemaker.DescribeEndpointOutput, error) {
	var rec *endpointRecord
	err := p.DB.View(func(tx *store.Tx) (err error) {
		rec, err = getEndpoint(tx, scopeOf(ctx), *in.EndpointName)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p.describe(endpointKey(scopeOf(ctx), *in.EndpointName), rec), nil
}

// ListEndpoints pages through the endpoints. AWS page: API_ListEndpoints.
func (p *Plane) ListEndpoints(ctx context.Context, in *sagemaker.ListEndpointsInput) (*sagemaker.ListEndpointsOutput, error) {
	page, err := list(p, ctx, endpoints, listRequest[endpointRecord]{
		operation: "ListEndpoints", sortBy: string(in.SortBy), sortOrder: in.SortOrder,
		maxResults: in.MaxResults, nextToken: in.NextToken, nameContains: in.NameContains,
		statusEquals: string(in.StatusEquals),
		created:      window{in.CreationTimeAfter, in.CreationTimeBefore},
		modified:     window{in.LastModifiedTimeAfter, in.LastModifiedTimeBefore},
		name:         func(r *endpointRecord) string { return *r.EndpointName },
		time:         func(r *endpointRecord) *timestamps { return &timestamps{r.CreationTime, r.LastModifiedTime} },
		status:       func(r *endpointRecord) string { return string(r.EndpointStatus) },
	})
	if err != nil {
		return nil, err
	}
	out := &sagemaker.ListEndpointsOutput{Endpoints: []types.EndpointSummary{}, NextToken: page.next}
	for _, r := range page.items {
		out.Endpoints = append(out.Endpoints, types.EndpointSummary{
			EndpointName: r.EndpointName, EndpointArn: r.EndpointArn, EndpointStatus: r.EndpointStatus,
			CreationTime: r.CreationTime, LastModifiedTime: r.LastModifiedTime,
		})
	}
	return out, nil
}

// DeleteEndpoint answers at once; the reconciler stops the workers and deletes
// the record. AWS page: API_DeleteEndpoint.
func (p *Plane) DeleteEndpoint(ctx context.Context, in *sagemaker.DeleteEndpointInput) (*sagemaker.DeleteEndpointOutput, error) {
	scope, name := scopeOf(ctx), *in.EndpointName
	err := p.DB.Update(func(tx *store.Tx) error {
		rec, err := getEndpoint(tx, scope, name)
		if err != nil {
			return err
		}
		if rec.EndpointStatus != statusFailed && rec.EndpointStatus != statusUpdateRollbackFailed && rec.busy() {
			return inProgress(rec)
		}
		if err := withoutComponents(tx, scope, name); err != nil {
			return err
		}
		rec.Generation++
		rec.enter(statusDeleting, tx.Now)
		tx.OnCommit(func() {
			p.Fleet.Retire(endpointKey(scope, name)) // before the answer, not when its reconciler comes to it
			p.wake(endpointKey(scope, name))
		})
		return endpoints.Put(tx, store.Scope(scope), id(name), rec)
	})
	return &sagemaker.DeleteEndpointOutput{}, err
}

// busy tells whether the endpoint may not be changed now. A Failed endpoint can
// only be deleted (API_DescribeEndpoint).
func (r *endpointRecord) busy() bool { return r.EndpointStatus != statusInService }

// inProgress is AWS's answer to a change, deletion included, of a busy endpoint.
func inProgress(rec *endpointRecord) error {
	return sdkcompat.EndpointInProgress.Error(*rec.EndpointArn)
}

func getEndpoint(tx *store.Tx, scope sdkcompat.Scope, name string) (*endpointRecord, error) {
	rec, err := endpoints.Get(tx, store.Scope(scope), id(name))
	return rec, notFound(err, "endpoint", sdkcompat.ARN(scope, sdkcompat.EndpointResource, name))
}
