package simulated

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
)

func TestEchoGivesBodyAndContentTypeBack(t *testing.T) {
	w := launch(t, Config{}, spec("ml.m5.large"))
	ans := &dataplane.Answer{CustomAttributes: "left from before", Body: []byte("left from before")}
	req := &dataplane.Request{ContentType: "text/csv", CustomAttributes: "c=1", Body: []byte("1,2")}
	if err := w.Invoke(t.Context(), req, ans); err != nil {
		t.Fatal(err)
	}
	if ans.StatusCode != 200 || ans.ContentType != "text/csv" || string(ans.Body) != "1,2" || ans.CustomAttributes != "" {
		t.Errorf("%+v", ans)
	}
	req.Body[0] = 'x'
	if string(ans.Body) != "1,2" {
		t.Error("the answer shares the request's memory")
	}
}

func TestFixedAnswersAreGivenAsConfigured(t *testing.T) {
	for _, test := range []struct {
		fixed Fixed
		want  dataplane.Answer
	}{
		{Fixed{}, dataplane.Answer{StatusCode: 200, ContentType: "application/json"}},
		{
			Fixed{Status: 418, ContentType: "text/plain", Body: "short and stout", CustomAttributes: "pot=tea"},
			dataplane.Answer{StatusCode: 418, ContentType: "text/plain", Body: []byte("short and stout"), CustomAttributes: "pot=tea"},
		},
	} {
		w := launch(t, Config{Answer: Answer{Fixed: &test.fixed}}, spec("ml.m5.large"))
		ans := &dataplane.Answer{Body: []byte("left from before")}
		if err := w.Invoke(t.Context(), &dataplane.Request{Body: []byte("x")}, ans); err != nil {
			t.Fatal(err)
		}
		if ans.StatusCode != test.want.StatusCode || ans.ContentType != test.want.ContentType ||
			string(ans.Body) != string(test.want.Body) || ans.CustomAttributes != test.want.CustomAttributes {
			t.Errorf("%+v, want %+v", ans, test.want)
		}
	}
}

func TestTemplatesAnswerFromTheRequest(t *testing.T) {
	for _, test := range []struct {
		text, body string
		status     int
		want       string
	}{
		{`{{.Endpoint}}/{{.Variant}}/{{.InstanceID}} {{.N}} {{.Body}}`, "hello", 200, "spam-filter/blue/i-0123456789abcdef0 1 hello"},
		{`{"n":{{len .JSON.instances}}}`, `{"instances":[1,2,3]}`, 200, `{"n":3}`},
		{`{{range .JSON}}{{.}};{{end}}`, `[1234567890123, 0.25, "a", true]`, 200, "1234567890123;0.25;a;true;"},
		{`{{if eq .JSON.n 2}}two{{end}}`, `{"n":2}`, 200, "two"},
		{`{{json .JSON.inputs}}`, `{"inputs":{"b":[1,2.5],"a":"x"}}`, 200, `{"a":"x","b":[1,2.5]}`},
		{`{{if .JSON}}json{{else}}text{{end}}`, `not json`, 200, "text"},
		{`{{if .JSON}}json{{else}}text{{end}}`, `{} {}`, 200, "text"},
		{`{{if .JSON.stream}}stream{{else}}whole{{end}}`, `{}`, 200, "whole"},
		{``, "x", 200, ""},
		{`so far {{index .JSON 5}}`, `[1]`, 500, "index out of range"},
		{`{{.JSON.a.b}}`, `{"a":1}`, 500, "can't evaluate field b"},
		{`{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`, ``, 500, "exceeded maximum template depth"},
		{`{{.Nothing}}`, ``, 500, "Nothing"},
	} {
		w := launch(t, Config{Answer: Answer{Template: &Template{Text: test.text}}}, spec("ml.m5.large"))
		ans := &dataplane.Answer{Body: []byte("left from before")}
		if err := w.Invoke(t.Context(), &dataplane.Request{Body: []byte(test.body)}, ans); err != nil {
			t.Fatal(err)
		}
		if ans.StatusCode != test.status || ans.ContentType != "application/json" {
			t.Errorf("%s: %d %s", test.text, ans.StatusCode, ans.ContentType)
		}
		body := string(ans.Body)
		if test.status == 200 && body != test.want {
			t.Errorf("%s of %s: %q, want %q", test.text, test.body, body, test.want)
		}
		if test.status == 500 && (!strings.HasPrefix(body, `{"error":"`) || !strings.Contains(body, test.want)) {
			t.Errorf("%s of %s: %q, want an error with %q", test.text, test.body, body, test.want)
		}
	}
}

func TestAPanickingTemplateAnswers500(t *testing.T) {
	w := launch(t, Config{Answer: Answer{Template: &Template{Text: "x"}}}, spec("ml.m5.large")).(*worker)
	w.template = nil // an Execute that panics by itself
	ans := new(dataplane.Answer)
	if err := w.render(t.Context(), 1, &dataplane.Request{}, ans); err != nil {
		t.Fatal(err)
	}
	if ans.StatusCode != 500 || !strings.Contains(string(ans.Body), "panic: runtime error") {
		t.Errorf("%d %s", ans.StatusCode, ans.Body)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	long := make([]byte, dataplane.MaxAnswer)
	ans := new(dataplane.Answer)
	for name, a := range map[string]Answer{
		"template": {Template: &Template{Text: "{{.Body}}!"}},
		"endless":  {Template: &Template{Text: "{{range 1000000000000}}{{$.Body}}{{end}}"}},
	} {
		w := launch(t, Config{Answer: a}, spec("ml.m5.large"))
		if err := w.Invoke(t.Context(), &dataplane.Request{Body: long}, ans); !errors.Is(err, dataplane.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if len(ans.Body) > dataplane.MaxAnswer {
			t.Errorf("%s: %d bytes", name, len(ans.Body))
		}
	}
	echo := launch(t, Config{}, spec("ml.m5.large"))
	if err := echo.Invoke(t.Context(), &dataplane.Request{Body: long}, ans); err != nil || len(ans.Body) != len(long) {
		t.Errorf("echo of the limit: %v, %d bytes", err, len(ans.Body))
	}
	if err := echo.Invoke(t.Context(), &dataplane.Request{Body: append(long, 0)}, ans); !errors.Is(err, dataplane.ErrTooLarge) {
		t.Errorf("echo beyond the limit: %v", err)
	}
}

// cancelsOnRead is a context that ends while the template is being executed.
type cancelsOnRead struct {
	context.Context
	reads int
}

func (c *cancelsOnRead) Err() error {
	c.reads++
	if c.reads > 10 {
		return context.Canceled
	}
	return nil
}

func TestATemplateStopsWhenTheCallerGoesAway(t *testing.T) {
	w := launch(t, Config{Answer: Answer{Template: &Template{Text: "{{range 1000000000000}}x{{end}}"}}}, spec("ml.m5.large"))
	ctx := &cancelsOnRead{Context: t.Context()}
	if err := w.Invoke(ctx, new(dataplane.Request), new(dataplane.Answer)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
