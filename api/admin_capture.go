package api

import (
	"net/http"

	"github.com/sagelocal/sagelocal/dataplane"
)

// captureView is an endpoint's data capture as GET capture shows it. While the
// endpoint is updated it may have two.
type captureView struct {
	Account     string `json:"account"`
	Region      string `json:"region"`
	Endpoint    string `json:"endpoint"`
	Destination string `json:"destination"`
	Percentage  int    `json:"sampling_percentage"`
	dataplane.CaptureStatus
}

// getCapture shows the data captures of every account, or of ?account=.
func (a *admin) getCapture(r *http.Request) (any, error) {
	captures := []captureView{}
	account := r.URL.Query().Get("account")
	for _, e := range a.fleet.Endpoints() {
		if account != "" && e.Key.Account != account {
			continue
		}
		for _, c := range e.Snapshot().Captures {
			config := c.Config()
			captures = append(captures, captureView{
				e.Key.Account, e.Key.Region, config.Endpoint, config.Destination, config.Percentage, c.Status(),
			})
		}
	}
	return map[string]any{"captures": captures}, nil
}
