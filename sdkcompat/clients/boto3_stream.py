"""Streams as boto3 sees them: what the test model sends, and how it ends. The endpoint is made here."""

import os
import tempfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

config = Config(retries={"total_max_attempts": 1})
sm = boto3.client("sagemaker", config=config)
runtime = boto3.client("sagemaker-runtime", config=config)
name = "boto3-stream"


def create():
    sm.create_model(ModelName=name, PrimaryContainer={"Image": os.environ["TEST_IMAGE"]})
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sm.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def stream(body, **more):
    return runtime.invoke_endpoint_with_response_stream(EndpointName=name, ContentType="text/plain", Body=body, **more)


def parts():
    with tempfile.TemporaryDirectory() as directory:
        gate = os.path.join(directory, "piece")

        def open_gate(i):
            with open(f"{gate}{i}", "w"):
                pass

        open_gate(0)
        out = stream(f"pieces 4 {gate}", CustomAttributes="trace=1", Accept="text/plain")
        assert out["ContentType"] == "text/plain", out
        assert out["InvokedProductionVariant"] == "v", out
        got = []
        for event in out["Body"]:  # a part has come before the model may send the next
            got.append(event["PayloadPart"]["Bytes"])
            open_gate(len(got))
        assert got == [b"piece %d\n" % i for i in range(4)], got
    print("boto3: parts arrive one by one")


def errors():
    try:
        stream("status 503 busy")
        raise AssertionError("it was accepted")
    except runtime.exceptions.ModelError as error:
        response = error.response
        assert response["OriginalStatusCode"] == 503 and response["OriginalMessage"] == "busy", response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 424, response
    got = []
    try:
        for event in stream("broken 2")["Body"]:
            got.append(event["PayloadPart"]["Bytes"])
        raise AssertionError("the stream ended in order")
    except EventStreamError as error:
        assert error.response["Error"]["Code"] == "ModelStreamError", error.response
        assert "The connection to container primary failed" in error.response["Error"]["Message"], error.response
    assert got == [b"piece 0\n", b"piece 1\n"], got
    try:
        stream("x", TargetVariant="none")
        raise AssertionError("it was accepted")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ValidationError", error.response
    print("boto3: errors before and in a stream are typed")


create()
parts()
errors()
