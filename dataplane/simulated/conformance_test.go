package simulated

import (
	"net/http"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func TestSimulatedConforms(t *testing.T) {
	launchertest.Run(t, func(*testing.T) launchertest.Fixture {
		return launchertest.Fixture{
			Launcher:      New(Config{}, shapeOf, 1),
			Slow:          New(Config{Latency: constant(time.Minute)}, shapeOf, 1),
			Unhealthy:     New(Config{Startup: time.Hour}, shapeOf, 1),
			Failing:       New(Config{FailureRate: 1}, shapeOf, 1),
			FailureStatus: http.StatusInternalServerError,
			Prints:        true,
		}
	})
}
