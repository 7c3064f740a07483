package clients_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

func TestJavaScriptSDKJourney(t *testing.T) {
	t.Parallel()
	dir := needJavaScriptSDK(t)
	runJourney(t, clientEnvironment(sharedDaemon(t), newAccount()), "node", filepath.Join(dir, "journey.mjs"))
}

func TestJavaScriptSDKStreams(t *testing.T) {
	t.Parallel()
	dir := needJavaScriptSDK(t)
	env := append(clientEnvironment(sharedDaemon(t), newAccount()), "TEST_IMAGE="+testImage)
	runJourney(t, env, "node", filepath.Join(dir, "stream.mjs"))
}

// TestOpenAIClient: OpenAI's own client, over a simulated worker and over a
// process that speaks server-sent events.
func TestOpenAIClient(t *testing.T) {
	t.Parallel()
	dir := needJavaScriptSDK(t)
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "chat-simulated", echoContainer, 1)
	c.serve(t, "chat-process", workerContainer, 1)
	env := clientEnvironment(c.daemon, c.account)
	runJourney(t, env, "node", filepath.Join(dir, "openai.mjs"), "chat-simulated")
	runJourney(t, append(env, "TEST_MODEL=yes"), "node", filepath.Join(dir, "openai.mjs"), "chat-process")
}

var javaScriptSDK sync.Mutex // two npms in one folder harm each other

// needJavaScriptSDK installs the SDK where it is not, and returns its folder.
func needJavaScriptSDK(t *testing.T) string {
	t.Helper()
	needProgram(t, "node")
	javaScriptSDK.Lock()
	defer javaScriptSDK.Unlock()
	dir := filepath.Join(repository(), "sdkcompat", "clients", "js")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "openai")); errors.Is(err, os.ErrNotExist) {
		needProgram(t, "npm")
		cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--silent")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			skip(t, "npm cannot install the SDK: %v: %s", err, out)
		}
	}
	return dir
}
