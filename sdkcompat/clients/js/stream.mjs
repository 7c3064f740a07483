// Streams as the JavaScript SDK v3 sees them. The endpoint, over the test model, is
// made here.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as sagemaker from "@aws-sdk/client-sagemaker";
import * as sagemakerRuntime from "@aws-sdk/client-sagemaker-runtime";

const name = "js-stream";
const options = { region: "us-east-1", maxAttempts: 1 };
const sm = new sagemaker.SageMakerClient({ ...options, endpoint: process.env.AWS_ENDPOINT_URL_SAGEMAKER });
const runtime = new sagemakerRuntime.SageMakerRuntimeClient({
  ...options,
  endpoint: process.env.AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME,
});
const send = (command, input) => sm.send(new sagemaker[`${command}Command`](input));
const stream = (Body) =>
  runtime.send(
    new sagemakerRuntime.InvokeEndpointWithResponseStreamCommand({ EndpointName: name, ContentType: "text/plain", Body }),
  );
const text = (event) => Buffer.from(event.PayloadPart.Bytes).toString();

async function create() {
  await send("CreateModel", { ModelName: name, PrimaryContainer: { Image: process.env.TEST_IMAGE } });
  await send("CreateEndpointConfig", {
    EndpointConfigName: name,
    ProductionVariants: [{ VariantName: "v", ModelName: name, InstanceType: "ml.m5.large", InitialInstanceCount: 1 }],
  });
  await send("CreateEndpoint", { EndpointName: name, EndpointConfigName: name });
  const poll = { client: sm, minDelay: 1, maxDelay: 1, maxWaitTime: 60 };
  await sagemaker.waitUntilEndpointInService(poll, { EndpointName: name });
}

async function parts() {
  const directory = mkdtempSync(join(tmpdir(), "sagelocal-"));
  const open = (i) => writeFileSync(join(directory, `piece${i}`), "");
  try {
    open(0);
    const out = await stream(`pieces 3 ${join(directory, "piece")}`);
    assert.equal(out.ContentType, "text/plain");
    assert.equal(out.InvokedProductionVariant, "v");
    const got = [];
    for await (const event of out.Body) {
      got.push(text(event)); // it has come before the model may send the next
      open(got.length);
    }
    assert.deepEqual(got, ["piece 0\n", "piece 1\n", "piece 2\n"]);
  } finally {
    rmSync(directory, { recursive: true });
  }
  console.log("js: parts arrive one by one");
}

const refused = (promise) =>
  promise.then(
    () => assert.fail("it went well"),
    (e) => e,
  );

async function errors() {
  const error = await refused(stream("status 400 no"));
  assert.ok(error instanceof sagemakerRuntime.ModelError, String(error));
  assert.equal(error.OriginalStatusCode, 400);
  const got = [];
  const read = async () => {
    for await (const event of (await stream("broken 2")).Body) got.push(text(event));
  };
  const broken = await refused(read());
  assert.deepEqual(got, ["piece 0\n", "piece 1\n"]);
  assert.equal(broken.name, "ModelStreamError", String(broken));
  assert.equal(broken.ErrorCode, "StreamBroken");
  console.log("js: errors before and in a stream are typed");
}

await create();
await parts();
await errors();
