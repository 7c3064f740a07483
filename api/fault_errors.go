package api

import (
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// injected is AWS's own answer that a fault asks for.
func injected(f *dataplane.FaultError, endpoint string) error {
	switch f.Code {
	case dataplane.FaultThrottling:
		return sdkcompat.Throttled.Error()
	case dataplane.FaultUnavailable:
		return sdkcompat.FaultUnavailable.Error(endpoint)
	case dataplane.FaultNotReady:
		return sdkcompat.FaultNotReady.Error(endpoint)
	}
	return sdkcompat.FaultInternal.Error(endpoint)
}
