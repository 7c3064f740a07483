"""Asynchronous inference with boto3: prints a line per step, ends at the first failure.

AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_SAGEMAKER, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME,
the credentials, ACCOUNT, TEST_IMAGE and DAEMON, the daemon's URL, stand in the
environment.
"""

import json
import os
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ACCOUNT = os.environ["ACCOUNT"]
BUCKET = "async-of-boto3"
NAME = "boto3-async"
POLL = {"Delay": 1, "MaxAttempts": 60}

config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
sm, runtime, s3 = (
    boto3.client(name, config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_" + variable])
    for name, variable in (("sagemaker", "SAGEMAKER"), ("sagemaker-runtime", "SAGEMAKER_RUNTIME"), ("s3", "S3"))
)


def step(text):
    print("boto3:", text, flush=True)


def key(location):
    prefix = "s3://%s/" % BUCKET
    assert location.startswith(prefix), location
    return location[len(prefix) :]


def read(location):
    s3.get_waiter("object_exists").wait(Bucket=BUCKET, Key=key(location), WaiterConfig=POLL)
    return s3.get_object(Bucket=BUCKET, Key=key(location))["Body"].read().decode()


def send(body, **arguments):
    s3.put_object(Bucket=BUCKET, Key="in/request", Body=body)
    return runtime.invoke_endpoint_async(
        EndpointName=NAME, InputLocation="s3://%s/in/request" % BUCKET, ContentType="text/plain", **arguments
    )


def create():
    s3.create_bucket(Bucket=BUCKET)
    sm.create_model(
        ModelName=NAME,
        ExecutionRoleArn="arn:aws:iam::%s:role/sagemaker" % ACCOUNT,
        PrimaryContainer={"Image": os.environ["TEST_IMAGE"]},
    )
    topic = "arn:aws:sns:us-east-1:%s:topic" % ACCOUNT
    settings = {
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
        "OutputConfig": {
            "S3OutputPath": "s3://%s/out" % BUCKET,
            "S3FailurePath": "s3://%s/failed" % BUCKET,
            "NotificationConfig": {"SuccessTopic": topic, "ErrorTopic": topic},
        },
    }
    variant = {"VariantName": "v", "ModelName": NAME, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sm.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant], AsyncInferenceConfig=settings)
    sm.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sm.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig=POLL)
    assert sm.describe_endpoint(EndpointName=NAME)["AsyncInferenceConfig"] == settings
    step("an endpoint with AsyncInferenceConfig is InService")


def invoke():
    out = send("echo hello", InferenceId="request-1", RequestTTLSeconds=3600, InvocationTimeoutSeconds=60)
    assert out["ResponseMetadata"]["HTTPStatusCode"] == 202, out
    assert out["InferenceId"] == "request-1", out
    assert read(out["OutputLocation"]) == "hello"
    step("input from S3, output in S3")
    out = send("status 500 boom")
    assert read(out["FailureLocation"]).startswith('Received server error (500) from model with message "boom'), out
    step("a failure's object")
    try:
        runtime.invoke_endpoint(EndpointName=NAME, Body=b"x")
        raise AssertionError("InvokeEndpoint was accepted")
    except runtime.exceptions.ValidationError as error:
        assert "InvokeEndpointAsync only" in error.response["Error"]["Message"], error.response
    try:
        send("echo x", Filename="a.b.c")
        raise AssertionError("Filename was accepted")
    except ClientError as error:
        assert "'filename' failed to satisfy constraint" in error.response["Error"]["Message"], error.response
    step("typed errors")
    url = "%s/_sagelocal/notifications?account=%s" % (os.environ["DAEMON"], ACCOUNT)
    with urllib.request.urlopen(url) as answer:
        messages = [n["message"] for n in json.load(answer)["notifications"]]
    assert [m["invocationStatus"] for m in messages] == ["Failed", "Completed"], messages
    assert messages[0]["failureReason"].startswith("ServerError: Received server error (500) from model."), messages
    assert messages[1]["inferenceId"] == "request-1" and messages[1]["eventName"] == "InferenceResult", messages
    step("notifications")


def counts():
    variant = sm.describe_endpoint(EndpointName=NAME)["ProductionVariants"][0]
    return variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]


def scale():
    desired = [{"VariantName": "v", "DesiredInstanceCount": 0}]
    sm.update_endpoint_weights_and_capacities(EndpointName=NAME, DesiredWeightsAndCapacities=desired)
    sm.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig=POLL)
    assert counts() == (0, 0), counts()
    assert read(send("echo awake")["OutputLocation"]) == "awake"
    assert counts() == (0, 1), counts()
    for _ in range(120):  # 5 minutes by the daemon's time scale
        if counts() == (0, 0):
            break
        time.sleep(0.5)
    assert counts() == (0, 0), counts()
    step("a backlog wakes an endpoint that is scaled to zero")


create()
invoke()
scale()
sm.delete_endpoint(EndpointName=NAME)
sm.get_waiter("endpoint_deleted").wait(EndpointName=NAME, WaiterConfig=POLL)
step("done")
