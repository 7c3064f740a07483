package controlplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/store"
)

// appending launches what appends its image's name to the body. Images named
// "broken" do not start, "slow" ones take their time, and "failing" ones answer
// with status 500.
func appending() dataplane.Launcher {
	kind := echo()
	return launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
		fmt.Fprintln(spec.Log, "this is", spec.Container.Image)
		if spec.Container.Image == "broken" {
			return nil, fmt.Errorf("exit status 1: %w", dataplane.ErrPing)
		}
		w, err := kind.Launch(ctx, spec)
		return appended{w, spec.Container.Image}, err
	})
}

type appended struct {
	dataplane.Worker
	image string
}

func (w appended) Invoke(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	if w.image == "slow" {
		select {
		case <-time.After(10 * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := w.Worker.Invoke(ctx, req, ans)
	ans.Body = append(append(ans.Body, '+'), w.image...)
	if w.image == "failing" {
		ans.StatusCode = 500
	}
	return err
}

// containersModel creates a model of several containers, one an image. With
// names, "name=image" says what the container is called.
func (r *rig) containersModel(name string, mode types.InferenceExecutionMode, images ...string) {
	r.t.Helper()
	in := &sagemaker.CreateModelInput{ModelName: &name}
	if mode != "" {
		in.InferenceExecutionConfig = &types.InferenceExecutionConfig{Mode: mode}
	}
	for _, image := range images {
		host, rest, named := strings.Cut(image, "=")
		c := types.ContainerDefinition{Image: &image}
		if named {
			c.ContainerHostname, c.Image = &host, &rest
		}
		in.Containers = append(in.Containers, c)
	}
	_, err := r.CreateModel(r.ctx, in)
	r.must(err)
}

// pipelined is an endpoint "e" of one variant that hosts such a model.
func (r *rig) pipelined(mode types.InferenceExecutionMode, images ...string) {
	r.t.Helper()
	r.containersModel("e", mode, images...)
	r.config("e", "e", variantOf("a", 2))
	_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("e")})
	r.must(err)
}

func (r *rig) send(req *dataplane.Request) (string, dataplane.Route, error) {
	ans := new(dataplane.Answer)
	route, err := r.Fleet.Invoke(context.Background(), endpointKey(home, "e"), req, ans)
	return string(ans.Body), route, err
}

func TestPipelineGoesThroughItsContainersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, appending())
		defer r.stop()
		r.pipelined("", "one", "two", "three")
		out := r.settle("e", statusInService)
		images := out.ProductionVariants[0].DeployedImages
		if len(images) != 3 || *images[1].SpecifiedImage != "two" {
			t.Errorf("deployed images %+v", images)
		}
		body, route, err := r.send(&dataplane.Request{Body: []byte("x")})
		if err != nil || body != "x+one+two+three" || route.Container != "container-1" {
			t.Errorf("%q by %q, %v", body, route.Container, err)
		}
		if _, _, err := r.send(&dataplane.Request{TargetContainer: "container-2"}); !errors.Is(err, dataplane.ErrNotDirect) {
			t.Errorf("with a target: %v, want ErrNotDirect", err)
		}
	})
}

func TestContainerThatFailsIsNamedInTheRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, appending())
		defer r.stop()
		r.pipelined("", "one", "failing", "three")
		r.settle("e", statusInService)
		if body, route, err := r.send(&dataplane.Request{}); err != nil || body != "+one+failing" || route.Container != "container-2" {
			t.Errorf("%q by %q, %v", body, route.Container, err)
		}
	})
}

func TestDirectModeInvokesTheContainerThatIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, appending())
		defer r.stop()
		r.pipelined(types.InferenceExecutionModeDirect, "first=one", "second=two")
		r.settle("e", statusInService)
		body, route, err := r.send(&dataplane.Request{Body: []byte("x"), TargetContainer: "second"})
		if err != nil || body != "x+two" || route.Container != "second" {
			t.Errorf("%q by %q, %v", body, route.Container, err)
		}
		for target, want := range map[string]error{"": dataplane.ErrNoTargetContainer, "third": dataplane.ErrUnknownContainer} {
			if _, route, err := r.send(&dataplane.Request{TargetContainer: target}); !errors.Is(err, want) || route.Variant != "a" {
				t.Errorf("target %q: %v by %+v, want %v", target, err, route, want)
			}
		}
	})
}

func TestFailureReasonNamesTheContainerOfAPipeline(t *testing.T) {
	for container, images := range map[string][]string{
		"container-2": {"one", "broken", "three"},
		"prepare":     {"prepare=broken", "predict=two"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, appending())
			defer r.stop()
			r.pipelined("", images...)
			out := r.settle("e", statusFailed)
			want := "The " + container + " container for production variant a did not pass the ping health check. Please check CloudWatch logs for this endpoint."
			if got := aws.ToString(out.FailureReason); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}

func TestEachContainerOfAPipelineHasALogStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, appending())
		defer r.stop()
		r.pipelined("", "prepare=one", "predict=two")
		r.settle("e", statusInService)
		logs, err := r.Logs.Tail(endpointKey(home, "e"), 10)
		r.must(err)
		got := map[string]string{}
		for _, l := range logs {
			got[l.Stream] = l.Lines[0]
		}
		want := map[string]string{}
		for _, in := range r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Variants[0].Instances {
			want["a/"+in.ID+"/prepare"], want["a/"+in.ID+"/predict"] = "this is one", "this is two"
		}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestUpdateEndpointFromOneContainerToSeveralAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, appending())
		defer r.stop()
		r.deploy("e", variantOf("a", 2))
		r.settle("e", statusInService)
		r.containersModel("several", types.InferenceExecutionModeSerial, "one", "two")
		r.config("several", "several", variantOf("a", 2))
		for _, tc := range []struct{ config, want string }{{"several", "+one+two"}, {"e", "+image"}} {
			r.update("e", tc.config, nil)
			r.settle("e", statusInService)
			if body, _, err := r.send(&dataplane.Request{}); err != nil || body != tc.want {
				t.Errorf("on %s: %q, %v", tc.config, body, err)
			}
		}
	})
}

// A request that is under way in a pipeline is answered before its instance is
// stopped.
func TestPipelineIsDrainedBeforeItStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, appending())
		defer r.stop()
		r.pipelined("", "one", "slow", "three")
		r.settle("e", statusInService)
		answers := make(chan string)
		go func() {
			body, _, err := r.send(&dataplane.Request{})
			answers <- fmt.Sprint(body, err)
		}()
		synctest.Wait()
		_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: aws.String("e")})
		r.must(err)
		if got := <-answers; got != "+one+slow+three<nil>" {
			t.Errorf("got %s", got)
		}
	})
}

// What a pipeline is needs nothing but the record: the model and the
// configuration may be gone when the daemon starts again.
func TestPipelineComesBackAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		open := func() *rig {
			db, err := store.Open(store.Options{Path: path, Tables: Tables()})
			if err != nil {
				t.Fatal(err)
			}
			return rigOver(t, db, t.TempDir(), appending())
		}
		r := open()
		r.pipelined(types.InferenceExecutionModeDirect, "first=one", "second=two")
		r.settle("e", statusInService)
		_, err := r.DeleteModel(r.ctx, &sagemaker.DeleteModelInput{ModelName: aws.String("e")})
		r.must(err)
		r.stop()
		r = open()
		defer r.stop()
		r.settle("e", statusInService)
		if body, _, err := r.send(&dataplane.Request{TargetContainer: "first"}); err != nil || body != "+one" {
			t.Errorf("%q, %v", body, err)
		}
	})
}

func TestPipelineHasTwoToFifteenContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, appending())
		defer r.stop()
		r.pipelined("", slices.Repeat([]string{"i"}, 15)...)
		r.settle("e", statusInService)
		if body, _, err := r.send(&dataplane.Request{}); err != nil || body != strings.Repeat("+i", 15) {
			t.Errorf("%q, %v", body, err)
		}
	})
}
