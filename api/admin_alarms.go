package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

func (a *admin) getAlarms(r *http.Request) (any, error) {
	all, err := a.plane.ListAlarms(r.Context())
	return map[string]any{"alarms": all}, err
}

// putAlarm sets one alarm's state.
func (a *admin) putAlarm(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	var doc struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, sdkcompat.InvalidAlarmBody.Error()
	}
	name := mux.Vars(r)["name"]
	if err := a.plane.SetAlarmState(r.Context(), name, doc.State); err != nil {
		return nil, err
	}
	return map[string]string{"name": name, "state": doc.State}, nil
}
