package api

import (
	"errors"
	"strings"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// targetError is AWS's answer to an invocation whose container or model cannot be
// had; nil for any other error.
func targetError(req *dataplane.Request, err error, endpoint, requestID string) error {
	switch {
	case errors.Is(err, dataplane.ErrNotMultiModel):
		e := sdkcompat.NotMultiModel.Error(endpoint)
		// amazon-sagemaker-examples#1216.
		e.Members = map[string]any{"ErrorCode": "TARGET_MODEL_HEADER_NOT_SUPPORTED"}
		return e
	case errors.Is(err, dataplane.ErrNoTargetModel):
		return sdkcompat.TargetModelMissing.Error(requestID)
	case errors.Is(err, dataplane.ErrTargetModel):
		return sdkcompat.TargetModelInvalid.Error(req.TargetModel, endpoint)
	case errors.Is(err, dataplane.ErrModelNotReady):
		return sdkcompat.ModelNotReady.Error(req.TargetModel, endpoint)
	case errors.Is(err, dataplane.ErrNotDirect):
		return sdkcompat.NotMultiContainer.Error(endpoint)
	case errors.Is(err, dataplane.ErrNoTargetContainer):
		return sdkcompat.TargetContainerMissing.Error(requestID)
	case errors.Is(err, dataplane.ErrUnknownContainer):
		return sdkcompat.TargetContainerUnknown.Error(endpoint, req.TargetContainer)
	}
	if e, ok := errors.AsType[*dataplane.ModelFetchError](err); ok {
		bucket, key, _ := strings.Cut(strings.TrimPrefix(e.URL, "s3://"), "/")
		cause := e.Error()
		for _, known := range []string{dataplane.ErrModelData.Error(), e.URL} {
			cause = strings.TrimPrefix(strings.TrimPrefix(cause, known), ": ")
		}
		return sdkcompat.ModelFetchFailed.Error(bucket, key, cause)
	}
	return nil
}
