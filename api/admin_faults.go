package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/goccy/go-yaml"
	"github.com/gorilla/mux"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

func (a *admin) getFaults(r *http.Request) (any, error) {
	rules, err := a.plane.GetFaults(r.Context(), mux.Vars(r)["name"])
	return map[string]any{"rules": rules}, err
}

// putFaults takes JSON or YAML; a member that does not exist is an error.
func (a *admin) putFaults(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	var script dataplane.FaultScript
	if err := yaml.NewDecoder(bytes.NewReader(body), yaml.Strict()).Decode(&script); err != nil && !errors.Is(err, io.EOF) {
		return nil, sdkcompat.InvalidFaults.Error(yaml.FormatError(err, false, false))
	}
	if err := a.plane.PutFaults(r.Context(), mux.Vars(r)["name"], script); err != nil {
		return nil, err
	}
	return a.getFaults(r)
}

func (a *admin) deleteFaults(r *http.Request) (any, error) {
	if err := a.plane.PutFaults(r.Context(), mux.Vars(r)["name"], dataplane.FaultScript{}); err != nil {
		return nil, err
	}
	return a.getFaults(r)
}
