// Command echogo is a model server under SageMaker's container contract that
// does no work: it sends back what it is sent. What is measured in front of it
// is the routing alone.
package main

import (
	"fmt"
	"net"
	"os"

	"github.com/valyala/fasthttp"
)

// maxBody is the payload limit of a real-time invocation.
const maxBody = 25 << 20

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "echogo:", err)
		os.Exit(1)
	}
}

func run() error {
	port := os.Getenv("SAGEMAKER_BIND_TO_PORT")
	if port == "" {
		port = "8080" // the contract's port when nobody chooses another
	}
	server := &fasthttp.Server{
		Handler:               answer,
		MaxRequestBodySize:    maxBody,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
	}
	return server.ListenAndServe(net.JoinHostPort("127.0.0.1", port))
}

func answer(ctx *fasthttp.RequestCtx) {
	switch string(ctx.Path()) {
	case "/ping":
	case "/invocations":
		ctx.Response.Header.SetContentTypeBytes(ctx.Request.Header.ContentType())
		ctx.SetBody(ctx.PostBody())
	default:
		ctx.SetStatusCode(fasthttp.StatusNotFound)
	}
}
