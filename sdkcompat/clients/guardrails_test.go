package clients_test

import (
	"errors"
	"fmt"
	"os/exec"
	"testing"
)

// tooOld is the exit status of boto3_guardrails.py with a boto3 that does not know
// the journey's policy.
const tooOld = 77

// TestBoto3DeploymentGuardrails runs AWS's three notebooks on deployment
// guardrails, and updates to models that do not start, against a daemon whose
// time passes fast: the 300 s that a canary bakes are 4 s.
func TestBoto3DeploymentGuardrails(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	scale := 75
	if raceEnabled {
		scale = 30
	}
	d := startDaemon(t, daemonOptions{args: []string{fmt.Sprintf("--time-scale=%d", scale)}})
	type result struct {
		out []byte
		err error
	}
	// They wait most of the time, so all run at once, whatever -parallel says.
	results := map[string]chan result{}
	for _, journey := range []string{"canary", "linear", "rolling", "ping"} {
		cmd := exec.CommandContext(t.Context(), "python3", "boto3_guardrails.py", journey, t.TempDir())
		cmd.Env = clientEnvironment(d, newAccount())
		done := make(chan result, 1)
		results[journey] = done
		go func() {
			out, err := cmd.CombinedOutput()
			done <- result{out, err}
		}()
	}
	for journey, done := range results {
		t.Run(journey, func(t *testing.T) {
			r := <-done
			t.Logf("%s", r.out)
			exit, ok := errors.AsType[*exec.ExitError](r.err)
			switch {
			case ok && exit.ExitCode() == tooOld:
				skip(t, "boto3 is too old: %s", r.out)
			case r.err != nil:
				t.Error(r.err)
			}
		})
	}
}
