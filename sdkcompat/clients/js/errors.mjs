// What the JavaScript SDK v3 makes of every kind of error. The file that the
// argument names says what to call and what to expect.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as sagemaker from "@aws-sdk/client-sagemaker";
import * as sagemakerRuntime from "@aws-sdk/client-sagemaker-runtime";

const { cases, loopback } = JSON.parse(readFileSync(process.argv[2], "utf8"));

function client(test) {
  const endpoint = test.loopback ? loopback : process.env.AWS_ENDPOINT_URL_SAGEMAKER;
  const options = { region: "us-east-1", maxAttempts: 1, endpoint };
  const made = test.runtime
    ? new sagemakerRuntime.SageMakerRuntimeClient(options)
    : new sagemaker.SageMakerClient(options);
  if (test.raw) {
    const replace = (next) => async (args) => {
      args.request.body = test.raw;
      return next(args);
    };
    made.middlewareStack.add(replace, { step: "build", priority: "high" });
  }
  return made;
}

async function check(test) {
  const sdk = test.runtime ? sagemakerRuntime : sagemaker;
  const generic = test.runtime ? sdk.SageMakerRuntimeServiceException : sdk.SageMakerServiceException;
  const command = new sdk[`${test.operation}Command`](test.input);
  const error = await client(test).send(command).then(
    () => assert.fail("it was accepted"),
    (e) => e,
  );
  assert.equal(error.name, test.code, String(error));
  assert.ok(error instanceof generic, error.constructor.name);
  assert.equal(error.constructor.name, test.typed ? test.code : generic.name);
  const message = test.message || "UnknownError"; // the SDK's word for none
  assert.equal(test.begins ? error.message.slice(0, message.length) : error.message, message);
  assert.equal(error.$metadata.httpStatusCode, test.status);
  assert.match(error.$metadata.requestId, /^[0-9a-f-]{36}$/);
  for (const [name, value] of Object.entries(test.members ?? {})) assert.equal(error[name], value);
}

let failed = 0;
for (const test of cases) {
  await check(test).catch((e) => {
    console.log("js:", test.name, "failed:", e.message);
    failed++;
  });
}
console.log(`js: ${cases.length - failed} errors decoded`);
process.exit(failed === 0 ? 0 : 1);
