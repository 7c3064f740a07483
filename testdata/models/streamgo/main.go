// Command streamgo is a model server under SageMaker's container contract that
// streams as fast as it can: a request's body says how many chunks its answer has
// and how many bytes each, as in "1000 64". Every chunk is flushed.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// maxChunks and maxSize bound what one request can ask for.
const (
	maxChunks = 1_000_000
	maxSize   = 1 << 20
)

func main() {
	port := os.Getenv("SAGEMAKER_BIND_TO_PORT")
	if port == "" {
		port = "8080" // the contract's port when nobody chooses another
	}
	http.HandleFunc("GET /ping", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("POST /invocations", answer)
	fmt.Fprintln(os.Stderr, "streamgo:", http.ListenAndServe(net.JoinHostPort("127.0.0.1", port), nil))
	os.Exit(1)
}

func answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64))
	if err != nil {
		return // the caller is gone
	}
	var chunks, size int
	if _, err := fmt.Sscan(string(body), &chunks, &size); err != nil || chunks < 1 || chunks > maxChunks || size < 1 || size > maxSize {
		http.Error(w, "the body is not <chunks> <bytes>", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	chunk := bytes.Repeat([]byte("x"), size)
	out := http.NewResponseController(w)
	for range chunks {
		if _, err := w.Write(chunk); err != nil || out.Flush() != nil {
			return
		}
	}
}
