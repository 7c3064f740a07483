package api

import (
	"errors"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// serverlessError is AWS's answer to what only a serverless variant says, and nil
// to everything else. noAnswer is ModelError of a container that gave no answer.
func serverlessError(err error, endpoint string, route *dataplane.Route, noAnswer func(said string) error) error {
	switch {
	case errors.Is(err, dataplane.ErrThrottled):
		return sdkcompat.Throttled.Error()
	case errors.Is(err, dataplane.ErrColdStart):
		return noAnswer(sdkcompat.EnvironmentFailed.Sentence(route.Container))
	case errors.Is(err, dataplane.ErrProvisioning):
		return sdkcompat.EnvironmentNotReady.Error(route.Variant, endpoint)
	case errors.Is(err, dataplane.ErrSessionOfServerless):
		return sdkcompat.SessionOfServerless.Error(route.Variant, endpoint)
	case errors.Is(err, dataplane.ErrPayload):
		return sdkcompat.ServerlessPayload.Error(dataplane.ServerlessPayload)
	case errors.Is(err, dataplane.ErrServerlessAnswer):
		return noAnswer(sdkcompat.AnswerTooLarge.Sentence(route.Container, dataplane.ServerlessPayload))
	}
	return nil
}
