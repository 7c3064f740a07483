package controlplane

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// thirtyModels are created a minute apart, by turns red-NN and blue-NN.
func thirtyModels(t *testing.T, r *rig) (begun time.Time) {
	t.Helper()
	begun = time.Now().UTC()
	for i := range 30 {
		name := fmt.Sprintf("%s-%02d", []string{"red", "Blue"}[i%2], i)
		_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{ModelName: &name, PrimaryContainer: &types.ContainerDefinition{Image: aws.String("image")}})
		r.must(err)
		time.Sleep(time.Minute)
	}
	return begun
}

func modelNames(t *testing.T, r *rig, in sagemaker.ListModelsInput) (names []string, pages int) {
	t.Helper()
	for {
		out, err := r.ListModels(r.ctx, &in)
		r.must(err)
		pages++
		for _, m := range out.Models {
			names = append(names, *m.ModelName)
		}
		if out.NextToken == nil {
			return names, pages
		}
		in.NextToken = out.NextToken
	}
}

func TestListModelsFiltersSortsAndPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		begun := thirtyModels(t, r)
		minute := func(n int) *time.Time { at := begun.Add(time.Duration(n) * time.Minute); return &at }
		for _, tc := range []struct {
			name        string
			in          sagemaker.ListModelsInput
			count       int
			first, last string
			pages       int
		}{
			{"newest first, ten a page, by default", sagemaker.ListModelsInput{}, 30, "Blue-29", "red-00", 3},
			{"ascending", sagemaker.ListModelsInput{SortOrder: types.OrderKeyAscending}, 30, "red-00", "Blue-29", 3},
			{"by name", sagemaker.ListModelsInput{SortBy: types.ModelSortKeyName, SortOrder: types.OrderKeyAscending}, 30, "Blue-01", "red-28", 3},
			{"NameContains ignores case", sagemaker.ListModelsInput{NameContains: aws.String("bLuE")}, 15, "Blue-29", "Blue-01", 2},
			{"CreationTimeAfter includes its moment", sagemaker.ListModelsInput{CreationTimeAfter: minute(20)}, 10, "Blue-29", "red-20", 1},
			{"CreationTimeBefore excludes its moment", sagemaker.ListModelsInput{CreationTimeBefore: minute(20)}, 20, "Blue-19", "red-00", 2},
			{"a window by name", sagemaker.ListModelsInput{CreationTimeAfter: minute(5), CreationTimeBefore: minute(8), SortBy: types.ModelSortKeyName, SortOrder: types.OrderKeyAscending}, 3, "Blue-05", "red-06", 1},
			{"MaxResults", sagemaker.ListModelsInput{MaxResults: aws.Int32(7)}, 30, "Blue-29", "red-00", 5},
		} {
			names, pages := modelNames(t, r, tc.in)
			if len(names) != tc.count || pages != tc.pages || names[0] != tc.first || names[len(names)-1] != tc.last {
				t.Errorf("%s: %d names from %s to %s on %d pages, want %d, %s, %s, %d",
					tc.name, len(names), names[0], names[len(names)-1], pages, tc.count, tc.first, tc.last, tc.pages)
			}
			if unique := slices.Compact(slices.Sorted(slices.Values(names))); len(unique) != len(names) {
				t.Error(tc.name + ": a name came twice")
			}
		}
	})
}

func TestListTokenOfAnotherQueryIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		thirtyModels(t, r)
		out, err := r.ListModels(r.ctx, &sagemaker.ListModelsInput{})
		r.must(err)
		for name, in := range map[string]sagemaker.ListModelsInput{
			"other order":  {SortOrder: types.OrderKeyAscending, NextToken: out.NextToken},
			"other filter": {NameContains: aws.String("red"), NextToken: out.NextToken},
			"garbage":      {NextToken: aws.String("garbage")},
		} {
			_, err := r.ListModels(r.ctx, &in)
			t.Log(name)
			wantMessage(t, err, "ValidationException", "Invalid pagination token.")
		}
		_, err = r.ListModels(WithScope(r.ctx, otherScope), &sagemaker.ListModelsInput{NextToken: out.NextToken})
		wantMessage(t, err, "ValidationException", "Invalid pagination token.")
	})
}

var otherScope = sdkcompat.Scope{Account: "999999999999", Region: "eu-west-1"}

func TestListEndpointsByStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("a", variantOf("v", 1))
		r.settle("a", statusInService)
		r.deploy("b", variantOf("v", 1))
		synctest.Wait()
		for _, sortBy := range []types.EndpointSortKey{types.EndpointSortKeyStatus, types.EndpointSortKeyName, ""} {
			for status, want := range map[types.EndpointStatus]string{statusInService: "a", statusCreating: "b"} {
				out, err := r.ListEndpoints(r.ctx, &sagemaker.ListEndpointsInput{StatusEquals: status, SortBy: sortBy})
				if err != nil || len(out.Endpoints) != 1 || *out.Endpoints[0].EndpointName != want {
					t.Errorf("%s by %q: %+v, %v; want %s", status, sortBy, out, err, want)
				}
			}
		}
		out, err := r.ListEndpoints(r.ctx, &sagemaker.ListEndpointsInput{StatusEquals: statusFailed})
		if err != nil || len(out.Endpoints) != 0 {
			t.Errorf("Failed: %+v, %v", out, err)
		}
	})
}

func TestAccountsAndRegionsNeverMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("v", 1))
		r.settle("e", statusInService)
		other := WithScope(r.ctx, otherScope)
		if _, err := r.DescribeEndpoint(other, &sagemaker.DescribeEndpointInput{EndpointName: aws.String("e")}); err == nil {
			t.Error("another account sees the endpoint")
		}
		_, err := r.AddTags(other, &sagemaker.AddTagsInput{ResourceArn: r.endpoint("e").EndpointArn, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})
		if err == nil {
			t.Error("another account tags the endpoint")
		}
	})
}
