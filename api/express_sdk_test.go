package api

import (
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
	"github.com/aws/smithy-go/middleware"
)

// sdk is AWS's client with one connection.
type sdk struct {
	plane   *sagemaker.Client
	runtime *sagemakerruntime.Client
	http    *http.Client
	url     string
}

func (l *lane) sdk(t *testing.T) *sdk {
	transport := &http.Transport{MaxConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	s := &sdk{url: "http://" + l.address, http: &http.Client{Transport: transport}}
	account := credentials.NewStaticCredentialsProvider(benchScope.Account, "secret", "")
	s.plane = sagemaker.New(sagemaker.Options{Region: benchScope.Region, BaseEndpoint: &s.url, Credentials: account, HTTPClient: s.http})
	s.runtime = sagemakerruntime.New(sagemakerruntime.Options{
		Region: benchScope.Region, BaseEndpoint: &s.url, Credentials: account, HTTPClient: s.http, Retryer: aws.NopRetryer{},
	})
	return s
}

func (s *sdk) invoke(t *testing.T, endpoint, body string) (*sagemakerruntime.InvokeEndpointOutput, error) {
	out, err := s.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{
		EndpointName: &endpoint, Body: []byte(body), ContentType: aws.String("text/csv"), Accept: aws.String("text/csv"),
		CustomAttributes: aws.String("a=b"), TargetVariant: aws.String("AllTraffic"), InferenceId: aws.String("i"),
	})
	if out != nil {
		out.ResultMetadata = middleware.Metadata{} // times and ids
	}
	return out, err
}

// others are the calls that are not for the express lane.
func (s *sdk) others(t *testing.T) {
	t.Helper()
	if _, err := s.plane.ListModels(t.Context(), &sagemaker.ListModelsInput{}); err != nil {
		t.Error(err)
	}
	stream, err := s.runtime.InvokeEndpointWithResponseStream(t.Context(), &sagemakerruntime.InvokeEndpointWithResponseStreamInput{
		EndpointName: aws.String("bench"), Body: []byte("stream"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for event := range stream.GetStream().Events() {
		all = append(all, event.(*types.ResponseStreamMemberPayloadPart).Value.Bytes...)
	}
	if err := errors.Join(stream.GetStream().Err(), stream.GetStream().Close()); string(all) != "stream" || err != nil {
		t.Errorf("%q, error %v", all, err)
	}
	if _, err := s.runtime.InvokeEndpointAsync(t.Context(), &sagemakerruntime.InvokeEndpointAsyncInput{
		EndpointName: aws.String("bench"), InputLocation: aws.String("s3://a/b"),
	}); err == nil || !strings.Contains(err.Error(), "ValidationError") {
		t.Error(err)
	}
	if resp, err := s.http.Get(s.url + "/_sagelocal/version"); err != nil || resp.StatusCode != http.StatusOK {
		t.Error(err)
	} else if _, err := io.Copy(io.Discard, resp.Body); errors.Join(err, resp.Body.Close()) != nil {
		t.Error(err)
	}
}

// onlyRider tells that there is one connection among the riders, and that it waits
// on the express lane. net/http does not use every connection again.
func (l *lane) onlyRider() bool {
	x := l.server.express
	x.mu.Lock()
	defer x.mu.Unlock()
	for c := range x.riders {
		return len(x.riders) == 1 && c.ride.waits.Load()
	}
	return false
}

// The SDK's own requests are plain, and what it makes of the answers is the same
// over fasthttp and on the express lane, with everything else in between that it
// may send over the same connection.
func TestSDKClientRidesAnEventLoop(t *testing.T) {
	l := serveLaneOf(t, Options{Plane: benchPlane(t)})
	l.publish(t, "mirror", workerAt(t, mirror(t)))
	s := l.sdk(t)
	answer, refusal := ok("5.1", "X-Amzn-SageMaker-Custom-Attributes: c=d\r\n"), misbehaviour["a client error"].answer
	want, err := s.invoke(t, "mirror", answer)
	if err != nil || string(want.Body) != "5.1" || *want.CustomAttributes != "c=d" || *want.InvokedProductionVariant != "AllTraffic" {
		t.Fatalf("%+v, error %v", want, err)
	}
	_, err = s.invoke(t, "mirror", refusal)
	wantErr, isModelError := errors.AsType[*types.ModelError](err)
	if !isModelError || *wantErr.OriginalStatusCode != 415 {
		t.Fatal(err)
	}
	for range 2 {
		until(t, "the connection rides", func() bool {
			if _, err := s.invoke(t, "bench", "x"); err != nil {
				t.Fatal(err)
			}
			return l.onlyRider()
		})
		if got, err := s.invoke(t, "mirror", answer); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, error %v; want %+v", got, err, want)
		}
		_, err = s.invoke(t, "mirror", refusal)
		gotErr, _ := errors.AsType[*types.ModelError](err)
		if gotErr == nil || gotErr.Error() != wantErr.Error() || *gotErr.OriginalStatusCode != 415 || *gotErr.LogStreamArn != *wantErr.LogStreamArn {
			t.Errorf("got %v, want %v", err, wantErr)
		}
		s.others(t)
	}
}
