// The journey of the JavaScript SDK v3 against sagelocal: prints a line per
// step, ends at the first failure. The endpoints' addresses, the credentials and
// ACCOUNT stand in the environment.
import assert from "node:assert/strict";
import * as sagemaker from "@aws-sdk/client-sagemaker";
import * as sagemakerRuntime from "@aws-sdk/client-sagemaker-runtime";

const account = process.env.ACCOUNT;
const image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/iris-go:1";
const options = { region: "us-east-1", maxAttempts: 1 };
const sm = new sagemaker.SageMakerClient({ ...options, endpoint: process.env.AWS_ENDPOINT_URL_SAGEMAKER });
const runtime = new sagemakerRuntime.SageMakerRuntimeClient({
  ...options,
  endpoint: process.env.AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME,
});

const arn = (resource, name) => `arn:aws:sagemaker:us-east-1:${account}:${resource}/${name}`;
const step = (text) => console.log("js:", text);
const poll = { client: sm, minDelay: 1, maxDelay: 1, maxWaitTime: 60 };
const iris = { EndpointName: "iris" };

/** Sends a command by its name. */
const send = (name, input) => sm.send(new sagemaker[`${name}Command`](input));
const invoke = async (input) => {
  const out = await runtime.send(new sagemakerRuntime.InvokeEndpointCommand({ ...iris, ...input }));
  return { ...out, text: out.Body.transformToString() };
};

async function refused(name, message, promise) {
  const error = await promise.then(
    () => assert.fail("it was accepted"),
    (e) => e,
  );
  assert.equal(error.name, name, String(error));
  if (message instanceof RegExp) assert.match(error.message, message);
  else assert.equal(error.message, message);
  assert.match(error.$metadata.requestId, /^[0-9a-f-]{36}$/);
  return error;
}

async function create() {
  for (const ModelName of ["Iris", "iris-next"]) {
    const made = await send("CreateModel", {
      ModelName,
      ExecutionRoleArn: `arn:aws:iam::${account}:role/sagemaker`,
      PrimaryContainer: { Image: image, ModelDataUrl: "s3://models/iris.tar.gz", Environment: { LABEL: "été" } },
    });
    assert.equal(made.ModelArn, arn("model", ModelName.toLowerCase()));
  }
  const model = await send("DescribeModel", { ModelName: "Iris" });
  assert.deepEqual(model.PrimaryContainer.Environment, { LABEL: "été" });
  const variant = { InstanceType: "ml.m5.large", RoutingConfig: { RoutingStrategy: "LEAST_OUTSTANDING_REQUESTS" } };
  await send("CreateEndpointConfig", {
    EndpointConfigName: "iris",
    ProductionVariants: [
      { ...variant, VariantName: "blue", ModelName: "Iris", InitialInstanceCount: 3 },
      { ...variant, VariantName: "green", ModelName: "iris-next", InitialInstanceCount: 1, InitialVariantWeight: 0 },
    ],
  });
  const made = await send("CreateEndpoint", { ...iris, EndpointConfigName: "iris" });
  assert.equal(made.EndpointArn, arn("endpoint", "iris"));
  step("endpoint is being created");
}

async function describe(begun) {
  const waited = await sagemaker.waitUntilEndpointInService(poll, iris);
  assert.equal(waited.state, "SUCCESS");
  const out = await send("DescribeEndpoint", iris);
  assert.equal(out.EndpointStatus, "InService");
  assert.equal(out.FailureReason, undefined);
  for (const moment of [out.CreationTime, out.LastModifiedTime]) {
    assert.ok(moment instanceof Date && moment >= begun - 1000 && moment <= Date.now() + 1000, String(moment));
  }
  const [blue, green] = out.ProductionVariants;
  assert.deepEqual(
    [blue.VariantName, blue.CurrentInstanceCount, blue.DesiredInstanceCount, blue.CurrentWeight],
    ["blue", 3, 3, 1],
  );
  assert.equal(blue.RoutingConfig.RoutingStrategy, "LEAST_OUTSTANDING_REQUESTS");
  assert.equal(blue.DeployedImages[0].SpecifiedImage, image);
  assert.deepEqual([green.CurrentInstanceCount, green.DesiredWeight], [1, 0]);
  step("endpoint is in service");
}

async function predict() {
  const csv = await invoke({ ContentType: "text/csv", Accept: "text/csv", Body: "5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n" });
  assert.equal(csv.text, "setosa\nvirginica\n");
  assert.equal(csv.InvokedProductionVariant, "blue");
  assert.match(csv.ContentType, /^text\/csv/);
  const json = await invoke({
    ContentType: "application/json",
    Body: JSON.stringify({ instances: [[5.9, 3.0, 4.2, 1.5]] }),
    TargetVariant: "green",
    CustomAttributes: "trace=1",
    InferenceId: "one",
  });
  assert.equal(JSON.parse(json.text).predictions[0].label, "versicolor");
  assert.equal(json.InvokedProductionVariant, "green");
  step("CSV and JSON are predicted");
}

async function modelErrors() {
  const error = await refused(
    "ModelError",
    /^Received client error \(400\) from primary with message "/,
    invoke({ ContentType: "text/csv", Body: "one,two" }),
  );
  assert.ok(error instanceof sagemakerRuntime.ModelError);
  assert.equal(error.$metadata.httpStatusCode, 424);
  assert.equal(error.OriginalStatusCode, 400);
  assert.match(error.OriginalMessage, /line 1/);
  assert.equal(error.LogStreamArn, `arn:aws:logs:us-east-1:${account}:log-group:/aws/sagemaker/Endpoints/iris`);
  const missing = await refused(
    "ValidationError",
    `Endpoint absent of account ${account} not found.`,
    invoke({ EndpointName: "absent", Body: "x" }),
  );
  assert.ok(missing instanceof sagemakerRuntime.ValidationError);
  step("ModelError and ValidationError are typed");
}

async function update() {
  await send("UpdateEndpointWeightsAndCapacities", {
    ...iris,
    DesiredWeightsAndCapacities: [
      { VariantName: "blue", DesiredWeight: 0, DesiredInstanceCount: 1 },
      { VariantName: "green", DesiredWeight: 1.5 },
    ],
  });
  await sagemaker.waitUntilEndpointInService(poll, iris);
  const [blue, green] = (await send("DescribeEndpoint", iris)).ProductionVariants;
  assert.deepEqual([blue.CurrentInstanceCount, blue.CurrentWeight, green.CurrentWeight], [1, 0, 1.5]);
  const out = await invoke({ ContentType: "text/csv", Accept: "text/csv", Body: "5.1,3.5,1.4,0.2" });
  assert.deepEqual([out.InvokedProductionVariant, out.text], ["green", "setosa\n"]);
  step("weights and capacities updated");
}

async function lists() {
  const names = Array.from({ length: 25 }, (_, i) => `many-${String(i).padStart(2, "0")}`);
  for (const ModelName of names) await send("CreateModel", { ModelName, PrimaryContainer: { Image: "echo:1" } });
  const pages = sagemaker.paginateListModels(
    { client: sm, pageSize: 10 },
    { NameContains: "MANY", SortBy: "Name", SortOrder: "Ascending" },
  );
  const found = [];
  const sizes = [];
  for await (const page of pages) {
    sizes.push(page.Models.length);
    found.push(...page.Models.map((m) => m.ModelName));
  }
  assert.deepEqual(sizes, [10, 10, 5]);
  assert.deepEqual(found, names);
  step("25 models listed");
}

async function tags() {
  const ResourceArn = arn("endpoint", "iris");
  await send("AddTags", { ResourceArn, Tags: [{ Key: "team", Value: "flora" }, { Key: "tier", Value: "1" }] });
  await send("DeleteTags", { ResourceArn, TagKeys: ["tier"] });
  assert.deepEqual((await send("ListTags", { ResourceArn })).Tags, [{ Key: "team", Value: "flora" }]);
  step("tags added, listed and deleted");
}

async function violations() {
  await refused(
    "ValidationException",
    `Cannot create already existing endpoint configuration "${arn("endpoint-config", "iris")}".`,
    send("CreateEndpointConfig", {
      EndpointConfigName: "iris",
      ProductionVariants: [{ VariantName: "v", ModelName: "Iris", InstanceType: "ml.m5.large", InitialInstanceCount: 1 }],
    }),
  );
  const pattern = "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}";
  await refused(
    "ValidationException",
    `1 validation error detected: Value '-bad-' at 'endpointName' failed to satisfy constraint: ${pattern}`,
    send("DeleteEndpoint", { EndpointName: "-bad-" }),
  );
  await refused(
    "ValidationException",
    /^1 validation error detected: Value 'Tomorrow' at 'sortBy' failed to satisfy constraint: Member must satisfy enum value set: \[/,
    send("ListModels", { SortBy: "Tomorrow" }),
  );
  step("constraints are held in AWS's words");
}

async function remove() {
  await send("DeleteEndpoint", iris);
  assert.equal((await sagemaker.waitUntilEndpointDeleted(poll, iris)).state, "SUCCESS");
  await refused("ValidationException", `Could not find endpoint "${arn("endpoint", "iris")}".`, send("DescribeEndpoint", iris));
  await send("DeleteEndpointConfig", { EndpointConfigName: "iris" });
  for (const ModelName of ["Iris", "iris-next"]) await send("DeleteModel", { ModelName });
  step("all is deleted");
}

const begun = Date.now();
await create();
await describe(begun);
for (const act of [predict, modelErrors, update, lists, tags, violations, remove]) await act();
