package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/goccy/go-yaml"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

func (a *admin) getCapacity(*http.Request) (any, error) { return a.plane.Capacity.Status(), nil }

// putCapacity replaces the rules. It takes JSON or YAML; a member that does not
// exist is an error.
func (a *admin) putCapacity(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	var doc struct {
		Rules []controlplane.CapacityRule `yaml:"rules"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(body), yaml.Strict()).Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, sdkcompat.InvalidCapacityBody.Error(yaml.FormatError(err, false, false))
	}
	if err := a.plane.SetCapacity(doc.Rules); err != nil {
		return nil, err
	}
	return a.getCapacity(r)
}
