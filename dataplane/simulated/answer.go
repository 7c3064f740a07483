package simulated

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/template"

	"github.com/sagelocal/sagelocal/dataplane"
)

// templateData is what an answer template sees.
type templateData struct {
	Body       string
	InstanceID string // i-0123456789abcdef0
	Variant    string
	Endpoint   string // in lower case
	N          uint64 // which of the instance's requests this is, from 1

	TargetModel        string // that the request is for, if any
	InferenceComponent string // that the worker is a copy of, if any
	Adapter            string // that the request is for, if any
}

// JSON is the decoded body: map[string]any, []any, string, bool, int64, float64
// or nil. It is nil too when the body is not JSON.
func (d *templateData) JSON() any {
	decoder := json.NewDecoder(strings.NewReader(d.Body))
	decoder.UseNumber()
	var v any
	if decoder.Decode(&v) != nil {
		return nil
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil
	}
	return withNumbers(v)
}

// withNumbers makes integers of integers, so that 1234567 is not written as
// 1.234567e+06 and compares with a template's own constants.
func withNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = withNumbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = withNumbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // ±Inf beyond the range
		return f
	}
	return v
}

var templateFuncs = template.FuncMap{
	"json": func(v any) (string, error) {
		text, err := json.Marshal(v)
		return string(text), err
	},
}

// answer writes the configured answer.
func (w *worker) answer(ctx context.Context, n uint64, req *dataplane.Request, ans *dataplane.Answer) error {
	ans.StatusCode, ans.CustomAttributes = http.StatusOK, ""
	switch fixed := w.cfg.Answer.Fixed; {
	case w.cfg.Answer.Template != nil:
		return w.render(ctx, n, req, ans)
	case fixed != nil:
		ans.ContentType, ans.CustomAttributes = fixed.ContentType, fixed.CustomAttributes
		if ans.ContentType == "" {
			ans.ContentType = defaultContentType
		}
		if fixed.Status != 0 {
			ans.StatusCode = fixed.Status
		}
		ans.Body = append(ans.Body[:0], fixed.Body...)
	case len(req.Body) > dataplane.MaxAnswer:
		return w.errorf(dataplane.ErrTooLarge)
	default:
		ans.ContentType = req.ContentType
		ans.Body = append(ans.Body[:0], req.Body...)
	}
	return nil
}

// render executes the template. What goes wrong in it is the simulated model's
// own fault and becomes its answer.
func (w *worker) render(ctx context.Context, n uint64, req *dataplane.Request, ans *dataplane.Answer) error {
	ans.ContentType = w.cfg.Answer.Template.ContentType
	if ans.ContentType == "" {
		ans.ContentType = defaultContentType
	}
	out := boundedBody{ctx: ctx, text: ans.Body[:0]}
	err := execute(w.template, &out, &templateData{
		Body: string(req.Body), InstanceID: w.spec.InstanceID,
		Variant: w.spec.Variant, Endpoint: w.spec.Key.Name, N: n,
		TargetModel: req.TargetModel, InferenceComponent: w.spec.InferenceComponent, Adapter: req.Adapter,
	})
	ans.Body = out.text
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dataplane.ErrTooLarge):
		return w.errorf(dataplane.ErrTooLarge)
	case ctx.Err() != nil:
		return w.errorf(ctx.Err())
	}
	explain(ans, http.StatusInternalServerError, err.Error())
	return nil
}

// execute turns a panic of the template into an error.
func execute(t *template.Template, out io.Writer, data *templateData) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("template: panic: %v", reason)
		}
	}()
	return t.Execute(out, data)
}

// boundedBody takes at most an answer's payload limit, and nothing once the
// caller is gone.
type boundedBody struct {
	ctx  context.Context
	text []byte
}

func (b *boundedBody) Write(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if len(p) > dataplane.MaxAnswer-len(b.text) {
		return 0, dataplane.ErrTooLarge
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// explain writes a model server's error answer.
func explain(ans *dataplane.Answer, status int, reason string) {
	text, err := json.Marshal(struct {
		Error string `json:"error"`
	}{reason})
	if err != nil {
		text = []byte(`{}`) // cannot happen: a string always encodes
	}
	ans.StatusCode, ans.ContentType, ans.CustomAttributes = status, "application/json", ""
	ans.Body = append(ans.Body[:0], text...)
}
