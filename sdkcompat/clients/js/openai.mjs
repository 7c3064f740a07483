// OpenAI's own client against sagelocal's OpenAI-compatible path. The arguments name
// an endpoint and, if there is one, an inference component on it.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [endpoint, component] = process.argv.slice(2);
const words = 'Tell me  of routing, "please" \u2014 d\'accord\n';
const messages = [
  { role: "system", content: "You are a model of a model." },
  { role: "user", content: words },
];

/** What sagemaker-core's generate_token gives: a pre-signed URL, made offline. */
function token({ age = 0, expires = 300 } = {}) {
  const date = new Date(Date.now() - age * 1000).toISOString().replace(/[-:]|\.\d+/g, "");
  const credential = [process.env.AWS_ACCESS_KEY_ID, date.slice(0, 8), "us-east-1", "sagemaker", "aws4_request"];
  const query = new URLSearchParams({
    Action: "CallWithBearerToken",
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": credential.join("/"),
    "X-Amz-Date": date,
    "X-Amz-Expires": String(expires),
    "X-Amz-SignedHeaders": "host",
    "X-Amz-Signature": "0".repeat(64),
    Version: "1",
  });
  return "sagemaker-api-key-" + Buffer.from(`sagemaker.amazonaws.com/?${query}`).toString("base64");
}

function client(apiKey = token(), name = endpoint) {
  const path = component ? `${name}/inference-components/${component}` : name;
  const baseURL = `${process.env.AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME}/endpoints/${path}/openai/v1`;
  return new OpenAI({ baseURL, apiKey, maxRetries: 0 });
}

const create = (input, made = client()) => made.chat.completions.create({ model: "", messages, ...input });

const refused = (promise) =>
  promise.then(
    () => assert.fail("it went well"),
    (e) => e,
  );

async function whole() {
  const { data, response } = await client().chat.completions.create({ model: "m", messages }).withResponse();
  assert.equal(data.choices[0].message.content, words);
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.equal(data.model, "m");
  assert.equal(response.headers.get("x-amzn-invoked-production-variant"), "AllTraffic");
}

async function streamed() {
  const chunks = [];
  for await (const chunk of await create({ stream: true })) chunks.push(chunk.choices[0]?.delta?.content ?? "");
  assert.equal(chunks.join(""), words);
  assert.ok(chunks.length > 4, `only ${chunks.length} chunks`);
}

async function errors() {
  for (const [key, status, kind] of [
    ["sk-proj-0", 401, OpenAI.AuthenticationError],
    [token({ age: 400 }), 403, OpenAI.PermissionDeniedError],
  ]) {
    const error = await refused(create({}, client(key)));
    assert.ok(error instanceof kind, String(error));
    assert.equal(error.status, status);
    assert.equal(error.type, "invalid_request_error");
  }
  const unknown = await refused(create({}, client(token(), "absent")));
  assert.ok(unknown instanceof OpenAI.BadRequestError, String(unknown));
  assert.equal(unknown.code, "validation_error");
  assert.match(unknown.message, /Endpoint absent of account \d{12} not found\./);
}

/** Only of the test model. */
async function broken() {
  const error = await refused(create({ messages: [{ role: "user", content: "refuse this" }] }));
  assert.ok(error instanceof OpenAI.BadRequestError, String(error));
  assert.deepEqual([error.code, error.type], ["model_error", "server_error"]);
  assert.match(error.message, /Received client error \(400\) from .* with message "\{"error":\{"message":"refused"/);

  const chunks = [];
  const read = async () => {
    const stream = await create({ stream: true, messages: [{ role: "user", content: "one two break" }] });
    for await (const chunk of stream) chunks.push(chunk.choices[0].delta.content);
  };
  const cut = await refused(read());
  assert.deepEqual(chunks, ["one ", "two "]);
  assert.ok(cut instanceof OpenAI.APIError, String(cut));
  assert.equal(cut.code, "model_stream_error");
}

const steps = [whole, streamed, errors];
if (process.env.TEST_MODEL) steps.push(broken);
for (const step of steps) {
  await step();
  console.log("openai:", endpoint, step.name);
}
