package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// pingConnect as a PingPath makes a TCP connection the health check.
const pingConnect = "-"

// Config is the operator's rule for servers that run already.
type Config struct {
	// URL is the server's http:// or https:// address; a path is put before
	// PingPath and InvocationsPath. URLs are several servers, one for each
	// instance in turn. Exactly one of the two is set.
	URL  string   `yaml:"url"`
	URLs []string `yaml:"urls"`
	// PingPath must answer GET with 200; the default is /ping. With "-", the
	// server is healthy when it accepts a TCP connection.
	PingPath string `yaml:"ping_path"`
	// InvocationsPath receives the requests; the default is /invocations.
	InvocationsPath string `yaml:"invocations_path"`
	// Headers are added to every request, pings included.
	Headers map[string]string `yaml:"headers"`
}

// Validate tells what cannot be a configuration. It does not connect.
func (c Config) Validate() error {
	if (c.URL == "") == (len(c.URLs) == 0) {
		return errors.New("upstream: exactly one of url and urls is needed")
	}
	for _, raw := range c.all() {
		if _, err := parse(raw); err != nil {
			return fmt.Errorf("upstream: %w", err)
		}
	}
	if err := validatePath("ping_path", c.PingPath); err != nil && c.PingPath != pingConnect {
		return err
	}
	if err := validatePath("invocations_path", c.InvocationsPath); err != nil {
		return err
	}
	for name, value := range c.Headers {
		if err := validateHeader(name, value); err != nil {
			return fmt.Errorf("upstream: headers: %w", err)
		}
	}
	return nil
}

func (c Config) all() []string {
	if c.URL != "" {
		return []string{c.URL}
	}
	return c.URLs
}

func parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, fmt.Errorf("%q is not of the form http://host:port or https://host:port", raw)
	case u.User != nil:
		return nil, fmt.Errorf("%q contains credentials; put them into headers", u.Redacted())
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q has a query or a fragment; invocations_path may have a query", raw)
	}
	return u, nil
}

func validatePath(key, path string) error {
	if path == "" || strings.HasPrefix(path, "/") && !strings.ContainsFunc(path, isBlankOrControl) {
		return nil
	}
	return fmt.Errorf("upstream: %s must begin with a slash and contain no blanks: %q", key, path)
}

func isBlankOrControl(r rune) bool { return r <= ' ' || r == 0x7f }

var (
	headerName  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // RFC 9110, 5.6.2
	headerValue = regexp.MustCompile(`^[^\x00-\x08\x0a-\x1f\x7f]*$`)  // RFC 9110, 5.5
)

// validateHeader refuses what each request brings by itself.
func validateHeader(name, value string) error {
	if !headerName.MatchString(name) || !headerValue.MatchString(value) {
		return fmt.Errorf("%q cannot be sent", name)
	}
	switch name := http.CanonicalHeaderKey(name); name {
	case "Host", "Connection", "Content-Length", "Transfer-Encoding", "Content-Type", "Accept",
		"X-Amzn-Sagemaker-Custom-Attributes", "X-Amzn-Sagemaker-Inference-Id":
		return fmt.Errorf("%s is set by each request", name)
	}
	return nil
}
