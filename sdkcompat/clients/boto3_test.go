package clients_test

import (
	"os/exec"
	"testing"
)

func needBoto3(t *testing.T) {
	t.Helper()
	needProgram(t, "python3")
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", "import boto3").CombinedOutput(); err != nil {
		skip(t, "python3 has no boto3: %s", out)
	}
}

func TestBoto3ContainersAndModels(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	d, account := sharedDaemon(t), newAccount()
	env := append(clientEnvironment(d, account), "AWS_ENDPOINT_URL_S3="+d.s3URL(t), "TEST_IMAGE="+testImage, "ECHO_IMAGE="+echoImage)
	runJourney(t, env, "python3", "boto3_containers.py")
}

func TestBoto3Journey(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	runJourney(t, clientEnvironment(sharedDaemon(t), newAccount()), "python3", "boto3_journey.py")
}

func TestBoto3Streams(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	env := append(clientEnvironment(sharedDaemon(t), newAccount()), "TEST_IMAGE="+testImage)
	runJourney(t, env, "python3", "boto3_stream.py")
}

func TestBoto3InferenceComponents(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	runJourney(t, clientEnvironment(sharedDaemon(t), newAccount()), "python3", "boto3_components.py")
}

func TestBoto3Sessions(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	runJourney(t, clientEnvironment(sharedDaemon(t), newAccount()), "python3", "boto3_sessions.py")
}

func TestBoto3InjectedFaults(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	d := sharedDaemon(t)
	runJourney(t, append(clientEnvironment(d, newAccount()), "DAEMON="+d.URL), "python3", "boto3_faults.py")
}
