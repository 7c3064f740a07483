package clients_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// listed pages through all models with pages of ten. The order of models that
// were created in the same millisecond, which is as fine as a timestamp is, is
// left open.
func (c *goClient) listed(t *testing.T, in sagemaker.ListModelsInput) (models []types.ModelSummary, pages int) {
	t.Helper()
	in.MaxResults = aws.Int32(10)
	for p := sagemaker.NewListModelsPaginator(c.sm, &in); p.HasMorePages(); pages++ {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Models) > 10 {
			t.Errorf("a page of %d, want at most 10", len(page.Models))
		}
		models = append(models, page.Models...)
	}
	return models, pages
}

func TestGoClientPagesThroughModels(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	before := time.Now().Add(-time.Minute)
	var created []string
	for i := range 27 {
		// Names whose order is not that of their creation.
		name := fmt.Sprintf("m%02d-%s", (i*7)%27, []string{"red", "GREEN", "blue"}[i%3])
		c.createModel(t, name, echoContainer)
		created = append(created, name)
	}
	byName := slices.Sorted(slices.Values(created))
	green := slices.DeleteFunc(slices.Clone(byName), func(name string) bool { return !strings.Contains(name, "GREEN") })
	name := func(a, b types.ModelSummary) int { return strings.Compare(*a.ModelName, *b.ModelName) }
	oldest := func(a, b types.ModelSummary) int { return a.CreationTime.Compare(*b.CreationTime) }
	newest := func(a, b types.ModelSummary) int { return oldest(b, a) }
	for _, test := range []struct {
		what  string
		in    sagemaker.ListModelsInput
		order func(a, b types.ModelSummary) int
		want  []string // by name
		pages int
	}{
		{"default: newest first", sagemaker.ListModelsInput{}, newest, byName, 3},
		{"oldest first", sagemaker.ListModelsInput{SortOrder: types.OrderKeyAscending}, oldest, byName, 3},
		{"by name", sagemaker.ListModelsInput{SortBy: types.ModelSortKeyName, SortOrder: types.OrderKeyAscending}, name, byName, 3},
		{"name contains, whatever the case", sagemaker.ListModelsInput{NameContains: aws.String("green")}, newest, green, 1},
		{"nothing contains it", sagemaker.ListModelsInput{NameContains: aws.String("yellow")}, newest, nil, 1},
		{"created after a minute ago", sagemaker.ListModelsInput{CreationTimeAfter: &before}, newest, byName, 3},
		{"created before", sagemaker.ListModelsInput{CreationTimeBefore: &before}, newest, nil, 1},
	} {
		t.Run(test.what, func(t *testing.T) {
			models, pages := c.listed(t, test.in)
			if !slices.IsSortedFunc(models, test.order) {
				t.Errorf("not in order: %+v", models)
			}
			var got []string
			for _, m := range slices.SortedFunc(slices.Values(models), name) {
				got = append(got, *m.ModelName)
			}
			if !slices.Equal(got, test.want) || pages != test.pages {
				t.Errorf("got %d pages: %v\nwant %d: %v", pages, got, test.pages, test.want)
			}
		})
	}
	c.checkTokens(t)
}

// checkTokens: a token continues the list that it came from, and no other.
func (c *goClient) checkTokens(t *testing.T) {
	t.Helper()
	first, err := c.sm.ListModels(t.Context(), &sagemaker.ListModelsInput{})
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Models) != 10 || first.NextToken == nil {
		t.Errorf("without MaxResults: %d models, token %v; want 10 and one", len(first.Models), first.NextToken)
	}
	_, err = c.sm.ListModels(t.Context(), &sagemaker.ListModelsInput{NextToken: aws.String("nonsense")})
	wantError(t, err, "ValidationException", "Invalid pagination token.")
	_, err = c.sm.ListModels(t.Context(), &sagemaker.ListModelsInput{NextToken: first.NextToken, NameContains: aws.String("red")})
	wantError(t, err, "ValidationException", "Invalid pagination token.")
}

func TestGoClientListsEndpointsByStatus(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "list-good", echoContainer, 1)
	c.createModel(t, "list-bad", types.ContainerDefinition{Image: aws.String(missingImage)})
	c.createEndpoint(t, "list-bad", variant("AllTraffic", "list-bad", 1, 1))
	c.awaitStatus(t, "list-bad", types.EndpointStatusFailed)
	for status, want := range map[types.EndpointStatus][]string{
		types.EndpointStatusInService: {"list-good"}, types.EndpointStatusFailed: {"list-bad"},
		types.EndpointStatusUpdating: nil, "": {"list-bad", "list-good"},
	} {
		out, err := c.sm.ListEndpoints(t.Context(), &sagemaker.ListEndpointsInput{
			StatusEquals: status, SortBy: types.EndpointSortKeyName, SortOrder: types.OrderKeyAscending, NameContains: aws.String("LIST"),
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range out.Endpoints {
			got = append(got, *e.EndpointName)
			if *e.EndpointArn != c.arn("endpoint", *e.EndpointName) || e.CreationTime == nil || e.LastModifiedTime == nil {
				t.Errorf("summary lacks something: %+v", e)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("status %q: got %v, want %v", status, got, want)
		}
	}
	configs, err := c.sm.ListEndpointConfigs(t.Context(), &sagemaker.ListEndpointConfigsInput{})
	if err != nil || len(configs.EndpointConfigs) != 2 || *configs.EndpointConfigs[0].EndpointConfigName != "list-bad" {
		t.Errorf("got %+v, %v", configs, err)
	}
}
