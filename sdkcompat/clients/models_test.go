package clients_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/objects"
)

// sampleModel is a running server of testdata/models, without a daemon.
type sampleModel struct {
	url    string
	cmd    *exec.Cmd
	output syncBuffer
	exited chan error
}

// unpackModel unpacks s3://models/iris.tar.gz from a directory that is the bucket.
func unpackModel(t *testing.T, bucket, dir string) {
	t.Helper()
	store, err := objects.Open(t.Context(), objects.Options{
		Dir: filepath.Join(t.TempDir(), "s3"), Volatile: true, Buckets: map[string]string{"models": bucket},
	})
	if err != nil {
		t.Fatal(err)
	}
	data := dataplane.ModelData{S3: store.Client}
	err = data.Download(t.Context(), dataplane.ModelSource{URL: irisData, Gzip: true}, dir)
	if err := errors.Join(err, store.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// startSampleModel starts a server with the model that s3://models/iris.tar.gz
// holds, and returns when it answers GET /ping.
func startSampleModel(t *testing.T, command ...string) *sampleModel {
	t.Helper()
	dir := t.TempDir()
	unpackModel(t, filepath.Join(repository(), "testdata/buckets/models"), dir)
	port := freePort(t)
	s := &sampleModel{url: "http://127.0.0.1:" + port, cmd: exec.Command(command[0], command[1:]...), exited: make(chan error, 1)}
	s.cmd.Args = append(s.cmd.Args, "serve") // as in docker run <image> serve
	s.cmd.Env = append(baseEnvironment(), "SM_MODEL_DIR="+dir, "SAGEMAKER_BIND_TO_PORT="+port, "PYTHONDONTWRITEBYTECODE=1")
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.exited <- s.cmd.Wait() }()
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("%v\n%s", err, s.output.String())
		}
	})
	eventually(t, startLimit, func() error {
		status, _, body, err := s.send(http.MethodGet, "/ping", "", nil)
		if err == nil && (status != http.StatusOK || body != "") {
			t.Fatalf("ping: %d %q", status, body)
		}
		return err
	})
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// stop sends SIGTERM, on which a container has to end.
func (s *sampleModel) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.exited:
		return err
	case <-time.After(stopLimit):
		return fmt.Errorf("still runs %v after SIGTERM (%w)", stopLimit, s.cmd.Process.Kill())
	}
}

// send sends one request; headers are "Name: value" lines.
func (s *sampleModel) send(method, path, body string, headers []string) (status int, contentType, answer string, err error) {
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header.Get("Content-Type"), string(text), err
}

// invoke posts a body that the model must answer with 200.
func (s *sampleModel) invoke(t *testing.T, body, wantType string, headers ...string) string {
	t.Helper()
	status, contentType, answer, err := s.send(http.MethodPost, "/invocations", body, headers)
	if err != nil || status != http.StatusOK || contentType != wantType {
		t.Fatalf("status %d, Content-Type %q, error %v: %s", status, contentType, err, answer)
	}
	return answer
}

type irisPrediction struct {
	Label         string             `json:"label"`
	Probabilities map[string]float64 `json:"probabilities"`
}

// irisRows is the data set: its lines without the species, and the species.
func irisRows(t *testing.T) (rows, species []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository(), "testdata/models/iris/iris.csv"))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, cells := range lines[1:] {
		rows = append(rows, strings.Join(cells[:4], ","))
		species = append(species, cells[4])
		count[cells[4]]++
	}
	if len(rows) != 150 || count["setosa"] != 50 || count["versicolor"] != 50 || count["virginica"] != 50 {
		t.Fatalf("%d rows, %v", len(rows), count)
	}
	return rows, species
}

// predictAll classifies all rows at once as JSON and each alone as CSV, checks
// the answers against each other and the species, and returns them.
func (s *sampleModel) predictAll(t *testing.T) []irisPrediction {
	t.Helper()
	rows, species := irisRows(t)
	answer := s.invoke(t, `{"instances":[[`+strings.Join(rows, "],[")+`]]}`, "application/json", "Content-Type: application/json; charset=utf-8")
	var out struct{ Predictions []irisPrediction }
	if err := json.Unmarshal([]byte(answer), &out); err != nil || len(out.Predictions) != len(rows) {
		t.Fatalf("%d predictions, error %v", len(out.Predictions), err)
	}
	all := s.invoke(t, strings.Join(rows, "\r\n")+"\r\n", "text/csv; charset=utf-8", "Content-Type: text/csv", "Accept: text/csv, */*")
	labels := strings.Split(strings.TrimSuffix(all, "\n"), "\n")
	if len(labels) != len(rows) {
		t.Fatalf("%d labels", len(labels))
	}
	right := 0
	for i, p := range out.Predictions {
		if p.Label == species[i] {
			right++
		}
		if one := s.invoke(t, rows[i], "text/csv; charset=utf-8", "Content-Type: text/csv", "Accept: text/csv"); one != p.Label+"\n" || labels[i] != p.Label {
			t.Errorf("row %d: %q alone, %q among all rows, %q from JSON", i+1, one, labels[i], p.Label)
		}
		sum := 0.0
		for label, q := range p.Probabilities {
			sum += q
			if q < 0 || q > p.Probabilities[p.Label] {
				t.Errorf("row %d: %s has the probability %v, the label %s %v", i+1, label, q, p.Label, p.Probabilities[p.Label])
			}
		}
		if len(p.Probabilities) != 3 || math.Abs(sum-1) > 1e-9 {
			t.Errorf("row %d: probabilities %v", i+1, p.Probabilities)
		}
	}
	if accuracy := float64(right) / float64(len(rows)); accuracy < 0.96 {
		t.Errorf("accuracy %v", accuracy)
	}
	return out.Predictions
}

// checkRefusals sends what the container contract of the sample models refuses.
func (s *sampleModel) checkRefusals(t *testing.T) {
	t.Helper()
	const asCSV, asJSON = "Content-Type: text/csv", "Content-Type: application/json"
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
	}{
		{"POST", "/invocations", "x", []string{"Content-Type: application/xml"}, 415},
		{"POST", "/invocations", "1,2,3,4", nil, 415},
		{"POST", "/invocations", "1,2,3,4", []string{asCSV, "Accept: image/png"}, 406},
		{"POST", "/invocations", "", []string{asCSV}, 400},
		{"POST", "/invocations", "\r\n\n", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3,4,5", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3,", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3,4\n\n1,2,3,4", []string{asCSV}, 400},
		{"POST", "/invocations", "a,b,c,d", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3,nan", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3,0x10", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3,1_0", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3,1e999", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3,\xff", []string{asCSV}, 400},
		{"POST", "/invocations", "1,2,3,٤", []string{asCSV}, 400},
		{"POST", "/invocations", "", []string{asJSON}, 400},
		{"POST", "/invocations", "{", []string{asJSON}, 400},
		{"POST", "/invocations", "[]", []string{asJSON}, 400},
		{"POST", "/invocations", "null", []string{asJSON}, 400},
		{"POST", "/invocations", `{"Instances":[[1,2,3,4]]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[1,2,3,4]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[[1,2,3]]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[[]]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[[1,2,3,null]]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[[1,2,3,true]]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[[1,2,3,"4"]]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[[1,2,3,NaN]]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[[1,2,3,1e999]]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[[1,2,3,1` + strings.Repeat("0", 5000) + `]]}`, []string{asJSON}, 400},
		{"POST", "/invocations", `{"instances":[[1,2,3,4]]} {}`, []string{asJSON}, 400},
		{"POST", "/invocations", strings.Repeat("[", 200_000), []string{asJSON}, 400},
		{"GET", "/invocations", "", nil, 405},
		{"POST", "/ping", "", nil, 405},
		{"GET", "/", "", nil, 404},
	} {
		status, contentType, body, err := s.send(c.method, c.path, c.body, c.headers)
		var answer struct{ Error string }
		if err != nil || status != c.status || contentType != "application/json" || json.Unmarshal([]byte(body), &answer) != nil || answer.Error == "" {
			t.Errorf("%s %s %.40q %q: %d %q, error %v, want %d and a JSON error; body %q",
				c.method, c.path, c.body, c.headers, status, contentType, err, c.status, body)
		}
	}
	for _, c := range []struct{ body, header string }{
		{" 5.1 , 3.5,\t1.4, .2 ", asCSV},
		{"+5.1,35e-1,1.4,0.2\n\n", "Content-Type: TEXT/CSV; header=absent"},
		{`{"instances": [[5.1, 3.5, 1.4, 0.2]], "parameters": {"a": 1}}`, asJSON},
	} {
		if got := s.invoke(t, c.body, "application/json", c.header); !strings.Contains(got, `"label":"setosa"`) {
			t.Errorf("%q: %s", c.body, got)
		}
	}
}

func irisGoProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "irisgo")
	cmd := exec.Command("go", "build", "-o", program, "./testdata/models/irisgo")
	cmd.Dir = repository()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

func TestSampleModelsClassifyIrisesAndAgree(t *testing.T) {
	inGo := startSampleModel(t, irisGoProgram(t))
	goPredictions := inGo.predictAll(t)
	inGo.checkRefusals(t)

	needProgram(t, "python3")
	inPython := startSampleModel(t, "python3", filepath.Join(repository(), "testdata/models/iris/serve.py"))
	inPython.checkRefusals(t)
	for i, p := range inPython.predictAll(t) {
		if p.Label != goPredictions[i].Label {
			t.Errorf("row %d: %s in Python, %s in Go", i+1, p.Label, goPredictions[i].Label)
		}
		for label, q := range p.Probabilities {
			if math.Abs(q-goPredictions[i].Probabilities[label]) > 1e-9 {
				t.Errorf("row %d: %s has the probability %v in Python, %v in Go", i+1, label, q, goPredictions[i].Probabilities[label])
			}
		}
	}
}

func TestTrainingAgainGivesTheCommittedIrisModel(t *testing.T) {
	needProgram(t, "python3")
	dir, unpacked := t.TempDir(), t.TempDir()
	model, archive := filepath.Join(dir, "model.json"), filepath.Join(dir, "iris.tar.gz")
	for range 2 { // the second time over the first one's files
		cmd := exec.Command("python3", filepath.Join(repository(), "testdata/models/iris/train.py"), model, archive)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	want, err := os.ReadFile(filepath.Join(repository(), "testdata/models/iris/model.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(model); err != nil || !bytes.Equal(got, want) {
		t.Errorf("model.json differs from the committed one (error %v):\n%s", err, got)
	}
	for _, bucket := range []string{dir, filepath.Join(repository(), "testdata/buckets/models")} {
		unpackModel(t, bucket, unpacked)
		if got, err := os.ReadFile(filepath.Join(unpacked, "model.json")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the archive in %s holds another model (error %v):\n%s", bucket, err, got)
		}
	}
}
