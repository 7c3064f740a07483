package controlplane

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// modelRecord is a model as stored: what DescribeModel returns.
type modelRecord struct {
	sagemaker.DescribeModelOutput
}

var models = newTable[modelRecord]("models",
	index[modelRecord](byCreation, func(r *modelRecord) []byte { return store.TimeKey(*r.CreationTime) }),
)

// CreateModel stores a model. AWS page: API_CreateModel.
func (p *Plane) CreateModel(ctx context.Context, in *sagemaker.CreateModelInput) (*sagemaker.CreateModelOutput, error) {
	if err := checkModel(in); err != nil {
		return nil, err
	}
	for _, c := range containersOf(in.PrimaryContainer, in.Containers) {
		if err := p.checkModelData(ctx, &c); err != nil {
			return nil, err
		}
	}
	scope, name := scopeOf(ctx), *in.ModelName
	arn := sdkcompat.ARN(scope, sdkcompat.ModelResource, name)
	err := p.DB.Update(func(tx *store.Tx) error {
		if err := vacant(models, tx, scope, name, "model", arn); err != nil {
			return err
		}
		if err := putTags(tx, scope, arn, in.Tags); err != nil {
			return err
		}
		rec := &modelRecord{sagemaker.DescribeModelOutput{
			ModelName: in.ModelName, ModelArn: &arn, CreationTime: &tx.Now,
			PrimaryContainer: in.PrimaryContainer, Containers: in.Containers,
			EnableNetworkIsolation: in.EnableNetworkIsolation, ExecutionRoleArn: in.ExecutionRoleArn,
			InferenceExecutionConfig: in.InferenceExecutionConfig, VpcConfig: in.VpcConfig,
		}}
		return models.Put(tx, store.Scope(scope), id(name), rec)
	})
	if err != nil {
		return nil, err
	}
	return &sagemaker.CreateModelOutput{ModelArn: &arn}, nil
}

// modelDataTimeout bounds how long CreateModel looks for model data.
const modelDataTimeout = 10 * time.Second

// checkModelData looks for the model data now, as AWS does. A bucket that does
// not exist is let through unless all are known: a simulated worker needs no
// data.
func (p *Plane) checkModelData(ctx context.Context, c *types.ContainerDefinition) error {
	if err := checkS3Members(c); err != nil {
		return err
	}
	if p.ModelData == nil || p.ModelData.S3 == nil || c.Mode == types.ContainerModeMultiModel {
		return nil
	}
	container := containerOf(c)
	sources := make([]dataplane.ModelSource, 0, 1+len(container.AdditionalModelDataSources))
	if own, ok := container.ModelData(); ok {
		sources = append(sources, own)
	}
	for _, channel := range container.AdditionalModelDataSources {
		sources = append(sources, channel.ModelSource)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, modelDataTimeout, errors.New("S3 does not answer"))
	defer cancel()
	for _, source := range sources {
		if !strings.HasPrefix(source.URL, "s3://") && !p.ModelData.Strict {
			continue
		}
		err := p.ModelData.Check(ctx, source)
		if err != nil && (p.ModelData.Strict || !errors.Is(err, dataplane.ErrNoBucket)) {
			return sdkcompat.ModelDataUnreadable.Error(source.URL, err)
		}
	}
	return nil
}

// checkS3Members refuses the ways to name model data that are not built.
func checkS3Members(c *types.ContainerDefinition) error {
	sources := make([]*types.S3ModelDataSource, 0, 1+len(c.AdditionalModelDataSources))
	if c.ModelDataSource != nil && c.ModelDataSource.S3DataSource != nil {
		sources = append(sources, c.ModelDataSource.S3DataSource)
	}
	for _, a := range c.AdditionalModelDataSources {
		sources = append(sources, a.S3DataSource)
	}
	for _, s := range sources {
		switch {
		case s.ManifestS3Uri != nil || s.ManifestEtag != nil:
			return sdkcompat.NotHosted.Error("models whose data has a ManifestS3Uri")
		case s.HubAccessConfig != nil:
			return sdkcompat.NotHosted.Error("models of a hub (HubAccessConfig)")
		case s.ETag != nil && s.S3DataType == types.S3ModelDataTypeS3Prefix:
			return sdkcompat.NotHosted.Error("models with an ETag of an S3Prefix")
		}
	}
	return nil
}

// containerOf is the part of a container definition that workers act on.
func containerOf(c *types.ContainerDefinition) dataplane.Container {
	out := dataplane.Container{
		Image: aws.ToString(c.Image), Environment: c.Environment,
		ModelDataURL: aws.ToString(c.ModelDataUrl), Hostname: aws.ToString(c.ContainerHostname),
		MultiModel:   c.Mode == types.ContainerModeMultiModel,
		ForgetModels: c.MultiModelConfig != nil && c.MultiModelConfig.ModelCacheSetting == types.ModelCacheSettingDisabled,
	}
	if c.ModelDataSource != nil && c.ModelDataSource.S3DataSource != nil {
		source := sourceOf(c.ModelDataSource.S3DataSource)
		out.ModelDataSource = &source
	}
	for _, a := range c.AdditionalModelDataSources {
		out.AdditionalModelDataSources = append(out.AdditionalModelDataSources,
			dataplane.ModelChannel{Name: aws.ToString(a.ChannelName), ModelSource: sourceOf(a.S3DataSource)})
	}
	return out
}

func sourceOf(s *types.S3ModelDataSource) dataplane.ModelSource {
	return dataplane.ModelSource{
		URL: aws.ToString(s.S3Uri), Prefix: s.S3DataType == types.S3ModelDataTypeS3Prefix,
		Gzip: s.CompressionType == types.ModelCompressionTypeGzip, ETag: aws.ToString(s.ETag),
	}
}

// DescribeModel returns a model as it was created. AWS page: API_DescribeModel.
func (p *Plane) DescribeModel(ctx context.Context, in *sagemaker.DescribeModelInput) (*sagemaker.DescribeModelOutput, error) {
	var out *sagemaker.DescribeModelOutput
	err := p.DB.View(func(tx *store.Tx) error {
		rec, err := getModel(tx, scopeOf(ctx), *in.ModelName)
		if err == nil {
			out = &rec.DescribeModelOutput
		}
		return err
	})
	return out, err
}

// ListModels pages through the models. AWS page: API_ListModels.
func (p *Plane) ListModels(ctx context.Context, in *sagemaker.ListModelsInput) (*sagemaker.ListModelsOutput, error) {
	page, err := list(p, ctx, models, listRequest[modelRecord]{
		operation: "ListModels", sortBy: string(in.SortBy), sortOrder: in.SortOrder,
		maxResults: in.MaxResults, nextToken: in.NextToken, nameContains: in.NameContains,
		created: window{in.CreationTimeAfter, in.CreationTimeBefore},
		name:    func(r *modelRecord) string { return *r.ModelName },
		time:    func(r *modelRecord) *timestamps { return &timestamps{r.CreationTime, nil} },
	})
	if err != nil {
		return nil, err
	}
	out := &sagemaker.ListModelsOutput{Models: []types.ModelSummary{}, NextToken: page.next}
	for _, r := range page.items {
		out.Models = append(out.Models, types.ModelSummary{ModelName: r.ModelName, ModelArn: r.ModelArn, CreationTime: r.CreationTime})
	}
	return out, nil
}

// DeleteModel deletes the model's entry, nothing else: a running endpoint keeps
// serving it. AWS page: API_DeleteModel.
func (p *Plane) DeleteModel(ctx context.Context, in *sagemaker.DeleteModelInput) (*sagemaker.DeleteModelOutput, error) {
	scope := scopeOf(ctx)
	err := p.DB.Update(func(tx *store.Tx) error {
		rec, err := getModel(tx, scope, *in.ModelName)
		if err != nil {
			return err
		}
		return errors.Join(deleteTags(tx, scope, *rec.ModelArn), models.Delete(tx, store.Scope(scope), id(*in.ModelName)))
	})
	return &sagemaker.DeleteModelOutput{}, err
}

func getModel(tx *store.Tx, scope sdkcompat.Scope, name string) (*modelRecord, error) {
	rec, err := models.Get(tx, store.Scope(scope), id(name))
	return rec, notFound(err, "model", sdkcompat.ARN(scope, sdkcompat.ModelResource, name))
}

// id is a name as the key of its record. ARNs carry the name in lower case, so
// two names that differ in case only are one resource.
func id(name string) string { return strings.ToLower(name) }
