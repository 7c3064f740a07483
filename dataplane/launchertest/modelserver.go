package launchertest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// The first argument of a test binary that is not to run tests.
const (
	serverArgument  = "__model-server"
	sleeperArgument = "__sleeper"
)

// What a model server is told by its environment.
const (
	// pidDirVariable: the directory where each process leaves a file named by its pid.
	pidDirVariable = "LAUNCHERTEST_PIDS"
	// DelayVariable is how long each invocation takes, as a Go duration.
	DelayVariable = "LAUNCHERTEST_DELAY"
	// PingsVariable is how many pings are refused at first; -1: all. The default
	// is 2.
	PingsVariable = "LAUNCHERTEST_UNHEALTHY_PINGS"
	// IgnoreTermVariable: SIGTERM is ignored if it is not empty.
	IgnoreTermVariable = "LAUNCHERTEST_IGNORE_TERM"
)

const (
	unhealthyPings = 2
	serverStarted  = "model server listens"
	slowInvocation = "an invocation begins"
	// processLifetime is for the case that a test goes wrong.
	processLifetime = 3 * time.Minute
)

// ModelServer makes model servers out of the running test binary and knows which
// of them are left.
type ModelServer struct {
	program, pids string
}

// NewModelServer is one without processes.
func NewModelServer(t *testing.T) *ModelServer {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &ModelServer{program: program, pids: t.TempDir()}
}

// Command starts a model server on the port of SAGEMAKER_BIND_TO_PORT.
func (s *ModelServer) Command() []string { return []string{s.program, serverArgument} }

// Env is the model server's environment with more pairs of names and values.
func (s *ModelServer) Env(pairs ...string) map[string]string {
	env := map[string]string{pidDirVariable: s.pids}
	for i := 0; i+1 < len(pairs); i += 2 {
		env[pairs[i]] = pairs[i+1]
	}
	return env
}

// Start runs a model server, which is killed at the end of the test, and returns
// its address.
func (s *ModelServer) Start(t *testing.T, pairs ...string) string {
	t.Helper()
	cmd := exec.Command(s.program, serverArgument)
	cmd.Env = append(os.Environ(), "SAGEMAKER_BIND_TO_PORT=0")
	for name, value := range s.Env(pairs...) {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out := NewOutput()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // "signal: killed"
	})
	text := out.Await(t, "\n")
	_, address, ok := strings.Cut(strings.TrimSpace(text), serverStarted+" at ")
	if !ok {
		t.Fatalf("the model server said %q", text)
	}
	return address
}

// Alive gives the ids of the servers and of their children that run.
func (s *ModelServer) Alive() []int {
	entries, _ := os.ReadDir(s.pids)
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && Alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Started counts the servers and their children that were ever started.
func (s *ModelServer) Started() int {
	entries, _ := os.ReadDir(s.pids)
	return len(entries)
}

// Ask makes a request for something other than an echo: "crash" (code), "print"
// (line), "status" (code), "spawn" (session), "pings", "environ", "directory",
// "stream" (pieces, gate, crash), which sends the body so many times, each when a
// file named gate and the piece's number exists, and exits at the end with crash.
func Ask(what string, pairs ...string) *dataplane.Request {
	values := url.Values{"do": {what}}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return &dataplane.Request{ContentType: "text/plain", CustomAttributes: values.Encode(), Timeout: time.Minute}
}

// ServeModel returns at once unless this process was started by
// ModelServer.Command; then it does not return. Call it in TestMain.
func ServeModel() {
	if len(os.Args) != 2 {
		return
	}
	switch os.Args[1] {
	case serverArgument:
		time.AfterFunc(processLifetime, func() { os.Exit(9) })
		fmt.Fprintln(os.Stderr, "model server:", serveModel())
		os.Exit(1)
	case sleeperArgument:
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
		if err := leavePID(); err != nil {
			os.Exit(1)
		}
		fmt.Println("sleeping")
		time.Sleep(processLifetime)
		os.Exit(0)
	}
}

func leavePID() error {
	return os.WriteFile(filepath.Join(os.Getenv(pidDirVariable), strconv.Itoa(os.Getpid())), nil, 0o600)
}

// modelServer is the other side of SageMaker's container contract.
type modelServer struct {
	delay time.Duration

	mu            sync.Mutex
	refused, left int // pings
}

func serveModel() error {
	if err := leavePID(); err != nil {
		return err
	}
	if os.Getenv(IgnoreTermVariable) != "" {
		signal.Ignore(syscall.SIGTERM)
	}
	s := &modelServer{left: unhealthyPings}
	var err error
	if v := os.Getenv(DelayVariable); v != "" {
		if s.delay, err = time.ParseDuration(v); err != nil {
			return err
		}
	}
	if v := os.Getenv(PingsVariable); v != "" {
		if s.left, err = strconv.Atoi(v); err != nil {
			return err
		}
	}
	ln, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", os.Getenv("SAGEMAKER_BIND_TO_PORT")))
	if err != nil {
		return err
	}
	fmt.Println(serverStarted, "at", ln.Addr())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", s.ping)
	mux.HandleFunc("POST /invocations", s.invoke)
	mux.HandleFunc("GET "+dataplane.BidirectionalPath, converse)
	mux.HandleFunc("GET /v1/listen", converse)
	return http.Serve(ln, mux)
}

func (s *modelServer) ping(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left != 0 {
		s.left--
		s.refused++
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

const attributesHeader = "X-Amzn-SageMaker-Custom-Attributes"

func (s *modelServer) invoke(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller went away
	}
	if s.delay > 0 {
		fmt.Println(slowInvocation)
		select {
		case <-time.After(s.delay):
		case <-r.Context().Done():
			return
		}
	}
	attributes := r.Header.Get(attributesHeader)
	w.Header()["Content-Type"] = r.Header["Content-Type"] // net/http would guess one
	if attributes != "" {
		w.Header().Set(attributesHeader, attributes)
	}
	status := http.StatusOK
	if strings.Contains(attributes, "do=stream") {
		s.stream(w, r, attributes, body)
		return
	}
	if strings.Contains(attributes, "do=") {
		status, body = s.obey(attributes, body)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// obey does what Ask asked for.
func (s *modelServer) obey(attributes string, body []byte) (int, []byte) {
	values, err := url.ParseQuery(attributes)
	if err != nil {
		return http.StatusBadRequest, []byte(err.Error())
	}
	code, _ := strconv.Atoi(values.Get("code"))
	switch values.Get("do") {
	case "crash":
		fmt.Println("about to crash")
		os.Exit(code)
	case "status":
		return code, body
	case "print":
		fmt.Println(values.Get("line"))
	case "pings":
		s.mu.Lock()
		defer s.mu.Unlock()
		body = fmt.Appendf(nil, "%d refused, %d left", s.refused, s.left)
	case "environ":
		body = []byte(strings.Join(os.Environ(), "\n"))
	case "directory":
		dir, err := os.Getwd()
		if err != nil {
			return http.StatusInternalServerError, []byte(err.Error())
		}
		body = []byte(dir)
	case "spawn":
		pid, err := spawn(values.Get("session") != "")
		if err != nil {
			return http.StatusInternalServerError, []byte(err.Error())
		}
		body = strconv.AppendInt(nil, int64(pid), 10)
	default:
		return http.StatusBadRequest, []byte("unknown: " + attributes)
	}
	return http.StatusOK, body
}

// stream sends the body in pieces.
func (s *modelServer) stream(w http.ResponseWriter, r *http.Request, attributes string, body []byte) {
	values, err := url.ParseQuery(attributes)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	count, _ := strconv.Atoi(values.Get("pieces"))
	out := http.NewResponseController(w)
	for i := range count {
		for gate := values.Get("gate"); gate != "" && r.Context().Err() == nil; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(gate + strconv.Itoa(i)); err == nil {
				break
			}
		}
		if _, err := w.Write(body); err != nil || out.Flush() != nil {
			return
		}
	}
	if values.Get("crash") != "" {
		os.Exit(3)
	}
}

// spawn starts a child that ignores SIGTERM, and returns when it does.
func spawn(session bool) (pid int, err error) {
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(program, sleeperArgument)
	cmd.Stderr = os.Stderr
	if session {
		cmd.SysProcAttr = newSession()
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		return 0, err
	}
	return cmd.Process.Pid, nil
}
