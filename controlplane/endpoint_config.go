package controlplane

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// endpointConfigRecord is an endpoint configuration as stored: what
// DescribeEndpointConfig returns. It never changes.
type endpointConfigRecord struct {
	sagemaker.DescribeEndpointConfigOutput
}

var endpointConfigs = newTable[endpointConfigRecord]("endpoint-configs",
	index[endpointConfigRecord](byCreation, func(r *endpointConfigRecord) []byte { return store.TimeKey(*r.CreationTime) }),
)

// CreateEndpointConfig stores a configuration whose models exist.
// AWS page: API_CreateEndpointConfig.
func (p *Plane) CreateEndpointConfig(ctx context.Context, in *sagemaker.CreateEndpointConfigInput) (*sagemaker.CreateEndpointConfigOutput, error) {
	if err := checkEndpointConfig(in); err != nil {
		return nil, err
	}
	scope, name := scopeOf(ctx), *in.EndpointConfigName
	arn := sdkcompat.ARN(scope, sdkcompat.EndpointConfigResource, name)
	err := p.DB.Update(func(tx *store.Tx) error {
		if err := vacant(endpointConfigs, tx, scope, name, "endpoint configuration", arn); err != nil {
			return err
		}
		for _, v := range allVariants(in.ProductionVariants, in.ShadowProductionVariants) {
			for _, name := range hostedModels(&v) {
				model, err := getModel(tx, scope, name)
				if err != nil {
					return err
				}
				if err := checkHosting(candidate{in, &v}, model); err != nil {
					return err
				}
			}
		}
		if err := putTags(tx, scope, arn, in.Tags); err != nil {
			return err
		}
		rec := &endpointConfigRecord{sagemaker.DescribeEndpointConfigOutput{
			EndpointConfigName: in.EndpointConfigName, EndpointConfigArn: &arn, CreationTime: &tx.Now,
			ProductionVariants:       withDefaults(in.ProductionVariants),
			ShadowProductionVariants: withDefaults(in.ShadowProductionVariants),
			AsyncInferenceConfig:     in.AsyncInferenceConfig, DataCaptureConfig: in.DataCaptureConfig,
			EnableNetworkIsolation: in.EnableNetworkIsolation, ExecutionRoleArn: in.ExecutionRoleArn,
			ExplainerConfig: in.ExplainerConfig, KmsKeyId: in.KmsKeyId,
			MetricsConfig: in.MetricsConfig, VpcConfig: in.VpcConfig,
		}}
		return endpointConfigs.Put(tx, store.Scope(scope), id(name), rec)
	})
	if err != nil {
		return nil, err
	}
	return &sagemaker.CreateEndpointConfigOutput{EndpointConfigArn: &arn}, nil
}

func allVariants(production, shadow []types.ProductionVariant) []types.ProductionVariant {
	return append(append([]types.ProductionVariant{}, production...), shadow...)
}

// hostedModels are the models that a variant may host: its own and those that its
// instance pools have instead.
func hostedModels(v *types.ProductionVariant) []string {
	if v.ModelName == nil {
		return nil
	}
	names := []string{*v.ModelName}
	for _, pool := range v.InstancePools {
		if pool.ModelNameOverride != nil {
			names = append(names, *pool.ModelNameOverride)
		}
	}
	return names
}

// withDefaults fills in what AWS documents a default for.
func withDefaults(variants []types.ProductionVariant) []types.ProductionVariant {
	for i := range variants {
		if variants[i].InitialVariantWeight == nil {
			variants[i].InitialVariantWeight = aws.Float32(1)
		}
	}
	return variants
}

// DescribeEndpointConfig returns a configuration as it was created.
// AWS page: API_DescribeEndpointConfig.
func (p *Plane) DescribeEndpointConfig(ctx context.Context, in *sagemaker.DescribeEndpointConfigInput) (*sagemaker.DescribeEndpointConfigOutput, error) {
	var out *sagemaker.DescribeEndpointConfigOutput
	err := p.DB.View(func(tx *store.Tx) error {
		rec, err := getEndpointConfig(tx, scopeOf(ctx), *in.EndpointConfigName)
		if err == nil {
			out = &rec.DescribeEndpointConfigOutput
		}
		return err
	})
	return out, err
}

// ListEndpointConfigs pages through the configurations.
// AWS page: API_ListEndpointConfigs.
func (p *Plane) ListEndpointConfigs(ctx context.Context, in *sagemaker.ListEndpointConfigsInput) (*sagemaker.ListEndpointConfigsOutput, error) {
	page, err := list(p, ctx, endpointConfigs, listRequest[endpointConfigRecord]{
		operation: "ListEndpointConfigs", sortBy: string(in.SortBy), sortOrder: in.SortOrder,
		maxResults: in.MaxResults, nextToken: in.NextToken, nameContains: in.NameContains,
		created: window{in.CreationTimeAfter, in.CreationTimeBefore},
		name:    func(r *endpointConfigRecord) string { return *r.EndpointConfigName },
		time:    func(r *endpointConfigRecord) *timestamps { return &timestamps{r.CreationTime, nil} },
	})
	if err != nil {
		return nil, err
	}
	out := &sagemaker.ListEndpointConfigsOutput{EndpointConfigs: []types.EndpointConfigSummary{}, NextToken: page.next}
	for _, r := range page.items {
		out.EndpointConfigs = append(out.EndpointConfigs, types.EndpointConfigSummary{
			EndpointConfigName: r.EndpointConfigName, EndpointConfigArn: r.EndpointConfigArn, CreationTime: r.CreationTime,
		})
	}
	return out, nil
}

// DeleteEndpointConfig deletes a configuration, also one in use: its endpoint
// keeps running. AWS page: API_DeleteEndpointConfig.
func (p *Plane) DeleteEndpointConfig(ctx context.Context, in *sagemaker.DeleteEndpointConfigInput) (*sagemaker.DeleteEndpointConfigOutput, error) {
	scope := scopeOf(ctx)
	err := p.DB.Update(func(tx *store.Tx) error {
		rec, err := getEndpointConfig(tx, scope, *in.EndpointConfigName)
		if err != nil {
			return err
		}
		return errors.Join(deleteTags(tx, scope, *rec.EndpointConfigArn), endpointConfigs.Delete(tx, store.Scope(scope), id(*in.EndpointConfigName)))
	})
	return &sagemaker.DeleteEndpointConfigOutput{}, err
}

func getEndpointConfig(tx *store.Tx, scope sdkcompat.Scope, name string) (*endpointConfigRecord, error) {
	rec, err := endpointConfigs.Get(tx, store.Scope(scope), id(name))
	return rec, notFound(err, "endpoint configuration", sdkcompat.ARN(scope, sdkcompat.EndpointConfigResource, name))
}
