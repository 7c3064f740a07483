// Command irisgo serves the iris model by the container contract of SageMaker
// hosting. It gives the same answers as ../iris/serve.py and starts faster.
//
// Environment: SAGEMAKER_BIND_TO_PORT (8080), SM_MODEL_DIR (/opt/ml/model), and
// BIND_HOST (127.0.0.1; 0.0.0.0 inside of a container with its own network).
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// maxBody is InvokeEndpoint's own limit.
const maxBody = 25 << 20

func main() {
	log.SetFlags(0)
	log.SetPrefix("irisgo: ")
	if err := run(); err != nil {
		log.Fatalf("cannot serve: %v", err)
	}
}

func run() error {
	directory := cmp.Or(os.Getenv("SM_MODEL_DIR"), "/opt/ml/model")
	m, err := readModel(directory)
	if err != nil {
		return err
	}
	address := net.JoinHostPort(cmp.Or(os.Getenv("BIND_HOST"), "127.0.0.1"), cmp.Or(os.Getenv("SAGEMAKER_BIND_TO_PORT"), "8080"))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server := &http.Server{Handler: http.HandlerFunc(m.serveHTTP), ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	log.Printf("serving %s on %s", directory, listener.Addr())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// SIGKILL would follow after 30 s.
	grace, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

// refusal is a request that gets an error status.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

func (m *model) serveHTTP(w http.ResponseWriter, r *http.Request) {
	contentType, answer, err := m.answer(r)
	if err != nil {
		status := http.StatusInternalServerError
		if e, ok := errors.AsType[*refusal](err); ok {
			status = e.status
		}
		log.Printf("%s %s: %d %v", r.Method, r.URL.Path, status, err)
		contentType = "application/json"
		answer, _ = json.Marshal(map[string]string{"error": err.Error()})
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
	} else {
		w.Header().Set("Content-Type", contentType)
	}
	w.Write(answer) // a caller that has gone away is no error of the model
}

func (m *model) answer(r *http.Request) (contentType string, body []byte, err error) {
	switch r.URL.Path {
	case "/ping":
		if r.Method != http.MethodGet {
			return "", nil, refuse(http.StatusMethodNotAllowed, "this path takes only GET")
		}
		return "text/plain; charset=utf-8", nil, nil
	case "/invocations":
		if r.Method != http.MethodPost {
			return "", nil, refuse(http.StatusMethodNotAllowed, "this path takes only POST")
		}
		return m.invoke(r)
	}
	return "", nil, refuse(http.StatusNotFound, "no such path; there are /ping and /invocations")
}

func (m *model) invoke(r *http.Request) (contentType string, body []byte, err error) {
	body, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return "", nil, refuse(http.StatusRequestEntityTooLarge, "the body is longer than %d bytes", maxBody)
		}
		return "", nil, refuse(http.StatusBadRequest, "the body cannot be read: %v", err)
	}
	read, ok := readers[mediaType(r.Header.Get("Content-Type"))]
	if !ok {
		return "", nil, refuse(http.StatusUnsupportedMediaType, "Content-Type is neither text/csv nor application/json")
	}
	csv, err := acceptsCSV(r.Header.Get("Accept"))
	if err != nil {
		return "", nil, err
	}
	instances, err := read(body)
	if err != nil {
		return "", nil, err
	}
	if err := m.check(instances); err != nil {
		return "", nil, err
	}
	predictions := make([]prediction, len(instances))
	for i, instance := range instances {
		predictions[i] = m.predict(instance)
	}
	if !csv {
		body, err = json.Marshal(map[string]any{"predictions": predictions})
		return "application/json", body, err
	}
	var text strings.Builder
	for _, p := range predictions {
		text.WriteString(p.Label + "\n")
	}
	return "text/csv; charset=utf-8", []byte(text.String()), nil
}

func mediaType(value string) string {
	value, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.Trim(value, " \t"))
}

// acceptsCSV tells which of the two formats an Accept header names first.
func acceptsCSV(header string) (bool, error) {
	if strings.Trim(header, " \t") == "" {
		return false, nil
	}
	for item := range strings.SplitSeq(header, ",") {
		switch mediaType(item) {
		case "application/json", "application/*", "*/*":
			return false, nil
		case "text/csv", "text/*":
			return true, nil
		}
	}
	return false, refuse(http.StatusNotAcceptable, "answers are application/json or text/csv")
}
