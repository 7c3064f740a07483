// UpdateEndpoint under requests, and a serverless variant at its MaxConcurrency, by
// the JavaScript SDK v3.
import assert from "node:assert/strict";
import { account, configure, inService, invoke, refused, role, send, serve, step } from "./client.mjs";

async function update() {
  const EndpointName = "changing";
  await serve(EndpointName, { PrimaryContainer: { Image: "tell-blue:1" } }, { InitialInstanceCount: 2 });
  await send("CreateModel", { ModelName: "green", ExecutionRoleArn: role, PrimaryContainer: { Image: "tell-green:1" } });
  await configure("green", { ModelName: "green", InitialInstanceCount: 3 });

  const DeploymentConfig = {
    BlueGreenUpdatePolicy: {
      TrafficRoutingConfiguration: { Type: "ALL_AT_ONCE", WaitIntervalInSeconds: 60 }, // 3 s by the tests' time scale
      TerminationWaitInSeconds: 0,
    },
  };
  const made = await send("UpdateEndpoint", { EndpointName, EndpointConfigName: "green", DeploymentConfig });
  assert.equal(made.EndpointArn, `arn:aws:sagemaker:us-east-1:${account}:endpoint/${EndpointName}`);
  const during = await send("DescribeEndpoint", { EndpointName });
  assert.deepEqual([during.EndpointStatus, during.EndpointConfigName], ["Updating", EndpointName]);
  assert.equal(during.PendingDeploymentSummary.EndpointConfigName, "green");

  const again = send("UpdateEndpoint", { EndpointName, EndpointConfigName: "green" });
  await refused("ValidationException", `Cannot update in-progress endpoint "${made.EndpointArn}".`, again);

  let done = false;
  const load = (async () => {
    const answers = new Set();
    while (!done) answers.add((await invoke(EndpointName, "12345678 x")).text);
    return answers;
  })();
  const after = await inService(EndpointName).finally(() => (done = true));
  const strange = [...(await load)].filter((text) => !["blue  x", "green  x"].includes(text));
  assert.deepEqual(strange, []);
  assert.deepEqual(
    [after.EndpointConfigName, after.PendingDeploymentSummary, after.ProductionVariants[0].CurrentInstanceCount],
    ["green", undefined, 3],
  );
  assert.deepEqual(after.LastDeploymentConfig, DeploymentConfig);
  assert.equal((await invoke(EndpointName, "12345678 x")).text, "green  x");
  await refused(
    "ValidationException",
    /^Could not find endpoint configuration /,
    send("UpdateEndpoint", { EndpointName, EndpointConfigName: "absent" }),
  );
  step("UpdateEndpoint while requests come");
}

async function serverless() {
  const ServerlessConfig = { MemorySizeInMB: 1024, MaxConcurrency: 1 };
  const variant = { ServerlessConfig, InstanceType: undefined, InitialInstanceCount: undefined };
  const made = await serve("small", { PrimaryContainer: { Image: "slow:1" } }, variant);
  assert.deepEqual(made.ProductionVariants[0].CurrentServerlessConfig, ServerlessConfig);

  let results = [];
  while (!results.some((r) => r.status === "rejected")) {
    // Each takes a second; a busy machine may start them one after the other.
    results = await Promise.allSettled([invoke("small", "x"), invoke("small", "x")]);
  }
  const answered = results.find((r) => r.status === "fulfilled");
  const throttle = results.find((r) => r.status === "rejected").reason;
  assert.equal(answered?.value.text, "x");
  assert.equal(throttle.name, "ThrottlingException", String(throttle));
  assert.deepEqual([throttle.$metadata.httpStatusCode, throttle.$fault], [400, "client"]);
  step("ThrottlingException beyond MaxConcurrency");
}

await Promise.all([update(), serverless()]);
