"""Inference components with boto3 against sagelocal: prints a line per step, ends at the first failure."""

import os
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ACCOUNT = os.environ["ACCOUNT"]
config = Config(retries={"total_max_attempts": 1})
sm = boto3.client("sagemaker", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER"])
runtime = boto3.client("sagemaker-runtime", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])


def step(text):
    print("boto3:", text, flush=True)


def arn(name):
    return "arn:aws:sagemaker:us-east-1:%s:inference-component/%s" % (ACCOUNT, name)


def refused(code, message, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
        assert message in error.response["Error"]["Message"], error.response
        return
    raise AssertionError("%s was accepted" % arguments)


def await_component(name):
    for _ in range(600):
        out = sm.describe_inference_component(InferenceComponentName=name)
        if out["InferenceComponentStatus"] == "InService":
            return out
        assert out["InferenceComponentStatus"] != "Failed", out
        time.sleep(0.1)
    raise AssertionError(out)


def ask(component, **more):
    out = runtime.invoke_endpoint(EndpointName="hub", InferenceComponentName=component, Body=b"ping1234", **more)
    assert out["InvokedProductionVariant"] == "main", out
    return out["Body"].read()


def specification(image="echo:1"):
    return {
        "Container": {"Image": image, "Environment": {"A": "b"}},
        "StartupParameters": {"ContainerStartupHealthCheckTimeoutInSeconds": 60},
        "ComputeResourceRequirements": {"NumberOfCpuCoresRequired": 1.0, "MinMemoryRequiredInMb": 512},
    }


sm.create_endpoint_config(
    EndpointConfigName="hub",
    ExecutionRoleArn="arn:aws:iam::%s:role/sagemaker" % ACCOUNT,
    ProductionVariants=[{
        "VariantName": "main", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1,
        "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 3},
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }],
)  # fmt: skip
sm.create_endpoint(EndpointName="hub", EndpointConfigName="hub")
sm.get_waiter("endpoint_in_service").wait(EndpointName="hub", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
step("endpoint is in service")

for copies in (0, None):
    runtime_config = {} if copies is None else {"RuntimeConfig": {"CopyCount": copies}}
    refused(
        "ValidationException", "Inference components copy count an integer larger than 0", sm.create_inference_component,
        InferenceComponentName="llm", EndpointName="hub", VariantName="main", Specification=specification(), **runtime_config,
    )  # fmt: skip
made = sm.create_inference_component(
    InferenceComponentName="llm", EndpointName="hub", VariantName="main",
    Specification=specification(), RuntimeConfig={"CopyCount": 2}, Tags=[{"Key": "by", "Value": "boto3"}],
)  # fmt: skip
assert made["InferenceComponentArn"] == arn("llm"), made
refused(
    "ValidationException", 'Cannot create already existing inference component "%s".' % arn("llm"), sm.create_inference_component,
    InferenceComponentName="LLM", EndpointName="hub", VariantName="main", Specification=specification(), RuntimeConfig={"CopyCount": 1},
)  # fmt: skip
out = await_component("llm")
assert out["RuntimeConfig"]["CurrentCopyCount"] == 2 and out["RuntimeConfig"]["DesiredCopyCount"] == 2, out
assert out["RuntimeConfig"]["PlacementStatus"] == [{"InstanceType": "ml.m5.xlarge", "CurrentCopyCount": 2}], out
assert out["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == "echo:1", out
assert "Specifications" not in out and "FailureReason" not in out, out
assert ask("llm") == b"ping1234"
step("component is in service")

refused("ValidationError", "Inference Component Name header is required", runtime.invoke_endpoint, EndpointName="hub", Body=b"x")
sm.create_inference_component(
    InferenceComponentName="lora", EndpointName="hub",
    Specification={"BaseInferenceComponentName": "llm", "Container": {"ArtifactUrl": "s3://elsewhere/lora.tar.gz"}},
)  # fmt: skip
await_component("lora")
assert ask("lora") == b"ping1234"
step("adapter is in service")

sm.update_inference_component(
    InferenceComponentName="llm",
    Specification=specification("tell-blue:2"),
    DeploymentConfig={
        "RollingUpdatePolicy": {"MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50}, "WaitIntervalInSeconds": 0}
    },
)
out = await_component("llm")
assert out["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == "tell-blue:2", out
assert out["LastDeploymentConfig"]["RollingUpdatePolicy"]["MaximumBatchSize"]["Value"] == 50, out
assert ask("llm") == b"blue "
step("component is updated")

sm.update_inference_component_runtime_config(InferenceComponentName="llm", DesiredRuntimeConfig={"CopyCount": 0})
assert await_component("llm")["RuntimeConfig"]["CurrentCopyCount"] == 0
refused("ValidationError", "has no copies", runtime.invoke_endpoint, EndpointName="hub", InferenceComponentName="llm", Body=b"x")
listed = sm.get_paginator("list_inference_components").paginate(EndpointNameEquals="hub", PaginationConfig={"PageSize": 1})
assert [c["InferenceComponentName"] for page in listed for c in page["InferenceComponents"]] == ["lora", "llm"], listed
step("component is scaled to zero")

refused("ValidationException", "Cannot delete endpoint with inference component associated", sm.delete_endpoint, EndpointName="hub")
for name in ("lora", "llm"):
    sm.delete_inference_component(InferenceComponentName=name)
    for _ in range(600):
        try:
            sm.describe_inference_component(InferenceComponentName=name)
        except ClientError as error:
            assert error.response["Error"]["Message"] == 'Could not find inference component "%s".' % arn(name), error.response
            break
        time.sleep(0.1)
    else:
        raise AssertionError("%s is still there" % name)
sm.delete_endpoint(EndpointName="hub")
sm.get_waiter("endpoint_deleted").wait(EndpointName="hub", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
step("all is deleted")
