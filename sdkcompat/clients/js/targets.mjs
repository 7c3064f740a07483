// Requests that name what is to answer them, by the JavaScript SDK v3: a model, a
// container, an inference component, a session.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { configure, deploy, invoke, refused, role, send, serve, step } from "./client.mjs";

async function models() {
  // In a bucket that does not exist every model of a simulated worker is there.
  await serve("models", { PrimaryContainer: { Image: "tell-model:1", Mode: "MultiModel", ModelDataUrl: "s3://elsewhere/mme/" } });
  for (const TargetModel of ["a.tar.gz", "deep/b.tar.gz", "a.tar.gz"]) {
    assert.equal((await invoke("models", "x", { TargetModel })).text, `${TargetModel} x`);
  }
  await refused("ValidationError", /^Request [0-9a-f-]{36} is missing a target model header\.$/, invoke("models", "x"));
  await refused(
    "ValidationError",
    "TargetModel ../c.tar.gz is not a path below the ModelDataUrl of endpoint models.",
    invoke("models", "x", { TargetModel: "../c.tar.gz" }),
  );
  step("TargetModel");
}

async function containers() {
  const Containers = ["blue", "green"].map((colour) => ({ Image: `tell-${colour}:1`, ContainerHostname: `host-${colour}` }));
  await serve("direct", { Containers, InferenceExecutionConfig: { Mode: "Direct" } });
  for (const colour of ["blue", "green"]) {
    assert.equal((await invoke("direct", "12345678 x", { TargetContainerHostname: `host-${colour}` })).text, `${colour}  x`);
  }
  await refused(
    "ValidationError",
    "Endpoint direct has no container with hostname host-red.",
    invoke("direct", "12345678", { TargetContainerHostname: "host-red" }),
  );
  step("TargetContainerHostname");
}

async function components() {
  await configure("hosts", {}, { ExecutionRoleArn: role });
  await deploy("hosts");
  for (const colour of ["blue", "green"]) {
    await send("CreateInferenceComponent", {
      InferenceComponentName: colour,
      EndpointName: "hosts",
      VariantName: "v",
      Specification: {
        Container: { Image: `tell-${colour}:1` },
        ComputeResourceRequirements: { NumberOfCpuCoresRequired: 1, MinMemoryRequiredInMb: 512 },
      },
      RuntimeConfig: { CopyCount: 1 },
    });
  }
  for (const InferenceComponentName of ["blue", "green"]) {
    let status;
    for (let i = 0; i < 600 && status !== "InService"; i++) {
      if (i) await sleep(100);
      status = (await send("DescribeInferenceComponent", { InferenceComponentName })).InferenceComponentStatus;
      assert.notEqual(status, "Failed");
    }
    assert.equal((await invoke("hosts", "12345678 x", { InferenceComponentName })).text, `${InferenceComponentName}  x`);
  }
  await refused("ValidationError", /^Inference Component Name header is required /, invoke("hosts", "12345678"));
  await refused(
    "ValidationError",
    "Inference component red was not found on endpoint hosts.",
    invoke("hosts", "12345678", { InferenceComponentName: "red" }),
  );
  step("InferenceComponentName");
}

async function sessions() {
  await serve("chat", { PrimaryContainer: { Image: "stateful:1" } }, { InitialInstanceCount: 4 });
  const homes = [];
  for (let i = 0; i < 8; i++) {
    const begun = await invoke("chat", "{}", { SessionId: "NEW_SESSION" });
    const [id, expires] = begun.NewSessionId.split("; Expires=");
    assert.ok(new Date(expires) > new Date(), begun.NewSessionId);
    homes.push({ id, instance: begun.text });
  }
  // The worker refuses a session that it did not begin.
  for (const { id, instance } of [...homes, ...[...homes].reverse()]) {
    const out = await invoke("chat", "{}", { SessionId: id });
    assert.deepEqual([out.text, out.NewSessionId, out.ClosedSessionId], [instance, undefined, undefined]);
  }
  const SessionId = homes[0].id;
  const closed = await invoke("chat", '{"requestType": "CLOSE"}', { SessionId });
  assert.equal(closed.ClosedSessionId, SessionId);
  await refused(
    "ValidationError",
    "Endpoint chat has no such session: it has expired, was closed, or ended with its instance.",
    invoke("chat", "{}", { SessionId }),
  );
  step("SessionId");
}

await Promise.all([models(), containers(), components(), sessions()]);
