package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sagelocal.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigErrorsSayWhereAndWhat(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"an unknown key names its line", "images:\n  - image: \"*\"\n    simulatde: {}\n", "3 |     simulatde"},
		{"an unknown key inside a kind", "images:\n  - image: \"*\"\n    simulated:\n      concurency: 4\n", "concurency"},
		{"two kinds", "images:\n  - {image: \"*\", simulated: {}, upstream: {url: \"http://127.0.0.1:1\"}}\n", "exactly one of"},
		{"no kind", "images:\n  - {image: \"*\"}\n", "exactly one of"},
		{"no image", "images:\n  - {simulated: {}}\n", "rule 1: image is missing"},
		{"an impossible worker", "images:\n  - {image: \"*\", simulated: {failure_rate: 2}}\n", "failure_rate"},
		{"a bucket that is not there", "buckets: {models: nowhere}\n", "is not a directory"},
		{"an unknown quota", "quotas: {instance: {default: 1}}\n", "instance"},
		{"a quota of no instance type", "quotas: {instances: {m5.large: 1}}\n", `quotas: instances: "m5.large" is no instance type`},
		{"a negative quota", "quotas: {endpoints: -1}\n", "quotas: endpoints is negative"},
		{"a quota that is no number", "quotas: {endpoints: many}\n", "endpoints: many"},
		{"a negative bound of the queue", "async: {max_requests: -1}\n", "async: a bound is negative"},
		{"a notification to no URL", "notifications: {\"arn:aws:sns:*\": 127.0.0.1}\n", "is not an http or https URL"},
		{"a capacity of nothing", "capacity: [{instance_type: ml.m5.large}]\n", "capacity: rule 1: instance_type \"ml.m5.large\" needs exactly one of"},
		{"a negative idle timeout", "serverless: {idle_timeout: -1s}\n", "serverless: idle_timeout is negative"},
		{"a cold start that is no duration", "serverless: {cold_start: soon}\n", `invalid duration "soon"`},
		{"an S3 that is not a URL", "s3: {endpoint: \"minio:9000\"}\n", "is not an http or https URL"},
		{"another S3 and the embedded one", "s3: {endpoint: \"http://minio:9000\", listen: \"127.0.0.1:7241\"}\n", "nothing to listen for"},
		{"a region without another S3", "s3: {region: eu-west-1}\n", "go with endpoint"},
		{"an impossible answer", "responses: {e: [{status: 99}]}\n", "responses: e: rule 1: status 99"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ReadConfig(writeConfig(t, tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want something with %q", err, tc.want)
			}
		})
	}
}

func TestBucketsCountFromTheConfigurationFile(t *testing.T) {
	path := writeConfig(t, "buckets: {models: data}\n")
	dir := filepath.Join(filepath.Dir(path), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(path)
	if err != nil || c.Buckets["models"] != dir {
		t.Errorf("bucket is %q, %v; want %q", c.Buckets["models"], err, dir)
	}
}

func TestEmptyConfigIsAllowed(t *testing.T) {
	for _, path := range []string{"", writeConfig(t, ""), writeConfig(t, "# nothing yet\n")} {
		if c, err := ReadConfig(path); err != nil || len(c.Images) != 0 {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestSampleConfigIsValid(t *testing.T) {
	c, err := ReadConfig("../../../testdata/sagelocal.yaml")
	if err != nil || len(c.Images) < 4 || len(c.Buckets) != 1 || len(c.Responses) == 0 || len(c.Quotas.Instances) == 0 || len(c.Capacity) == 0 {
		t.Errorf("%d rules, %d buckets, %d scripts, %d quotas, %d capacities, %v", len(c.Images), len(c.Buckets), len(c.Responses), len(c.Quotas.Instances), len(c.Capacity), err)
	}
}

func TestImageGlobs(t *testing.T) {
	for _, tc := range []struct {
		pattern, image string
		want           bool
	}{
		{"*iris*", "123456789012.dkr.ecr.us-east-1.amazonaws.com/iris:1", true},
		{"*/iris:?", "registry/team/iris:1", true},
		{"*/iris:?", "registry/team/iris:10", false},
		{"iris", "iris-python", false},
		{"a.c", "abc", false},
		{"*", "", true},
	} {
		if got := glob(tc.pattern).MatchString(tc.image); got != tc.want {
			t.Errorf("%q matches %q: %v, want %v", tc.pattern, tc.image, got, tc.want)
		}
	}
}

func TestFirstImageRuleWins(t *testing.T) {
	c, err := ReadConfig(writeConfig(t, "images:\n  - {image: \"*a*\", simulated: {}}\n  - {image: \"*\", upstream: {url: \"http://127.0.0.1:1\"}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	l := newLaunchers(c, nil, 1)
	if l.For("cat") != l.rules[0].launcher || l.For("dog") != l.rules[1].launcher {
		t.Error("the rules are not tried in order")
	}
	if empty := newLaunchers(new(Config), nil, 1); empty.For("dog") != empty.fallback {
		t.Error("an image without a rule does not get the simulated worker")
	}
}
