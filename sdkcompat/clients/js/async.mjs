// InvokeEndpointAsync by the JavaScript SDK v3. AWS_ENDPOINT_URL_S3 is the embedded
// S3, which is spoken to without a client: its signatures are not verified.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { InvokeEndpointAsyncCommand } from "@aws-sdk/client-sagemaker-runtime";
import { account, invoke, refused, runtime, serve, step } from "./client.mjs";

const EndpointName = "js-async";
const bucket = `js-${account}`;
const url = (location) => location.replace("s3:/", process.env.AWS_ENDPOINT_URL_S3);
const later = (input) => runtime.send(new InvokeEndpointAsyncCommand({ EndpointName, ContentType: "text/plain", ...input }));

async function put(location, body) {
  const answer = await fetch(url(location), { method: "PUT", body });
  assert.ok(answer.ok, await answer.text());
  return location;
}

async function read(location) {
  for (let i = 0; i < 600; i++) {
    const answer = await fetch(url(location));
    const body = await answer.text();
    if (answer.ok) return body;
    assert.equal(answer.status, 404, body);
    await sleep(100);
  }
  assert.fail(`${location} does not come`);
}

await put(`s3://${bucket}`, "");
const OutputConfig = { S3OutputPath: `s3://${bucket}/out`, S3FailurePath: `s3://${bucket}/failed` };
const made = await serve(EndpointName, { PrimaryContainer: { Image: "echo:1" } }, {}, { AsyncInferenceConfig: { OutputConfig } });
assert.deepEqual(made.AsyncInferenceConfig.OutputConfig, OutputConfig);

const inline = await later({ Body: "inline", InferenceId: "one", S3OutputPathExtension: "run", Filename: "answer.txt" });
assert.equal(inline.$metadata.httpStatusCode, 202);
assert.deepEqual(
  [inline.InferenceId, inline.OutputLocation, inline.FailureLocation],
  ["one", `s3://${bucket}/out/run/answer.txt`, `s3://${bucket}/failed/run/answer-error.out`],
);
assert.equal(await read(inline.OutputLocation), "inline");
step("an inline Body, the output in S3");

const stored = await later({ InputLocation: await put(`s3://${bucket}/in/request`, "stored"), RequestTTLSeconds: 3600 });
assert.equal(await read(stored.OutputLocation), "stored");
step("an InputLocation, the output in S3");

const missing = await later({ InputLocation: `s3://${bucket}/in/none` });
assert.equal(
  await read(missing.FailureLocation),
  `ClientError: Could not read the request payload at s3://${bucket}/in/none: its S3 answers NoSuchKey.`,
);
await refused("ValidationError", "Either InputLocation or Body must be specified.", later({}));
await refused(
  "ValidationError",
  "Endpoint js-async has AsyncInferenceConfig and takes InvokeEndpointAsync only.",
  invoke(EndpointName, "x"),
);
step("what goes wrong");
