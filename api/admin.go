package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/gorilla/mux"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// admin answers sagelocal's own routes under /_sagelocal/ (docs/admin.md).
type admin struct {
	plane   *controlplane.Plane
	fleet   *dataplane.Fleet
	logs    *dataplane.Logs
	scopes  *scopes
	version string
	log     *slog.Logger
	started time.Time
}

func (a *admin) register(r *mux.Router) {
	r.Methods(http.MethodGet).Path("/health").Handler(a.route(a.getHealth))
	r.Methods(http.MethodGet).Path("/version").Handler(a.route(a.getVersion))
	r.Methods(http.MethodGet).Path("/fleet").Handler(a.route(a.getFleet))
	r.Methods(http.MethodPost).Path("/reset").Handler(a.route(a.postReset))
	r.Methods(http.MethodGet).Path("/endpoints/{name}/responses").Handler(a.route(a.getResponses))
	r.Methods(http.MethodPut).Path("/endpoints/{name}/responses").Handler(a.route(a.putResponses))
	r.Methods(http.MethodDelete).Path("/endpoints/{name}/responses").Handler(a.route(a.deleteResponses))
	r.Methods(http.MethodGet).Path("/capacity").Handler(a.route(a.getCapacity))
	r.Methods(http.MethodPut).Path("/capacity").Handler(a.route(a.putCapacity))
	r.Methods(http.MethodGet).Path("/capture").Handler(a.route(a.getCapture))
	r.Methods(http.MethodGet).Path("/alarms").Handler(a.route(a.getAlarms))
	r.Methods(http.MethodPut).Path("/alarms/{name}").Handler(a.route(a.putAlarm))
	r.Methods(http.MethodGet).Path("/async").Handler(a.route(a.getAsync))
	r.Methods(http.MethodGet).Path("/notifications").Handler(a.route(a.getNotifications))
	r.Methods(http.MethodGet).Path("/endpoints/{name}/faults").Handler(a.route(a.getFaults))
	r.Methods(http.MethodPut).Path("/endpoints/{name}/faults").Handler(a.route(a.putFaults))
	r.Methods(http.MethodDelete).Path("/endpoints/{name}/faults").Handler(a.route(a.deleteFaults))
	r.Methods(http.MethodGet).Path("/endpoints/{name}/logs").Handler(a.route(a.getLogs))
}

// route encodes what an admin route returns, errors included, as JSON.
func (a *admin) route(get func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := newRequestID().String()
		w.Header().Set(requestIDHeader, id)
		w.Header().Set("Content-Type", "application/json")
		ctx := controlplane.WithScope(r.Context(), a.scope(r))
		v, err := get(r.WithContext(ctx))
		if err != nil {
			e := shown(a.log, err, id, "admin "+printable(r.URL.Path))
			w.WriteHeader(e.Status)
			v = map[string]string{"code": e.Code, "message": e.Message}
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(v) // a caller that went away has nothing to be told
	})
}

// scope is the caller's account and region: from SigV4 like everywhere, or from
// ?account= and ?region= for people with curl.
func (a *admin) scope(r *http.Request) sdkcompat.Scope {
	scope := a.scopes.of([]byte(r.Header.Get("Authorization")))
	if account := r.URL.Query().Get("account"); sdkcompat.IsAccount(account) {
		scope.Account = account
	}
	if region := r.URL.Query().Get("region"); sdkcompat.IsRegion(region) {
		scope.Region = region
	}
	return scope
}

func (a *admin) getHealth(*http.Request) (any, error) {
	return map[string]any{"status": "ok", "uptime_seconds": int(time.Since(a.started).Seconds())}, nil
}

func (a *admin) getVersion(*http.Request) (any, error) {
	return map[string]any{"version": a.version, "go": goruntime.Version(), "operations": Operations()}, nil
}

// The fleet as GET fleet shows it.
type (
	fleetView struct {
		Endpoints []endpointView `json:"endpoints"`
	}
	endpointView struct {
		Account  string        `json:"account"`
		Region   string        `json:"region"`
		Name     string        `json:"name"`
		Status   string        `json:"status"`
		Variants []variantView `json:"variants"`
		// Only of an endpoint that has one.
		ShadowVariants []variantView `json:"shadow_variants,omitempty"`
		// Only of an endpoint that hosts inference components.
		InferenceComponents []componentView `json:"inference_components,omitempty"`
	}
	variantView struct {
		Name            string                     `json:"name"`
		Weight          float64                    `json:"weight"`
		RoutingStrategy string                     `json:"routing_strategy"`
		Message         string                     `json:"message,omitempty"`
		Instances       []dataplane.InstanceStatus `json:"instances"`
		// Copies are the copies of requests that a shadow variant has had.
		Copies *dataplane.ShadowStatus `json:"copies,omitempty"`
		// Only of a serverless variant.
		Serverless *dataplane.ServerlessStatus `json:"serverless,omitempty"`
	}
)

// getFleet shows every account's endpoints, or those of ?account=.
func (a *admin) getFleet(r *http.Request) (any, error) {
	view := fleetView{Endpoints: []endpointView{}}
	account := r.URL.Query().Get("account")
	for _, e := range a.fleet.Endpoints() {
		if account != "" && e.Key.Account != account {
			continue
		}
		s := e.Snapshot()
		ev := endpointView{Account: e.Key.Account, Region: e.Key.Region, Name: e.Key.Name, Status: s.Status, Variants: []variantView{}}
		for i := range s.Variants {
			ev.Variants = append(ev.Variants, viewVariant(&s.Variants[i]))
		}
		for i := range s.Shadows {
			ev.ShadowVariants = append(ev.ShadowVariants, viewVariant(&s.Shadows[i]))
		}
		ev.InferenceComponents = componentViews(s)
		view.Endpoints = append(view.Endpoints, ev)
	}
	return view, nil
}

func viewVariant(v *dataplane.Variant) variantView {
	view := variantView{Name: v.Name, Weight: v.Weight, RoutingStrategy: v.Pool.Routing().Effective(), Message: v.Message, Instances: []dataplane.InstanceStatus{}}
	for _, in := range v.Instances {
		view.Instances = append(view.Instances, in.Status())
	}
	if v.Shadow != nil {
		copies := v.Shadow.Status()
		view.Copies = &copies
	}
	if s := v.Pool.Serverless(); s != nil {
		status := s.Status()
		view.Serverless = &status
	}
	return view
}

// resetTimeout is how long a reset waits for workers to stop.
const resetTimeout = 2 * time.Minute

// postReset deletes the caller's account's state, or with ?all=true everything.
func (a *admin) postReset(r *http.Request) (any, error) {
	account := a.scope(r).Account
	if all, _ := strconv.ParseBool(r.URL.Query().Get("all")); all {
		account = ""
	}
	ctx, cancel := context.WithTimeout(r.Context(), resetTimeout)
	defer cancel()
	if err := a.plane.Reset(ctx, account); err != nil {
		return nil, err
	}
	return map[string]string{"status": "reset", "account": account}, nil
}

func (a *admin) getResponses(r *http.Request) (any, error) {
	rules, err := a.plane.GetResponses(r.Context(), mux.Vars(r)["name"])
	return map[string]any{"rules": rules}, err
}

// scriptDocument is the body of PUT responses.
type scriptDocument struct {
	Rules []dataplane.ResponseRule `json:"rules" yaml:"rules"`
}

// putResponses takes JSON or YAML; a member that does not exist is an error.
func (a *admin) putResponses(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	var doc scriptDocument
	if err := yaml.NewDecoder(bytes.NewReader(body), yaml.Strict()).Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, sdkcompat.InvalidResponsesBody.Error(yaml.FormatError(err, false, false))
	}
	if err := a.plane.PutResponses(r.Context(), mux.Vars(r)["name"], doc.Rules); err != nil {
		return nil, err
	}
	return a.getResponses(r)
}

func (a *admin) deleteResponses(r *http.Request) (any, error) {
	if err := a.plane.PutResponses(r.Context(), mux.Vars(r)["name"], nil); err != nil {
		return nil, err
	}
	return a.getResponses(r)
}

// endpointName is EndpointName's pattern in the service model.
var endpointName = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$`)

// defaultLogLines is what GET logs shows of each instance without ?tail=.
const defaultLogLines = 100

// getLogs shows the last lines of every instance that the endpoint has had.
func (a *admin) getLogs(r *http.Request) (any, error) {
	n := defaultLogLines
	if tail := r.URL.Query().Get("tail"); tail != "" {
		var err error
		if n, err = strconv.Atoi(tail); err != nil || n < 1 || n > 10_000 {
			return nil, sdkcompat.InvalidTail.Error()
		}
	}
	scope := a.scope(r)
	name := mux.Vars(r)["name"]
	if !endpointName.MatchString(name) { // it becomes part of a path
		return nil, sdkcompat.InvalidEndpointName.Error(printable(name))
	}
	streams, err := a.logs.Tail(dataplane.Key{Account: scope.Account, Region: scope.Region, Name: strings.ToLower(name)}, n)
	if err != nil {
		return nil, fmt.Errorf("read logs: %w", err)
	}
	return map[string]any{"endpoint": name, "streams": streams}, nil
}
