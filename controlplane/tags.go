package controlplane

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// tagsRecord holds the tags of one resource, under its ARN, in the order in
// which they were added. A resource without tags has no record.
type tagsRecord struct {
	Tags []types.Tag
}

var tags = newTable[tagsRecord]("tags")

// maxTags is how many tags a resource can have (API model: TagList).
const maxTags = 50

// listTagsFloor is the least page of ListTags (API model: ListTagsMaxResults).
const listTagsFloor = 50

// AddTags adds tags or gives present keys a new value, and returns all of the
// resource's tags. AWS page: API_AddTags.
func (p *Plane) AddTags(ctx context.Context, in *sagemaker.AddTagsInput) (*sagemaker.AddTagsOutput, error) {
	out := new(sagemaker.AddTagsOutput)
	err := p.DB.Update(func(tx *store.Tx) error {
		scope, err := taggable(tx, scopeOf(ctx), *in.ResourceArn)
		if err != nil {
			return err
		}
		if err := putTags(tx, scope, *in.ResourceArn, in.Tags); err != nil {
			return err
		}
		out.Tags, err = getTags(tx, scope, *in.ResourceArn)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ListTags pages through a resource's tags. AWS page: API_ListTags.
func (p *Plane) ListTags(ctx context.Context, in *sagemaker.ListTagsInput) (*sagemaker.ListTagsOutput, error) {
	out := new(sagemaker.ListTagsOutput)
	err := p.DB.View(func(tx *store.Tx) error {
		scope, err := taggable(tx, scopeOf(ctx), *in.ResourceArn)
		if err != nil {
			return err
		}
		all, err := getTags(tx, scope, *in.ResourceArn)
		if err != nil {
			return err
		}
		first := 0
		if in.NextToken != nil {
			if first, err = strconv.Atoi(*in.NextToken); err != nil || first < 0 || first > len(all) {
				return sdkcompat.InvalidPaginationToken.Error()
			}
		}
		last := min(first+max(int(aws.ToInt32(in.MaxResults)), listTagsFloor), len(all))
		out.Tags = all[first:last]
		if last < len(all) {
			out.NextToken = aws.String(strconv.Itoa(last))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// DeleteTags removes keys; a key that is not there is no error.
// AWS page: API_DeleteTags.
func (p *Plane) DeleteTags(ctx context.Context, in *sagemaker.DeleteTagsInput) (*sagemaker.DeleteTagsOutput, error) {
	err := p.DB.Update(func(tx *store.Tx) error {
		scope, err := taggable(tx, scopeOf(ctx), *in.ResourceArn)
		if err != nil {
			return err
		}
		left, err := getTags(tx, scope, *in.ResourceArn)
		if err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(t types.Tag) bool { return slices.Contains(in.TagKeys, *t.Key) })
		return tags.Put(tx, store.Scope(scope), id(*in.ResourceArn), &tagsRecord{left})
	})
	return &sagemaker.DeleteTagsOutput{}, err
}

// taggable checks that the resource is one of the caller's and exists.
func taggable(tx *store.Tx, caller sdkcompat.Scope, arn string) (sdkcompat.Scope, error) {
	scope, resource, name, ok := sdkcompat.ParseARN(arn)
	if !ok {
		return scope, sdkcompat.InvalidResourceARN.Error(arn)
	}
	if scope != caller {
		return scope, sdkcompat.ResourceElsewhere.Error(arn, caller.Account, caller.Region)
	}
	var err error
	switch resource {
	case sdkcompat.ModelResource:
		_, err = getModel(tx, scope, name)
	case sdkcompat.EndpointConfigResource:
		_, err = getEndpointConfig(tx, scope, name)
	case sdkcompat.EndpointResource:
		_, err = getEndpoint(tx, scope, name)
	case sdkcompat.InferenceComponentResource:
		_, err = getComponent(tx, scope, name)
	default:
		err = sdkcompat.ResourceUntagged.Error(arn)
	}
	return scope, err
}

func getTags(tx *store.Tx, scope sdkcompat.Scope, arn string) ([]types.Tag, error) {
	rec, err := tags.Get(tx, store.Scope(scope), id(arn))
	if errors.Is(err, store.ErrNotFound) {
		return []types.Tag{}, nil
	}
	if err != nil {
		return nil, err
	}
	return rec.Tags, nil
}

// putTags merges tags into those that the resource has.
func putTags(tx *store.Tx, scope sdkcompat.Scope, arn string, add []types.Tag) error {
	if len(add) == 0 {
		return nil
	}
	all, err := getTags(tx, scope, arn)
	if err != nil {
		return err
	}
	for _, t := range add {
		if i := slices.IndexFunc(all, func(have types.Tag) bool { return *have.Key == *t.Key }); i >= 0 {
			all[i].Value = t.Value
		} else {
			all = append(all, t)
		}
	}
	if len(all) > maxTags {
		return sdkcompat.TooManyTags.Error(arn, maxTags)
	}
	return tags.Put(tx, store.Scope(scope), id(arn), &tagsRecord{all})
}

func deleteTags(tx *store.Tx, scope sdkcompat.Scope, arn string) error {
	err := tags.Delete(tx, store.Scope(scope), id(arn))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
