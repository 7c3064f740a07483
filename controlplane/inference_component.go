package controlplane

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/google/uuid"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

const componentKind = "inference component"

// The statuses of an inference component.
const (
	componentCreating  = types.InferenceComponentStatusCreating
	componentInService = types.InferenceComponentStatusInService
	componentUpdating  = types.InferenceComponentStatusUpdating
	componentDeleting  = types.InferenceComponentStatusDeleting
	componentFailed    = types.InferenceComponentStatusFailed
)

// inferenceComponentRecord is an inference component as stored. How many copies
// it has at this moment is not in it: DescribeInferenceComponent adds that from
// the fleet.
type inferenceComponentRecord struct {
	sagemaker.DescribeInferenceComponentOutput

	// UID tells components apart that had the same name one after the other.
	UID string
	// Generation is raised by every change of the desired state, as an
	// endpoint's is.
	Generation     int64
	TransitionTime time.Time // of InferenceComponentStatus

	// CopyCount is DesiredCopyCount. An adapter has none of its own.
	CopyCount int32
	// RollbackCopyCount is what to return to when the update under way fails.
	RollbackCopyCount int32
	// Base is the id of an adapter's base; empty for any other component.
	Base string
	// Active is what copies run now; Update is what shall follow it.
	Active revision
	Update *componentUpdate
	// Served is true once the component was InService.
	Served bool
}

// revision is one of a component's specifications, in force or to be. Its copies
// never mix with those of another.
type revision struct {
	Number int64
	// Listed tells Specifications from Specification.
	Listed bool
	Specs  []componentSpec
	// Resolved is when the images were resolved; older records lack it.
	Resolved time.Time
}

// componentSpec is a specification together with its model, as it was when the
// component took it over.
type componentSpec struct {
	Specification types.InferenceComponentSpecification
	Container     types.ContainerDefinition
}

var inferenceComponents = newTable("inference-components",
	index(byCreation, func(r *inferenceComponentRecord) []byte { return store.TimeKey(*r.CreationTime) }),
	index(byStatus, func(r *inferenceComponentRecord) []byte { return store.StringKey(string(r.InferenceComponentStatus)) }),
	index(byEndpoint, func(r *inferenceComponentRecord) []byte { return store.StringKey(id(*r.EndpointName)) }),
)

// byEndpoint is the index of components by the endpoint that hosts them.
const byEndpoint = "EndpointName"

func (r *inferenceComponentRecord) enter(status types.InferenceComponentStatus, now time.Time) {
	r.InferenceComponentStatus, r.TransitionTime, r.LastModifiedTime = status, now, &now
}

// interrupt moves a component whose copies have ended with the daemon to Updating;
// false if it had none, or was not in service. LastModifiedTime stays: nobody has
// modified it.
func (r *inferenceComponentRecord) interrupt(now time.Time) bool {
	if r.InferenceComponentStatus != componentInService || !r.adapter() && r.CopyCount == 0 {
		return false
	}
	r.InferenceComponentStatus, r.TransitionTime = componentUpdating, now
	return true
}

// awaitsCopies tells whether all that is awaited of a component in Updating is its
// copies: it was interrupted, or their number was changed.
func (r *inferenceComponentRecord) awaitsCopies() bool {
	return r.InferenceComponentStatus == componentUpdating && r.Update == nil
}

func (r *inferenceComponentRecord) id() string { return id(*r.InferenceComponentName) }

func (r *inferenceComponentRecord) adapter() bool { return r.Base != "" }

// spec is the specification for an instance type; nil when the component may not
// run on it (API_InferenceComponentSpecification, InstanceType).
func (v *revision) spec(instanceType string) *componentSpec {
	for i := range v.Specs {
		if t := string(v.Specs[i].Specification.InstanceType); t == "" || t == instanceType {
			return &v.Specs[i]
		}
	}
	return nil
}

// strategy is SPREAD or BINPACK; empty without SchedulingConfig.
func (v *revision) strategy() types.InferenceComponentPlacementStrategy {
	for i := range v.Specs {
		if c := v.Specs[i].Specification.SchedulingConfig; c != nil {
			return c.PlacementStrategy
		}
	}
	return ""
}

// CreateInferenceComponent stores the component as Creating and leaves the rest
// to its endpoint's reconciler. AWS page: API_CreateInferenceComponent.
func (p *Plane) CreateInferenceComponent(ctx context.Context, in *sagemaker.CreateInferenceComponentInput) (*sagemaker.CreateInferenceComponentOutput, error) {
	specs, listed, err := p.checkSpecifications(ctx, in.Specification, in.Specifications)
	if err != nil {
		return nil, err
	}
	if specs == nil {
		return nil, sdkcompat.SpecificationMissing.Error()
	}
	scope, name := scopeOf(ctx), *in.InferenceComponentName
	arn := componentARN(scope, name)
	err = p.DB.Update(func(tx *store.Tx) error {
		if err := vacant(inferenceComponents, tx, scope, name, componentKind, arn); err != nil {
			return err
		}
		endpoint, err := hostingEndpoint(tx, scope, *in.EndpointName)
		if err != nil {
			return err
		}
		rec := &inferenceComponentRecord{UID: uuid.NewString(), Generation: 1}
		rec.InferenceComponentName, rec.InferenceComponentArn = in.InferenceComponentName, &arn
		rec.EndpointName, rec.EndpointArn, rec.CreationTime = endpoint.EndpointName, endpoint.EndpointArn, &tx.Now
		if base := specs[0].BaseInferenceComponentName; base != nil {
			err = rec.adapt(tx, scope, *base, in.VariantName)
		} else {
			err = rec.settle(endpoint, in)
		}
		if err != nil {
			return err
		}
		if rec.Active, err = newRevision(tx, scope, 1, specs, listed, endpoint.Deployment.variant(*rec.VariantName)); err != nil {
			return err
		}
		if err := putTags(tx, scope, arn, in.Tags); err != nil {
			return err
		}
		rec.enter(componentCreating, tx.Now)
		return p.putComponent(tx, scope, rec)
	})
	if err != nil {
		return nil, err
	}
	return &sagemaker.CreateInferenceComponentOutput{InferenceComponentArn: &arn}, nil
}

func componentARN(scope sdkcompat.Scope, name string) string {
	return sdkcompat.ARN(scope, sdkcompat.InferenceComponentResource, name)
}

// putComponent stores a changed component and wakes its endpoint's reconciler.
func (p *Plane) putComponent(tx *store.Tx, scope sdkcompat.Scope, rec *inferenceComponentRecord) error {
	key := endpointKey(scope, *rec.EndpointName)
	tx.OnCommit(func() { p.wake(key) })
	return inferenceComponents.Put(tx, store.Scope(scope), rec.id(), rec)
}

// hostingEndpoint is the endpoint that a component is to be created on.
func hostingEndpoint(tx *store.Tx, scope sdkcompat.Scope, name string) (*endpointRecord, error) {
	endpoint, err := getEndpoint(tx, scope, name)
	if err != nil {
		return nil, err
	}
	if endpoint.EndpointStatus != statusInService {
		return nil, sdkcompat.ComponentEndpointNotReady.Error(*endpoint.EndpointArn, endpoint.EndpointStatus)
	}
	return endpoint, nil
}

// settle gives a component that is no adapter its variant and its copies.
func (r *inferenceComponentRecord) settle(endpoint *endpointRecord, in *sagemaker.CreateInferenceComponentInput) error {
	if in.RuntimeConfig == nil || aws.ToInt32(in.RuntimeConfig.CopyCount) < 1 {
		return sdkcompat.CopyCountZero.Error()
	}
	if err := checkCopies(0, *in.RuntimeConfig.CopyCount); err != nil {
		return err
	}
	r.CopyCount = *in.RuntimeConfig.CopyCount
	r.RollbackCopyCount = r.CopyCount
	variants := endpoint.Deployment.Variants
	switch {
	case in.VariantName != nil:
		r.VariantName = in.VariantName
	case len(variants) == 1:
		r.VariantName = variants[0].Config.VariantName
	default:
		return sdkcompat.ComponentVariantMissing.Error(*endpoint.EndpointArn)
	}
	switch v := endpoint.Deployment.variant(*r.VariantName); {
	case v == nil:
		return sdkcompat.ComponentVariantUnknown.Error(*endpoint.EndpointArn, *r.VariantName)
	case v.Config.ModelName != nil:
		return sdkcompat.ComponentVariantHasModel.Error(*r.VariantName, *endpoint.EndpointArn)
	}
	return nil
}

// adapt puts an adapter beside its base, whose variant and copies it shares.
func (r *inferenceComponentRecord) adapt(tx *store.Tx, scope sdkcompat.Scope, base string, variant *string) error {
	b, err := getComponent(tx, scope, base)
	if err != nil {
		return err
	}
	switch {
	case b.adapter():
		return sdkcompat.AdapterOfBase.Error(*b.InferenceComponentArn)
	case id(*b.EndpointName) != id(*r.EndpointName), variant != nil && *variant != *b.VariantName:
		return sdkcompat.AdapterOfOther.Error(*b.InferenceComponentArn, *r.EndpointName, aws.ToString(cmp.Or(variant, b.VariantName)))
	case b.InferenceComponentStatus != componentInService:
		return sdkcompat.BaseNotReady.Error(*b.InferenceComponentArn, b.InferenceComponentStatus)
	}
	r.Base, r.VariantName = b.id(), b.VariantName
	return nil
}

// ListInferenceComponents pages through the components.
// AWS page: API_ListInferenceComponents.
func (p *Plane) ListInferenceComponents(ctx context.Context, in *sagemaker.ListInferenceComponentsInput) (*sagemaker.ListInferenceComponentsOutput, error) {
	endpoint, variant := id(aws.ToString(in.EndpointNameEquals)), aws.ToString(in.VariantNameEquals)
	page, err := list(p, ctx, inferenceComponents, listRequest[inferenceComponentRecord]{
		operation: "ListInferenceComponents|" + endpoint + "|" + variant, sortBy: string(in.SortBy), sortOrder: in.SortOrder,
		maxResults: in.MaxResults, nextToken: in.NextToken, nameContains: in.NameContains,
		statusEquals: string(in.StatusEquals),
		created:      window{in.CreationTimeAfter, in.CreationTimeBefore},
		modified:     window{in.LastModifiedTimeAfter, in.LastModifiedTimeBefore},
		name:         func(r *inferenceComponentRecord) string { return *r.InferenceComponentName },
		time: func(r *inferenceComponentRecord) *timestamps {
			return &timestamps{r.CreationTime, r.LastModifiedTime}
		},
		status: func(r *inferenceComponentRecord) string { return string(r.InferenceComponentStatus) },
		match: func(r *inferenceComponentRecord) bool {
			return (endpoint == "" || id(*r.EndpointName) == endpoint) && (variant == "" || *r.VariantName == variant)
		},
	})
	if err != nil {
		return nil, err
	}
	out := &sagemaker.ListInferenceComponentsOutput{InferenceComponents: []types.InferenceComponentSummary{}, NextToken: page.next}
	for _, r := range page.items {
		out.InferenceComponents = append(out.InferenceComponents, types.InferenceComponentSummary{
			InferenceComponentName: r.InferenceComponentName, InferenceComponentArn: r.InferenceComponentArn,
			InferenceComponentStatus: r.InferenceComponentStatus,
			EndpointName:             r.EndpointName, EndpointArn: r.EndpointArn, VariantName: r.VariantName,
			CreationTime: r.CreationTime, LastModifiedTime: r.LastModifiedTime,
		})
	}
	return out, nil
}

// DeleteInferenceComponent answers at once; the endpoint's reconciler drains and
// stops the copies and deletes the record. AWS page: API_DeleteInferenceComponent.
func (p *Plane) DeleteInferenceComponent(ctx context.Context, in *sagemaker.DeleteInferenceComponentInput) (*sagemaker.DeleteInferenceComponentOutput, error) {
	scope := scopeOf(ctx)
	err := p.DB.Update(func(tx *store.Tx) error {
		rec, err := getComponent(tx, scope, *in.InferenceComponentName)
		if err != nil {
			return err
		}
		// A component that is being created cannot be deleted either
		// (amazon-sagemaker-examples#3432).
		if rec.InferenceComponentStatus != componentFailed {
			if err := rec.changeable(); err != nil {
				return err
			}
		}
		all, err := componentsOf(tx, scope, *rec.EndpointName)
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Base == rec.id() {
				return sdkcompat.BaseHasAdapters.Error(*rec.InferenceComponentArn)
			}
		}
		rec.Generation++
		rec.enter(componentDeleting, tx.Now)
		return p.putComponent(tx, scope, rec)
	})
	return &sagemaker.DeleteInferenceComponentOutput{}, err
}

// changeable refuses a change of a component that is not InService.
func (r *inferenceComponentRecord) changeable() error {
	switch r.InferenceComponentStatus {
	case componentInService:
		return nil
	case componentDeleting:
		return sdkcompat.ComponentDeleting.Error(*r.InferenceComponentArn)
	case componentFailed:
		return sdkcompat.ComponentFailed.Error(*r.InferenceComponentArn)
	}
	return sdkcompat.ComponentInProgress.Error(*r.InferenceComponentArn)
}

func getComponent(tx *store.Tx, scope sdkcompat.Scope, name string) (*inferenceComponentRecord, error) {
	rec, err := inferenceComponents.Get(tx, store.Scope(scope), id(name))
	return rec, notFound(err, componentKind, componentARN(scope, name))
}

// componentsOf are the components on an endpoint, by name, those that are being
// deleted included.
func componentsOf(tx *store.Tx, scope sdkcompat.Scope, endpoint string) ([]*inferenceComponentRecord, error) {
	from := store.StringKey(id(endpoint))
	all, _, err := inferenceComponents.List(tx, store.Scope(scope), store.Query[inferenceComponentRecord]{
		Index: byEndpoint, From: from, To: store.PrefixEnd(from),
		Keep: func(r *inferenceComponentRecord) bool { return id(*r.EndpointName) == id(endpoint) },
	})
	return all, err
}

// withoutComponents refuses to delete an endpoint that hosts components.
func withoutComponents(tx *store.Tx, scope sdkcompat.Scope, endpoint string) error {
	all, err := componentsOf(tx, scope, endpoint)
	if err == nil && len(all) > 0 {
		err = sdkcompat.ComponentsOnDelete.Error()
	}
	return err
}

// keepsComponents refuses an update of an endpoint to a configuration that has no
// place for a component.
func keepsComponents(tx *store.Tx, scope sdkcompat.Scope, rec *endpointRecord, target *deployment) error {
	all, err := componentsOf(tx, scope, *rec.EndpointName)
	if err != nil {
		return err
	}
	for _, c := range all {
		if v := target.variant(*c.VariantName); v == nil || !v.hosts() {
			return sdkcompat.ComponentsLose.Error(target.ConfigName, *c.VariantName, *c.InferenceComponentArn)
		}
	}
	return nil
}

// removeComponent deletes the record of a component whose copies are gone.
func removeComponent(tx *store.Tx, scope sdkcompat.Scope, rec *inferenceComponentRecord) error {
	return errors.Join(deleteTags(tx, scope, *rec.InferenceComponentArn), inferenceComponents.Delete(tx, store.Scope(scope), rec.id()))
}
