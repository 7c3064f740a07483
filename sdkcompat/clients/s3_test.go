package clients_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/smithy-go"
)

var s3Address = regexp.MustCompile(`AWS_ENDPOINT_URL_S3=(http://127\.0\.0\.1:\d+)\n`)

// s3URL is where the daemon said that its embedded S3 server answers.
func (d *daemon) s3URL(t *testing.T) string {
	t.Helper()
	m := s3Address.FindStringSubmatch(d.stdout.String())
	if m == nil {
		t.Fatalf("no address of S3 in %q", d.stdout.String())
	}
	return m[1]
}

// s3Client is a client of the daemon's S3 with a bucket of its own.
func (c *goClient) s3Client(t *testing.T) (client *s3.Client, bucket string) {
	t.Helper()
	client = s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(c.daemon.s3URL(t)), UsePathStyle: true, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: c.account, SecretAccessKey: "secret"}, nil
		}),
	})
	bucket = "bucket-" + c.account
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	return client, bucket
}

// upload puts an object and returns its URL.
func upload(t *testing.T, client *s3.Client, bucket, key string, body []byte) string {
	t.Helper()
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)}); err != nil {
		t.Fatal(err)
	}
	return "s3://" + bucket + "/" + key
}

// tarGz is an archive of files; a name that ends with -> and a target is a link.
func tarGz(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for name, body := range files {
		header := &tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644}
		if from, to, ok := strings.Cut(name, "->"); ok {
			header = &tar.Header{Typeflag: tar.TypeSymlink, Name: from, Linkname: to}
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBoto3S3Journey(t *testing.T) {
	t.Parallel()
	needProgram(t, "python3")
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", "import boto3").CombinedOutput(); err != nil {
		skip(t, "python3 has no boto3: %s", out)
	}
	d := startDaemon(t, daemonOptions{})
	env := append(clientEnvironment(d, newAccount()), "AWS_ENDPOINT_URL_S3="+d.s3URL(t),
		"IRIS="+filepath.Join(repository(), "testdata/buckets/models/iris.tar.gz"))
	runJourney(t, env, "python3", "boto3_s3.py")
}

// All ways to name model data reach a process: a tar.gz, a prefix, an object, and
// additional ones beside the model.
func TestModelDataOfTheEmbeddedS3ReachesTheWorker(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	client, bucket := c.s3Client(t)
	archive := upload(t, client, bucket, "m/model.tar.gz", tarGz(t, map[string]string{"weights": "of the archive", "sub/x": "x"}))
	upload(t, client, bucket, "raw/config.json", []byte("of the prefix"))
	upload(t, client, bucket, "raw/shards/1.bin", []byte("shard"))
	raw := "s3://" + bucket + "/raw/"
	source := func(uri string, kind types.S3ModelDataType, compression types.ModelCompressionType) *types.S3ModelDataSource {
		return &types.S3ModelDataSource{S3Uri: &uri, S3DataType: kind, CompressionType: compression}
	}
	prefix := source(raw, types.S3ModelDataTypeS3Prefix, types.ModelCompressionTypeNone)
	object := source(raw+"config.json", types.S3ModelDataTypeS3Object, types.ModelCompressionTypeNone)
	packed := source(archive, types.S3ModelDataTypeS3Object, types.ModelCompressionTypeGzip)
	of := func(s *types.S3ModelDataSource) *types.ModelDataSource {
		return &types.ModelDataSource{S3DataSource: s}
	}
	for name, test := range map[string]struct {
		container types.ContainerDefinition
		files     map[string]string
	}{
		"url":    {types.ContainerDefinition{ModelDataUrl: &archive}, map[string]string{"weights": "of the archive", "sub/x": "x"}},
		"packed": {types.ContainerDefinition{ModelDataSource: of(packed)}, map[string]string{"weights": "of the archive"}},
		"prefix": {types.ContainerDefinition{ModelDataSource: of(prefix)}, map[string]string{"config.json": "of the prefix", "shards/1.bin": "shard"}},
		"object": {types.ContainerDefinition{ModelDataSource: of(object)}, map[string]string{"config.json": "of the prefix"}},
		"channels": {types.ContainerDefinition{ModelDataUrl: &archive, AdditionalModelDataSources: []types.AdditionalModelDataSource{
			{ChannelName: aws.String("draft"), S3DataSource: prefix}, {ChannelName: aws.String("more"), S3DataSource: packed},
		}}, map[string]string{
			"weights": "of the archive", "../additional-model-data-sources/draft/shards/1.bin": "shard",
			"../additional-model-data-sources/more/sub/x": "x",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.container.Image = aws.String(testImage)
			c.serve(t, name, test.container, 1)
			for file, want := range test.files {
				if got := c.mustInvoke(t, name, "read "+file); got != want {
					t.Errorf("%s holds %q, want %q", file, got, want)
				}
			}
		})
	}
}

// What is not there is refused by CreateModel, as on AWS; a bucket that does not
// exist is not, because a simulated worker needs no data.
func TestCreateModelLooksForModelData(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	client, bucket := c.s3Client(t)
	there := upload(t, client, bucket, "m.tar.gz", []byte("anything"))
	create := func(definition types.ContainerDefinition) error {
		definition.Image = aws.String(echoImage)
		_, err := c.sm.CreateModel(t.Context(), &sagemaker.CreateModelInput{
			ModelName: aws.String("m-" + newAccount()), PrimaryContainer: &definition,
			ExecutionRoleArn: aws.String("arn:aws:iam::" + c.account + ":role/sagemaker"),
		})
		return err
	}
	for _, url := range []string{there, "s3://no-such-bucket/m.tar.gz", "https://example.com/m.tar.gz"} {
		if err := create(types.ContainerDefinition{ModelDataUrl: &url}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	prefix := func(uri string) types.ContainerDefinition {
		return types.ContainerDefinition{ModelDataSource: &types.ModelDataSource{S3DataSource: &types.S3ModelDataSource{
			S3Uri: &uri, S3DataType: types.S3ModelDataTypeS3Prefix, CompressionType: types.ModelCompressionTypeNone,
		}}}
	}
	manifest := prefix("s3://" + bucket + "/")
	manifest.ModelDataSource.S3DataSource.ManifestS3Uri = aws.String(there)
	for want, definition := range map[string]types.ContainerDefinition{
		"Could not access model data at s3://" + bucket + "/gone.tar.gz. ": {ModelDataUrl: aws.String("s3://" + bucket + "/gone.tar.gz")},
		"Could not access model data at s3://" + bucket + "/gone/. ":       prefix("s3://" + bucket + "/gone/"),
		"does not host models whose data has a ManifestS3Uri yet":          manifest,
	} {
		var e smithy.APIError
		if err := create(definition); !errors.As(err, &e) || e.ErrorCode() != "ValidationException" || !strings.Contains(e.ErrorMessage(), want) {
			t.Errorf("error %v, want ValidationException with %q", err, want)
		}
	}
}

func TestModelDataThatCannotBeUnpackedFailsTheEndpoint(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	client, bucket := c.s3Client(t)
	good := tarGz(t, map[string]string{"weights": strings.Repeat("0123456789", 10_000)})
	for name, test := range map[string]struct {
		archive []byte
		want    string
	}{
		"truncated": {good[:len(good)/2], "the archive is truncated"},
		"not-gzip":  {[]byte("weights and no archive"), "not in gzip format"},
		"escaping":  {tarGz(t, map[string]string{"../../../escaped": "x"}), `the path contains ".."`},
		"linking":   {tarGz(t, map[string]string{"l->../../escaped": ""}), "outside of the archive"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := upload(t, client, bucket, name+".tar.gz", test.archive)
			c.createModel(t, name, types.ContainerDefinition{Image: aws.String(testImage), ModelDataUrl: &url})
			c.createEndpoint(t, name, variant("AllTraffic", name, 1, 1))
			out := c.awaitStatus(t, name, types.EndpointStatusFailed)
			want := "Failed to download model data for production variant AllTraffic: " + url + ": "
			if got := aws.ToString(out.FailureReason); !strings.HasPrefix(got, want) || !strings.Contains(got, test.want) {
				t.Errorf("FailureReason %q, want %q and %q", got, want, test.want)
			}
		})
	}
}

func TestObjectsSurviveAKilledDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newGoClient(startDaemon(t, daemonOptions{dir: dir}))
	client, bucket := c.s3Client(t)
	url := upload(t, client, bucket, "m.tar.gz", tarGz(t, map[string]string{"weights": "kept"}))
	if err := c.daemon.kill(); err != nil {
		t.Fatal(err)
	}
	c = goClientOf(startDaemon(t, daemonOptions{dir: dir}), c.account)
	c.serve(t, "kept", types.ContainerDefinition{Image: aws.String(testImage), ModelDataUrl: &url}, 1)
	if got := c.mustInvoke(t, "kept", "read weights"); got != "kept" {
		t.Errorf("got %q", got)
	}
}

// One daemon's S3 is another's endpoint. All buckets are known then, but those
// that are directories stay where they are.
func TestAnotherS3HoldsTheModels(t *testing.T) {
	t.Parallel()
	other := newGoClient(sharedDaemon(t))
	client, bucket := other.s3Client(t)
	url := upload(t, client, bucket, "m.tar.gz", tarGz(t, map[string]string{"weights": "from there"}))
	build, err := binaries.get()
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(build, "sagelocal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sagelocal.yaml")
	config = append(config, "s3: {endpoint: \""+other.daemon.s3URL(t)+"\", path_style: true}\n"...)
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newGoClient(startDaemon(t, daemonOptions{
		args: []string{"--config=" + path}, env: []string{"AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=any"},
	}))
	if s3Address.MatchString(c.daemon.stdout.String()) {
		t.Errorf("it printed %s", c.daemon.stdout.String())
	}
	c.serve(t, "far", types.ContainerDefinition{Image: aws.String(testImage), ModelDataUrl: &url}, 1)
	if got := c.mustInvoke(t, "far", "read weights"); got != "from there" {
		t.Errorf("got %q", got)
	}
	c.serve(t, "near", types.ContainerDefinition{Image: aws.String(irisImage), ModelDataUrl: aws.String(irisData)}, 1)
	_, err = c.sm.CreateModel(t.Context(), &sagemaker.CreateModelInput{
		ModelName: aws.String("none"), ExecutionRoleArn: aws.String("arn:aws:iam::" + c.account + ":role/sagemaker"),
		PrimaryContainer: &types.ContainerDefinition{Image: aws.String(echoImage), ModelDataUrl: aws.String("s3://no-such-bucket/m")},
	})
	if err == nil || !strings.Contains(err.Error(), "Could not access model data at s3://no-such-bucket/m. ") || !strings.Contains(err.Error(), "no such bucket") {
		t.Errorf("error %v, want that the bucket does not exist", err)
	}
}

func TestS3PortIsTheDaemonsToChoose(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	if d := startDaemon(t, daemonOptions{args: []string{"--s3-listen=127.0.0.1:" + port}}); d.s3URL(t) != "http://127.0.0.1:"+port {
		t.Errorf("S3 answers on %s, want port %s", d.s3URL(t), port)
	}
	if d := startDaemon(t, daemonOptions{args: []string{"--s3-listen=off"}}); s3Address.MatchString(d.stdout.String()) {
		t.Errorf("it printed %s", d.stdout.String())
	}
	// The port behind the daemon's own is not asked for, so it may be taken.
	taken := sharedDaemon(t)
	own := strings.TrimPrefix(taken.URL, "http://")
	if _, err := launchDaemon(daemonOptions{args: []string{"--s3-listen=" + own}}); err == nil || !strings.Contains(err.Error(), "s3: ") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("with a port that is taken: %v", err)
	}
}
