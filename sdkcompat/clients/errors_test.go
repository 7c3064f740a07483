package clients_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// errorCase is one call, and the error that every SDK must make of its answer.
type errorCase struct {
	Name      string         `json:"name"`
	Runtime   bool           `json:"runtime"` // of sagemaker-runtime
	Operation string         `json:"operation"`
	Input     map[string]any `json:"input"`
	// Raw goes out in place of the body that the SDK makes of Input.
	Raw    string `json:"raw,omitempty"`
	Code   string `json:"code"`
	Status int    `json:"status"`
	// Message is the sentence, or with Begins its beginning.
	Message string `json:"message"`
	Begins  bool   `json:"begins"`
	// Typed says that the SDK has a type for the error, by the name of its code.
	Typed   bool           `json:"typed"`
	Members map[string]any `json:"members,omitempty"`
	// answer is what the loopback server says; nil for a call of the daemon.
	answer   *sdkcompat.Error
	Loopback bool `json:"loopback"`
}

// errorCases are a sample of every kind of error: what the daemon says, and what
// it cannot be brought to say here.
func errorCases(c *goClient) []errorCase {
	cases := append(brokenConstraints(), refusals(c)...)
	for i, e := range encodedErrors() {
		// The server finds the case by this name in the body or in the path.
		name := fmt.Sprintf("case-%d", i)
		for member, value := range e.Input {
			if value == "" {
				e.Input[member] = name
			}
		}
		e.Loopback = true
		e.Code, e.Status, e.Members = e.answer.Code, e.answer.Status, e.answer.Members
		if e.Message == "" {
			e.Message = e.answer.Message
		}
		cases = append(cases, e)
	}
	return cases
}

// serveErrors answers as the edge does, with the error of the case that the
// request names.
func serveErrors(t *testing.T) string {
	t.Helper()
	answers := encodedErrors()
	named := regexp.MustCompile(`case-(\d+)`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 4096)
		n, _ := r.Body.Read(body)
		m := named.FindStringSubmatch(r.URL.Path + string(body[:n]))
		if m == nil {
			t.Errorf("%s names no case", r.URL.Path)
			return
		}
		i, _ := strconv.Atoi(m[1])
		e, contentType := answers[i], "application/x-amz-json-1.1"
		text := e.answer.AppendJSON11(nil)
		if e.Runtime {
			text, contentType = e.answer.AppendRuntime(nil), "application/json"
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("X-Amzn-Errortype", e.answer.Code)
		w.Header().Set("X-Amzn-Requestid", "01234567-89ab-cdef-0123-456789abcdef")
		w.WriteHeader(e.answer.Status)
		_, _ = w.Write(text)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// prepareErrors makes the resources that the cases speak of, and the file that
// tells a script what to expect.
func prepareErrors(t *testing.T) (c *goClient, loopback string, cases []errorCase, file string) {
	t.Helper()
	c = newGoClient(sharedDaemon(t))
	c.serve(t, "e", workerContainer, 1)
	never := filepath.Join(t.TempDir(), "never")
	c.createModel(t, "busy", types.ContainerDefinition{Image: aws.String(testImage), Environment: map[string]string{"READY_FILE": never}})
	patient := variant("AllTraffic", "busy", 1, 1)
	patient.ContainerStartupHealthCheckTimeoutInSeconds = aws.Int32(3600) // 3 minutes here, in which it stays Creating
	c.createEndpoint(t, "busy", patient)
	c.createModel(t, "light", echoContainer)
	for _, name := range []string{"moving", "orphan"} {
		c.createEndpoint(t, name, variant("AllTraffic", "light", 1, 1))
		c.awaitInService(t, name)
	}
	c.update(t, "moving", "busy", nil) // which goes on for as long
	if _, err := c.sm.DeleteEndpointConfig(t.Context(), &sagemaker.DeleteEndpointConfigInput{EndpointConfigName: aws.String("orphan")}); err != nil {
		t.Fatal(err)
	}
	cases, loopback = errorCases(c), serveErrors(t)
	file = filepath.Join(t.TempDir(), "cases.json")
	text, err := json.Marshal(map[string]any{"loopback": loopback, "cases": cases})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return c, loopback, cases, file
}

func TestBoto3DecodesEveryKindOfError(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	c, _, _, file := prepareErrors(t)
	runJourney(t, clientEnvironment(c.daemon, c.account), "python3", "boto3_errors.py", file)
}

func TestJavaScriptSDKDecodesEveryKindOfError(t *testing.T) {
	t.Parallel()
	dir := needJavaScriptSDK(t)
	c, _, _, file := prepareErrors(t)
	runJourney(t, clientEnvironment(c.daemon, c.account), "node", filepath.Join(dir, "errors.mjs"), file)
}

func TestGoSDKDecodesEveryKindOfError(t *testing.T) {
	t.Parallel()
	c, loopback, cases, _ := prepareErrors(t)
	for _, e := range cases {
		t.Run(e.Name, func(t *testing.T) { e.checkGo(t, c, loopback) })
	}
}

// brokenConstraints have one of each kind of constraint.
func brokenConstraints() []errorCase {
	const namePattern = "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
	broken := func(name, operation string, input map[string]any, items ...string) errorCase {
		message := "1 validation error detected: " + items[0]
		if len(items) > 1 {
			message = fmt.Sprintf("%d validation errors detected: %s", len(items), strings.Join(items, "; "))
		}
		return errorCase{Name: name, Operation: operation, Input: input, Code: "ValidationException", Status: 400, Message: message}
	}
	value := func(value, path, rule string) string {
		return "Value '" + value + "' at '" + path + "' failed to satisfy constraint: " + rule
	}
	type in = map[string]any
	long, tag := strings.Repeat("n", 64), in{"Key": "k", "Value": "v"}
	model := func(environment in) in {
		return in{"ModelName": "m2", "PrimaryContainer": in{"Image": "echo:1", "Environment": environment}}
	}
	const entry = "[Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: "
	runtime := func(e errorCase) errorCase {
		e.Runtime, e.Code, e.Typed = true, "ValidationError", true
		return e
	}
	return []errorCase{
		broken("required", "CreateModel", in{}, "Value null at 'modelName' failed to satisfy constraint: Member must not be null"),
		broken("longest", "DescribeModel", in{"ModelName": "m" + strings.Repeat("-", 62) + "m"},
			value("m"+strings.Repeat("-", 62)+"m", "modelName", "Member must have length less than or equal to 63")),
		broken("shortest", "CreateModel", in{"ModelName": "m2", "Tags": []any{tag, in{"Key": "", "Value": "v"}}},
			value("", "tags.2.member.key", "Member must have length greater than or equal to 1")),
		broken("pattern", "DeleteEndpoint", in{"EndpointName": "-bad-"}, value("-bad-", "endpointName", namePattern)),
		broken("two at once", "DescribeEndpoint", in{"EndpointName": long},
			value(long, "endpointName", "Member must have length less than or equal to 63"), value(long, "endpointName", namePattern)),
		broken("set", "ListModels", in{"SortBy": "Tomorrow"}, value("Tomorrow", "sortBy", "Member must satisfy enum value set: [CreationTime, Name]")),
		broken("highest", "ListModels", in{"MaxResults": 101}, value("101", "maxResults", "Member must have value less than or equal to 100")),
		broken("lowest", "ListModels", in{"MaxResults": 0}, value("0", "maxResults", "Member must have value greater than or equal to 1")),
		broken("lowest of a float", "UpdateEndpointWeightsAndCapacities",
			in{"EndpointName": "e", "DesiredWeightsAndCapacities": []any{in{"VariantName": "v", "DesiredWeight": -0.5}}},
			value("-0.5", "desiredWeightsAndCapacities.1.member.desiredWeight", "Member must have value greater than or equal to 0.0")),
		broken("shortest list", "CreateEndpointConfig", in{"EndpointConfigName": "c", "ProductionVariants": []any{}},
			value("[]", "productionVariants", "Member must have length greater than or equal to 1")),
		broken("element of a list", "CreateModel",
			in{"ModelName": "m2", "VpcConfig": in{"SecurityGroupIds": []any{"sg"}, "Subnets": []any{"ok", "a b"}}},
			value("[ok, a b]", "vpcConfig.subnets", "Member must satisfy constraint: [Member must have length less than or equal to 32, "+
				"Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: [-0-9a-zA-Z]+]")),
		broken("key of a map", "CreateModel", model(in{"1A": "x"}),
			value("{1A=x}", "primaryContainer.environment", "Map keys must satisfy constraint: "+entry+"[a-zA-Z_][a-zA-Z0-9_]*]")),
		broken("value of a map", "CreateModel", model(in{"A": strings.Repeat("é", 1025)}),
			value("{A="+strings.Repeat("é", 1025)+"}", "primaryContainer.environment", "Map value must satisfy constraint: "+entry+`[\S\s]*]`)),
		runtime(broken("longest header", "InvokeEndpoint", in{"EndpointName": "e", "InferenceId": strings.Repeat("i", 65)},
			value(strings.Repeat("i", 65), "inferenceId", "Member must have length less than or equal to 64"))),
		runtime(broken("sensitive header", "InvokeEndpoint", in{"EndpointName": "e", "CustomAttributes": strings.Repeat("s", 1025)},
			"Value at 'customAttributes' failed to satisfy constraint: Member must have length less than or equal to 1024")),
	}
}

// refusals are what the daemon answers to requests that are well-formed, or not
// even JSON.
func refusals(c *goClient) []errorCase {
	type in = map[string]any
	invalid := func(name, operation string, input in, message string) errorCase {
		return errorCase{Name: name, Operation: operation, Input: input, Code: "ValidationException", Status: 400, Message: message}
	}
	unserializable := func(name, raw, message string) errorCase {
		return errorCase{Name: name, Operation: "ListModels", Input: in{}, Raw: raw, Code: "SerializationException", Status: 400, Message: message}
	}
	runtime := func(name string, input in, message string) errorCase {
		return errorCase{
			Name: name, Runtime: true, Operation: "InvokeEndpoint", Input: input,
			Code: "ValidationError", Status: 400, Typed: true, Message: message,
		}
	}
	failed := func(body string, status int, kind, said string) errorCase {
		return errorCase{
			Name: "model's " + kind + " error", Runtime: true, Operation: "InvokeEndpoint", Input: in{"EndpointName": "e", "Body": body, "ContentType": "text/plain"},
			Code: "ModelError", Status: 424, Typed: true, Begins: true,
			Message: fmt.Sprintf(`Received %s error (%d) from primary with message "%s". See https://us-east-1.console.aws.amazon.com/`, kind, status, said),
			Members: in{
				"OriginalStatusCode": status, "OriginalMessage": said,
				"LogStreamArn": "arn:aws:logs:us-east-1:" + c.account + ":log-group:/aws/sagemaker/Endpoints/e",
			},
		}
	}
	config := in{"EndpointConfigName": "e", "ProductionVariants": []any{
		in{"VariantName": "v", "ModelName": "e", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1},
	}}
	return []errorCase{
		invalid("existing model", "CreateModel", in{"ModelName": "E", "PrimaryContainer": in{"Image": "echo:1"}},
			`Cannot create already existing model "`+c.arn("model", "e")+`".`),
		invalid("existing configuration", "CreateEndpointConfig", config, `Cannot create already existing endpoint configuration "`+c.arn("endpoint-config", "e")+`".`),
		invalid("existing endpoint", "CreateEndpoint", in{"EndpointName": "e", "EndpointConfigName": "e"}, `Cannot create already existing endpoint "`+c.arn("endpoint", "e")+`".`),
		invalid("missing model", "DescribeModel", in{"ModelName": "None"}, `Could not find model "`+c.arn("model", "none")+`".`),
		invalid("missing configuration", "CreateEndpoint", in{"EndpointName": "e2", "EndpointConfigName": "none"}, `Could not find endpoint configuration "`+c.arn("endpoint-config", "none")+`".`),
		invalid("missing endpoint", "DeleteEndpoint", in{"EndpointName": "none"}, `Could not find endpoint "`+c.arn("endpoint", "none")+`".`),
		invalid("endpoint in progress", "DeleteEndpoint", in{"EndpointName": "busy"}, `Cannot update in-progress endpoint "`+c.arn("endpoint", "busy")+`".`),
		// An update asks for the configuration in force too, though it needs nothing of it.
		invalid("update of a configuration that was deleted", "UpdateEndpoint", in{"EndpointName": "orphan", "EndpointConfigName": "e"},
			`Could not find endpoint configuration "`+c.arn("endpoint-config", "orphan")+`".`),
		invalid("update to a missing configuration", "UpdateEndpoint", in{"EndpointName": "e", "EndpointConfigName": "none"},
			`Could not find endpoint configuration "`+c.arn("endpoint-config", "none")+`".`),
		invalid("update of a missing endpoint", "UpdateEndpoint", in{"EndpointName": "none", "EndpointConfigName": "e"}, `Could not find endpoint "`+c.arn("endpoint", "none")+`".`),
		invalid("update in progress", "UpdateEndpoint", in{"EndpointName": "moving", "EndpointConfigName": "e"}, `Cannot update in-progress endpoint "`+c.arn("endpoint", "moving")+`".`),
		invalid("token", "ListModels", in{"NextToken": "none"}, "Invalid pagination token."),
		unserializable("malformed JSON", `{"MaxResults": `, ""),
		unserializable("wrong type", `{"MaxResults": "many"}`, "STRING_VALUE can not be converted to an Integer"),
		{
			Name: "unknown operation", Operation: "DescribeTrainingJob", Input: in{"TrainingJobName": "j"},
			Code: "UnknownOperationException", Status: 400, Begins: true, Message: "sagelocal does not implement SageMaker.DescribeTrainingJob. It implements ",
		},
		runtime("endpoint unknown to the runtime", in{"EndpointName": "None"}, "Endpoint None of account "+c.account+" not found."),
		runtime("endpoint not yet known to the runtime", in{"EndpointName": "busy"}, "Endpoint busy of account "+c.account+" not found."),
		failed(`status 400 a "quoted" é`, 400, "client", `a "quoted" é`),
		failed("status 503 loading", 503, "server", "loading"),
	}
}

// encodedErrors come from a server that has nothing but the encoding. An empty
// string in the input stands for the case's name.
func encodedErrors() []errorCase {
	type in = map[string]any
	control := func(operation, member string, typed bool, e *sdkcompat.Error) errorCase {
		return errorCase{Name: e.Code + " of " + operation, Operation: operation, Input: in{member: ""}, Typed: typed, answer: e}
	}
	runtime := func(operation string, typed bool, e *sdkcompat.Error) errorCase {
		return errorCase{Name: e.Code + " of " + operation, Runtime: true, Operation: operation, Input: in{"EndpointName": ""}, Typed: typed, answer: e}
	}
	say := func(code string, status int) *sdkcompat.Error {
		return &sdkcompat.Error{Code: code, Status: status, Message: `"` + code + `" was answered, été`}
	}
	limit := &sdkcompat.Error{
		Code: "ResourceLimitExceeded", Status: 400,
		Message: "The account-level service limit 'ml.g5.2xlarge for endpoint usage' is 0 Instances, with current utilization of 0 Instances " +
			"and a request delta of 1 Instances. Please use AWS Service Quotas to request an increase for this quota.",
	}
	model := say("ModelError", 424)
	model.Members = in{"OriginalStatusCode": 0, "OriginalMessage": "timed out", "LogStreamArn": "arn:aws:logs:us-east-1:123456789012:log-group:g"}
	create := control("CreateEndpoint", "EndpointName", true, limit)
	create.Input["EndpointConfigName"] = "c"
	throttled := runtime("InvokeEndpoint", false, &sdkcompat.Error{Code: "ThrottlingException", Status: 400})
	throttled.Name = "runtime's throttling without a message"
	return []errorCase{
		create,
		// Of the hosting operations no other is modelled, but the encoding is one.
		control("DeleteDomain", "DomainId", true, say("ResourceInUse", 400)),
		control("UpdateAction", "ActionName", true, say("ConflictException", 400)),
		control("DescribeTrainingJob", "TrainingJobName", true, say("ResourceNotFound", 400)),
		control("DescribeEndpoint", "EndpointName", false, say("ThrottlingException", 400)),
		control("DescribeEndpoint", "EndpointName", false, say("AccessDeniedException", 400)),
		control("DescribeEndpoint", "EndpointName", false, say("ExpiredTokenException", 403)),
		control("DescribeEndpoint", "EndpointName", false, say("RequestEntityTooLargeException", 413)),
		control("DescribeEndpoint", "EndpointName", false, say("InternalFailure", 500)),
		control("DescribeEndpoint", "EndpointName", false, say("ServiceUnavailable", 503)),
		throttled,
		runtime("InvokeEndpoint", true, model),
		runtime("InvokeEndpoint", true, say("ValidationError", 400)),
		runtime("InvokeEndpoint", true, say("ModelNotReadyException", 429)),
		runtime("InvokeEndpoint", true, say("InternalFailure", 500)),
		runtime("InvokeEndpoint", true, say("InternalDependencyException", 530)),
		runtime("InvokeEndpoint", true, say("ServiceUnavailable", 503)),
		runtime("InvokeEndpoint", false, say("AccessDeniedException", 400)),
		runtime("InvokeEndpointAsync", true, say("ValidationError", 400)),
		runtime("InvokeEndpointAsync", true, say("ServiceUnavailable", 503)),
		runtime("InvokeEndpointWithResponseStream", true, model),
		runtime("InvokeEndpointWithResponseStream", true, say("ValidationError", 400)),
		runtime("InvokeEndpointWithResponseStream", true, say("InternalStreamFailure", 500)),
	}
}
