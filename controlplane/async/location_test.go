package async

import (
	"strings"
	"testing"
)

func TestSplitURITakesEveryFormThatS3HasForAnObject(t *testing.T) {
	for location, want := range map[string][2]string{
		"s3://bkt/key":                                       {"bkt", "key"},
		"s3://bkt/a/b//c?d=e%20 f":                           {"bkt", "a/b//c?d=e%20 f"},
		"https://bkt.s3.us-east-1.amazonaws.com/a/b":         {"bkt", "a/b"},
		"https://bkt.s3.amazonaws.com/a%20b":                 {"bkt", "a b"},
		"https://b.k.t.s3-us-west-2.amazonaws.com/k":         {"b.k.t", "k"},
		"https://bkt.s3.dualstack.eu-west-1.amazonaws.com/k": {"bkt", "k"},
		"https://s3.us-east-1.amazonaws.com/bkt/a/b":         {"bkt", "a/b"},
		"https://s3.amazonaws.com/bkt/k":                     {"bkt", "k"},
		"https://bkt.s3.cn-north-1.amazonaws.com.cn/k":       {"bkt", "k"},
		"https://s3.bkt.s3.us-east-1.amazonaws.com/k":        {"s3.bkt", "k"},
		"s3://bkt":  {},
		"s3://bkt/": {},
		"s3:///key": {},
		"https://bkt.s3.us-east-1.amazonaws.com/":             {},
		"https://s3.us-east-1.amazonaws.com/bkt":              {},
		"https://example.com/bkt/k":                           {},
		"https://s3.example.com/bkt/k":                        {},
		"https://bkt.s3.us-east-1.amazonaws.com.evil.com/k":   {},
		"https://ec2.us-east-1.amazonaws.com/k":               {},
		"http://bkt.s3.us-east-1.amazonaws.com/k":             {},
		"https://bkt.s3.us-east-1.amazonaws.com/k?versionId=": {},
		"https://me@bkt.s3.us-east-1.amazonaws.com/k":         {},
		"https://bkt.s3.us-east-1.amazonaws.com:443/k":        {},
		"https://%zz/k": {},
		"":              {},
	} {
		bucket, key, ok := splitURI(location)
		if ok != (want != [2]string{}) || ok && (bucket != want[0] || key != want[1]) {
			t.Errorf("%s: %q, %q, %v; want %q", location, bucket, key, ok, want)
		}
	}
}

func TestLocationsOfOutputAndFailure(t *testing.T) {
	for _, tc := range []struct{ output, failure, extension, filename, wantOutput, wantFailure string }{
		{"s3://b/out", "s3://b/bad", "", "", "s3://b/out/id.out", "s3://b/bad/id-error.out"},
		{"s3://b/out/", "s3://b/bad//", "", "", "s3://b/out/id.out", "s3://b/bad/id-error.out"},
		{"s3://b", "s3://b", "", "", "s3://b/id.out", "s3://b/id-error.out"},
		{"s3://b/out", "s3://b/bad", "x/y", "", "s3://b/out/x/y/id.out", "s3://b/bad/x/y/id-error.out"},
		{"s3://b/out", "s3://b/bad", "/x/", "r.json", "s3://b/out/x/r.json", "s3://b/bad/x/r-error.out"},
		{"s3://b/out", "s3://b/bad", "", "r", "s3://b/out/r", "s3://b/bad/r-error.out"},
		{"s3://b/out", "", "x", "r", "s3://b/out/x/r", ""},
		{"", "s3://b/bad", "x", "r", "", "s3://b/bad/x/r-error.out"},
	} {
		output, failure := target{tc.output, tc.failure, tc.extension, tc.filename, "id"}.locations()
		if output != tc.wantOutput || failure != tc.wantFailure {
			t.Errorf("%+v: %s, %s", tc, output, failure)
		}
	}
}

// A location of ours is one that S3 takes, below its path, and the two never meet.
func FuzzLocations(f *testing.F) {
	f.Add("out", "x/y", "r.json")
	f.Add("a/b/", "", "")
	f.Add("", "../..", "x-error.out")
	f.Fuzz(func(t *testing.T, path, extension, filename string) {
		to := target{"s3://b/" + path, "s3://b/" + path, extension, filename, "id"}
		output, failure := to.locations()
		for _, location := range []string{output, failure} {
			bucket, key, ok := splitURI(location)
			if !ok || bucket != "b" || key == "" || !strings.HasPrefix(location, strings.TrimRight("s3://b/"+path, "/")) {
				t.Errorf("%+v: %q", to, location)
			}
		}
		if filename != "" && !strings.HasSuffix(filename, "-error.out") && output == failure {
			t.Errorf("%+v: both are %q", to, output)
		}
	})
}

func FuzzSplitURI(f *testing.F) {
	f.Add("s3://b/k")
	f.Add("https://b.s3.us-east-1.amazonaws.com/k")
	f.Fuzz(func(t *testing.T, location string) {
		bucket, key, ok := splitURI(location)
		if ok && (bucket == "" || key == "" || strings.Contains(bucket, "/")) {
			t.Errorf("%q: %q, %q", location, bucket, key)
		}
	})
}
