// What the scripts beside this one share. The endpoints' addresses, the
// credentials and ACCOUNT stand in the environment.
import assert from "node:assert/strict";
import * as sagemaker from "@aws-sdk/client-sagemaker";
import * as sagemakerRuntime from "@aws-sdk/client-sagemaker-runtime";

export const account = process.env.ACCOUNT;
export const role = `arn:aws:iam::${account}:role/sagemaker`;
const options = { region: "us-east-1", maxAttempts: 1 };
export const sm = new sagemaker.SageMakerClient({ ...options, endpoint: process.env.AWS_ENDPOINT_URL_SAGEMAKER });
export const runtime = new sagemakerRuntime.SageMakerRuntimeClient({
  ...options,
  endpoint: process.env.AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME,
});

export const step = (text) => console.log("js:", text);

/** Sends a command of the control plane by its name. */
export const send = (name, input) => sm.send(new sagemaker[`${name}Command`](input));

/** InvokeEndpoint, with the answer's body as text. */
export async function invoke(EndpointName, Body, more = {}) {
  const command = new sagemakerRuntime.InvokeEndpointCommand({ EndpointName, Body, ContentType: "text/plain", ...more });
  const out = await runtime.send(command);
  return { ...out, text: out.Body.transformToString() };
}

export async function inService(EndpointName) {
  await sagemaker.waitUntilEndpointInService({ client: sm, minDelay: 1, maxDelay: 1, maxWaitTime: 60 }, { EndpointName });
  return send("DescribeEndpoint", { EndpointName });
}

/** A configuration of one variant, v. */
export const configure = (EndpointConfigName, variant, more = {}) =>
  send("CreateEndpointConfig", {
    EndpointConfigName,
    ProductionVariants: [{ VariantName: "v", InstanceType: "ml.m5.xlarge", InitialInstanceCount: 1, ...variant }],
    ...more,
  });

/** An endpoint of the configuration that has its name. */
export async function deploy(EndpointName) {
  await send("CreateEndpoint", { EndpointName, EndpointConfigName: EndpointName });
  return inService(EndpointName);
}

/** Deploys a model under one name for all three resources. */
export async function serve(name, model, variant = {}, more = {}) {
  await send("CreateModel", { ModelName: name, ExecutionRoleArn: role, ...model });
  await configure(name, { ModelName: name, ...variant }, more);
  return deploy(name);
}

export async function refused(name, message, promise) {
  const error = await promise.then(
    () => assert.fail("it was accepted"),
    (e) => e,
  );
  assert.equal(error.name, name, String(error));
  if (message instanceof RegExp) assert.match(error.message, message);
  else assert.equal(error.message, message);
  return error;
}
