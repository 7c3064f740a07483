package controlplane

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker"

	"github.com/sagelocal/sagelocal/dataplane"
)

// end takes a stream and wants nothing of it.
type end struct{}

func (end) Begin(*dataplane.Answer) error { return nil }
func (end) Write(p []byte) (int, error)   { return len(p), nil }
func (end) Flush() error                  { return nil }

func TestDeleteEndpointLetsStreamsOfEightMinutesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 8*time.Minute - time.Second
		r := newRig(t, slowEcho(takes))
		defer r.stop()
		r.deploy("e", variantOf("v", 1))
		r.settle("e", statusInService)
		began := time.Now()
		ended := make(chan error, 1)
		go func() {
			var route dataplane.Route
			ended <- r.Fleet.InvokeStream(context.Background(), endpointKey(home, "e"),
				&dataplane.Request{Body: []byte("ping"), Timeout: 8 * time.Minute}, &route, end{})
		}()
		synctest.Wait()
		name := "e"
		_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: &name})
		r.must(err)
		if err := <-ended; err != nil || time.Since(began) != takes {
			t.Errorf("after %v the stream ended with %v", time.Since(began), err)
		}
	})
}
