package async

import (
	"cmp"
	"net/url"
	"strings"
)

// splitURI takes a location in S3 apart: s3://bucket/key, or one of the https URLs
// that S3 has for an object, with the bucket in the path or in the host (docs of
// S3: VirtualHosting). ok is false for anything else and without a key.
func splitURI(location string) (bucket, key string, ok bool) {
	if rest, s3 := strings.CutPrefix(location, "s3://"); s3 {
		bucket, key, _ = strings.Cut(rest, "/")
		return bucket, key, bucket != "" && key != ""
	}
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Port() != "" {
		return "", "", false
	}
	name, amazon := strings.CutSuffix(strings.TrimSuffix(u.Hostname(), ".cn"), ".amazonaws.com")
	if !amazon {
		return "", "", false
	}
	key = strings.TrimPrefix(u.Path, "/")
	labels := strings.Split(name, ".")
	for i := len(labels) - 1; i >= 0; i-- {
		if labels[i] != "s3" && !strings.HasPrefix(labels[i], "s3-") {
			continue
		}
		if bucket = strings.Join(labels[:i], "."); bucket == "" {
			bucket, key, _ = strings.Cut(key, "/")
		}
		return bucket, key, bucket != "" && key != ""
	}
	return "", "", false
}

// IsLocation tells whether InputLocation names an object.
func IsLocation(location string) bool {
	_, _, ok := splitURI(location)
	return ok
}

// target says where a request's objects go.
type target struct {
	outputPath, failurePath string // of the configuration; empty for nowhere
	extension, filename     string // the caller's; empty for none
	base                    string // in place of a filename
}

// locations are those of the output and of the failure: <path>/<base>.out and
// <path>/<base>-error.out. S3OutputPathExtension goes between path and name, of
// both, and Filename takes the place of <base>.out; the failure's name then has
// what stands before the dot. AWS page: API_runtime_InvokeEndpointAsync.
func (t target) locations() (output, failure string) {
	stem, _, _ := strings.Cut(t.filename, ".")
	output = join(t.outputPath, t.extension, cmp.Or(t.filename, t.base+".out"))
	failure = join(t.failurePath, t.extension, cmp.Or(stem, t.base)+"-error.out")
	return output, failure
}

func join(path, extension, name string) string {
	if path == "" {
		return ""
	}
	location := strings.TrimRight(path, "/")
	if e := strings.Trim(extension, "/"); e != "" {
		location += "/" + e
	}
	return location + "/" + name
}
