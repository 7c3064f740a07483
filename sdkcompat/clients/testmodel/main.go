// Command testmodel is a model server that does what the body of an invocation
// says, for tests of how the daemon treats its workers:
//
//	pid            answers its process id
//	echo TEXT      answers TEXT
//	status N TEXT  answers TEXT with status N
//	read NAME      answers what the file of the model holds
//	wait PATH      answers once PATH exists
//	crash          exits before it answers
//
// READY_FILE names a file without which GET /ping answers 503. With
// IGNORE_SIGTERM it stays until SIGKILL.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if os.Getenv("IGNORE_SIGTERM") != "" {
		signal.Ignore(syscall.SIGTERM)
	}
	http.HandleFunc("GET /ping", ping)
	http.HandleFunc("POST /invocations", invoke)
	address := net.JoinHostPort("127.0.0.1", os.Getenv("SAGEMAKER_BIND_TO_PORT"))
	fmt.Println("testmodel", os.Getpid(), "answers on", address)
	fmt.Fprintln(os.Stderr, http.ListenAndServe(address, nil))
	os.Exit(1)
}

func ping(w http.ResponseWriter, _ *http.Request) {
	if path := os.Getenv("READY_FILE"); path != "" && !exists(path) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func invoke(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	verb, rest, _ := strings.Cut(string(body), " ")
	w.Header().Set("Content-Type", "text/plain")
	switch verb {
	case "pid":
		fmt.Fprint(w, os.Getpid())
	case "echo":
		fmt.Fprint(w, rest)
	case "status":
		code, text, _ := strings.Cut(rest, " ")
		status, err := strconv.Atoi(code)
		if err != nil {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	case "read":
		content, err := os.ReadFile(filepath.Join(os.Getenv("SM_MODEL_DIR"), rest))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "%s", content)
	case "wait":
		for !exists(rest) && r.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		fmt.Fprint(w, "waited")
	case "crash":
		os.Exit(3)
	default:
		http.Error(w, "unknown verb "+verb, http.StatusBadRequest)
	}
}
