package process

import (
	"testing"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg Config
		ok  bool
	}{
		{Config{Command: []string{"python3", "serve.py"}}, true},
		{Config{Command: []string{"x"}, PingPath: "/health", InvocationsPath: "/v1/chat/completions?x=1", Env: map[string]string{"A": ""}}, true},
		{Config{}, false},
		{Config{Command: []string{""}}, false},
		{Config{Command: []string{"x", "a\x00b"}}, false},
		{Config{Command: []string{"x"}, PingPath: "health"}, false},
		{Config{Command: []string{"x"}, InvocationsPath: "invocations"}, false},
		{Config{Command: []string{"x"}, Env: map[string]string{"": "v"}}, false},
		{Config{Command: []string{"x"}, Env: map[string]string{"A=B": "v"}}, false},
		{Config{Command: []string{"x"}, Env: map[string]string{"A": "\x00"}}, false},
	} {
		if err := c.cfg.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}
