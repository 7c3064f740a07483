package api

import (
	"net/http"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// buffered runs a net/http handler that neither streams nor hijacks on the
// connection's own goroutine. fasthttpadaptor starts another for every request,
// whose stack has to grow each time: a tenth of a DescribeEndpoint.
func buffered(h http.Handler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		var r http.Request
		if err := fasthttpadaptor.ConvertRequest(ctx, &r, true); err != nil {
			refuse(ctx, sdkcompat.NotHTTP.Error())
			return
		}
		w := bufferedWriter{ctx: ctx, header: http.Header{}}
		h.ServeHTTP(&w, r.WithContext(ctx))
		w.WriteHeader(http.StatusOK)
	}
}

// bufferedWriter writes into fasthttp's response, which leaves as a whole.
type bufferedWriter struct {
	ctx     *fasthttp.RequestCtx
	header  http.Header
	decided bool // the status and the header are
}

// Header is http.ResponseWriter's.
func (w *bufferedWriter) Header() http.Header { return w.header }

// WriteHeader is http.ResponseWriter's: the first call counts.
func (w *bufferedWriter) WriteHeader(status int) {
	if w.decided {
		return
	}
	w.decided = true
	w.ctx.SetStatusCode(status)
	for name, values := range w.header {
		for _, value := range values {
			w.ctx.Response.Header.Add(name, value)
		}
	}
}

// Write is http.ResponseWriter's.
func (w *bufferedWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.ctx.Write(p)
}
