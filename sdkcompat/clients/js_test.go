package clients_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
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

func TestJavaScriptSDKAsync(t *testing.T) {
	t.Parallel()
	dir, d := needJavaScriptSDK(t), sharedDaemon(t)
	env := append(clientEnvironment(d, newAccount()), "AWS_ENDPOINT_URL_S3="+d.s3URL(t))
	runJourney(t, env, "node", filepath.Join(dir, "async.mjs"))
}

func TestJavaScriptSDKTargets(t *testing.T) {
	t.Parallel()
	dir := needJavaScriptSDK(t)
	runJourney(t, clientEnvironment(sharedDaemon(t), newAccount()), "node", filepath.Join(dir, "targets.mjs"))
}

func TestJavaScriptSDKUpdateAndServerless(t *testing.T) {
	t.Parallel()
	dir := needJavaScriptSDK(t)
	runJourney(t, clientEnvironment(sharedDaemon(t), newAccount()), "node", filepath.Join(dir, "changes.mjs"))
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
	c.hostChat(t, "chat-hosts", "chat-component")
	runJourney(t, env, "node", filepath.Join(dir, "openai.mjs"), "chat-hosts", "chat-component")
}

// hostChat makes an endpoint that hosts an inference component.
func (c *goClient) hostChat(t *testing.T, endpoint, component string) {
	t.Helper()
	v := variant("AllTraffic", "", 1, 1)
	v.ModelName = nil
	_, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: &endpoint, ProductionVariants: []types.ProductionVariant{v},
		ExecutionRoleArn: aws.String("arn:aws:iam::" + c.account + ":role/sagemaker"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.sm.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: &endpoint, EndpointConfigName: &endpoint}); err != nil {
		t.Fatal(err)
	}
	c.awaitInService(t, endpoint)
	_, err = c.sm.CreateInferenceComponent(t.Context(), &sagemaker.CreateInferenceComponentInput{
		InferenceComponentName: &component, EndpointName: &endpoint, VariantName: aws.String("AllTraffic"),
		Specification: &types.InferenceComponentSpecification{
			Container:                   &types.InferenceComponentContainerSpecification{Image: aws.String(echoImage)},
			ComputeResourceRequirements: &types.InferenceComponentComputeResourceRequirements{MinMemoryRequiredInMb: aws.Int32(1024)},
		},
		RuntimeConfig: &types.InferenceComponentRuntimeConfig{CopyCount: aws.Int32(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.awaitComponent(t, component)
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
