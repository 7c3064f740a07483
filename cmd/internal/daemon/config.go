package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/controlplane/async"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/process"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
	"github.com/sagelocal/sagelocal/dataplane/upstream"
)

// Config is the operator's configuration file. Programs and URLs stand here and
// nowhere else: no API request can name one.
type Config struct {
	// Images choose the kind of worker by a container's Image; the first rule
	// that matches wins. An image without a rule gets a simulated worker that
	// echoes.
	Images []ImageRule `yaml:"images"`
	// Buckets maps S3 bucket names to local directories, relative to the
	// configuration file. They can be read and not written to.
	Buckets map[string]string `yaml:"buckets"`
	S3      S3Config          `yaml:"s3"`
	// Responses are scripted answers by endpoint name.
	Responses map[string][]dataplane.ResponseRule `yaml:"responses"`
	// Faults are injected faults by endpoint name.
	Faults map[string]dataplane.FaultScript `yaml:"faults"`
	// Quotas are what each account may have in each region, Capacity what there
	// is for all of them.
	Quotas   controlplane.Quotas         `yaml:"quotas"`
	Capacity []controlplane.CapacityRule `yaml:"capacity"`
	// Serverless says how the environments of serverless variants come and go.
	Serverless controlplane.Serverless `yaml:"serverless"`

	// Async bounds the queue of asynchronous requests; Notifications are the URLs
	// that get a topic's notifications, by the topic's ARN, * for any text.
	Async         async.Config      `yaml:"async"`
	Notifications map[string]string `yaml:"notifications"`

	Capture CaptureConfig `yaml:"capture"`

	dir           string                 // of the configuration file
	capacity      *controlplane.Capacity // nil without a file
	subscriptions *async.Subscriptions
}

// CaptureConfig says what captured data has beside what AWS's has.
type CaptureConfig struct {
	// Timings adds when each request reached its instance, and for how long.
	Timings bool `yaml:"timings"`
}

// ImageRule gives the images that match one kind of worker.
type ImageRule struct {
	// Image is a glob: * stands for any text, slashes included, ? for one
	// character.
	Image     string            `yaml:"image"`
	Simulated *simulated.Config `yaml:"simulated"`
	Process   *process.Config   `yaml:"process"`
	Upstream  *upstream.Config  `yaml:"upstream"`
}

// ReadConfig reads and checks a configuration file. An unknown key is an error
// that names its line. An empty path is an empty configuration.
func ReadConfig(path string) (*Config, error) {
	c := new(Config)
	if path == "" {
		return c, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if c.dir, err = filepath.Abs(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := decoder.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("configuration %s:\n%s", path, yaml.FormatError(err, false, true))
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func (c *Config) check() error {
	for i := range c.Images {
		if err := c.Images[i].check(); err != nil {
			return fmt.Errorf("images: rule %d: %w", i+1, err)
		}
	}
	for bucket, dir := range c.Buckets {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(c.dir, dir)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("buckets: %s: %s is not a directory", bucket, dir)
		}
		c.Buckets[bucket] = dir
	}
	if err := c.Quotas.Validate(); err != nil {
		return fmt.Errorf("quotas: %w", err)
	}
	var err error
	if c.capacity, err = controlplane.NewCapacity(c.Capacity); err != nil {
		return fmt.Errorf("capacity: %w", err)
	}
	if err := c.Async.Validate(); err != nil {
		return fmt.Errorf("async: %w", err)
	}
	if c.subscriptions, err = async.NewSubscriptions(c.Notifications); err != nil {
		return fmt.Errorf("notifications: %w", err)
	}
	if err := c.Serverless.Validate(); err != nil {
		return fmt.Errorf("serverless: %w", err)
	}
	if err := c.S3.check(); err != nil {
		return fmt.Errorf("s3: %w", err)
	}
	for endpoint, script := range c.Faults {
		if _, err := dataplane.NewFaults(script); err != nil {
			return fmt.Errorf("faults of endpoint %s: %w", endpoint, err)
		}
	}
	for endpoint, rules := range c.Responses {
		if _, err := dataplane.NewResponses(rules); err != nil {
			return fmt.Errorf("responses: %s: %w", endpoint, err)
		}
	}
	return nil
}

func (r *ImageRule) check() error {
	if r.Image == "" {
		return errors.New("image is missing; use \"*\" for every image")
	}
	kinds := 0
	for _, validate := range []func() error{
		func() error { return validate(r.Simulated, &kinds) },
		func() error { return validate(r.Process, &kinds) },
		func() error { return validate(r.Upstream, &kinds) },
	} {
		if err := validate(); err != nil {
			return err
		}
	}
	if kinds != 1 {
		return fmt.Errorf("image %q needs exactly one of simulated, process and upstream", r.Image)
	}
	return nil
}

// validate checks the configuration of a kind if the rule has one.
func validate[T any, P interface {
	*T
	Validate() error
}](kind P, kinds *int) error {
	if kind == nil {
		return nil
	}
	*kinds++
	return kind.Validate()
}

// glob makes the pattern of an image rule.
func glob(pattern string) *regexp.Regexp {
	expr := regexp.QuoteMeta(pattern)
	expr = strings.ReplaceAll(expr, `\*`, ".*")
	expr = strings.ReplaceAll(expr, `\?`, ".")
	return regexp.MustCompile("^(?s:" + expr + ")$") // quoted, so it compiles
}
