// Command testmodel is a model server that does what the body of an invocation
// says, for tests of how the daemon treats its workers:
//
//	pid            answers its process id
//	echo TEXT      answers TEXT
//	tell MS TEXT   answers NAME and TEXT in two parts, MS milliseconds apart
//	status N TEXT  answers TEXT with status N
//	read NAME      answers what the file of the model holds
//	env NAME       answers the value of an environment variable
//	headers        answers what came with the request
//	wait PATH      answers once PATH exists
//	crash          exits before it answers
//	pieces N PATH  sends "piece 0", "piece 1" and so on, each once PATH and its
//	               number exists
//	broken N       sends N pieces and breaks the connection
//	hang PATH      sends a piece, and creates PATH when the caller has gone
//	flood PATH     sends 256 MB and keeps in PATH how many bytes it could
//
// POST /v1/chat/completions repeats the last message, word by word if it is to
// be streamed.
//
// Bidirectional streams are in socket.go.
//
// With BROKEN it answers every invocation with status 500. READY_FILE names a
// file without which GET /ping answers 503, STOP_FILE one without which it does
// not end on SIGTERM. With IGNORE_SIGTERM it stays until SIGKILL.
//
// With SAGEMAKER_MULTI_MODEL it holds models that do the same.
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
	if path := os.Getenv("STOP_FILE"); path != "" {
		go endOnce(path)
	}
	http.HandleFunc("GET /ping", ping)
	if os.Getenv("SAGEMAKER_MULTI_MODEL") == "true" {
		serveModels()
	} else {
		http.HandleFunc("POST /v1/chat/completions", chat)
		http.HandleFunc("GET /invocations-bidirectional-stream", converse)
		http.HandleFunc("GET /v1/listen", converse)
		http.HandleFunc("POST /invocations", func(w http.ResponseWriter, r *http.Request) { obey(w, r, os.Getenv("SM_MODEL_DIR")) })
	}
	address := net.JoinHostPort("127.0.0.1", os.Getenv("SAGEMAKER_BIND_TO_PORT"))
	fmt.Println("testmodel", os.Getpid(), "answers on", address)
	fmt.Fprintln(os.Stderr, http.ListenAndServe(address, nil))
	os.Exit(1)
}

// endOnce ends the process after SIGTERM as soon as a file exists.
func endOnce(path string) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	<-told
	for !exists(path) {
		time.Sleep(10 * time.Millisecond)
	}
	os.Exit(0)
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

// obey answers as a model whose files are in dir.
func obey(w http.ResponseWriter, r *http.Request, dir string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	verb, rest, _ := strings.Cut(string(body), " ")
	w.Header().Set("Content-Type", "text/plain")
	if os.Getenv("BROKEN") != "" {
		http.Error(w, os.Getenv("NAME")+" is broken", http.StatusInternalServerError)
		return
	}
	switch verb {
	case "pid":
		fmt.Fprint(w, os.Getpid())
	case "echo":
		fmt.Fprint(w, rest)
	case "tell":
		tell(w, rest)
	case "status":
		code, text, _ := strings.Cut(rest, " ")
		status, err := strconv.Atoi(code)
		if err != nil {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	case "read":
		content, err := os.ReadFile(filepath.Join(dir, rest))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "%s", content)
	case "env":
		fmt.Fprint(w, os.Getenv(rest))
	case "headers":
		for _, name := range []string{"Content-Type", "Accept", "Custom-Attributes", "Inference-Id", "Target-Model"} {
			fmt.Fprintf(w, "%s=%s;", name, r.Header.Get(name)+r.Header.Get("X-Amzn-SageMaker-"+name))
		}
	case "wait":
		for !exists(rest) && r.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		fmt.Fprint(w, "waited")
	case "crash":
		os.Exit(3)
	case "pieces", "broken", "hang", "flood":
		stream(w, r, verb, rest)
	default:
		http.Error(w, "unknown verb "+verb, http.StatusBadRequest)
	}
}

// tell sends its first part before it waits, so that the caller has half an
// answer in hand.
func tell(w http.ResponseWriter, rest string) {
	pause, text, _ := strings.Cut(rest, " ")
	ms, err := strconv.Atoi(pause)
	if err != nil {
		http.Error(w, "no number: "+pause, http.StatusBadRequest)
		return
	}
	answer := os.Getenv("NAME") + " " + text
	half := len(answer) / 2
	fmt.Fprint(w, answer[:half])
	if ms > 0 {
		_ = http.NewResponseController(w).Flush() // a caller that is gone needs no answer
		time.Sleep(time.Duration(ms) * time.Millisecond)
	}
	fmt.Fprint(w, answer[half:])
}
