"""boto3 against endpoints of several containers and of several models: prints a line per step, ends at the first failure.

AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_SAGEMAKER, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME,
the credentials, ACCOUNT, TEST_IMAGE (the test model) and ECHO_IMAGE stand in the
environment.
"""

import io
import os
import tarfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ACCOUNT = os.environ["ACCOUNT"]
ROLE = "arn:aws:iam::%s:role/sagemaker" % ACCOUNT
IMAGE, ECHO = os.environ["TEST_IMAGE"], os.environ["ECHO_IMAGE"]
BUCKET = "containers-" + ACCOUNT

once = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
sm = boto3.client("sagemaker", config=once, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER"])
runtime = boto3.client("sagemaker-runtime", config=once, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])
s3 = boto3.client("s3", config=once, endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])


def step(text):
    print("boto3:", text, flush=True)


def deploy(name, instances=1, **model):
    sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, **model)
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": instances}
    sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sm.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def ask(name, body, **arguments):
    out = runtime.invoke_endpoint(EndpointName=name, ContentType="text/plain", Body=body, **arguments)
    return out["Body"].read().decode()


def refused(kind, status, message, name, body="pid", **arguments):
    try:
        ask(name, body, **arguments)
    except ClientError as error:
        answer = error.response
        assert isinstance(error, getattr(runtime.exceptions, kind)), error
        assert answer["Error"]["Code"] == kind and answer["ResponseMetadata"]["HTTPStatusCode"] == status, answer
        text = answer["Error"]["Message"]
        assert message(text) if callable(message) else text == message, text
        return answer
    raise AssertionError("%s %s was answered" % (name, arguments))


def pipeline():
    deploy("pipeline", Containers=[{"Image": IMAGE}, {"Image": ECHO}, {"Image": IMAGE}])
    assert ask("pipeline", "echo echo through") == "through"
    answer = refused("ModelError", 424, lambda m: m.startswith('Received client error (422) from container-3 with message "no".'), "pipeline", "echo status 422 no")
    assert answer["OriginalStatusCode"] == 422 and answer["OriginalMessage"] == "no", answer
    images = sm.describe_endpoint(EndpointName="pipeline")["ProductionVariants"][0]["DeployedImages"]
    assert [image["SpecifiedImage"] for image in images] == [IMAGE, ECHO, IMAGE], images
    step("a pipeline goes through its containers")


def direct():
    deploy(
        "direct",
        Containers=[{"Image": IMAGE, "ContainerHostname": host, "Environment": {"WHO": host}} for host in ("first", "second")],
        InferenceExecutionConfig={"Mode": "Direct"},
    )
    for host in ("first", "second"):
        assert ask("direct", "env WHO", TargetContainerHostname=host) == host
    refused("ValidationError", 400, "Endpoint direct has no container with hostname third.", "direct", TargetContainerHostname="third")
    refused("ValidationError", 400, lambda m: m.endswith(" is missing a target container hostname header."), "direct")
    refused(
        "ValidationError",
        400,
        "Endpoint pipeline is not a multi-container endpoint in direct mode and does not support target container hostname header.",
        "pipeline",
        TargetContainerHostname="container-1",
    )
    step("direct mode invokes the container that is asked for")


def archive(name):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        content = ("model " + name).encode()
        info = tarfile.TarInfo("name")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    s3.put_object(Bucket=BUCKET, Key="mme/%s.tar.gz" % name, Body=out.getvalue())


def models():
    s3.create_bucket(Bucket=BUCKET)
    archive("a")
    archive("b")
    container = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": "s3://%s/mme/" % BUCKET, "Environment": {"MODELS_ROOM": "1"}}
    deploy("models", instances=2, PrimaryContainer=container)
    for name in ("a", "b", "a", "b"):
        assert ask("models", "read name", TargetModel=name + ".tar.gz") == "model " + name
    archive("added-later")
    assert ask("models", "read name", TargetModel="/added-later.tar.gz") == "model added-later"
    refused(
        "ValidationError",
        400,
        lambda m: m.startswith("Failed to download model data (bucket: %s, key: mme/none.tar.gz)." % BUCKET),
        "models",
        TargetModel="none.tar.gz",
    )
    refused("ValidationError", 400, lambda m: m.endswith(" is missing a target model header."), "models")
    refused(
        "ValidationError",
        400,
        "Endpoint pipeline is not a multi-model endpoint and does not support target model header.",
        "pipeline",
        TargetModel="a.tar.gz",
    )
    step("models are loaded when they are asked for")


def clean():
    for name in ("pipeline", "direct", "models"):
        sm.delete_endpoint(EndpointName=name)
    for name in ("pipeline", "direct", "models"):
        sm.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    step("deleted")


pipeline()
direct()
models()
clean()
